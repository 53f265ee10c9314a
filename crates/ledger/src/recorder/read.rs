//! What a process that is gone left open in its recorder.

use std::{fs, path::Path};

use super::{
    Opening, Progress, RecorderError,
    layout::{self, Corrupt, HEADER_BYTES, Header, SLOT_BYTES},
};

/// An exchange that was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it was opened with.
    pub opening: Opening<'static>,
    /// How far it had come.
    pub progress: Progress,
}

/// All that a recorder tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// The exchanges that were open.
    pub left: Vec<Left>,
    /// Slots whose bytes say nothing to rely on, or that the file ends before. They are skipped.
    pub corrupt: usize,
}

/// Reads the recorder of a process that is gone. That of one that runs gives exchanges which may be over by now.
pub fn read(path: &Path) -> Result<Remains, RecorderError> {
    let bytes = fs::read(path).map_err(RecorderError::io("read", path))?;
    let slots = match layout::read_header(&bytes) {
        Header::Slots(slots) => slots,
        Header::Other(version) => {
            return Err(RecorderError::Version {
                path: path.to_owned(),
                version,
            });
        }
        Header::Foreign => {
            return Err(RecorderError::Foreign {
                path: path.to_owned(),
            });
        }
    };
    let (there, _) = bytes
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks::<SLOT_BYTES>();
    let mut remains = Remains {
        left: Vec::new(),
        corrupt: slots.saturating_sub(there.len()),
    };
    for bytes in there.iter().take(slots) {
        match layout::decode(bytes) {
            Ok(None) => {}
            Ok(Some((opening, progress))) => remains.left.push(Left { opening, progress }),
            Err(Corrupt) => remains.corrupt += 1,
        }
    }
    Ok(remains)
}
