//! A disk that is truly full, and a limit of the kernel's that stands for one.

use std::{path::Path, process::Command};

use testkit::SmallDisk;

use super::super::{Journal, JournalError};
use super::{ROOMY, open, waiting};

/// In a process of its own, told where to write by this variable.
const CHILD: &str = "JOURNAL_TEST_DIR";

/// What is full: the disk, or just each file.
#[derive(Clone, Copy)]
enum Limit {
    Disk,
    File,
}

/// Appends until the disk is full, and shows that what was acknowledged is there and nothing else.
fn fill(dir: &Path, limit: Limit) {
    let mut journal = open(dir);
    let mut acknowledged = 0_u64;
    let group = |number: u64| {
        vec![
            number.to_le_bytes().repeat(500),
            number.to_le_bytes().to_vec(),
        ]
    };
    let error = loop {
        match journal.append(&group(acknowledged)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::DiskFull { .. }), "{error:?}");
    assert!(acknowledged > 10, "{acknowledged}");
    // Asked again it says so again, or finds room in another file; it harms nothing.
    match limit {
        Limit::Disk => assert!(journal.append(&group(acknowledged)).unwrap_err().is_full()),
        Limit::File => {
            journal.append(&group(acknowledged)).unwrap();
            acknowledged += 1;
        }
    }
    let expected: Vec<_> = (0..acknowledged).flat_map(group).collect();
    assert_eq!(waiting(&mut journal), expected);
    drop(journal);

    let (mut journal, damage) = Journal::open(dir, ROOMY).unwrap();
    assert!(damage.is_none(), "{damage}");
    assert_eq!(waiting(&mut journal), expected);
    // Replayed, its room is free again.
    let batch = journal.oldest(usize::MAX, usize::MAX).unwrap();
    journal.forget(batch).unwrap();
    journal.append(&group(0)).unwrap();
}

/// Who may not mount a disk has the same shown by the kernel's limit on files, below.
#[test]
fn a_full_disk_keeps_what_was_acknowledged_and_nothing_else() {
    if let Some(disk) = SmallDisk::mount(256 * 1024) {
        fill(&disk.path().join("journal"), Limit::Disk);
    }
}

/// Runs itself again under a limit of 128 KiB for a file, and as that process fills one.
#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return fill(Path::new(&dir), Limit::File);
    }
    let dir = tempfile::tempdir().unwrap();
    // Without the trap the kernel kills who exceeds the limit.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .arg("journal::tests::disks::a_file_that_may_not_grow_is_a_full_disk")
        .args(["--exact", "--nocapture"])
        .env(CHILD, dir.path().join("journal"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
