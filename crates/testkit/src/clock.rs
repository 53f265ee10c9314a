//! A wall clock that a test sets back while a program runs.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// The clock of one program, which is Linux' own until it is set back. The program must be linked dynamically.
#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
}

impl Clock {
    /// Builds what is put between a program and its clock. Takes a C compiler, as linking Rust does.
    ///
    /// # Panics
    /// When `cc` is missing or fails.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self {
            dir: tempfile::tempdir().expect("a directory for a clock"),
        };
        let source = clock.dir.path().join("shim.c");
        fs::write(&source, include_str!("clock/shim.c")).expect("a file of our own");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.shim())
            .arg(source)
            .status();
        assert!(
            built.expect("cc runs").success(),
            "the clock's shim compiles"
        );
        clock
    }

    /// What to put into the program's environment.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", text(self.shim())),
            ("CLOCK_SET_BACK", text(self.mark())),
        ]
    }

    /// Sets the clock back by an hour.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set_back(&self) {
        fs::write(self.mark(), "").expect("a file of our own");
    }

    fn shim(&self) -> PathBuf {
        self.dir.path().join("shim.so")
    }

    fn mark(&self) -> PathBuf {
        self.dir.path().join("set-back")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
