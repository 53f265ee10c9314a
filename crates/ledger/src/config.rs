//! Where Postgres is and how the ledger uses it.

use std::{fmt, time::Duration};

use crate::{LedgerError, tls::TlsMode};

/// Where Postgres is and how the ledger uses it. Built by [`Config::from_url`] or [`Config::from_parts`].
#[derive(Clone)]
pub struct Config {
    pub(crate) postgres: tokio_postgres::Config,
    pub(crate) tls: TlsMode,
    /// A direct connection for `LISTEN` and migrations, where the other goes through a transaction pooler.
    pub(crate) direct: Option<(tokio_postgres::Config, TlsMode)>,
    pub(crate) pool_size: usize,
    pub(crate) exchanges_max: usize,
    pub(crate) statement_timeout: Duration,
    pub(crate) token_ttl: Duration,
    pub(crate) unknown_token_ttl: Duration,
    pub(crate) poll_every: Duration,
    pub(crate) instance: String,
}

/// The parts a connection can be given in instead of a URL.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Option<String>,
    /// `host`, `host:port`, `[v6]:port`, or a directory with a Unix socket.
    pub address: String,
    /// The database's name.
    pub name: String,
}

impl Config {
    /// Connections for token lookups and the catalog. The two writers and `LISTEN` have their own.
    pub const POOL_SIZE: usize = 4;
    /// Exchanges that may be open at once: places in the settle queue.
    pub const EXCHANGES_MAX: usize = 16_384;
    /// The longest wait for one statement.
    pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long a looked-up access token is believed without a word from Postgres.
    pub const TOKEN_TTL: Duration = Duration::from_secs(60);
    /// How long an unknown token is remembered as unknown.
    pub const UNKNOWN_TOKEN_TTL: Duration = Duration::from_secs(5);
    /// How often the catalog is read although nobody said that it changed.
    pub const POLL_EVERY: Duration = Duration::from_secs(30);

    /// Reads `postgres://user:password@host:port/name?sslmode=…` (or libpq's `key=value` notation).
    ///
    /// `sslmode` is libpq's: `disable`, `prefer`, `require` (encrypted, not verified), `verify-ca`, `verify-full`;
    /// `sslrootcert` adds roots from a PEM file.
    ///
    /// # Errors
    /// [`LedgerError::is_config`] when the text is no such thing. The text itself is not quoted: it holds a password.
    pub fn from_url(url: &str) -> Result<Self, LedgerError> {
        let _ = url;
        todo!()
    }

    /// Puts a connection together from its parts.
    ///
    /// # Errors
    /// [`LedgerError::is_config`] when the address is none.
    pub fn from_parts(parts: &Parts) -> Result<Self, LedgerError> {
        let _ = parts;
        todo!()
    }

    /// Uses this URL, which must lead to Postgres itself, for `LISTEN` and migrations.
    ///
    /// # Errors
    /// As [`Config::from_url`].
    pub fn with_listen_url(mut self, url: &str) -> Result<Self, LedgerError> {
        let other = Self::from_url(url)?;
        self.direct = Some((other.postgres, other.tls));
        Ok(self)
    }

    /// Connections for token lookups and the catalog.
    #[must_use]
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Exchanges that may be open at once.
    #[must_use]
    pub fn with_exchanges_max(mut self, exchanges: usize) -> Self {
        self.exchanges_max = exchanges.max(1);
        self
    }

    /// The longest wait for one statement.
    #[must_use]
    pub const fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long looked-up tokens are believed, known ones and unknown ones.
    #[must_use]
    pub const fn with_token_ttl(mut self, known: Duration, unknown: Duration) -> Self {
        self.token_ttl = known;
        self.unknown_token_ttl = unknown;
        self
    }

    /// How often the catalog is read although nobody said that it changed.
    #[must_use]
    pub const fn with_poll_every(mut self, interval: Duration) -> Self {
        self.poll_every = interval;
        self
    }

    /// The name this process has in `turnpike.instance` (a host name, say).
    #[must_use]
    pub fn with_instance_name(mut self, name: impl Into<String>) -> Self {
        self.instance = name.into();
        self
    }

    /// The database's name, for messages.
    #[must_use]
    pub fn database(&self) -> &str {
        self.postgres
            .get_dbname()
            .or_else(|| self.postgres.get_user())
            .unwrap_or("postgres")
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tokio-postgres hides the password in its own Debug.
        f.debug_struct("Config")
            .field("postgres", &self.postgres)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
