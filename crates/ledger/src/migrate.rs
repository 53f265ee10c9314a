//! Applies the numbered files of `/migrations`, which are built into the program.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_postgres::{Client, Transaction, types::Type};

use crate::{Config, LedgerError};

/// Number, name and text, in order.
static FILES: &[(i32, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The files applied now, by name.
    pub applied: Vec<&'static str>,
    /// The version the database has now.
    pub version: i32,
}

/// Brings the database to this program's version. Several processes may run it at once.
///
/// # Errors
/// [`LedgerError::is_migration`] when a newer program's migration does not go with this program, or an applied file was edited since.
pub async fn run(config: &Config) -> Result<Report, LedgerError> {
    run_told(config, |_, _| {}).await
}

/// The same, telling after each file how many of how many are through.
///
/// # Errors
/// As [`run`].
pub async fn run_told(
    config: &Config,
    told: impl FnMut(usize, usize),
) -> Result<Report, LedgerError> {
    let mut session = config.direct_connector()?.open().await?;
    apply_files(&mut session.client, FILES, told).await
}

/// The files that [`run`] would apply, by name. Changes nothing; the gateway's own role may ask, on a bare database too.
///
/// # Errors
/// As [`run`].
pub async fn pending(config: &Config) -> Result<Vec<&'static str>, LedgerError> {
    let mut session = config.direct_connector()?.open().await?;
    still_pending(&mut session.client).await
}

/// Pending files in a few words, however many there are; `None` when there is none.
#[must_use]
pub fn in_words(pending: &[&str]) -> Option<String> {
    match pending {
        [] => None,
        [one] => Some(format!("migration {one}")),
        [first, .., last] => Some(format!("migrations {first} to {last}")),
    }
}

/// Refuses a database that does not have every migration.
pub(crate) async fn require(client: &mut Client, config: &Config) -> Result<(), LedgerError> {
    let pending = timeout(config.statement_timeout, still_pending(client))
        .await
        .unwrap_or_else(|_| Err(LedgerError::unavailable("Postgres did not answer in time")))?;
    let database = config.database();
    Err(LedgerError::migration(match in_words(&pending) {
        None => return Ok(()),
        Some(_) if pending.len() == FILES.len() => {
            format!("database {database} was never migrated: run `turnpike migrate` first")
        }
        Some(files) => {
            format!("database {database} lacks {files}: run `turnpike migrate` first")
        }
    }))
}

/// [`pending`], on a connection that is open already.
async fn still_pending(client: &mut Client) -> Result<Vec<&'static str>, LedgerError> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let done = if is_bare(&transaction).await? {
        BTreeMap::new()
    } else {
        applied(&transaction, FILES).await?
    };
    transaction.rollback().await?;
    Ok(FILES
        .iter()
        .filter(|(version, ..)| !done.contains_key(version))
        .map(|&(_, name, _)| name)
        .collect())
}

/// [`run`], on a connection that is open already.
///
/// # Errors
/// As [`run`].
pub async fn apply(client: &mut Client) -> Result<Report, LedgerError> {
    apply_files(client, FILES, |_, _| {}).await
}

