//! A disk of the test's own that is small, so that it gets full.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

/// A tmpfs that holds so many bytes and no more. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one. It takes a process that may mount (root, in CI), and fails for any other.
    pub fn mount(bytes: u64) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes},mode=0711"),
                "tmpfs",
            ])
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!(
                "mount: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
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
