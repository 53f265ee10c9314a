//! How segments, groups and records stand on disk.
//!
//! ```text
//! segment  magic 8 · version 4 · checksum 4 · marker 8 · sequence 8      of its first record
//! record   marker 8 · sequence 8 · left 4 · length 4 · checksum 4 · payload
//! ```
//!
//! Integers are little-endian. `marker` is random, one for each segment: it is how records are found again behind damaged
//! bytes, and what a payload cannot imitate, since nobody who writes into payloads knows it. `left` is how many bytes the
//! record's group has from this record on: a group that the file ends within was never whole. Checksums are over all but
//! themselves; a segment's header stays what it is in every version.
//!
//! The checksum is CRC-32 (IEEE) by `crc32fast`: every burst of up to 32 bits is found, and one other damage in four
//! billion is not. It is meant for disks, not for forgers: who can write here can also write to Postgres.

use super::JournalError;

pub(super) const VERSION: u32 = 1;

pub(super) const HEADER_BYTES: usize = 32;

pub(super) const RECORD_HEAD_BYTES: usize = 28;

pub(super) const MARKER_BYTES: usize = 8;

/// The longest payload of a record.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

const MAGIC: [u8; 8] = *b"tpjrnl\r\n";

/// What tells a segment's records from other bytes.
pub(super) type Marker = [u8; MARKER_BYTES];

/// A new segment's marker: bits of a UUID's random part.
pub(super) fn new_marker() -> Marker {
    uuid::Uuid::now_v7().as_u64_pair().1.to_le_bytes()
}

pub(super) fn header(marker: Marker, sequence: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&marker);
    bytes[24..].copy_from_slice(&sequence.to_le_bytes());
    let checksum = header_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What the first bytes of a segment are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Known {
        marker: Marker,
        sequence: u64,
    },
    /// Whole, but of another version.
    Other(u32),
    Damaged,
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Header::Damaged;
    };
    if header[..8] != MAGIC || u32_at(header, 12) != Some(header_checksum(header)) {
        return Header::Damaged;
    }
    match (u32_at(header, 8), marker_at(header, 16), u64_at(header, 24)) {
        (Some(VERSION), Some(marker), Some(sequence)) => Header::Known { marker, sequence },
        (Some(other), ..) => Header::Other(other),
        (None, ..) => Header::Damaged,
    }
}

/// What may be the marker of a segment whose header is damaged: the header's own, and its first record's.
pub(super) fn marker_copies(bytes: &[u8]) -> impl Iterator<Item = Marker> {
    [marker_at(bytes, 16), marker_at(bytes, HEADER_BYTES)]
        .into_iter()
        .flatten()
}

fn header_checksum(header: &[u8; HEADER_BYTES]) -> u32 {
    checksum(&header[..12], &header[16..])
}

/// How many bytes a group of these records has, if it may be that long.
pub(super) fn group_bytes(records: &[Vec<u8>]) -> Result<u64, JournalError> {
    let mut bytes = 0;
    for record in records {
        if record.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLong {
                bytes: record.len() as u64,
                bytes_max: RECORD_BYTES_MAX as u64,
            });
        }
        bytes += (RECORD_HEAD_BYTES + record.len()) as u64;
    }
    if bytes > super::GROUP_BYTES_MAX {
        return Err(JournalError::TooLong {
            bytes,
            bytes_max: super::GROUP_BYTES_MAX,
        });
    }
    Ok(bytes)
}

/// The bytes of a group, behind those already in `out`. The caller has asked [`group_bytes`].
pub(super) fn push_group(out: &mut Vec<u8>, records: &[Vec<u8>], marker: Marker, sequence: u64) {
    let mut left: usize = records
        .iter()
        .map(|record| RECORD_HEAD_BYTES + record.len())
        .sum();
    out.reserve(left);
    for (sequence, payload) in (sequence..).zip(records) {
        let mut head = [0; RECORD_HEAD_BYTES];
        head[..8].copy_from_slice(&marker);
        head[8..16].copy_from_slice(&sequence.to_le_bytes());
        head[16..20].copy_from_slice(&narrow(left).to_le_bytes());
        head[20..24].copy_from_slice(&narrow(payload.len()).to_le_bytes());
        let checksum = checksum(&head[..24], payload);
        head[24..].copy_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(payload);
        left -= RECORD_HEAD_BYTES + payload.len();
    }
}

/// `group_bytes` has seen to it that lengths fit.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Record {
        sequence: u64,
        /// Of its group, from the record's first byte on.
        left: u64,
        payload: &'a [u8],
    },
    /// It may be a record; the bytes end before it does.
    Short,
    /// No record.
    Other,
}

pub(super) fn parse(bytes: &[u8], marker: Marker) -> Parsed<'_> {
    if bytes.len() < RECORD_HEAD_BYTES {
        let known = bytes.len().min(MARKER_BYTES);
        return if bytes[..known] == marker[..known] {
            Parsed::Short
        } else {
            Parsed::Other
        };
    }
    let (head, rest) = bytes.split_at(RECORD_HEAD_BYTES);
    let (Some(sequence), Some(left), Some(length), Some(expected)) = (
        u64_at(head, 8),
        u32_at(head, 16),
        u32_at(head, 20),
        u32_at(head, 24),
    ) else {
        return Parsed::Other;
    };
    let length = length as usize;
    if head[..MARKER_BYTES] != marker || length > RECORD_BYTES_MAX {
        return Parsed::Other;
    }
    let Some(payload) = rest.get(..length) else {
        return Parsed::Short;
    };
    if checksum(&head[..24], payload) != expected {
        return Parsed::Other;
    }
    Parsed::Record {
        sequence,
        left: u64::from(left),
        payload,
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn marker_at(bytes: &[u8], at: usize) -> Option<Marker> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}
