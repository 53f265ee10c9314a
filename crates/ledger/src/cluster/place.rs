//! The directory a cluster lives in: who owns it, who can reach it, what is in it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use crate::LedgerError;

use super::{cannot, child};

/// ```text
/// DIR/postgres.lock     flock of the process that runs it
/// DIR/postgres.log      what Postgres says
/// DIR/postgres/         the data, by rename from postgres.new after initdb
/// DIR/socket/           .s.PGSQL.5432; elsewhere when the path is too long for a socket
/// ```
#[derive(Clone, Debug)]
pub(super) struct Place {
    dir: PathBuf,
    socket: PathBuf,
    /// Whom the child runs as, when that is not ourselves.
    user: Option<User>,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl Place {
    pub(super) fn prepare(dir: &Path) -> Result<Self, LedgerError> {
        let user = child::is_root().then(User::unprivileged).transpose()?;
        let dir = std::path::absolute(dir).map_err(|error| cannot("find", dir, error))?;
        // For root: passable by the child's user, listable by nobody. What the child needs inside is its own.
        let mode = if user.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&dir)
            .map_err(|error| cannot("make", &dir, error))?;
        if let Some(user) = &user {
            user.can_reach(&dir)?;
        }
        let mut place = Self {
            socket: dir.join("socket"),
            dir,
            user,
        };
        if place.socket_file().as_os_str().len() > SOCKET_PATH_MAX {
            let digest: String = Sha256::digest(place.dir.as_os_str().as_encoded_bytes())
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            place.socket = std::env::temp_dir().join(format!("turnpike-{digest}"));
        }
        place.make_private(&place.socket)?;
        Ok(place)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join("postgres.new")
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir.join("postgres.lock")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Takes a socket directory away that stands elsewhere. One that is in use is not empty, and stays.
    pub(super) fn tidy(&self) {
        if !self.socket.starts_with(&self.dir) {
            let _ = fs::remove_dir(&self.socket);
        }
    }

    fn socket_file(&self) -> PathBuf {
        self.socket.join(".s.PGSQL.5432")
    }

    /// The major version that made the data.
    pub(super) fn version(&self) -> Result<Option<u32>, LedgerError> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot("read", &path, error)),
        }
    }

    /// Whether a server runs and takes connections: the eighth line of its pid file, as `pg_ctl -w` reads it.
    pub(super) fn is_ready(&self) -> bool {
        let lines = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        lines
            .lines()
            .nth(7)
            .is_some_and(|status| status.trim() == "ready")
            && super::socket_answers(&self.socket_file())
    }

    /// The process id in the pid file, which may be stale.
    pub(super) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.data().join("postmaster.pid"))
            .ok()?
            .lines()
            .next()?
            .trim()
            .parse()
            .ok()
    }

    /// Makes a directory that only the child's user may enter.
    pub(super) fn make_private(&self, path: &Path) -> Result<(), LedgerError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // In a shared temporary directory somebody else may have been there first.
                let owner =
                    fs::symlink_metadata(path).map_err(|error| cannot("look at", path, error))?;
                let expected = self.user.as_ref().map_or_else(child::uid, |user| user.uid);
                if !owner.is_dir() || (owner.uid() != expected && owner.uid() != child::uid()) {
                    return Err(LedgerError::cluster(format!(
                        "{} belongs to somebody else",
                        path.display()
                    )));
                }
            }
            Err(error) => return Err(cannot("make", path, error)),
        }
        if let Some(user) = &self.user {
            chown(path, Some(user.uid), Some(user.gid))
                .map_err(|error| cannot("give away", path, error))?;
        }
        Ok(())
    }

    /// A command as the child's user, from a clean environment: `PGDATA`, `PGPORT` and the like must not lead it astray.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for name in ["LD_LIBRARY_PATH", "TZ"] {
            if let Some(value) = inherited(name) {
                command.env(name, value);
            }
        }
        if let Some(user) = &self.user {
            use std::os::unix::process::CommandExt;
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// The log, emptied when it has grown long: it is read by people, and kept by nobody.
    pub(super) fn open_log(&self) -> Result<File, LedgerError> {
        let path = self.log_file();
        let long = fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
        let mut options = File::options();
        options.create(true).mode(0o600);
        let file = if long {
            options.write(true).truncate(true).open(&path)
        } else {
            options.append(true).open(&path)
        };
        file.map_err(|error| cannot("write", &path, error))
    }
}

impl User {
    /// `postgres` if there is one, else `nobody`: `initdb` wants a name in the passwd file.
    fn unprivileged() -> Result<Self, LedgerError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = |wanted: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let (name, _, uid, gid) = (
                    fields.next()?,
                    fields.next()?,
                    fields.next()?,
                    fields.next()?,
                );
                (name == wanted).then_some(())?;
                Some(Self {
                    name: name.to_owned(),
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                })
            })
        };
        named("postgres").or_else(|| named("nobody")).ok_or_else(|| {
            LedgerError::cluster(
                "Postgres does not run as root, and there is neither a user postgres nor nobody; start as another user, or use DATABASE_URL",
            )
        })
    }

    /// Whether every directory down to this one lets the user pass.
    fn can_reach(&self, dir: &Path) -> Result<(), LedgerError> {
        for ancestor in dir.ancestors() {
            let found =
                fs::metadata(ancestor).map_err(|error| cannot("look at", ancestor, error))?;
            let bit = if found.uid() == self.uid {
                0o100
            } else if found.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if found.mode() & bit == 0 {
                return Err(LedgerError::cluster(format!(
                    "Postgres does not run as root, and user {} cannot reach {}: {} is closed to it; choose another directory, such as /var/lib/turnpike",
                    self.name,
                    dir.display(),
                    ancestor.display(),
                )));
            }
        }
        Ok(())
    }
}

fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// `sun_path` has 108 bytes on Linux, 104 on a Mac, with the final zero.
const SOCKET_PATH_MAX: usize = 103;

const LOG_BYTES_MAX: u64 = 8 << 20;
