//! What was recorded is found, whatever became of the process and of the file.

mod killed;

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    sync::Barrier,
    thread,
};

use super::{layout::State, *};

fn recorder(slots: u32) -> (tempfile::TempDir, PathBuf, Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recorder");
    let recorder = Recorder::create(&path, slots).unwrap();
    (dir, path, recorder)
}

/// An opening whose every figure tells which one it is.
pub(super) fn opening(number: u64) -> Opening<'static> {
    let signed = number.cast_signed();
    Opening {
        exchange: Uuid::from_u64_pair(number, !number),
        token: signed,
        account: -signed,
        hold_nano: i64::MAX - signed,
        prompt_tokens_bound: number + 1,
        completion_tokens_bound: u64::MAX - number,
        price: signed + 2,
        started_at_ms: signed + 3,
        input_tokens_estimate: number + 4,
        in_rate: signed + 5,
        out_rate: i64::MIN + signed,
        whole: number.is_multiple_of(7),
        stream: number.is_multiple_of(2),
        upstream: (number.is_multiple_of(3)).then_some(signed),
        upstream_key: (number.is_multiple_of(5)).then_some(0),
        endpoint: "/v1/chat/completions".into(),
        model: format!("model-{number}").into(),
    }
}

pub(super) fn progress(number: u64) -> Progress {
    Progress {
        answer_bytes: u64::MAX - number,
        output_tokens_seen: number,
        status: u16::try_from(number).unwrap_or(u16::MAX),
    }
}

