//! A process' directory is its own while it lives, and one other's after.

use std::fs;

use super::*;
use crate::recorder::{Opening, Progress};

const SIZES: Sizes = Sizes {
    journal_bytes_max: 1 << 20,
    recorder_slots: 4,
};

fn opening(exchange: Uuid) -> Opening<'static> {
    Opening {
        exchange,
        token: 1,
        account: 2,
        hold_nano: 3,
        prompt_tokens_bound: 4,
        completion_tokens_bound: 5,
        price: 6,
        started_at_ms: 7,
        input_tokens_estimate: 8,
        in_rate: 9,
        out_rate: 10,
        whole: false,
        stream: true,
        upstream: None,
        upstream_key: None,
        endpoint: "/v1/chat/completions".into(),
        model: "gpt-4o".into(),
    }
}

fn orphans(data_dir: &Path) -> Vec<Orphan> {
    let found = BlackBox::orphans(data_dir).unwrap();
    found.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_process_that_is_gone_is_found_with_all_it_left_and_by_one_other_only() {
    let data = tempfile::tempdir().unwrap();
    let exchange = Uuid::now_v7();
    let (mine, mut journal, recorder) =
        BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap();
    mine.name(InstanceId(77)).unwrap();
    journal.append(&[b"settled".to_vec()]).unwrap();
    let slot = recorder.open(&opening(exchange)).unwrap();
    let progress = Progress {
        answer_bytes: 9,
        output_tokens_seen: 3,
        status: 200,
    };
    slot.progress(progress);
    assert!(orphans(data.path()).is_empty(), "its process lives");
    assert!(BlackBox::deserted(data.path()).unwrap().is_empty());

    // The lock goes with the process; here with its file.
    drop((mine, journal, recorder, slot));
    let seen = BlackBox::deserted(data.path()).unwrap();
    assert!(seen.len() == 1 && seen[0].journal_bytes > 7, "{seen:?}");
    let mut found = orphans(data.path());
    assert!(orphans(data.path()).is_empty(), "another has it");
    let mut orphan = found.pop().unwrap();
    assert!(found.is_empty());
    assert_eq!(orphan.instance, Some(InstanceId(77)));
    assert!(orphan.damage.is_none());
    assert_eq!(orphan.remains.left.len(), 1);
    assert_eq!(orphan.remains.left[0].opening, opening(exchange));
    assert_eq!(orphan.remains.left[0].progress, progress);
    let batch = orphan.journal.oldest(9, usize::MAX).unwrap();
    assert_eq!(batch.records[0].payload, b"settled");
    orphan.journal.forget(batch).unwrap();

    let path = orphan.path().to_owned();
    orphan.remove().unwrap();
    assert!(!path.exists());
    assert!(!data.path().join("damaged").exists());
    assert!(orphans(data.path()).is_empty());
}

#[test]
fn an_orphan_that_is_let_go_of_is_found_again() {
    let data = tempfile::tempdir().unwrap();
    drop(BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap());
    assert_eq!(orphans(data.path()).len(), 1);
    assert_eq!(orphans(data.path()).len(), 1);
}

/// Killed after each step of being made, it is an orphan with nothing in it.
#[test]
fn a_directory_that_was_not_finished_is_an_orphan_without_anything() {
    let data = tempfile::tempdir().unwrap();
    let make = |what: &dyn Fn(&Path)| {
        let dir = instances(data.path()).join(Uuid::now_v7().to_string());
        fs::create_dir_all(&dir).unwrap();
        what(&dir);
    };
    make(&|_| {});
    make(&|dir| fs::write(dir.join("lock"), "").unwrap());
    make(&|dir| fs::create_dir(dir.join("journal")).unwrap());
    make(&|dir| fs::write(dir.join("recorder"), "").unwrap());
    make(&|dir| fs::write(dir.join("recorder"), [0; 5000]).unwrap());
    make(&|dir| fs::write(dir.join("instance.new"), "7").unwrap());
    let found = orphans(data.path());
    assert_eq!(found.len(), 6);
    for orphan in found {
        assert_eq!(orphan.instance, None);
        assert_eq!(orphan.remains, Remains::default());
        assert!(orphan.journal.is_empty());
        orphan.remove().unwrap();
    }
}

#[test]
fn what_is_damaged_outlives_the_directory() {
    let data = tempfile::tempdir().unwrap();
    let (mine, mut journal, recorder) =
        BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap();
    journal.append(&[b"settled".to_vec()]).unwrap();
    drop(recorder.open(&opening(Uuid::now_v7())).unwrap());
    let path = mine.path().to_owned();
    drop((mine, journal, recorder));
    let segment = fs::read_dir(path.join("journal"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let damage = |path: &Path, from_end: usize| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    damage(&segment, 1);
    // The last slot's state.
    damage(&path.join("recorder"), 320);

    let orphan = orphans(data.path()).pop().unwrap();
    assert_eq!((orphan.damage.count, orphan.remains.corrupt), (1, 1));
    orphan.remove().unwrap();
    assert!(!path.exists());
    assert_eq!(
        fs::read_dir(data.path().join("damaged")).unwrap().count(),
        2
    );
}

#[test]
fn one_that_cannot_be_read_is_told_and_stays_and_hides_no_other() {
    let data = tempfile::tempdir().unwrap();
    let (mine, ..) = BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap();
    fs::write(mine.path().join("recorder"), "something else").unwrap();
    let path = mine.path().to_owned();
    drop(mine);
    let (other, ..) = BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap();
    fs::write(other.path().join("instance"), "seven").unwrap();
    drop(other);
    drop(BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap());

    let found = BlackBox::orphans(data.path()).unwrap();
    assert!(matches!(found[0], Err(BlackBoxError::Recorder(_))));
    assert!(matches!(found[1], Err(BlackBoxError::Instance { .. })));
    assert!(found[2].is_ok());
    assert!(path.exists());
}

#[test]
fn an_orderly_end_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (mine, journal, recorder) = BlackBox::create(data.path(), Uuid::now_v7(), SIZES).unwrap();
    drop((journal, recorder));
    mine.remove().unwrap();
    assert!(orphans(data.path()).is_empty());
    // The lock of the directory of directories is all there is.
    assert_eq!(fs::read_dir(instances(data.path())).unwrap().count(), 1);
}
