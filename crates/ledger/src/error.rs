//! What can go wrong with the ledger, by what can be done about it.

use std::{error, fmt, io, sync::Arc, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

type Cause = Arc<dyn error::Error + Send + Sync>;

/// An error of the ledger. `Display` speaks for its own level, `source()` has the cause.
#[derive(Clone)]
pub struct LedgerError {
    kind: Kind,
    cause: Option<Cause>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// No connection, no answer in time, or Postgres says "not now".
    Unavailable(&'static str),
    /// No connection: where to, and why not.
    Unreachable(Box<str>),
    /// No connection in time: where to, and how long it was waited for.
    Unanswered(Box<str>),
    /// Somebody keeps a row locked that the statement needs. Nothing was done.
    Locked,
    /// The ledger was shut down.
    Closed,
    /// A setting does not make sense.
    Config(String),
    /// A statement was refused.
    Refused(Box<Refusal>),
    /// A row is not as the schema promises.
    Row,
    /// The migrations and the database do not fit together.
    Migration(String),
    /// The private Postgres cannot be run.
    Cluster(String),
}

/// What Postgres said about a refused statement.
#[derive(Clone, Debug)]
struct Refusal {
    sqlstate: SqlState,
    message: String,
    hint: Option<String>,
    constraint: Option<String>,
}

impl LedgerError {
    /// Postgres cannot be reached, does not answer in time or is not taking work: the same call may succeed later.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unavailable(_)
                | Kind::Unreachable(_)
                | Kind::Unanswered(_)
                | Kind::Locked
                | Kind::Closed
        )
    }

    /// A setting is wrong (URL, TLS mode, data directory): trying again will not help.
    #[must_use]
    pub const fn is_config(&self) -> bool {
        matches!(self.kind, Kind::Config(_))
    }

    /// Postgres refused the statement itself: a broken constraint, a contract function's error, a missing grant.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused(_))
    }

    /// The database was never migrated or is newer than the program, or a migration was edited or cannot be applied.
    #[must_use]
    pub const fn is_migration(&self) -> bool {
        matches!(self.kind, Kind::Migration(_))
    }

    /// The private Postgres could not be found, made or started.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Wrong user name or password, or no such database.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.sqlstate()
            .is_some_and(|code| code.starts_with("28") || code == "3D000")
    }

    /// The SQLSTATE, where Postgres refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.sqlstate.code())
    }

    /// The name of the broken constraint.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.refusal()
            .and_then(|refusal| refusal.constraint.as_deref())
    }

    /// What to do about it, as the contract functions say it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.refusal().and_then(|refusal| refusal.hint.as_deref())
    }

    const fn refusal(&self) -> Option<&Refusal> {
        match &self.kind {
            Kind::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the rows of a statement are to blame, not the moment it was sent at.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Row)
            || self.sqlstate().is_some_and(|code| {
                ["22", "23", "P0", "XX"]
                    .iter()
                    .any(|class| code.starts_with(class))
            })
    }

    /// Somebody keeps a row locked that the statement needs; it was rolled back.
    pub(crate) const fn is_locked(&self) -> bool {
        matches!(self.kind, Kind::Locked)
    }

    /// A connection that could not be had: says where to, and in Postgres' or the system's words why not. Whether it was
    /// refused ([`LedgerError::is_login`]) or may succeed later stays told apart.
    pub(crate) fn unconnected(place: &str, error: tokio_postgres::Error) -> Self {
        let mut this = Self::from(error);
        let why = match &this.kind {
            Kind::Refused(refusal) => refusal.message.clone(),
            _ => this.innermost(),
        };
        let line = format!("cannot connect to Postgres at {place}: {why}");
        match &mut this.kind {
            Kind::Refused(refusal) => refusal.message = line,
            kind => *kind = Kind::Unreachable(line.into()),
        }
        // All is said; the cause would only say it again.
        this.cause = None;
        this
    }

    /// As [`LedgerError::unconnected`], where nobody answered.
    pub(crate) fn unanswered(place: &str, patience: Duration) -> Self {
        let seconds = patience.as_secs();
        let line = format!("cannot connect to Postgres at {place}: no answer in {seconds} s");
        Self {
            kind: Kind::Unanswered(line.into()),
            cause: None,
        }
    }

    /// No connection came about in time: the server may only be busy.
    pub(crate) const fn is_unanswered(&self) -> bool {
        matches!(self.kind, Kind::Unanswered(_))
    }

    /// What the last of its causes says: those before only tell on what way it came.
    fn innermost(&self) -> String {
        let mut error: &dyn error::Error = self;
        while let Some(cause) = error.source() {
            error = cause;
        }
        error.to_string()
    }

    pub(crate) const fn unavailable(what: &'static str) -> Self {
        Self {
            kind: Kind::Unavailable(what),
            cause: None,
        }
    }

    pub(crate) const fn closed() -> Self {
        Self {
            kind: Kind::Closed,
            cause: None,
        }
    }

    pub(crate) const fn row() -> Self {
        Self {
            kind: Kind::Row,
            cause: None,
        }
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::Config(what.into()),
            cause: None,
        }
    }

    pub(crate) fn migration(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::Migration(what.into()),
            cause: None,
        }
    }

    pub(crate) fn cluster(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::Cluster(what.into()),
            cause: None,
        }
    }

    pub(crate) fn because<E: error::Error + Send + Sync + 'static>(mut self, cause: E) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Unavailable(what) => f.write_str(what),
            Kind::Unreachable(line) | Kind::Unanswered(line) => f.write_str(line),
            Kind::Locked => f.write_str("a transaction elsewhere keeps the account locked"),
            Kind::Closed => f.write_str("the ledger has been shut down"),
            Kind::Config(what) | Kind::Migration(what) | Kind::Cluster(what) => f.write_str(what),
            Kind::Refused(refusal) => f.write_str(&refusal.message),
            Kind::Row => f.write_str("a row is not as the schema promises"),
        }
    }
}

