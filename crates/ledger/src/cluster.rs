//! A private Postgres, run as a child process: the embedded default, and the tests' database.

use std::path::{Path, PathBuf};

use crate::{Config, LedgerError};

/// How to run a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the cluster lives. Made if it is missing. Must be reachable by the child's user when started by root:
    /// see [`default_dir`].
    pub dir: PathBuf,
    /// The directory with `initdb` and `postgres`, when it should not be searched for.
    pub binaries: Option<PathBuf>,
    /// Gives durability up for speed. For tests only.
    pub throwaway: bool,
}

/// A private Postgres. The process that started it stops it; one that found it running leaves it.
#[derive(Debug)]
pub struct Cluster {}

/// `/var/lib/turnpike` for root, else `turnpike` in the XDG state directory (`$XDG_STATE_HOME`, `$HOME/.local/state`),
/// both given by the caller.
#[must_use]
pub fn default_dir(xdg_state_home: Option<&Path>, home: Option<&Path>) -> PathBuf {
    let _ = (xdg_state_home, home);
    todo!()
}

impl Cluster {
    /// Starts the cluster, making it first if need be; or joins it when another process of ours runs it already.
    /// Returns when it takes connections. Blocks (a second or so the first time): call it before serving, or from
    /// a blocking thread.
    ///
    /// # Errors
    /// [`LedgerError::is_cluster`] with one sentence that says what to do.
    pub fn start(options: &Options) -> Result<Self, LedgerError> {
        let _ = options;
        todo!()
    }

    /// How to connect to a database of it; `postgres` always exists. It need not exist: see [`Cluster::create_database`].
    #[must_use]
    pub fn config(&self, database: &str) -> Config {
        let _ = database;
        todo!()
    }

    /// A `postgres:` URL for people and for other programs.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let _ = database;
        todo!()
    }

    /// Whether this process started it, and will stop it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        todo!()
    }

    /// Makes the database unless it is there.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn create_database(&self, database: &str) -> Result<(), LedgerError> {
        let _ = database;
        todo!()
    }

    /// Stops it (Postgres' fast shutdown) and waits until it has. Does nothing when it is not ours.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub fn stop(self) -> Result<(), LedgerError> {
        todo!()
    }
}
