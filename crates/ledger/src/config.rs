//! Where Postgres is and how the ledger uses it.

use std::{fmt, path::PathBuf, time::Duration};

use tokio_postgres::config::{Host, SslMode};

use crate::{
    LedgerError, Orphans,
    connect::Connector,
    tls::{TlsMode, Verify},
};

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
    /// Where the journal and the flight recorder are; without it settlements wait for Postgres in memory.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) journal_bytes_max: u64,
    pub(crate) lease: Duration,
    pub(crate) settle_patience: Duration,
    pub(crate) orphans: Orphans,
    pub(crate) charges_keep_months: Option<u32>,
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

    /// How long leases outlive the last sign of life of their process.
    pub const LEASE: Duration = Duration::from_secs(120);
    /// How long Postgres has to take a settlement before it goes to the journal.
    pub const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
    /// Bytes of the journal.
    pub const JOURNAL_BYTES_MAX: u64 = 256 << 20;

    /// Reads `postgres://user:password@host:port/name?sslmode=…` (or libpq's `key=value` notation).
    ///
    /// `sslmode` is libpq's: `disable`, `prefer`, `require` (encrypted, not verified), `verify-ca`, `verify-full`;
    /// `sslrootcert` adds roots from a PEM file.
    ///
    /// # Errors
    /// [`LedgerError::is_config`] when the text is no such thing. The text itself is not quoted: it holds a password.
    pub fn from_url(url: &str) -> Result<Self, LedgerError> {
        let (url, tls) = TlsMode::take_from(url)?;
        // The error's text names a key at most, never a value.
        let mut postgres: tokio_postgres::Config = url.parse().map_err(|error| {
            LedgerError::config("the database URL cannot be read")
                .because::<tokio_postgres::Error>(error)
        })?;
        if postgres.get_hosts().is_empty() {
            return Err(LedgerError::config("the database URL names no host"));
        }
        if tls.verify != Verify::Nothing {
            postgres.ssl_mode(SslMode::Require);
        }
        Ok(Self::new(postgres, tls))
    }

    /// Puts a connection together from its parts.
    ///
    /// # Errors
    /// [`LedgerError::is_config`] when the address is none.
    pub fn from_parts(parts: &Parts) -> Result<Self, LedgerError> {
        let mut postgres = tokio_postgres::Config::new();
        postgres.user(&parts.username).dbname(&parts.name);
        if let Some(password) = &parts.password {
            postgres.password(password);
        }
        if parts.address.starts_with('/') {
            postgres.host_path(&parts.address);
            return Ok(Self::new(postgres, TlsMode::default()));
        }
        let bad = || {
            LedgerError::config(format!(
                "{:?} is no database address: host, host:port or [v6]:port",
                parts.address
            ))
        };
        let (host, port) = match parts.address.strip_prefix('[') {
            Some(rest) => rest
                .split_once(']')
                .map(|(host, rest)| (host, rest.strip_prefix(':')))
                .ok_or_else(bad)?,
            None => match parts.address.split_once(':') {
                // More than one colon: an IPv6 address without brackets.
                Some((_, rest)) if rest.contains(':') => (parts.address.as_str(), None),
                Some((host, port)) => (host, Some(port)),
                None => (parts.address.as_str(), None),
            },
        };
        if host.is_empty() {
            return Err(bad());
        }
        postgres.host(host);
        if let Some(port) = port {
            postgres.port(port.parse().map_err(|_| bad())?);
        }
        Ok(Self::new(postgres, TlsMode::default()))
    }

    pub(crate) fn new(mut postgres: tokio_postgres::Config, tls: TlsMode) -> Self {
        if postgres.get_application_name().is_none() {
            postgres.application_name("turnpike");
        }
        if postgres.get_connect_timeout().is_none() {
            postgres.connect_timeout(Self::STATEMENT_TIMEOUT);
        }
        Self {
            postgres,
            tls,
            direct: None,
            pool_size: Self::POOL_SIZE,
            exchanges_max: Self::EXCHANGES_MAX,
            statement_timeout: Self::STATEMENT_TIMEOUT,
            token_ttl: Self::TOKEN_TTL,
            unknown_token_ttl: Self::UNKNOWN_TOKEN_TTL,
            poll_every: Self::POLL_EVERY,
            instance: "turnpike".to_owned(),
            data_dir: None,
            journal_bytes_max: Self::JOURNAL_BYTES_MAX,
            lease: Self::LEASE,
            settle_patience: Self::SETTLE_PATIENCE,
            orphans: Orphans::default(),
            charges_keep_months: None,
        }
    }

    pub(crate) fn connector(&self) -> Result<Connector, LedgerError> {
        Connector::new(&self.postgres, &self.tls, self.statement_timeout)
    }

    /// To Postgres itself, past any transaction pooler.
    pub(crate) fn direct_connector(&self) -> Result<Connector, LedgerError> {
        match &self.direct {
            Some((postgres, tls)) => Connector::new(postgres, tls, self.statement_timeout),
            None => self.connector(),
        }
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

    /// Where the journal and the flight recorder are, and how many bytes the journal may have.
    #[must_use]
    pub fn with_data_dir(mut self, dir: impl Into<PathBuf>, journal_bytes_max: u64) -> Self {
        self.data_dir = Some(dir.into());
        self.journal_bytes_max = journal_bytes_max;
        self
    }

    /// How long leases outlive the last sign of life of their process; whole seconds, at least one.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long Postgres has to take a settlement before it goes to the journal.
    #[must_use]
    pub const fn with_settle_patience(mut self, patience: Duration) -> Self {
        self.settle_patience = patience;
        self
    }

    /// What becomes of the open exchanges of processes that died.
    #[must_use]
    pub const fn with_orphans(mut self, orphans: Orphans) -> Self {
        self.orphans = orphans;
        self
    }

    /// For how many months charges are kept, this one and the last included in any case.
    #[must_use]
    pub const fn with_charges_kept(mut self, months: u32) -> Self {
        self.charges_keep_months = Some(months);
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
        database(&self.postgres)
    }
}

