//! Records out of a segment, in order, and what between them is none.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::{
    Record,
    damage::{DamageKind, Run},
    frame::{self, Marker, Parsed, RECORD_BYTES_MAX, RECORD_HEAD_BYTES},
};

/// Read from disk at once. A record that begins at a window's first byte ends within it, or is none.
const WINDOW_BYTES: usize = 1024 * 1024;
const _: () = assert!(WINDOW_BYTES >= RECORD_BYTES_MAX + RECORD_HEAD_BYTES);

pub(super) enum Found {
    Record {
        record: Record,
        /// The offset behind it.
        end: u64,
    },
    Damage(Run),
}

pub(super) struct Reader<'a> {
    file: &'a File,
    marker: Marker,
    window: Vec<u8>,
    /// The offset of the window's first byte in the file.
    window_start: u64,
    /// Where in the window reading has come to.
    at: usize,
    /// Where the segment ends.
    end: u64,
    /// The sequence number that comes next, once one is known.
    sequence: Option<u64>,
    /// A record that was found behind damaged bytes, while these are told.
    pending: Option<Found>,
}

impl<'a> Reader<'a> {
    /// Reads from `start` to `end`, both offsets in the file; `start` is where a record begins. `sequence` is its number,
    /// if known.
    pub(super) fn new(
        file: &'a File,
        marker: Marker,
        (start, end): (u64, u64),
        sequence: Option<u64>,
    ) -> Self {
        Self {
            file,
            marker,
            window: Vec::new(),
            window_start: start,
            at: 0,
            end,
            sequence,
            pending: None,
        }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if let Some(found) = self.pending.take() {
            return Ok(Some(found));
        }
        let start = self.offset();
        let mut kind = DamageKind::Corrupt;
        loop {
            let reaches_end = self.window_start + self.window.len() as u64 == self.end;
            let rest = self.window.get(self.at..).unwrap_or_default();
            match frame::parse(rest, self.marker) {
                Parsed::Record {
                    sequence,
                    left,
                    payload,
                } => {
                    if self.offset() + left > self.end {
                        // Whole records of a group that is not whole are none of ours.
                        self.window.clear();
                        (self.window_start, self.at) = (self.end, 0);
                        return Ok(Some(self.rest(start, DamageKind::Torn)));
                    }
                    let record = Record {
                        sequence,
                        payload: payload.to_vec(),
                    };
                    return Ok(Some(self.record(start, record)));
                }
                // Never twice at the same place: a record that begins with the window is not longer than it.
                Parsed::Short if !reaches_end => self.load()?,
                Parsed::Short | Parsed::Other if rest.is_empty() => {
                    return Ok((start < self.end).then(|| self.rest(start, kind)));
                }
                Parsed::Short => {
                    if self.offset() == start {
                        kind = DamageKind::Torn;
                    }
                    self.skip();
                }
                Parsed::Other => self.skip(),
            }
        }
    }

    fn offset(&self) -> u64 {
        self.window_start + self.at as u64
    }

    /// Reads a new window from where reading has come to.
    fn load(&mut self) -> io::Result<()> {
        self.window_start = self.offset();
        self.at = 0;
        let bytes = usize::try_from(self.end - self.window_start)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES);
        self.window.resize(bytes, 0);
        self.file.read_exact_at(&mut self.window, self.window_start)
    }

    /// Goes on to the next byte where a record might begin.
    fn skip(&mut self) {
        let from = (self.at + 1).min(self.window.len());
        let first = self.marker[0];
        self.at = self.window[from..]
            .iter()
            .position(|&byte| byte == first)
            .map_or(self.window.len(), |found| from + found);
    }

    /// A record begins here; between `start` and it, nothing does.
    fn record(&mut self, start: u64, record: Record) -> Found {
        let offset = self.offset();
        self.at += RECORD_HEAD_BYTES + record.payload.len();
        let expected = self.sequence.unwrap_or(record.sequence);
        let lost = record.sequence.saturating_sub(expected);
        self.sequence = Some(record.sequence.saturating_add(1));
        let found = Found::Record {
            record,
            end: self.offset(),
        };
        if offset == start {
            return found;
        }
        self.pending = Some(found);
        Found::Damage(Run {
            offset: start,
            bytes: offset - start,
            kind: DamageKind::Corrupt,
            records: lost,
        })
    }

    /// Nothing more can be read from `start` on.
    fn rest(&self, start: u64, kind: DamageKind) -> Found {
        Found::Damage(Run {
            offset: start,
            bytes: self.end - start,
            kind,
            records: 0,
        })
    }
}
