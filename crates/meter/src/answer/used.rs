//! Usage objects, while they pass and afterwards.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{figures::Figures, places::Source};

/// The largest usage object whose text is kept. The figures are read whatever its size.
const USAGE_BYTES_MAX: usize = 64 * 1024;

/// The usage of one source: figures laid over each other, and the last object as it stood.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) figures: Figures,
    pub(super) raw: Vec<u8>,
}

/// A usage object that is passing.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) source: Source,
    /// Containers around it.
    pub(super) depth: u32,
    pub(super) figures: Figures,
    raw: Vec<u8>,
    /// Where it goes on in the bytes being pushed.
    from: usize,
    is_cut: bool,
}

impl Passing {
    /// An object that begins at `from` in the bytes being pushed, inside `depth` containers.
    pub(super) fn new(source: Source, depth: u32, from: usize) -> Self {
        Self {
            source,
            depth,
            figures: Figures::default(),
            raw: Vec::new(),
            from,
            is_cut: false,
        }
    }

    /// Keeps what of it stands in `bytes`, of which the next ones follow.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(self.from..).unwrap_or_default();
        self.from = 0;
        self.is_cut |= self.raw.len().saturating_add(bytes.len()) > USAGE_BYTES_MAX;
        if !self.is_cut {
            self.raw.extend_from_slice(bytes);
        }
    }
}

impl Used {
    /// Lays an object that has passed over what was there; one that says nothing changes nothing. The last object is
    /// the provider's word; where objects are parts of one (Anthropic), all of them together are.
    pub(super) fn add(&mut self, passed: Passing, is_part: bool) {
        if passed.figures.is_some() {
            self.figures.overlay(&passed.figures);
            self.raw = match (passed.is_cut, is_part) {
                (true, _) => Vec::new(),
                (false, true) => merged(&self.raw, &passed.raw).unwrap_or(passed.raw),
                (false, false) => passed.raw,
            };
        }
    }
}

/// The members of both objects; of two with one name the later, unless it is null.
fn merged(earlier: &[u8], later: &[u8]) -> Option<Vec<u8>> {
    let mut all: BTreeMap<String, &RawValue> = serde_json::from_slice(earlier).ok()?;
    let later: BTreeMap<String, &RawValue> = serde_json::from_slice(later).ok()?;
    all.extend(later.into_iter().filter(|(_, value)| value.get() != "null"));
    serde_json::to_vec(&all).ok()
}
