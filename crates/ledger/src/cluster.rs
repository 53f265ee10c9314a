//! A private Postgres, run as a child process: the embedded default, and the tests' database.
//!
//! It listens on a Unix socket only, in a directory closed to other users: no port to clash, no password to keep. Its
//! owner migrates and runs commands; who serves has a user of his own with the gateway's few rights. As Postgres refuses to run as root, a gateway started by root runs it as user `postgres` or `nobody`. It dies with the
//! process that started it, and a second process on the same directory joins it.

mod binaries;
mod child;
mod place;

use std::{
    fs::{self, File, TryLockError},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio_postgres::error::SqlState;

use crate::{Config, LedgerError, tls::TlsMode};

use self::{binaries::Binaries, child::Child, place::Place};

/// How to run a private Postgres.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the cluster lives. Made if it is missing. Must be reachable by the child's user when started by root:
    /// see [`default_dir`].
    pub dir: PathBuf,
    /// The directory with `initdb` and `postgres`, when it should not be searched for.
    pub binaries: Option<PathBuf>,
    /// Gives durability up for speed. For tests only.
    pub throwaway: bool,
    /// Leaves it running when this process ends. For tests only, where many short processes share one.
    pub detached: bool,
    /// Does not join a server that another process started, but waits so long for that process to end: for who serves, and would
    /// lose its database with the other.
    pub alone: Option<Duration>,
}

/// A private Postgres. The process that started it stops it; one that found it running leaves it.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    /// `None` when another process runs it, or nobody in particular (detached).
    child: Option<Child>,
    /// Held as long as the child is ours; the system lets it go with the process, however that ends.
    _lock: Option<File>,
}