impl fmt::Debug for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerError")
            .field("kind", &self.kind)
            .field("cause", &self.cause)
            .finish()
    }
}

impl error::Error for LedgerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<tokio_postgres::Error> for LedgerError {
    fn from(error: tokio_postgres::Error) -> Self {
        let kind = match error.as_db_error() {
            Some(refused) if *refused.code() == SqlState::LOCK_NOT_AVAILABLE => Kind::Locked,
            Some(refused) if is_passing(refused) => {
                Kind::Unavailable("Postgres is not taking this now")
            }
            // All statements are the program's own: what one of them does not find, a migration brings.
            Some(refused) if is_unmigrated(refused) => Kind::Migration(format!(
                "the database lacks what this program needs ({}): run `turnpike migrate`",
                refused.message()
            )),
            Some(refused) => Kind::Refused(Box::new(Refusal {
                sqlstate: refused.code().clone(),
                message: refused.message().to_owned(),
                hint: refused.hint().map(str::to_owned),
                constraint: refused.constraint().map(str::to_owned),
            })),
            None if error::Error::source(&error)
                .is_some_and(|cause| cause.is::<tokio_postgres::types::WrongType>()) =>
            {
                Kind::Row
            }
            None => Kind::Unavailable("the connection to Postgres failed"),
        };
        // These carry all that Postgres said; as its own cause it would only be said twice.
        let said = matches!(kind, Kind::Refused(_) | Kind::Migration(_));
        let cause = (!said).then(|| Arc::new(error) as Cause);
        Self { kind, cause }
    }
}

impl From<io::Error> for LedgerError {
    fn from(error: io::Error) -> Self {
        Self {
            kind: Kind::Unavailable("the connection to Postgres failed"),
            cause: Some(Arc::new(error)),
        }
    }
}

/// Classes that say more of the moment than of the statement: connection (08), rolled back (40),
/// resources (53), operator (57), system (58), and a standby or failover (25006).
fn is_passing(error: &DbError) -> bool {
    let code = error.code().code();
    ["08", "40", "53", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class))
        || *error.code() == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// No such schema, table, column or function.
fn is_unmigrated(error: &DbError) -> bool {
    [
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
    ]
    .contains(error.code())
}