fn numbers(remains: &Remains) -> Vec<u64> {
    let mut numbers: Vec<_> = remains
        .left
        .iter()
        .map(|left| left.opening.exchange.as_u64_pair().0)
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_is_open_is_found_as_it_was_told() {
    let (_dir, path, recorder) = recorder(8);
    assert_eq!(read(&path).unwrap(), Remains::default());
    let slots: Vec<_> = (0..6)
        .map(|number| recorder.open(&opening(number)).unwrap())
        .collect();
    for (slot, number) in slots.iter().zip(10..) {
        slot.progress(progress(number));
    }
    let remains = read(&path).unwrap();
    assert_eq!(remains.corrupt, 0);
    for (number, left) in (0..).zip(&remains.left) {
        assert_eq!(left.opening, opening(number));
        assert_eq!(left.progress, progress(number + 10));
    }
    for slot in slots {
        slot.clear();
    }
    assert_eq!(read(&path).unwrap(), Remains::default());
}

#[test]
fn a_reused_slot_knows_nothing_of_the_exchange_before() {
    let (_dir, path, recorder) = recorder(1);
    let slot = recorder.open(&opening(1)).unwrap();
    slot.progress(progress(7));
    slot.clear();
    let slot = recorder.open(&opening(2)).unwrap();
    let remains = read(&path).unwrap();
    assert_eq!(remains.left[0].opening, opening(2));
    assert_eq!(remains.left[0].progress, Progress::default());
    slot.clear();
}

#[test]
fn a_full_recorder_takes_no_more_until_one_is_cleared() {
    let (_dir, _path, recorder) = recorder(3);
    let mut slots: Vec<_> = (0..3)
        .map(|number| recorder.open(&opening(number)).unwrap())
        .collect();
    assert!(recorder.open(&opening(9)).is_none());
    slots.remove(1).clear();
    let slot = recorder.clone().open(&opening(9)).unwrap();
    assert!(recorder.open(&opening(10)).is_none());
    slot.clear();
}

#[test]
fn a_slot_that_is_dropped_keeps_its_evidence_and_its_place() {
    let (_dir, path, recorder) = recorder(2);
    drop(recorder.open(&opening(5)).unwrap());
    let slot = recorder.open(&opening(6)).unwrap();
    assert!(recorder.open(&opening(7)).is_none());
    slot.clear();
    assert_eq!(numbers(&read(&path).unwrap()), [5]);
}

#[test]
fn texts_are_cut_at_whole_characters() {
    let (_dir, path, recorder) = recorder(2);
    let long = Opening {
        // Three bytes each: the limits fall within one, and on the end of one.
        endpoint: "路".repeat(11).into(),
        model: "路".repeat(41).into(),
        ..opening(1)
    };
    let empty = Opening {
        endpoint: "".into(),
        model: "".into(),
        ..opening(2)
    };
    let slots = [
        recorder.open(&long).unwrap(),
        recorder.open(&empty).unwrap(),
    ];
    let remains = read(&path).unwrap();
    assert_eq!(remains.left[0].opening.endpoint, "路".repeat(10));
    assert_eq!(remains.left[0].opening.model, "路".repeat(40));
    assert_eq!(remains.left[1].opening, empty);
    slots.into_iter().for_each(Slot::clear);
}

/// One byte after another of an open slot is damaged: what it was opened with is found as it was, or counted as corrupt.
#[test]
fn a_damaged_slot_is_skipped_and_the_others_are_found() {
    let (_dir, path, recorder) = recorder(3);
    let slots: Vec<_> = (0..3)
        .map(|number| recorder.open(&opening(number)).unwrap())
        .collect();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let progress_bytes = layout::PROGRESS.start * 8..layout::PROGRESS.end * 8;
    let used = layout::FIXED.end * 8;
    for at in 0..SLOT_BYTES {
        let offset = (HEADER_BYTES + SLOT_BYTES + at) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
        let remains = read(&path).unwrap();
        if at >= used {
            assert_eq!((numbers(&remains), remains.corrupt), (vec![0, 1, 2], 0));
        } else if progress_bytes.contains(&at) {
            // Figures are what they are, but a status has 16 bits.
            assert_eq!(remains.left.len() + remains.corrupt, 3);
        } else {
            assert_eq!(
                (numbers(&remains), remains.corrupt),
                (vec![0, 2], 1),
                "byte {at}"
            );
        }
        file.write_all_at(&byte, offset).unwrap();
    }
    assert_eq!(numbers(&read(&path).unwrap()), [0, 1, 2]);
    slots.into_iter().for_each(Slot::clear);
}

#[test]
fn a_slot_half_written_is_none() {
    let (_dir, path, recorder) = recorder(1);
    let slot = recorder.open(&opening(1)).unwrap();
    // As if the process had died before the state was stored.
    slot.words()[layout::STATE].store(State::Free as u64, Relaxed);
    assert_eq!(read(&path).unwrap(), Remains::default());
    slot.clear();
}

#[test]
fn other_files_and_other_versions_are_refused() {
    let (dir, path, recorder) = recorder(2);
    let slot = recorder.open(&opening(1)).unwrap();
    let bytes = fs::read(&path).unwrap();
    let other = dir.path().join("other");
    let read_as = |bytes: &[u8]| {
        fs::write(&other, bytes).unwrap();
        read(&other)
    };
    let mut newer = bytes.clone();
    newer[8..16].copy_from_slice(&2_u64.to_ne_bytes());
    let error = read_as(&newer).unwrap_err();
    assert!(matches!(error, RecorderError::Version { version: 2, .. }));
    assert!(error.to_string().contains("format 2"), "{error}");
    for foreign in [&b""[..], b"something else", &[0; 5000], &bytes[..31]] {
        assert!(matches!(
            read_as(foreign),
            Err(RecorderError::Foreign { .. })
        ));
    }
    // Cut off within the second slot: the first is found, the second counted.
    let cut = read_as(&bytes[..HEADER_BYTES + SLOT_BYTES + 100]).unwrap();
    assert_eq!((numbers(&cut), cut.corrupt), (vec![1], 1));
    assert!(read(&dir.path().join("none")).is_err());
    assert!(
        Recorder::create(&path, 2).is_err(),
        "another's is not written over"
    );
    slot.clear();
}

/// A store into a hole of a file on a full disk would be SIGBUS.
#[test]
fn it_has_its_room_on_disk_from_the_start_and_nobody_else_can_read_it() {
    let (_dir, path, _recorder) = recorder(1000);
    let file = fs::metadata(path).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(file.len(), (HEADER_BYTES + 1000 * SLOT_BYTES) as u64);
    assert!(file.blocks() * 512 >= file.len());
}

#[test]
fn a_disk_without_room_is_an_error() {
    if let Some(disk) = testkit::SmallDisk::mount(64 * 1024) {
        let error = Recorder::create(&disk.path().join("recorder"), 1000).unwrap_err();
        assert!(matches!(error, RecorderError::Io { what: "write", .. }));
    }
}

#[test]
fn many_threads_get_slots_of_their_own() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 2_000;
    let (_dir, path, recorder) = recorder(64);
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (recorder, barrier) = (&recorder, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..ROUNDS {
                    let slots: Vec<_> = (0..8)
                        .map(|at| {
                            let number = (thread * ROUNDS + round) * 8 + at;
                            let slot = recorder.open(&opening(number)).unwrap();
                            slot.progress(progress(number));
                            (number, slot)
                        })
                        .collect();
                    let own: HashSet<_> = slots.iter().map(|(_, slot)| slot.index).collect();
                    assert_eq!(own.len(), 8);
                    for (number, slot) in slots {
                        let words = slot.words();
                        assert_eq!(
                            words[layout::FIXED.start].load(Relaxed),
                            number,
                            "another's"
                        );
                        assert_eq!(words[2].load(Relaxed), number, "another's");
                        slot.clear();
                    }
                }
            });
        }
    });
    assert_eq!(read(&path).unwrap(), Remains::default());
    // None got lost.
    let slots: Vec<_> = (0..64)
        .map(|number| recorder.open(&opening(number)).unwrap())
        .collect();
    assert!(recorder.open(&opening(64)).is_none());
    slots.into_iter().for_each(Slot::clear);
}
