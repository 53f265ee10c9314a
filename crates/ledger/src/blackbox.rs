//! What a process leaves on disk for the one that comes after it: its journal, its flight recorder, and whose they are.
//!
//! ```text
//! DATA_DIR/instances/lock            held while directories come and go
//! DATA_DIR/instances/UUID/lock       flock of the process, for as long as it lives
//! DATA_DIR/instances/UUID/instance   its turnpike.instance row
//! DATA_DIR/instances/UUID/journal/   see `journal`
//! DATA_DIR/instances/UUID/recorder   see `recorder`
//! DATA_DIR/damaged/                  what could not be read, for people
//! ```

#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    InstanceId,
    journal::{Damage, Journal, JournalError},
    recorder::{self, Recorder, RecorderError, Remains},
};

/// Why a black box could not be made, read or taken away.
#[derive(Debug, thiserror::Error)]
pub enum BlackBoxError {
    /// A file or directory could not be made, read or removed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file that names the instance says something else.
    #[error("{} does not name an instance", path.display())]
    Instance {
        /// The file.
        path: PathBuf,
    },
    /// Its journal.
    #[error("the journal of an instance cannot be used")]
    Journal(#[from] JournalError),
    /// Its flight recorder.
    #[error("the flight recorder of an instance cannot be used")]
    Recorder(#[from] RecorderError),
}

impl BlackBoxError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// How much the parts of a black box may hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of the journal.
    pub journal_bytes_max: u64,
    /// Exchanges that may be open at once.
    pub recorder_slots: u32,
}

/// A running process' own. Dropped, it stays on disk for the next process.
#[derive(Debug)]
pub struct BlackBox {
    home: Home,
}

impl BlackBox {
    /// Makes one under `data_dir`. `id` is new with each start of the process.
    pub fn create(
        data_dir: &Path,
        id: Uuid,
        sizes: Sizes,
    ) -> Result<(Self, Journal, Recorder), BlackBoxError> {
        let home = Home::make(data_dir, id)?;
        let (journal, _) = Journal::open(&home.journal(), sizes.journal_bytes_max)?;
        let recorder = Recorder::create(&home.recorder(), sizes.recorder_slots)?;
        Ok((Self { home }, journal, recorder))
    }

