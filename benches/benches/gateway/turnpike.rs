//! Turnpike as an operator runs it: the release build on a durable Postgres, with a price, an account and a token.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use ledger::cluster::{Cluster, Options};
use tokio_postgres::{Client, NoTls};

use crate::{Failure, process::Server};

/// Turnpike and its Postgres.
pub(crate) struct Turnpike {
    pub(crate) server: Server,
    pub(crate) postgres_pid: u32,
    pub(crate) token: String,
    url: String,
    _cluster: Cluster,
}

/// What the books say at the end.
pub(crate) struct Books {
    pub(crate) charges: i64,
    /// Of these, charged at what the provider reported.
    pub(crate) measured: i64,
    pub(crate) holds: i64,
    /// Rows of the audit, which must be empty.
    pub(crate) audit: Vec<String>,
    pub(crate) fsync: String,
}

impl Turnpike {
    /// Builds and starts it in `dir`, in front of `upstream`.
    pub(crate) async fn start(
        dir: &Path,
        upstream: SocketAddr,
        workers: usize,
    ) -> Result<Self, Failure> {
        let program = build()?;
        let cluster = Cluster::start(&Options {
            dir: dir.join("postgres"),
            ..Options::default()
        })?;
        cluster.create_database(DATABASE).await?;
        // The first line of Postgres' own note is its process id.
        let note = fs::read_to_string(dir.join("postgres/postgres/postmaster.pid"))?;
        let postgres_pid = note.lines().next().unwrap_or_default().trim().parse()?;
        let url = cluster.url(DATABASE);
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("BIND_ADDRESS", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("ADMIN_ADDRESS", "127.0.0.1:0".to_owned()),
            ("WORKERS", workers.to_string()),
            ("DATABASE_URL", url.clone()),
            ("OPENAI_URL", format!("http://{upstream}/v1")),
            ("OPENAI_API_KEY", "sk-bench".to_owned()),
        ]);
        let server = Server::start(command, "clients", dir, "turnpike")?;
        let sql = connect(&url).await?;
        sql.batch_execute(SET_UP).await?;
        let token = sql.query_one(ISSUE_TOKEN, &[]).await?.try_get(0)?;
        Ok(Self {
            server,
            postgres_pid,
            token,
            url,
            _cluster: cluster,
        })
    }

    pub(crate) async fn books(&self) -> Result<Books, Failure> {
        let sql = connect(&self.url).await?;
        let row = sql.query_one(BOOKS, &[]).await?;
        let audit = sql.query(AUDIT, &[]).await?;
        Ok(Books {
            charges: row.try_get(0)?,
            measured: row.try_get(1)?,
            holds: row.try_get(2)?,
            fsync: row.try_get(3)?,
            audit: audit
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<_, _>>()?,
        })
    }
}

const DATABASE: &str = "turnpike";

const SET_UP: &str = "
    select turnpike.create_account('bench');
    select turnpike.top_up('bench', 1000000, 'bench');
    select turnpike.set_price('bench-*', input => 2.50, cached_input => 1.25, output => 10.00,
                              context_window => 128000, output_max => 16384)";

const ISSUE_TOKEN: &str = "select token from turnpike.issue_token(account => 'bench')";

const BOOKS: &str = "
    select (select count(*) from turnpike.charge),
           (select count(*) from turnpike.charge where mark = 'measured'),
           (select count(*) from turnpike.hold),
           current_setting('fsync') || ', synchronous_commit ' || current_setting('synchronous_commit')";

const AUDIT: &str = "select audit::text from turnpike.audit";

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // What asks hears of it.
        let _ = connection.await;
    });
    Ok(client)
}

/// The program as it is shipped. Its path is known to cargo only.
fn build() -> Result<String, Failure> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--package", "gateway"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the release build of the gateway failed; its reason stands above".into());
    }
    String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "turnpike")
        .find_map(|message| Some(message["executable"].as_str()?.to_owned()))
        .ok_or_else(|| "the package gateway has no program turnpike".into())
}