fn database(postgres: &tokio_postgres::Config) -> &str {
    postgres
        .get_dbname()
        .or_else(|| postgres.get_user())
        .unwrap_or("postgres")
}

/// Where this leads, for messages: `db.example:5432 (database turnpike)`. Neither user nor password.
pub(crate) fn place(postgres: &tokio_postgres::Config) -> String {
    let ports = postgres.get_ports();
    let hosts = postgres.get_hosts().iter().enumerate().map(|(at, host)| {
        // libpq's rule: a port for each host, or one for all.
        let port = ports.get(at).or(ports.first()).unwrap_or(&PORT);
        match host {
            Host::Unix(dir) => dir.display().to_string(),
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
            Host::Tcp(name) => format!("{name}:{port}"),
        }
    });
    let hosts: Vec<_> = hosts.collect();
    format!("{} (database {})", hosts.join(", "), database(postgres))
}

const PORT: u16 = 5432;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tokio-postgres hides the password in its own Debug.
        f.debug_struct("Config")
            .field("postgres", &self.postgres)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(parts: &str) -> String {
        let parts = Parts {
            username: "u".into(),
            address: parts.into(),
            name: "n".into(),
            ..Parts::default()
        };
        Config::from_parts(&parts).map_or_else(
            |error| error.to_string(),
            |config| {
                format!(
                    "{:?} {:?}",
                    config.postgres.get_hosts(),
                    config.postgres.get_ports()
                )
            },
        )
    }

    #[test]
    fn an_address_is_a_host_with_or_without_a_port_or_a_socket() {
        assert_eq!(hosts("db"), r#"[Tcp("db")] []"#);
        assert_eq!(hosts("db:6432"), r#"[Tcp("db")] [6432]"#);
        assert_eq!(hosts("[::1]:5433"), r#"[Tcp("::1")] [5433]"#);
        assert_eq!(hosts("::1"), r#"[Tcp("::1")] []"#);
        assert_eq!(hosts("/run/postgresql"), r#"[Unix("/run/postgresql")] []"#);
        assert!(hosts("db:port").contains("no database address"));
        assert!(hosts("").contains("no database address"));
    }

    #[test]
    fn a_place_is_told_without_user_and_password() -> Result<(), LedgerError> {
        for (url, told) in [
            ("postgres://u:secret@h/n", "h:5432 (database n)"),
            ("postgres://u:secret@[::1]:1/n", "[::1]:1 (database n)"),
            ("postgres://u@a,b:2/n", "a:5432, b:2 (database n)"),
            ("postgres://u@%2Frun%2Fpg/n", "/run/pg (database n)"),
            ("host=h user=u", "h:5432 (database u)"),
        ] {
            assert_eq!(place(&Config::from_url(url)?.postgres), told, "{url}");
        }
        Ok(())
    }

    #[test]
    fn sslmode_has_libpq_s_meaning() -> Result<(), LedgerError> {
        let config = Config::from_url(
            "postgres://u@h/n?sslmode=verify-full&sslrootcert=/ca.pem&application_name=x",
        )?;
        assert_eq!(
            config.tls,
            TlsMode {
                verify: Verify::Full,
                roots: Some("/ca.pem".into())
            }
        );
        assert_eq!(config.postgres.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.postgres.get_application_name(), Some("x"));
        let config = Config::from_url("host=h user=u sslmode=verify-ca")?;
        assert_eq!(
            (config.tls.verify, config.postgres.get_ssl_mode()),
            (Verify::Chain, SslMode::Require)
        );
        let config = Config::from_url("postgres://u@h/n?sslmode=require")?;
        assert_eq!(
            (config.tls.verify, config.postgres.get_ssl_mode()),
            (Verify::Nothing, SslMode::Require)
        );
        Ok(())
    }

    #[test]
    fn an_unreadable_url_is_a_setting_s_fault_and_its_password_stays_hidden() {
        for url in [
            "",
            "nonsense",
            "postgres://u:secret@h:port/n",
            "postgres://u:secret@h/n?sslmode=maybe",
            "mysql://u:secret@h/n",
        ] {
            let error = Config::from_url(url).expect_err(url);
            assert!(error.is_config(), "{url}: {error:?}");
            assert!(
                !format!("{error:?} {error}").contains("secret"),
                "{error:?}"
            );
        }
        let config = Config::from_url("postgres://u:secret@h/n").expect("a good URL");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
