//! An append-only journal on local disk: where settled exchanges are durable while Postgres is away.
//!
//! What it holds is opaque here: a record is some bytes, and whoever replays it makes that idempotent. So the place up to
//! which records were replayed is kept in memory only; after a crash some are read once more.
//!
//! ```text
//! DIR/0000000007.segment             header, then groups; a group is appended with one write and one fsync
//! DIR/0000000003.segment.damaged     replayed as far as it could be read, kept for people
//! ```
//!
//! A segment is never appended to by another process than the one that made it, nor after a write or an fsync of it
//! failed: the kernel may have dropped the pages, and a later fsync would not say so.

mod damage;
mod frame;
mod reader;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub use damage::{Damage, DamageKind, DamagedPlace};
pub use frame::RECORD_BYTES_MAX;

use reader::Found;
use segment::Segment;

/// A segment takes no more groups once it is this long, so that replayed ones free their room in pieces.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// And once it is this share of all the journal may take.
const SEGMENTS_MIN: u64 = 4;

/// The longest group, in bytes with its records' heads.
pub const GROUP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the journal could not do what it was asked. What was appended before is still there.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is as long as it may get. Nothing of the group was kept.
    #[error("the journal is full: it may take {bytes_max} bytes")]
    Full {
        /// The limit it was opened with.
        bytes_max: u64,
    },
    /// The disk is full. Nothing of the group was kept.
    #[error("no room on disk for {}", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A record is longer than [`RECORD_BYTES_MAX`], or its group longer than [`GROUP_BYTES_MAX`].
    #[error("{bytes} bytes are more than a journal's record or group may have ({bytes_max})")]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        bytes_max: u64,
    },
    /// A segment was written by a version of the program that arranges it differently.
    #[error("{} has format {version}, this program knows {}", path.display(), frame::VERSION)]
    Version {
        /// The segment.
        path: PathBuf,
        /// What its header says.
        version: u32,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether room was what it lacked.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }

    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// A record as it is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows by one with each record.
    pub sequence: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// The oldest records, to be given back to [`Journal::forget`] once they were replayed.
#[derive(Debug)]
#[must_use = "records stay until they are forgotten"]
pub struct Batch {
    /// Oldest first.
    pub records: Vec<Record>,
    /// What went bad on disk since the journal was opened, and was skipped on the way to these.
    pub damage: Damage,
    end: Position,
}

/// Where replay has come to: everything in segments before this one is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    segment: u64,
    offset: u64,
    /// How many of the segment's records are before it.
    records: u64,
}

/// See the [module](self). One process at a time has it open; the caller sees to that.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    bytes_max: u64,
    /// Oldest first; at most the last one is open for appending.
    segments: VecDeque<Segment>,
    /// In the first segment, or before it.
    replayed: Position,
    next_segment: u64,
    next_sequence: u64,
    #[cfg(test)]
    faults: segment::Faults,
}

