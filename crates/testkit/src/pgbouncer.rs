//! A pgbouncer of a test's own, between the program and the test Postgres.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, config::Host};

use crate::{postgres::TestDb, raw::PATIENCE};

/// A running pgbouncer in transaction mode, on a Unix socket in a directory of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Pgbouncer {
    child: Child,
    dir: TempDir,
    user: String,
}

/// Part of the socket's name, and no more: it listens on no port.
const PORT: u16 = 6432;

impl Pgbouncer {
    /// Starts it before `db`'s server, with this many connections to it at most.
    ///
    /// # Panics
    /// When there is no pgbouncer (the message says how to get one), or it does not start.
    pub async fn start(db: &TestDb, connections: u32) -> Self {
        let server: Config = db.url().parse().expect("the URL of a test database");
        let dir = tempfile::Builder::new()
            .prefix("turnpike-pgbouncer-")
            .tempdir()
            .expect("a temporary directory");
        let config = dir.path().join("pgbouncer.ini");
        fs::write(&config, ini(&server, dir.path(), connections)).expect("its configuration");
        let mut command = Command::new(binary());
        command
            .arg("--quiet")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = someone_else(&server) {
            chown(dir.path(), Some(uid), Some(gid)).expect("root may give a directory away");
            chown(&config, Some(uid), Some(gid)).expect("root may give a file away");
            command.uid(uid).gid(gid);
        }
        let mut pgbouncer = Self {
            child: command.spawn().expect("pgbouncer starts"),
            user: server.get_user().unwrap_or("postgres").to_owned(),
            dir,
        };
        pgbouncer.is_ready(db).await;
        pgbouncer
    }

    /// The URL of a database through it.
    ///
    /// # Panics
    /// When the database's URL names none.
    #[must_use]
    pub fn url(&self, db: &TestDb) -> String {
        let server: Config = db.url().parse().expect("the URL of a test database");
        let name = server.get_dbname().expect("its name").to_owned();
        let dir = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{}@{dir}:{PORT}/{name}", self.user)
    }

    async fn is_ready(&mut self, db: &TestDb) {
        let url = self.url(db);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(why) = tokio_postgres::connect(&url, NoTls).await else {
                return;
            };
            let ended = self.child.try_wait().expect("it is our child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "pgbouncer does not answer ({ended:?}): {why}\n{}",
                fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `auth_type = any` lets everybody in, as the user that the server is asked as: the socket is in a directory nobody else can enter.
fn ini(server: &Config, dir: &Path, connections: u32) -> String {
    let mut to = match server.get_hosts().first() {
        Some(Host::Unix(socket)) => format!("host={}", socket.display()),
        Some(Host::Tcp(name)) => format!("host={name}"),
        None => panic!("the test database's URL names no host"),
    };
    if let Some(port) = server.get_ports().first() {
        to += &format!(" port={port}");
    }
    if let Some(user) = server.get_user() {
        to += &format!(" user={user}");
    }
    if let Some(password) = server.get_password() {
        to += &format!(" password={}", String::from_utf8_lossy(password));
    }
    let dir = dir.display();
    format!(
        "[databases]\n\
         * = {to}\n\
         [pgbouncer]\n\
         listen_addr =\n\
         listen_port = {PORT}\n\
         unix_socket_dir = {dir}\n\
         logfile = {dir}/log\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {connections}\n\
         max_client_conn = 500\n"
    )
}

/// pgbouncer refuses to run as root: then it runs as whoever owns the server's socket, and so may enter its directory.
fn someone_else(server: &Config) -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let owner = match server.get_hosts().first() {
        Some(Host::Unix(socket)) => fs::metadata(socket).ok().map(|dir| (dir.uid(), dir.gid())),
        _ => None,
    };
    is_root.then(|| owner.filter(|(uid, _)| *uid != 0).unwrap_or(NOBODY))
}

const NOBODY: (u32, u32) = (65_534, 65_534);

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    dirs.find_map(|dir| Some(dir.join("pgbouncer")).filter(|binary| binary.is_file()))
        .expect("tests need pgbouncer: ./test installs it, and so does `apt-get install pgbouncer`")
}
