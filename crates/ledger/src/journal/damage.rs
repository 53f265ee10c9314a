//! What of a journal could not be read, for those who have to know.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// So many damaged places are told one by one; more are only counted.
const PLACES_MAX: usize = 64;

/// All that was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Where, oldest first; the first 64 of them.
    pub places: Vec<DamagedPlace>,
    /// How many places there are in all.
    pub count: u64,
    /// Bytes skipped in all.
    pub bytes: u64,
    /// Records known to be lost in all. A corrupt end of a segment hides how many it had, so there may be more.
    pub records: u64,
}

/// One run of bytes that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPlace {
    /// The file as it was called when it was read; replayed, it gets `.damaged` behind its name.
    pub segment: PathBuf,
    /// Where in it the run begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it looks like.
    pub kind: DamageKind,
    /// How many records it had, as far as the sequence numbers around it tell.
    pub records: u64,
}

/// What a damaged place looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The file ends within a group: its writer died before the group was acknowledged.
    Torn,
    /// Bytes that are no records, or whose checksum is wrong.
    Corrupt,
}

/// A place before its segment's name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) kind: DamageKind,
    pub(super) records: u64,
}

impl Damage {
    /// Whether all could be read.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, segment: &Path, run: Run) {
        self.count += 1;
        self.bytes += run.bytes;
        self.records += run.records;
        if self.places.len() < PLACES_MAX {
            self.places.push(DamagedPlace {
                segment: segment.to_owned(),
                offset: run.offset,
                bytes: run.bytes,
                kind: run.kind,
                records: run.records,
            });
        }
    }
}

impl Damage {
    pub(super) fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.records += other.records;
        let room = PLACES_MAX.saturating_sub(self.places.len());
        self.places.extend(other.places.into_iter().take(room));
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} damaged places, {} bytes, at least {} records",
            self.count, self.bytes, self.records
        )?;
        for place in &self.places {
            write!(f, "; {place}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DamagedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DamageKind::Torn => "torn",
            DamageKind::Corrupt => "corrupt",
        };
        write!(
            f,
            "{} {kind} at byte {} for {} bytes",
            self.segment.display(),
            self.offset,
            self.bytes
        )
    }
}
