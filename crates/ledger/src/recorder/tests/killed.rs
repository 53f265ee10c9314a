//! A process is killed, and its parent finds what it had recorded.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::super::{Recorder, Slot, read};
use super::{opening, progress};

/// In the process that is going to be killed: where its file is.
const CHILD: &str = "RECORDER_TEST_FILE";

const OPEN: u64 = 500;

#[test]
fn what_was_recorded_survives_sigkill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return record_and_wait(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recorder");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["recorder::tests::killed::what_was_recorded_survives_sigkill"])
        .args(["--exact", "--nocapture"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines
        .map_while(Result::ok)
        .any(|line| line.ends_with("recorded"));
    assert!(ready, "the child ended early: {:?}", child.wait());
    // SIGKILL.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());

    let remains = read(&path).unwrap();
    assert_eq!(remains.corrupt, 0);
    let mut left = remains.left;
    left.sort_by_key(|left| left.opening.exchange);
    let expected: Vec<_> = (0..OPEN)
        .filter(|number| !number.is_multiple_of(7))
        .collect();
    assert_eq!(left.len(), expected.len());
    for (left, number) in left.iter().zip(expected) {
        assert_eq!(left.opening, opening(number));
        assert_eq!(left.progress, progress(number + 1000));
    }
}

/// Every seventh exchange is settled; the others are open, and have come some way.
fn record_and_wait(path: &Path) {
    let recorder = Recorder::create(path, 1000).unwrap();
    let mut slots: Vec<Option<Slot>> = (0..OPEN)
        .map(|number| {
            let slot = recorder.open(&opening(number)).unwrap();
            slot.progress(progress(number));
            Some(slot)
        })
        .collect();
    for (number, slot) in (0..).zip(&mut slots) {
        if u64::is_multiple_of(number, 7) {
            slot.take().unwrap().clear();
        } else if let Some(slot) = slot {
            slot.progress(progress(number + 1000));
        }
    }
    // Past the test harness' own capturing; the parent reads it.
    writeln!(std::io::stdout(), "\nrecorded").unwrap();
    // Until the parent kills us, or is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}