/// `/var/lib/turnpike` for root, else `turnpike` in the XDG state directory (`$XDG_STATE_HOME`, `$HOME/.local/state`),
/// both given by the caller.
#[must_use]
pub fn default_dir(xdg_state_home: Option<&Path>, home: Option<&Path>) -> PathBuf {
    if child::is_root() {
        return PathBuf::from("/var/lib/turnpike");
    }
    let state = xdg_state_home
        .filter(|path| path.is_absolute())
        .map(Path::to_owned);
    state
        .or_else(|| home.map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("turnpike")
}

impl Cluster {
    /// Starts the cluster, making it first if need be; or joins it when another process of ours runs it already.
    /// Returns when it takes connections. Blocks (a second or so the first time): call it before serving, or from
    /// a blocking thread.
    ///
    /// # Errors
    /// [`LedgerError::is_cluster`] with one sentence that says what to do.
    pub fn start(options: &Options) -> Result<Self, LedgerError> {
        let place = Place::prepare(&options.dir)?;
        let mut deadline = Instant::now() + START_MAX;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(place.lock_file())
            .map_err(|error| cannot("write to", &options.dir, error))?;
        let begun = Instant::now();
        let mut has_told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if options.alone.is_some() && place.is_ready() => {
                    if options
                        .alone
                        .is_some_and(|patience| begun.elapsed() >= patience)
                    {
                        return Err(LedgerError::cluster(format!(
                            "another turnpike serves on the private Postgres in {}, and it ends with that process: stop the other, or set \
                             DATABASE_URL to a Postgres that both can share",
                            options.dir.display(),
                        )));
                    }
                    if !has_told {
                        tracing::warn!(dir = %options.dir.display(), "cluster.taken: another process runs the private Postgres here; waiting for it to end");
                        has_told = true;
                    }
                    deadline = Instant::now() + START_MAX;
                    pause();
                }
                Err(TryLockError::WouldBlock) if place.is_ready() => {
                    return Ok(Self {
                        place,
                        child: None,
                        _lock: None,
                    });
                }
                // Whoever has the lock is starting it, or is about to let go.
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => pause(),
                Err(TryLockError::WouldBlock) => {
                    return Err(LedgerError::cluster(format!(
                        "another process has held {} for {} s without Postgres coming up",
                        place.lock_file().display(),
                        START_MAX.as_secs(),
                    )));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(cannot("lock", &place.lock_file(), error));
                }
            }
        }
        if place.is_ready() {
            if options.detached {
                return Ok(Self {
                    place,
                    child: None,
                    _lock: None,
                });
            }
            evict(&place)?;
        }
        let binaries = Binaries::find(options.binaries.as_deref(), place.version()?)?;
        if !place.data().exists() {
            initialise(&place, &binaries, options.throwaway)?;
        }
        let child = launch(&place, &binaries, options, deadline)?;
        if options.detached {
            child.let_go();
            return Ok(Self {
                place,
                child: None,
                _lock: None,
            });
        }
        Ok(Self {
            place,
            child: Some(child),
            _lock: Some(lock),
        })
    }

    /// How to connect to a database of it as its owner; `postgres` always exists, others by [`Cluster::create_database`].
    #[must_use]
    pub fn config(&self, database: &str) -> Config {
        self.config_as(SUPERUSER, database)
    }

    /// How to connect to a migrated database of it for serving: as a user who is a member of `turnpike_gateway` and
    /// nothing else. Makes that user unless it is there.
    ///
    /// # Errors
    /// When the cluster does not answer, or the database was not migrated.
    pub async fn gateway_config(&self, database: &str) -> Result<Config, LedgerError> {
        let session = self.config(database).connector()?.open().await?;
        session.client.batch_execute(MAKE_GATEWAY).await?;
        Ok(self.config_as(GATEWAY, database))
    }

    fn config_as(&self, user: &str, database: &str) -> Config {
        let mut postgres = tokio_postgres::Config::new();
        postgres
            .user(user)
            .dbname(database)
            .host_path(self.place.socket());
        Config::new(postgres, TlsMode::default())
    }

    /// A `postgres:` URL for people and for other programs.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let mut host = String::new();
        for byte in self.place.socket().to_string_lossy().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    host.push(char::from(byte))
                }
                _ => host += &format!("%{byte:02X}"),
            }
        }
        format!("postgres://{SUPERUSER}@{host}/{database}")
    }

    /// Whether this process started it, and will stop it.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// Where Postgres writes what it has to say.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.place.log_file()
    }

    /// Makes the database unless it is there.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn create_database(&self, database: &str) -> Result<(), LedgerError> {
        let session = self.config("postgres").connector()?.open().await?;
        let statement = format!("create database \"{}\"", database.replace('"', "\"\""));
        match session.client.batch_execute(&statement).await {
            Ok(()) => Ok(()),
            // The second when two processes make it at once.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stops it (Postgres' fast shutdown) and waits until it has. Does nothing when it is not ours.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub fn stop(mut self) -> Result<(), LedgerError> {
        self.stop_child()
    }

    fn stop_child(&mut self) -> Result<(), LedgerError> {
        let Some(child) = self.child.take() else {
            return Ok(());
        };
        child.stop(STOP_MAX)?;
        self.place.tidy();
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.stop_child() {
            tracing::error!(%error, "cluster.stop");
        }
    }
}

/// The lock is ours and yet it runs: what started it was killed. Mostly it is shutting down already.
fn evict(place: &Place) -> Result<(), LedgerError> {
    let begun = Instant::now();
    while place.is_ready() {
        if begun.elapsed() > STOP_MAX {
            return Err(LedgerError::cluster(format!(
                "the Postgres in {} does not stop",
                place.data().display()
            )));
        }
        // A server that answers on the socket in our directory wrote that file: the number is its own, not a stale one.
        if begun.elapsed() > GRACE
            && let Some(pid) = place.pid()
        {
            child::interrupt(pid);
        }
        pause();
    }
    Ok(())
}

