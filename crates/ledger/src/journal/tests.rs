//! What is appended is there, wholly or not at all, whatever happens to the file.

mod disks;
mod properties;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::{
    Damage, DamageKind, Journal, JournalError, RECORD_BYTES_MAX,
    frame::{HEADER_BYTES, RECORD_HEAD_BYTES},
    segment::Faults,
};

const ROOMY: u64 = 1 << 30;

pub(super) fn open(dir: &Path) -> Journal {
    let (journal, damage) = Journal::open(dir, ROOMY).unwrap();
    assert_eq!(damage, Damage::default());
    journal
}

fn group(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// All that waits, oldest first, without letting go of it.
pub(super) fn waiting(journal: &mut Journal) -> Vec<Vec<u8>> {
    payloads(journal, usize::MAX, usize::MAX)
}

fn payloads(journal: &mut Journal, records_max: usize, bytes_max: usize) -> Vec<Vec<u8>> {
    let batch = journal.oldest(records_max, bytes_max).unwrap();
    batch
        .records
        .into_iter()
        .map(|record| record.payload)
        .collect()
}

/// The files in a journal's directory whose names end like this.
pub(super) fn files(dir: &Path, end: &str) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect();
    paths.sort();
    paths
}

/// A journal of one segment with these groups, closed.
fn written(groups: &[&[&str]]) -> (TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    for texts in groups {
        journal.append(&group(texts)).unwrap();
    }
    let segments = files(dir.path(), ".segment");
    assert_eq!(segments.len(), 1);
    let bytes = fs::read(&segments[0]).unwrap();
    (dir, bytes)
}

/// A journal whose only segment has these bytes.
fn opened_with(bytes: &[u8]) -> (TempDir, Journal, Damage) {
    try_opened_with(bytes).unwrap()
}

fn try_opened_with(bytes: &[u8]) -> Result<(TempDir, Journal, Damage), JournalError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("0000000001.segment"), bytes).unwrap();
    let (journal, damage) = Journal::open(dir.path(), ROOMY)?;
    Ok((dir, journal, damage))
}

#[test]
fn records_come_back_in_order_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    assert!(journal.is_empty());
    journal.append(&group(&["one", ""])).unwrap();
    journal.append(&[]).unwrap();
    journal.append(&group(&["three"])).unwrap();
    assert_eq!(journal.records(), 3);
    assert_eq!(waiting(&mut journal), group(&["one", "", "three"]));
    drop(journal);

    let mut journal = open(dir.path());
    journal.append(&group(&["four"])).unwrap();
    assert_eq!(journal.records(), 4);
    let batch = journal.oldest(usize::MAX, usize::MAX).unwrap();
    let sequences: Vec<_> = batch.records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
    assert_eq!(batch.records[3].payload, b"four");
}

#[test]
fn nobody_else_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("deep/journal");
    let mut journal = open(&home);
    journal.append(&group(&["secret"])).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&files(&home, ".segment")[0]), 0o600);
}

#[test]
fn a_batch_is_bounded_by_records_and_by_bytes_and_has_at_least_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&group(&["aaaa", "bbbb", "cccc"])).unwrap();
    let mut read = |records, bytes| payloads(&mut journal, records, bytes);
    assert_eq!(read(2, usize::MAX), group(&["aaaa", "bbbb"]));
    assert_eq!(read(9, 5), group(&["aaaa", "bbbb"]));
    assert_eq!(read(0, 0), group(&["aaaa"]));
    assert_eq!(read(9, usize::MAX), group(&["aaaa", "bbbb", "cccc"]));
}