/// A name for what all files together make, for templates.
#[must_use]
pub fn fingerprint() -> String {
    let mut all = Sha256::new();
    for (_, name, text) in FILES {
        all.update(name);
        all.update(text);
    }
    all.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn apply_files(
    client: &mut Client,
    files: &[(i32, &'static str, &str)],
    mut told: impl FnMut(usize, usize),
) -> Result<Report, LedgerError> {
    let mut report = Report {
        applied: Vec::new(),
        version: 0,
    };
    for (through, &(version, name, text)) in files.iter().enumerate() {
        told(through, files.len());
        // One transaction for each file and its record; the lock goes with the transaction, so that a pooler is fine.
        let transaction = client.transaction().await?;
        let done = begin(&transaction, files).await?;
        if !done.contains_key(&version) {
            transaction.batch_execute(text).await.map_err(|error| {
                LedgerError::migration(format!("migration {name} failed"))
                    .because(LedgerError::from(error))
            })?;
            let checksum = checksum(text);
            transaction
                .execute_typed(
                    RECORD,
                    &[
                        (&version, Type::INT4),
                        (&name, Type::TEXT),
                        (&checksum, Type::BYTEA),
                    ],
                )
                .await?;
            transaction.commit().await?;
            tracing::info!(migration = name, "ledger.migrated");
            report.applied.push(name);
        }
        report.version = done.keys().copied().max().unwrap_or(0).max(version);
    }
    Ok(report)
}

/// Takes the lock and reads what was applied.
async fn begin(
    transaction: &Transaction<'_>,
    files: &[(i32, &'static str, &str)],
) -> Result<BTreeMap<i32, Vec<u8>>, LedgerError> {
    transaction.batch_execute(LOCK).await?;
    // Asked first: "if not exists" would want rights that the gateway's role has no need of once all is applied.
    if is_bare(transaction).await? {
        transaction.batch_execute(FOUND).await.map_err(|error| {
            let error = LedgerError::from(error);
            if error.sqlstate() == Some("42501") {
                LedgerError::migration("the database was never migrated, and this user may not do it: run `turnpike migrate` as the database's owner")
                    .because(error)
            } else {
                error
            }
        })?;
    }
    applied(transaction, files).await
}

async fn is_bare(transaction: &Transaction<'_>) -> Result<bool, LedgerError> {
    Ok(transaction
        .query_typed_one(IS_BARE, &[])
        .await?
        .try_get(0)?)
}

/// What was applied, by number, with its checksum. Whatever does not fit is an error.
async fn applied(
    transaction: &Transaction<'_>,
    files: &[(i32, &'static str, &str)],
) -> Result<BTreeMap<i32, Vec<u8>>, LedgerError> {
    let mut done = BTreeMap::new();
    for row in transaction.query_typed(APPLIED, &[]).await? {
        let (version, name): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let recorded: Vec<u8> = row.try_get(2)?;
        let Some((_, _, text)) = files.iter().find(|(known, ..)| *known == version) else {
            let newest = files.iter().map(|(known, ..)| *known).max().unwrap_or(0);
            if needs(&name).is_some_and(|least| newest < least) {
                return Err(LedgerError::migration(format!(
                    "the database is newer than this program: it has migration {name}, and this program's newest is {newest:04}; start the newer program",
                )));
            }
            done.insert(version, recorded);
            continue;
        };
        if recorded != checksum(text) {
            return Err(LedgerError::migration(format!(
                "migration {name} was edited after it was applied; undo the edit and add a new migration instead",
            )));
        }
        done.insert(version, recorded);
    }
    Ok(done)
}

/// The migration that a program must know to run with this one, whose name ends in `_needs_NNNN`. Any other only adds, so that earlier
/// programs go on with it: they may be started again while a release is rolled out, or taken back.
fn needs(name: &str) -> Option<i32> {
    let (_, least) = name.strip_suffix(".sql")?.rsplit_once("_needs_")?;
    least.parse().ok()
}

fn checksum(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}

// A migration that waits for a lock makes everybody behind it wait too: rather fail and be tried again.
const LOCK: &str = "
    select pg_advisory_xact_lock(hashtextextended('turnpike.migrate', 0));
    set local lock_timeout = '30s';
    set local client_min_messages = 'warning'";

const IS_BARE: &str = "select to_regclass('turnpike.migration') is null";

const FOUND: &str = "
    create schema if not exists turnpike;
    create table turnpike.migration (
        version    integer not null,
        applied_at timestamptz not null default now(),
        applied_by text not null default session_user,
        name       text not null,
        checksum   bytea not null,
        constraint migration_identified primary key (version)
    );
    comment on schema turnpike is 'Turnpike, the metering gateway: accounts, access tokens, prices, charges.';
    comment on table turnpike.migration is 'The files of /migrations that were applied.';
    comment on column turnpike.migration.version is 'The file''s number.';
    comment on column turnpike.migration.applied_at is 'When.';
    comment on column turnpike.migration.applied_by is 'By which database user.';
    comment on column turnpike.migration.name is 'The file''s name.';
    comment on column turnpike.migration.checksum is 'SHA-256 of its text then: an applied file is never edited.'";

const APPLIED: &str = "select version, name, checksum from turnpike.migration order by version";

const RECORD: &str = "insert into turnpike.migration (version, name, checksum) values ($1, $2, $3)";