/// Runs `initdb` beside the final place and renames: what is there is whole.
fn initialise(place: &Place, binaries: &Binaries, throwaway: bool) -> Result<(), LedgerError> {
    let fresh = place.unfinished();
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|error| cannot("clear", &fresh, error))?;
    }
    place.make_private(&fresh)?;
    let mut command = place.command(&binaries.initdb());
    command.args([
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-instructions",
    ]);
    if throwaway {
        command.arg("--no-sync");
    }
    let output = command
        .arg("-D")
        .arg(&fresh)
        .output()
        .map_err(|error| cannot("run", &binaries.initdb(), error))?;
    if !output.status.success() {
        return Err(LedgerError::cluster(format!(
            "initdb failed in {}: {}",
            fresh.display(),
            last_line(&String::from_utf8_lossy(&output.stderr)),
        )));
    }
    fs::rename(&fresh, place.data()).map_err(|error| cannot("rename", &fresh, error))
}

fn launch(
    place: &Place,
    binaries: &Binaries,
    options: &Options,
    deadline: Instant,
) -> Result<Child, LedgerError> {
    loop {
        let mut command = place.command(&binaries.postgres());
        command
            .arg("-D")
            .arg(place.data())
            .arg("-k")
            .arg(place.socket());
        let throwaway: &[&str] = if options.throwaway { THROWAWAY } else { &[] };
        for setting in SETTINGS.iter().chain(throwaway) {
            command.args(["-c", setting]);
        }
        command.stderr(place.open_log()?);
        let mut child = Child::spawn(command, options.detached)
            .map_err(|error| cannot("run", &binaries.postgres(), error))?;
        loop {
            if place.is_ready() {
                return Ok(child);
            }
            if child.has_exited_within(POLL) {
                break;
            }
            if Instant::now() >= deadline {
                child.stop(STOP_MAX)?;
                return Err(LedgerError::cluster(format!(
                    "Postgres did not come up in {} s; see {}",
                    START_MAX.as_secs(),
                    place.log_file().display(),
                )));
            }
        }
        // One whose parent was killed may still be on its way out: Postgres itself says so, and only then it is tried again.
        let said = fs::read_to_string(place.log_file()).unwrap_or_default();
        if place.pid().is_none() || Instant::now() >= deadline {
            return Err(LedgerError::cluster(format!(
                "Postgres does not start: {}; see {}",
                last_line(&said),
                place.log_file().display(),
            )));
        }
        pause();
    }
}

fn cannot(verb: &str, path: &Path, error: std::io::Error) -> LedgerError {
    LedgerError::cluster(format!("cannot {verb} {}: {error}", path.display())).because(error)
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| line.contains("FATAL") || line.contains("error"))
        .or_else(|| text.lines().last())
        .unwrap_or("no reason given")
}

fn socket_answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "start() blocks by contract and is never called on a serving runtime"
)]
fn pause() {
    std::thread::sleep(POLL);
}

const SUPERUSER: &str = "postgres";
const GATEWAY: &str = "turnpike";

// Several processes may do it at once, in several databases: roles belong to the whole cluster, locks to a database.
const MAKE_GATEWAY: &str = "
    do $$
    begin
      perform pg_advisory_xact_lock(hashtextextended('turnpike.make_gateway', 0));
      if not exists (select from pg_roles where rolname = 'turnpike') then
        begin
          create role turnpike login;
        exception
          when duplicate_object or unique_violation then null;
        end;
      end if;
      if not pg_has_role('turnpike', 'turnpike_gateway', 'member') then
        begin
          grant turnpike_gateway to turnpike;
        exception
          when unique_violation then null;
        end;
      end if;
    end $$";

/// Statements are not logged: they may hold secrets.
const SETTINGS: &[&str] = &[
    "port=5432",
    "listen_addresses=",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_error_statement=panic",
    "max_connections=200",
];

const THROWAWAY: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "autovacuum=off",
    "shared_buffers=32MB",
    "max_connections=400",
];

const POLL: Duration = Duration::from_millis(10);
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(30);
/// How long a cluster whose owner died is given to go by itself.
const GRACE: Duration = Duration::from_secs(2);
