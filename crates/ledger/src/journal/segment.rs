//! One file of the journal: made, appended to, read, taken away.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    Damage, DamageKind, JournalError, Position,
    damage::Run,
    frame::{self, HEADER_BYTES, Header, Marker},
    reader::{Found, Reader},
};

const EXTENSION: &str = "segment";

/// Behind the name of a segment that was damaged, once the rest of it was replayed.
const DAMAGED: &str = "damaged";

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// While groups may be appended.
    file: Option<File>,
    marker: Marker,
    /// Of the first record, if the header can be read.
    first_sequence: Option<u64>,
    /// Behind the last record.
    pub(super) next_sequence: u64,
    /// What is durable of it; the file may be longer where cutting it back failed.
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) is_damaged: bool,
    #[cfg(test)]
    faults: Faults,
}

/// What a test lets go wrong.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// A write stops after so many bytes and fails.
    pub(super) write_bytes: Option<usize>,
    pub(super) sync: bool,
    pub(super) cut: bool,
}

impl Segment {
    /// A new segment; its file gets its first bytes with its first group.
    pub(super) fn create(dir: &Path, number: u64, sequence: u64) -> Result<Self, JournalError> {
        let path = dir.join(format!("{number:010}.{EXTENSION}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| no_room(&path, "make", error))?;
        Ok(Self {
            number,
            path,
            file: Some(file),
            marker: frame::new_marker(),
            first_sequence: Some(sequence),
            next_sequence: sequence,
            bytes: 0,
            records: 0,
            is_damaged: false,
            #[cfg(test)]
            faults: Faults::default(),
        })
    }

    /// Reads a segment that an earlier process left.
    pub(super) fn read(dir: &Path, number: u64, damage: &mut Damage) -> Result<Self, JournalError> {
        let path = dir.join(format!("{number:010}.{EXTENSION}"));
        let cannot = |error| JournalError::io("read", &path)(error);
        let file = File::open(&path).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        let mut head = [0; HEADER_BYTES + frame::MARKER_BYTES];
        let head_bytes = usize::try_from(bytes).unwrap_or(head.len()).min(head.len());
        let (head, _) = head.split_at_mut(head_bytes);
        file.read_exact_at(head, 0).map_err(cannot)?;
        let segment = |marker, first_sequence| Self {
            number,
            path: path.clone(),
            file: None,
            marker,
            first_sequence,
            next_sequence: first_sequence.unwrap_or(0),
            bytes,
            records: 0,
            is_damaged: false,
            #[cfg(test)]
            faults: Faults::default(),
        };
        match frame::read_header(head) {
            Header::Known { marker, sequence } => {
                segment(marker, Some(sequence)).count(&file, damage)
            }
            Header::Other(version) => Err(JournalError::Version { path, version }),
            // Made and never written to: nothing was ever in it.
            Header::Damaged if bytes == 0 => Ok(segment(Marker::default(), None)),
            Header::Damaged => {
                let mut best: Option<(Self, Damage)> = None;
                for marker in frame::marker_copies(head) {
                    let mut told = Damage::default();
                    let read = segment(marker, None).count(&file, &mut told)?;
                    if best
                        .as_ref()
                        .is_none_or(|(best, _)| best.records < read.records)
                    {
                        best = Some((read, told));
                    }
                }
                let (mut read, told) =
                    best.unwrap_or_else(|| (segment(Marker::default(), None), Damage::default()));
                read.is_damaged = true;
                let is_whole = bytes >= HEADER_BYTES as u64;
                damage.add(
                    &read.path,
                    Run {
                        offset: 0,
                        bytes: bytes.min(HEADER_BYTES as u64),
                        kind: if is_whole {
                            DamageKind::Corrupt
                        } else {
                            DamageKind::Torn
                        },
                        records: 0,
                    },
                );
                damage.extend(told);
                Ok(read)
            }
        }
    }

    /// Counts what can be read, and tells what cannot.
    fn count(mut self, file: &File, damage: &mut Damage) -> Result<Self, JournalError> {
        let mut reader = self.reader(file, HEADER_BYTES as u64);
        loop {
            match reader
                .next()
                .map_err(JournalError::io("read", &self.path))?
            {
                Some(Found::Record { record, .. }) => {
                    self.records += 1;
                    self.next_sequence = record.sequence.saturating_add(1);
                }
                Some(Found::Damage(run)) => {
                    self.is_damaged = true;
                    damage.add(&self.path, run);
                }
                None => return Ok(self),
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Takes no more groups.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    pub(super) fn start(&self) -> Position {
        Position {
            segment: self.number,
            offset: HEADER_BYTES as u64,
            records: 0,
        }
    }

    pub(super) fn end(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.bytes,
            records: self.records,
        }
    }

    pub(super) fn open_to_read(&self) -> Result<File, JournalError> {
        File::open(&self.path).map_err(JournalError::io("read", &self.path))
    }

    pub(super) fn reader<'a>(&self, file: &'a File, offset: u64) -> Reader<'a> {
        let is_first = offset == HEADER_BYTES as u64;
        Reader::new(
            file,
            self.marker,
            (offset, self.bytes.max(offset)),
            self.first_sequence.filter(|_| is_first),
        )
    }

    /// Appends a group; when it returns, the group is on disk, or the file is as it was and closed.
    pub(super) fn append(
        &mut self,
        records: &[Vec<u8>],
        sequence: u64,
    ) -> Result<(), JournalError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        if self.bytes == 0 {
            bytes.extend_from_slice(&frame::header(self.marker, sequence));
        }
        frame::push_group(&mut bytes, records, self.marker, sequence);
        if let Err(error) = self.write(&file, &bytes) {
            self.cut_back(&file);
            return Err(error);
        }
        self.file = Some(file);
        self.bytes += bytes.len() as u64;
        self.records += records.len() as u64;
        self.next_sequence = sequence + records.len() as u64;
        Ok(())
    }

    fn write(&self, file: &File, bytes: &[u8]) -> Result<(), JournalError> {
        self.write_all(file, bytes)
            .map_err(|error| no_room(&self.path, "write to", error))?;
        self.sync(file)
            .map_err(|error| no_room(&self.path, "sync", error))?;
        if self.bytes == 0 {
            let dir = self.path.parent().unwrap_or(&self.path);
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(JournalError::io("sync", dir))?;
        }
        Ok(())
    }

    fn write_all(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(written) = self.faults.write_bytes {
            file.write_all_at(&bytes[..written.min(bytes.len())], self.bytes)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, self.bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        file.sync_data()
    }

    /// Takes a failed group out again. Where even that fails, what is left of it may be replayed after a restart, which is
    /// why replaying is idempotent.
    fn cut_back(&self, file: &File) {
        #[cfg(test)]
        if self.faults.cut {
            return;
        }
        let cut = if self.bytes == 0 {
            fs::remove_file(&self.path)
        } else {
            file.set_len(self.bytes)
        };
        if let Err(error) = cut {
            tracing::warn!(
                path = %self.path.display(),
                error = &error as &dyn std::error::Error,
                "a group of the journal could not be appended, nor taken out again"
            );
        }
    }

    /// Deletes the file, or renames it for people to look at.
    pub(super) fn remove(&self) -> Result<(), JournalError> {
        let removed = if self.is_damaged {
            fs::rename(
                &self.path,
                self.path.with_extension(format!("{EXTENSION}.{DAMAGED}")),
            )
        } else {
            fs::remove_file(&self.path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn inject(&mut self, faults: Faults) {
        self.faults = faults;
    }
}

/// The number in a segment's name, and whether it is still to be read.
pub(super) fn number(name: &OsStr) -> Option<(u64, bool)> {
    let (number, rest) = name.to_str()?.split_once('.')?;
    let is_live = rest == EXTENSION;
    let is_kept = rest.strip_prefix(EXTENSION)?.strip_prefix('.') == Some(DAMAGED);
    (is_live || is_kept).then_some((number.parse().ok()?, is_live))
}

fn no_room(path: &Path, what: &'static str, error: io::Error) -> JournalError {
    match error.kind() {
        // The last is a limit on the process: as full as a disk can be.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            JournalError::DiskFull {
                path: path.to_owned(),
                source: error,
            }
        }
        _ => JournalError::io(what, path)(error),
    }
}