impl Journal {
    /// Opens the journal in `dir`, made if missing, and reads all that is there. What could not be read is told, skipped
    /// and kept: a damaged segment is renamed rather than deleted.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<(Self, Damage), JournalError> {
        make_private(dir)?;
        let (numbers, next_segment) = list(dir)?;
        let mut journal = Self {
            dir: dir.to_owned(),
            bytes_max,
            segments: VecDeque::new(),
            replayed: Position::default(),
            next_segment,
            next_sequence: 1,
            #[cfg(test)]
            faults: segment::Faults::default(),
        };
        let mut damage = Damage::default();
        for number in numbers {
            let segment = Segment::read(dir, number, &mut damage)?;
            journal.next_sequence = journal.next_sequence.max(segment.next_sequence);
            journal.segments.push_back(segment);
        }
        journal.drop_replayed()?;
        Ok((journal, damage))
    }

    /// Appends a group and returns when it is on disk. On an error nothing of it is there.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let group_bytes = frame::group_bytes(records)?;
        if self.bytes() + frame::HEADER_BYTES as u64 + group_bytes > self.bytes_max {
            return Err(JournalError::Full {
                bytes_max: self.bytes_max,
            });
        }
        let sequence = self.next_sequence;
        // Should the group stay on disk in spite of us, its numbers are not given again.
        self.next_sequence += records.len() as u64;
        let segment_bytes_max = SEGMENT_BYTES.min(self.bytes_max / SEGMENTS_MIN);
        let open = self.segments.back_mut().filter(|last| last.is_open());
        if let Some(last) = open {
            if last.bytes < segment_bytes_max {
                return last.append(records, sequence);
            }
            last.close();
        }
        let number = self.next_segment;
        self.next_segment += 1;
        let mut segment = Segment::create(&self.dir, number, sequence)?;
        #[cfg(test)]
        segment.inject(self.faults);
        segment.append(records, sequence)?;
        self.segments.push_back(segment);
        Ok(())
    }

    /// The oldest records, at least one if there is any: no more than `records_max`, and no more once their payloads have
    /// `bytes_max`. Asked again before [`Journal::forget`] it gives the same.
    pub fn oldest(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch, JournalError> {
        let mut batch = Batch {
            records: Vec::new(),
            damage: Damage::default(),
            end: self.replayed,
        };
        let mut payload_bytes = 0;
        for segment in &mut self.segments {
            if batch.end.segment != segment.number {
                batch.end = segment.start();
            }
            let file = segment.open_to_read()?;
            let mut reader = segment.reader(&file, batch.end.offset);
            loop {
                if batch.records.len() >= records_max.max(1) || payload_bytes >= bytes_max.max(1) {
                    return Ok(batch);
                }
                match reader
                    .next()
                    .map_err(JournalError::io("read", &segment.path))?
                {
                    Some(Found::Record { record, end }) => {
                        payload_bytes += record.payload.len();
                        batch.records.push(record);
                        batch.end.offset = end;
                        batch.end.records += 1;
                    }
                    // What was there when the segment was opened has been told.
                    Some(Found::Damage(_)) if segment.is_damaged => {}
                    Some(Found::Damage(run)) => batch.damage.add(&segment.path, run),
                    None => break,
                }
            }
            segment.is_damaged |= !batch.damage.is_none();
            batch.end = segment.end();
        }
        Ok(batch)
    }

    /// Lets go of records that were replayed. Segments without any other are deleted, damaged ones renamed.
    pub fn forget(&mut self, batch: Batch) -> Result<(), JournalError> {
        self.replayed = self.replayed.max(batch.end);
        self.drop_replayed()
    }

    /// Whether nothing waits to be replayed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records() == 0
    }

    /// How many records wait to be replayed.
    #[must_use]
    pub fn records(&self) -> u64 {
        let appended: u64 = self.segments.iter().map(|segment| segment.records).sum();
        match self.segments.front() {
            Some(first) if first.number == self.replayed.segment => {
                appended - self.replayed.records
            }
            _ => appended,
        }
    }

    /// How many bytes the segments have on disk, those kept because of damage left out.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Takes away the segments that have nothing to be replayed.
    fn drop_replayed(&mut self) -> Result<(), JournalError> {
        while let Some(first) = self.segments.front() {
            let is_replayed = first.records == 0
                || first.number < self.replayed.segment
                || first.number == self.replayed.segment
                    && (self.replayed.records >= first.records
                        || self.replayed.offset >= first.bytes);
            if !is_replayed {
                break;
            }
            first.remove()?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// Makes the directory, readable by nobody else.
fn make_private(dir: &Path) -> Result<(), JournalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .map_err(JournalError::io("make", dir))
}

/// The numbers of the segments in a directory, oldest first, and one that no file there has.
fn list(dir: &Path) -> Result<(Vec<u64>, u64), JournalError> {
    let mut numbers = Vec::new();
    let mut next = 1;
    for entry in fs::read_dir(dir).map_err(JournalError::io("list", dir))? {
        let name = entry.map_err(JournalError::io("list", dir))?.file_name();
        let Some((number, is_live)) = segment::number(&name) else {
            continue;
        };
        next = next.max(number + 1);
        if is_live {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok((numbers, next))
}