#[test]
fn what_is_forgotten_is_gone_and_its_room_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&group(&["one", "two"])).unwrap();
    let first = journal.oldest(1, usize::MAX).unwrap();
    let again = journal.oldest(2, usize::MAX).unwrap();
    journal.append(&group(&["three"])).unwrap();
    journal.forget(again).unwrap();
    // Older than what was let go of already.
    journal.forget(first).unwrap();
    assert_eq!(journal.records(), 1);
    assert_eq!(waiting(&mut journal), group(&["three"]));

    let rest = journal.oldest(1, usize::MAX).unwrap();
    journal.forget(rest).unwrap();
    assert!(journal.is_empty());
    assert_eq!(journal.bytes(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    journal.append(&group(&["four"])).unwrap();
    assert_eq!(waiting(&mut journal), group(&["four"]));
}

#[test]
fn after_a_restart_replay_begins_again_at_the_oldest_segment() {
    let dir = tempfile::tempdir().unwrap();
    // Small, so that a segment has one group of these.
    let bytes_max = 4096;
    let payload = vec![b'x'; 1000];
    let (mut journal, _) = Journal::open(dir.path(), bytes_max).unwrap();
    journal.append(&[payload.clone(), b"a".to_vec()]).unwrap();
    journal.append(&[payload.clone(), b"b".to_vec()]).unwrap();
    assert_eq!(files(dir.path(), ".segment").len(), 2);
    let batch = journal.oldest(3, usize::MAX).unwrap();
    journal.forget(batch).unwrap();
    assert_eq!(files(dir.path(), ".segment").len(), 1);
    drop(journal);

    let (mut journal, damage) = Journal::open(dir.path(), bytes_max).unwrap();
    assert!(damage.is_none());
    assert_eq!(waiting(&mut journal), [payload, b"b".to_vec()]);
}

#[test]
fn a_file_cut_anywhere_in_its_last_group_has_the_groups_before() {
    let (_dir, bytes) = written(&[&["one", "two"], &["three", "four"]]);
    let whole = HEADER_BYTES + 2 * RECORD_HEAD_BYTES + 6;
    for cut in whole..bytes.len() {
        let (dir, mut journal, damage) = opened_with(&bytes[..cut]);
        assert_eq!(
            waiting(&mut journal),
            group(&["one", "two"]),
            "cut at {cut}"
        );
        if cut == whole {
            assert!(damage.is_none());
            continue;
        }
        assert_eq!(damage.count, 1, "cut at {cut}");
        let place = &damage.places[0];
        assert_eq!(place.kind, DamageKind::Torn);
        assert_eq!(
            (place.offset, place.bytes),
            (whole as u64, (cut - whole) as u64)
        );

        // Replayed, it is kept for people under another name, and is out of the way.
        let batch = journal.oldest(9, usize::MAX).unwrap();
        assert!(batch.damage.is_none(), "told once");
        journal.forget(batch).unwrap();
        assert!(journal.is_empty());
        assert_eq!(journal.bytes(), 0);
        let kept = files(dir.path(), ".damaged");
        assert_eq!(fs::read(&kept[0]).unwrap(), bytes[..cut]);
        journal.append(&group(&["five"])).unwrap();
        drop(journal);
        assert_eq!(waiting(&mut open(dir.path())), group(&["five"]));
    }
}

#[test]
fn a_flipped_bit_costs_the_record_it_is_in_and_no_other() {
    let texts = ["one", "two", "three"];
    let (_dir, bytes) = written(&[&texts[..2], &texts[2..]]);
    let mut ends = vec![HEADER_BYTES];
    for text in texts {
        ends.push(ends.last().unwrap() + RECORD_HEAD_BYTES + text.len());
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (_dir, mut journal, damage) = opened_with(&flipped);
        let hit = ends.iter().rposition(|&end| end <= bit / 8);
        let expected: Vec<_> = texts
            .iter()
            .enumerate()
            .filter(|(index, _)| hit != Some(*index))
            .map(|(_, text)| text.as_bytes().to_vec())
            .collect();
        assert_eq!(waiting(&mut journal), expected, "bit {bit}");
        assert_eq!(damage.count, 1, "bit {bit}");
        if hit.is_some_and(|hit| hit < 2) {
            assert_eq!(damage.records, 1, "bit {bit}");
        }
    }
}

#[test]
fn what_goes_bad_while_it_waits_is_told_by_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&group(&["one", "two"])).unwrap();
    let path = &files(dir.path(), ".segment")[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[HEADER_BYTES + RECORD_HEAD_BYTES] ^= 1;
    fs::write(path, bytes).unwrap();

    let batch = journal.oldest(9, usize::MAX).unwrap();
    assert_eq!((batch.damage.count, batch.damage.records), (1, 1));
    assert_eq!(batch.records[0].payload, b"two");
    journal.forget(batch).unwrap();
    assert!(journal.is_empty());
    assert_eq!(files(dir.path(), ".damaged").len(), 1);
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = super::frame::header([7; 8], 1);
    header[8] = 9;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(&header[16..]);
    header[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(dir.path().join("0000000001.segment"), header).unwrap();
    let error = Journal::open(dir.path(), ROOMY).unwrap_err();
    assert!(matches!(error, JournalError::Version { version: 9, .. }));
    assert!(error.to_string().contains("format 9"), "{error}");
}

#[test]
fn a_full_journal_takes_nothing_more_until_it_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), 10_000).unwrap();
    let record = vec![vec![b'x'; 1000]];
    let mut appended = 0;
    let error = loop {
        match journal.append(&record) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Full { bytes_max: 10_000 }));
    assert!(appended >= 8, "{appended}");
    assert!(journal.bytes() <= 10_000);
    assert_eq!(journal.records(), appended);
    let batch = journal.oldest(5, usize::MAX).unwrap();
    journal.forget(batch).unwrap();
    journal.append(&record).unwrap();
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let longest = vec![0; RECORD_BYTES_MAX];
    let error = journal
        .append(&[b"short".to_vec(), vec![0; RECORD_BYTES_MAX + 1]])
        .unwrap_err();
    assert!(matches!(error, JournalError::TooLong { .. }));
    assert!(journal.is_empty());
    journal.append(&vec![longest.clone(); 5]).unwrap();
    assert_eq!(waiting(&mut journal), vec![longest; 5]);
}