    /// Writes down which row of `turnpike.instance` is this process', as soon as that is known; on disk when it returns.
    pub fn name(&self, instance: InstanceId) -> Result<(), BlackBoxError> {
        let path = self.home.instance();
        write_whole(&path, &format!("{instance}\n{}\n", boot_id()))
            .map_err(BlackBoxError::io("write", &path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.home.dir
    }

    /// Takes it away: all exchanges are settled and the journal was replayed.
    pub fn remove(self) -> Result<(), BlackBoxError> {
        self.home.remove(false)
    }

    /// Those of processes that are gone, locked so that no other process takes them too. One that cannot be read is told in
    /// its place, and stays.
    pub fn orphans(data_dir: &Path) -> Result<Vec<Result<Orphan, BlackBoxError>>, BlackBoxError> {
        let homes = {
            let _guard = guard(data_dir)?;
            Home::deserted(data_dir)?
        };
        Ok(homes.into_iter().map(Orphan::read).collect())
    }

    /// The same from outside. Nothing is changed, and whoever wants to take one waits until this has looked.
    pub fn deserted(data_dir: &Path) -> Result<Vec<Deserted>, BlackBoxError> {
        if !instances(data_dir).exists() {
            return Ok(Vec::new());
        }
        let _guard = guard(data_dir)?;
        let homes = Home::deserted(data_dir)?;
        Ok(homes.iter().map(Deserted::of).collect())
    }
}

/// Under `DATA_DIR`: for each database that gateways of this machine served, where their black boxes are.
pub(crate) const LEDGERS: &str = "ledgers";

/// The places of black boxes under a gateway's `DATA_DIR`, one for each database.
///
/// # Errors
/// When it cannot be listed. That it is not there is none.
pub fn ledgers(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(data_dir.join(LEDGERS)) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What a process that is gone left, from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deserted {
    /// Where it is.
    pub path: PathBuf,
    /// How long the files of its journal are.
    pub journal_bytes: u64,
}

impl Deserted {
    fn of(home: &Home) -> Self {
        let files = fs::read_dir(home.journal()).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        Self {
            path: home.dir.clone(),
            journal_bytes: bytes.fold(0, u64::saturating_add),
        }
    }
}

/// What a process that is gone left.
#[derive(Debug)]
pub struct Orphan {
    /// Its row in `turnpike.instance`; `None` if it died before it had one.
    pub instance: Option<InstanceId>,
    /// What it settled and did not hand to Postgres.
    pub journal: Journal,
    /// What of the journal cannot be read.
    pub damage: Damage,
    /// The exchanges that were open.
    pub remains: Remains,
    /// The machine has not been started since, so that nothing written to the recorder was lost.
    pub is_of_this_boot: bool,
    home: Home,
}

impl Orphan {
    fn read(home: Home) -> Result<Self, BlackBoxError> {
        let (journal, damage) = Journal::open(&home.journal(), u64::MAX)?;
        let remains = match recorder::read(&home.recorder()) {
            Ok(remains) => remains,
            Err(RecorderError::Io { source, .. }) if is_missing(&source) => Remains::default(),
            // It died while it made the file.
            Err(RecorderError::Foreign { path }) if is_blank(&path) => Remains::default(),
            Err(error) => return Err(error.into()),
        };
        let (instance, boot) = match fs::read_to_string(home.instance()) {
            Ok(text) => {
                let (id, boot) = text.split_once('\n').unwrap_or((&text, ""));
                let id = parse(id).ok_or_else(|| BlackBoxError::Instance {
                    path: home.instance(),
                })?;
                (Some(id), boot.trim().to_owned())
            }
            Err(error) if is_missing(&error) => (None, String::new()),
            Err(error) => return Err(BlackBoxError::io("read", &home.instance())(error)),
        };
        Ok(Self {
            instance,
            journal,
            damage,
            remains,
            is_of_this_boot: boot == boot_id(),
            home,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.home.dir
    }

    /// Takes it away: its journal was replayed and its exchanges are settled. What was damaged is kept elsewhere.
    pub fn remove(self) -> Result<(), BlackBoxError> {
        self.home.remove(self.remains.corrupt > 0)
    }
}

/// A process' directory, locked.
#[derive(Debug)]
struct Home {
    data_dir: PathBuf,
    dir: PathBuf,
    _lock: File,
}

impl Home {
    fn make(data_dir: &Path, id: Uuid) -> Result<Self, BlackBoxError> {
        let _guard = guard(data_dir)?;
        let dir = instances(data_dir).join(id.to_string());
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(BlackBoxError::io("make", &dir))?;
        Self::lock(data_dir, dir.clone())?
            .ok_or_else(|| BlackBoxError::io("lock", &dir)(io::ErrorKind::WouldBlock.into()))
    }

    /// The directories whose process is gone. For who has the [`guard`].
    fn deserted(data_dir: &Path) -> Result<Vec<Self>, BlackBoxError> {
        let instances = instances(data_dir);
        let mut homes = Vec::new();
        for entry in fs::read_dir(&instances).map_err(BlackBoxError::io("list", &instances))? {
            let entry = entry.map_err(BlackBoxError::io("list", &instances))?;
            let is_one = entry
                .file_name()
                .to_str()
                .is_some_and(|name| Uuid::try_parse(name).is_ok());
            if is_one && let Some(home) = Self::lock(data_dir, entry.path())? {
                homes.push(home);
            }
        }
        // Oldest first: the ids begin with their time.
        homes.sort_by(|one, other| one.dir.cmp(&other.dir));
        Ok(homes)
    }

    /// Takes the lock, unless its process lives.
    fn lock(data_dir: &Path, dir: PathBuf) -> Result<Option<Self>, BlackBoxError> {
        let path = dir.join("lock");
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self {
                data_dir: data_dir.to_owned(),
                dir,
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(BlackBoxError::io("lock", &path)(error)),
        }
    }

    fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    fn recorder(&self) -> PathBuf {
        self.dir.join("recorder")
    }

    fn instance(&self) -> PathBuf {
        self.dir.join("instance")
    }

    fn remove(self, keep_recorder: bool) -> Result<(), BlackBoxError> {
        let _guard = guard(&self.data_dir)?;
        self.keep_damaged(keep_recorder)?;
        fs::remove_dir_all(&self.dir).map_err(BlackBoxError::io("remove", &self.dir))
    }

    /// Moves what could not be read out of the way.
    fn keep_damaged(&self, keep_recorder: bool) -> Result<(), BlackBoxError> {
        let mut paths = Vec::new();
        let journal = self.journal();
        match fs::read_dir(&journal) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry.map_err(BlackBoxError::io("list", &journal))?.path());
                }
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(BlackBoxError::io("list", &journal)(error)),
        }
        if keep_recorder {
            paths.push(self.recorder());
        }
        let damaged = self.data_dir.join("damaged");
        for path in paths {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&damaged)
                .map_err(BlackBoxError::io("make", &damaged))?;
            let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
            let mut kept = name(&self.dir);
            kept.push("-");
            kept.push(name(&path));
            fs::rename(&path, damaged.join(kept)).map_err(BlackBoxError::io("move", &path))?;
        }
        Ok(())
    }
}

fn instances(data_dir: &Path) -> PathBuf {
    data_dir.join("instances")
}

/// Held while directories are made, looked through and taken away, so that none is seen half made.
fn guard(data_dir: &Path) -> Result<File, BlackBoxError> {
    let instances = instances(data_dir);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&instances)
        .map_err(BlackBoxError::io("make", &instances))?;
    let path = instances.join("lock");
    let lock = lock_file(&path)?;
    lock.lock().map_err(BlackBoxError::io("lock", &path))?;
    Ok(lock)
}

fn lock_file(path: &Path) -> Result<File, BlackBoxError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(BlackBoxError::io("open", path))
}

/// Writes a small file so that it is there wholly or not at all.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Which start of the machine this is; empty where the kernel does not say, which then counts as the same.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn parse(text: &str) -> Option<InstanceId> {
    text.trim().parse().ok().map(InstanceId)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether a file has nothing but zeros: what a recorder is before its header is written.
fn is_blank(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.iter().all(|&byte| byte == 0))
}
