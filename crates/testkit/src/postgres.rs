//! A throw-away Postgres for tests: one cluster shared by all test processes, a fresh database for each test.
//!
//! The first process starts the cluster; whoever uses it holds a shared lock on a file, and a small shell process that waits
//! for that lock stops it and deletes it once nobody is left. With `TEST_DATABASE_URL` set, databases are made there
//! instead (its user must be allowed to).

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use ledger::{
    Config,
    cluster::{Cluster, Options},
    migrate,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::raw::PATIENCE;

/// A migrated database of one test's own. Dropped with it.
#[derive(Debug)]
pub struct TestDb {
    name: String,
}

impl TestDb {
    /// A fresh database with every migration applied.
    ///
    /// # Panics
    /// When no Postgres can be had: the message says how to get one.
    pub async fn new() -> Self {
        let server = server();
        let template = format!("turnpike_template_{}", migrate::fingerprint());
        let client = connect(&server.url("postgres")).await;
        make_template(server, &client, &template).await;
        let name = format!("turnpike_test_{}", Uuid::now_v7().simple());
        client
            .batch_execute(&format!(
                "create database {name} template {template} strategy file_copy"
            ))
            .await
            .expect("a clone of the template");
        Self { name }
    }

    /// A fresh database with nothing in it.
    ///
    /// # Panics
    /// As [`TestDb::new`].
    pub async fn empty() -> Self {
        let client = connect(&server().url("postgres")).await;
        let name = format!("turnpike_test_{}", Uuid::now_v7().simple());
        client
            .batch_execute(&format!("create database {name} template template0"))
            .await
            .expect("a new database");
        Self { name }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        server().url(&self.name)
    }

    /// Its URL for another user.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        let url = self.url();
        let (_, host) = url.split_once('@').expect("a URL with a user");
        format!("postgres://{user}@{host}")
    }

    /// How the ledger connects to it.
    ///
    /// # Panics
    /// When `TEST_DATABASE_URL` cannot be read.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::from_url(&self.url()).expect("the URL of a test database")
    }

    /// A plain connection to it, as its owner.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (name, url) = (self.name.clone(), server().url("postgres"));
        // A runtime cannot be blocked on from inside another; a thread of its own can have one.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let client = connect(&url).await;
                client
                    .batch_execute(&format!("drop database if exists {name} with (force)"))
                    .await
                    .expect("the database goes");
            });
        });
        // In a test that fails already the first failure is the one to see.
        if dropped.join().is_err() && !thread::panicking() {
            eprintln!("a test database was left behind");
        }
    }
}

/// Where databases are made.
enum Server {
    Given(String),
    Shared { cluster: Cluster, _in_use: File },
}

impl Server {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Given(url) => {
                let (base, query) = url
                    .split_once('?')
                    .map_or((url.as_str(), None), |(base, query)| (base, Some(query)));
                let start = base.find("://").map_or(0, |at| at + 3);
                let host = base[start..]
                    .find('/')
                    .map_or(base, |slash| &base[..start + slash]);
                query.map_or_else(
                    || format!("{host}/{database}"),
                    |query| format!("{host}/{database}?{query}"),
                )
            }
            Self::Shared { cluster, .. } => cluster.url(database),
        }
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var_os("TEST_DATABASE_URL") {
        Some(url) => Server::Given(url.into_string().expect("TEST_DATABASE_URL is text")),
        None => share(),
    })
}

/// Joins the shared cluster, starting it if need be.
fn share() -> Server {
    let base = base_dir();
    let starting = File::create(base.join("starting")).expect("a lock file");
    starting.lock().expect("the start lock");
    let in_use = File::create(base.join("in-use")).expect("a lock file");
    in_use.lock_shared().expect("a shared lock");
    let options = Options {
        dir: base.join("cluster"),
        throwaway: true,
        detached: true,
        ..Options::default()
    };
    let reaper = fs::read_to_string(options.dir.join("reaped-by")).unwrap_or_default();
    let was_there = !reaper.is_empty() && Path::new("/proc").join(reaper).exists();
    let cluster = Cluster::start(&options)
        .unwrap_or_else(|error| panic!("tests need a Postgres: {error}; or set TEST_DATABASE_URL"));
    if !was_there {
        reap_when_idle(&base, &options.dir);
    }
    Server::Shared {
        cluster,
        _in_use: in_use,
    }
}

fn base_dir() -> PathBuf {
    let uid = fs::metadata("/proc/self").map_or(0, |me| me.uid());
    let base = std::env::temp_dir().join(format!("turnpike-test-{uid}"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&base)
        .expect("a directory for the test cluster");
    assert_eq!(
        fs::symlink_metadata(&base).map_or(u32::MAX, |found| found.uid()),
        uid,
        "{} is somebody else's",
        base.display()
    );
    base
}

/// Starts the process that stops and deletes the cluster once no test uses it: it asks every few seconds, so that a run of
/// many short processes keeps one cluster.
#[expect(
    clippy::zombie_processes,
    reason = "it outlives this process: that is what it is for"
)]
fn reap_when_idle(base: &Path, cluster: &Path) {
    let reaper = Command::new("/bin/sh")
        .args(["-c", REAPER])
        .current_dir(base)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell");
    fs::write(cluster.join("reaped-by"), reaper.id().to_string()).expect("a note");
}

const REAPER: &str = r#"
while sleep 5; do
  flock starting sh -c '
    flock --nonblock --exclusive in-use true || exit 1
    read -r pid < cluster/postgres/postmaster.pid && kill -INT "$pid"
    while [ -e cluster/postgres/postmaster.pid ]; do sleep 0.05; done
    rm -rf cluster' && exit
done
"#;

/// Makes the template unless it is there. The lock is the server's, since processes may share it and nothing else.
async fn make_template(server: &Server, client: &Client, template: &str) {
    let exists = "select from pg_database where datname = ";
    if !client
        .simple_query(&format!("{exists}'{template}'"))
        .await
        .expect("an answer")
        .iter()
        .any(is_row)
    {
        client
            .batch_execute("select pg_advisory_lock(7483392)")
            .await
            .expect("a lock");
        if !client
            .simple_query(&format!("{exists}'{template}'"))
            .await
            .expect("an answer")
            .iter()
            .any(is_row)
        {
            let building = format!("{template}_building");
            client
                .batch_execute(&format!("drop database if exists {building} with (force)"))
                .await
                .expect("no leftovers");
            client
                .batch_execute(&format!("create database {building} template template0"))
                .await
                .expect("a new database");
            let config = Config::from_url(&server.url(&building)).expect("a URL");
            migrate::run(&config).await.expect("the migrations apply");
            // Its last connection may take a moment to go, and a database in use cannot be renamed.
            let evict = format!(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{building}'"
            );
            client.batch_execute(&evict).await.expect("nobody is left");
            client
                .batch_execute(&format!("alter database {building} rename to {template}"))
                .await
                .expect("a template");
        }
        client
            .batch_execute("select pg_advisory_unlock(7483392)")
            .await
            .expect("an unlock");
    }
}

const fn is_row(message: &tokio_postgres::SimpleQueryMessage) -> bool {
    matches!(message, tokio_postgres::SimpleQueryMessage::Row(_))
}

/// A machine under load may keep a connection waiting or turn it away; what Postgres itself says is final.
async fn connect(url: &str) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match tokio_postgres::connect(url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) if error.code().is_none() && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => panic!("the test Postgres does not answer: {error:?}"),
        }
    }
}

const RETRY_AFTER: Duration = Duration::from_millis(20);