/// Linux forgets pages it could not write, and says so once. So a file whose fsync failed is never written to again.
#[test]
fn after_a_failed_fsync_the_file_is_not_trusted_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&group(&["one"])).unwrap();
    let before = journal.bytes();
    let fault = |sync| Faults {
        sync,
        ..Faults::default()
    };
    journal.segments[0].inject(fault(true));
    let error = journal.append(&group(&["lost"])).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert!(!error.is_full());
    assert_eq!((journal.records(), journal.bytes()), (1, before));

    journal.append(&group(&["two"])).unwrap();
    assert_eq!(files(dir.path(), ".segment").len(), 2);
    assert_eq!(waiting(&mut journal), group(&["one", "two"]));
    drop(journal);
    assert_eq!(waiting(&mut open(dir.path())), group(&["one", "two"]));
}

#[test]
fn a_write_that_stops_half_way_leaves_nothing() {
    for written in 0..2 * RECORD_HEAD_BYTES {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let fault = Faults {
            write_bytes: Some(written),
            ..Faults::default()
        };
        // As the first group of a segment, and behind another.
        journal.faults = fault;
        assert!(journal.append(&group(&["lost"])).unwrap_err().is_full());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        journal.faults = Faults::default();
        journal.append(&group(&["one"])).unwrap();
        journal.segments[0].inject(fault);
        assert!(
            journal
                .append(&group(&["lost", "too"]))
                .unwrap_err()
                .is_full()
        );
        drop(journal);
        assert_eq!(waiting(&mut open(dir.path())), group(&["one"]));
    }
}

#[test]
fn what_cannot_be_cut_back_is_not_read_before_a_restart_and_harms_nothing_after() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&group(&["one"])).unwrap();
    journal.segments[0].inject(Faults {
        sync: true,
        cut: true,
        ..Faults::default()
    });
    journal.append(&group(&["unsure"])).unwrap_err();
    journal.append(&group(&["two"])).unwrap();
    assert_eq!(waiting(&mut journal), group(&["one", "two"]));
    drop(journal);
    let batch = open(dir.path()).oldest(9, usize::MAX).unwrap();
    let found: Vec<_> = batch
        .records
        .iter()
        .map(|record| (record.sequence, record.payload.as_slice()))
        .collect();
    assert_eq!(found, [(1, &b"one"[..]), (2, b"unsure"), (3, b"two")]);
}
