//! A Postgres of one test's own, durable as in production, which the test may stop, kill and start again.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ledger::{
    Config,
    cluster::{Cluster, Options},
    migrate,
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const DATABASE: &str = "turnpike";

/// A running Postgres with one migrated database. Its address stays the same over all stops and starts.
#[derive(Debug)]
pub struct OwnCluster {
    options: Options,
    url: String,
    /// `None` while it is stopped.
    cluster: Option<Cluster>,
    _dir: TempDir,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// As `pg_ctl stop -m immediate`: without a checkpoint, connections are broken.
    Immediate,
    /// The server process gets SIGKILL; its children notice and go.
    Kill,
}

impl OwnCluster {
    /// Makes and starts one.
    ///
    /// # Panics
    /// When there is no Postgres on the machine: the message says how to get one.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory for a cluster");
        // Postgres runs as another user when this one is root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("a directory of our own");
        let options = Options {
            dir: dir.path().join("cluster"),
            ..Options::default()
        };
        let cluster = launch(options.clone()).await;
        cluster
            .create_database(DATABASE)
            .await
            .expect("a new database");
        let config: Config = cluster.config(DATABASE);
        migrate::run(&config).await.expect("the migrations apply");
        Self {
            options,
            url: cluster.url(DATABASE),
            cluster: Some(cluster),
            _dir: dir,
        }
    }

    /// The URL of its database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A plain connection to its database, as its owner.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .unwrap_or_else(|error| panic!("the test's own Postgres does not answer: {error}"));
        tokio::spawn(connection);
        client
    }

    /// Ends it without a farewell, and returns when it is gone.
    ///
    /// # Panics
    /// When it is not running.
    pub async fn stop(&mut self, how: Stop) {
        let cluster = self.cluster.take().expect("it is running");
        let note = self.options.dir.join("postgres/postmaster.pid");
        let note = fs::read_to_string(note).expect("a running server has a note");
        let pid = note.lines().next().expect("its first line is the process");
        let signal = match how {
            Stop::Immediate => "-QUIT",
            Stop::Kill => "-KILL",
        };
        let sent = Command::new("kill").args([signal, pid]).status();
        assert!(sent.expect("kill runs").success(), "it is running");
        // Waits until the process is gone.
        tokio::task::spawn_blocking(move || cluster.stop())
            .await
            .expect("no panic")
            .expect("it ends");
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        assert!(self.cluster.is_none(), "it is running");
        self.cluster = Some(launch(self.options.clone()).await);
    }
}

async fn launch(options: Options) -> Cluster {
    tokio::task::spawn_blocking(move || Cluster::start(&options))
        .await
        .expect("no panic")
        .unwrap_or_else(|error| panic!("tests need a Postgres: {error}"))
}
