//! A disk of the test's own that is small, so that it gets full.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

/// A tmpfs that holds so many bytes and no more. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one, which takes root; `None` for anybody else. CI is root, so what needs a small disk is tried there.
    ///
    /// # Panics
    /// When root cannot mount: a test that needs a full disk must not pass without one.
    #[must_use]
    pub fn mount(bytes: u64) -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !is_root {
            eprintln!("not root: no disk of this test's own, so this part of it is left out");
            return None;
        }
        let disk = Self::try_mount(bytes);
        Some(disk.unwrap_or_else(|error| panic!("root cannot mount a tmpfs here: {error}")))
    }

    fn try_mount(bytes: u64) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={bytes},mode=0711"))
            .arg("tmpfs")
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(said.trim().to_owned()));
        }
        Ok(Self { dir })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program of the test's may still have a file open.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
