//! What the operator sets: read once from the environment, one struct per area.
//!
//! `config/example.env` documents every name; a test holds the two together.

mod front_doors;
mod jobs;
mod telemetry;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};

pub(crate) use self::{
    front_doors::{FrontDoors, Switch},
    jobs::Jobs,
    telemetry::{Exporter, Protocol, Sampler, Telemetry, TraceContext},
};

/// Everything the operator sets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Listen,
    pub(crate) database: Database,
    pub(crate) upstream: Upstream,
    pub(crate) exchange: Exchange,
    pub(crate) front_doors: FrontDoors,
    pub(crate) jobs: Jobs,
    pub(crate) rates: Rates,
    pub(crate) log: Log,
    pub(crate) telemetry: Telemetry,
}

/// Where clients and operators connect.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listen {
    /// Address for clients.
    #[serde(default = "any_address")]
    pub(crate) bind_address: IpAddr,
    /// Port for clients.
    #[serde(default = "port")]
    pub(crate) port: u16,
    /// Address for the console, health checks and metrics. Keep it off the public network.
    #[serde(default = "admin_address")]
    pub(crate) admin_address: SocketAddr,
    /// What the console asks for and `/metrics` wants as a bearer token; needed where the admin address is not loopback.
    pub(crate) admin_token: Option<Secret>,
    /// PEM file with the certificate chain; with `TLS_KEY`, clients connect by TLS.
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with the private key.
    pub(crate) tls_key: Option<PathBuf>,
    /// Data-plane threads; one per core unless set.
    pub(crate) workers: Option<NonZeroUsize>,
    /// Most client connections open at once, all workers together.
    #[serde(default = "connections_max")]
    pub(crate) connections_max: NonZeroUsize,
    /// Seconds that a client may take over a request's head, and that its connection may idle between two.
    #[serde(default = "client_idle_seconds")]
    pub(crate) client_idle_seconds: NonZeroU64,
    /// Seconds that a client may take nothing of an answer that is there for it.
    #[serde(default = "client_stall_seconds")]
    pub(crate) client_stall_seconds: NonZeroU64,
    /// Seconds that open exchanges get to finish after SIGTERM.
    #[serde(default = "shutdown_seconds")]
    pub(crate) shutdown_seconds: u64,
    /// Seconds before that in which `/readyz` says 503 and new connections are still taken: what load balancers need to notice.
    #[serde(default)]
    pub(crate) shutdown_delay_seconds: u64,
}

/// Where accounts, prices and charges live.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Database {
    /// `postgres://user:password@host:port/name`. Unset: a private Postgres under `DATA_DIR`.
    pub(crate) database_url: Option<Secret>,
    /// Instead of `DATABASE_URL`: the user.
    pub(crate) database_username: Option<String>,
    /// Instead of `DATABASE_URL`: the password.
    pub(crate) database_password: Option<Secret>,
    /// Instead of `DATABASE_URL`: `host` or `host:port`.
    pub(crate) database_address: Option<String>,
    /// Instead of `DATABASE_URL`: the database.
    pub(crate) database_name: Option<String>,
    /// A direct URL for `LISTEN` and migrations where `DATABASE_URL` leads through pgbouncer.
    pub(crate) database_direct_url: Option<Secret>,
    /// Connections for look-ups; a few more lease, settle and replay, one listens.
    #[serde(default = "database_pool_size")]
    pub(crate) database_pool_size: NonZeroUsize,
    /// Folder of the journal, the flight recorder and the private Postgres. Default: `/var/lib/turnpike` for root, else
    /// `~/.local/state/turnpike`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Bytes of the journal, where charges are durable while Postgres is away; 0 has none, and answers wait for Postgres.
    #[serde(default = "journal_bytes_max")]
    pub(crate) journal_bytes_max: u64,
    /// Milliseconds that Postgres has to take a charge before it goes to the journal.
    #[serde(default = "settle_patience_ms")]
    pub(crate) settle_patience_ms: NonZeroU64,
    /// Seconds that leases outlive the last sign of life of their process. While Postgres is away, exchanges are taken for
    /// at most seven eighths of it.
    #[serde(default = "lease_seconds")]
    pub(crate) lease_seconds: NonZeroU32,
    /// Open exchanges of a process that died: `charge` what is known to have been used, marked `interrupted`, or `void` them.
    #[serde(default)]
    pub(crate) orphans: Orphans,
    /// Months that charges are kept, this one and the last in any case; older ones are dropped, their sums stay. Unset: for ever.
    pub(crate) charges_keep_months: Option<NonZeroU32>,
    /// Apply pending migrations at start (`true`), or only check that none is pending (`false`).
    #[serde(default = "yes")]
    pub(crate) migrate: bool,
}

/// The provider that serves when table `upstream` is empty.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Upstream {
    /// Base URL (`https://api.openai.com/v1`), or a full `…/v1/chat/completions`.
    pub(crate) openai_url: Option<String>,
    /// The provider key.
    pub(crate) openai_api_key: Option<Secret>,
    /// `http://[user:password@]host:port` or `socks5://…` on the way to the provider.
    pub(crate) openai_proxy: Option<Secret>,
    /// PEM file of the certificates to believe, instead of the platform's own store.
    pub(crate) ssl_cert_file: Option<PathBuf>,
    /// Seconds to connect to a provider, TLS included.
    #[serde(default = "connect_timeout_seconds")]
    pub(crate) connect_timeout_seconds: NonZeroU64,
    /// Seconds from the request's last byte to the answer's first.
    #[serde(default = "first_byte_timeout_seconds")]
    pub(crate) first_byte_timeout_seconds: NonZeroU64,
    /// Seconds between two pieces of an answer.
    #[serde(default = "answer_idle_seconds")]
    pub(crate) answer_idle_seconds: NonZeroU64,
    /// Seconds from an answer's first byte to its last, however much comes. Unset: no limit.
    pub(crate) answer_seconds: Option<NonZeroU64>,
    /// Most connections per worker to one upstream.
    #[serde(default = "upstream_connections_max")]
    pub(crate) upstream_connections_max: NonZeroUsize,
}

/// How exchanges are admitted, metered and ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Exchange {
    /// Streams that did not ask for usage: `estimate`, `inject` or `require`.
    #[serde(default)]
    pub(crate) stream_usage: StreamUsage,
    /// A client that leaves: `drain` (read on within the bounds below), `estimate` or `void`.
    #[serde(default)]
    pub(crate) disconnect: Disconnect,
    /// Seconds to read on after a client left.
    #[serde(default = "drain_seconds")]
    pub(crate) drain_seconds: u64,
    /// Bytes to read on after a client left.
    #[serde(default = "drain_bytes_max")]
    pub(crate) drain_bytes_max: u64,
    /// Paths Turnpike does not meter: `refuse` them, or `forward` them uncharged.
    #[serde(default)]
    pub(crate) unknown_paths: UnknownPaths,
    /// Seconds a request's body may take to come.
    #[serde(default = "upload_seconds")]
    pub(crate) upload_seconds: NonZeroU64,
    /// Longest request body in bytes.
    #[serde(default = "body_bytes_max")]
    pub(crate) body_bytes_max: u64,
    /// Most of a body held back while its `model` is not known, or while `inject` needs it whole.
    #[serde(default = "body_buffer_bytes_max")]
    pub(crate) body_buffer_bytes_max: usize,
    /// Most exchanges open at once, all workers together; above it new ones get 503.
    #[serde(default = "open_exchanges_max")]
    pub(crate) open_exchanges_max: NonZeroUsize,
    /// Output tokens assumed for a model whose price row has no `output_max`.
    #[serde(default = "output_max_assumed")]
    pub(crate) output_max_assumed: NonZeroU32,
    /// Input tokens assumed for a model whose price row has no `context_window`.
    #[serde(default = "context_window_assumed")]
    pub(crate) context_window_assumed: NonZeroU32,
    /// Calls of paid tools (searches and their like) assumed for a request that offers such tools without a limit.
    #[serde(default = "tool_calls_assumed")]
    pub(crate) tool_calls_assumed: NonZeroU32,
    /// Seconds after which a WebSocket on which nothing passes is closed.
    #[serde(default = "socket_idle_seconds")]
    pub(crate) socket_idle_seconds: NonZeroU64,
    /// Realtime paths that let clients spend where nobody meters (`client_secrets`, `calls`): forwards them uncharged.
    #[serde(default)]
    pub(crate) allow_unmetered_realtime: Switch,
    /// The page `/usage`, where whoever has an access token sees what it spent and may spend.
    #[serde(default = "usage_page")]
    pub(crate) usage_page: Switch,
}

/// How often and how much at once one peer may ask, whatever token it shows. An IPv6 peer is its /64.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Rates {
    /// Requests from one address in a second. Unset: no limit.
    pub(crate) address_requests_per_second: Option<NonZeroU32>,
    /// Requests from one address in a minute. Unset: no limit.
    pub(crate) address_requests_per_minute: Option<NonZeroU32>,
    /// Requests from one address in an hour. Unset: no limit.
    pub(crate) address_requests_per_hour: Option<NonZeroU32>,
    /// Input and output tokens used from one address in a minute. Unset: no limit.
    pub(crate) address_tokens_per_minute: Option<NonZeroU64>,
    /// Exchanges open at once from one address. Unset: no limit.
    pub(crate) address_concurrent_exchanges: Option<NonZeroU32>,
    /// Access tokens that nobody knows, shown from one address in a minute, that are looked up. 0: no limit.
    #[serde(default = "address_unknown_tokens_per_minute")]
    pub(crate) address_unknown_tokens_per_minute: u32,
}

/// How the program speaks.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Log {
    /// `text` or `json`.
    #[serde(default)]
    pub(crate) log_format: LogFormat,
    /// What is logged: `info`, `debug`, `turnpike=debug,ledger=info`, …
    #[serde(default = "log_level")]
    pub(crate) log_level: String,
}

/// What to do with a chat stream that did not ask for usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StreamUsage {
    /// Leave the bytes alone, count with a tokenizer, mark the charge.
    #[default]
    Estimate,
    /// Ask for usage in the client's name and drop the extra frame.
    Inject,
    /// Refuse the request, saying what to add.
    Require,
}

/// What to do when the client leaves in mid-answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Disconnect {
    /// Read the answer to its end, within bounds, and charge what it reports.
    #[default]
    Drain,
    /// Stop and charge an estimate of what passed.
    Estimate,
    /// Stop and charge nothing.
    Void,
}

/// What becomes of the open exchanges of a process that died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Orphans {
    /// Charge what is known to have been used.
    #[default]
    Charge,
    /// Charge nothing.
    Void,
}

/// What to do with a path that is not metered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownPaths {
    /// 404: what cannot be metered cannot be sold.
    #[default]
    Refuse,
    /// Let it through, uncharged.
    Forward,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A value that never shows in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

/// A setting that cannot be used; the text says which and what would do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SettingsError(String);

impl SettingsError {
    /// A sentence that names the setting.
    pub(crate) const fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl Settings {
    /// Reads the process's environment. An empty value counts as unset.
    pub(crate) fn from_env() -> Result<Self, SettingsError> {
        Self::from_vars(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// Reads name-value pairs.
    pub(crate) fn from_vars(
        vars: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let vars: Vec<_> = vars.filter(|(_, value)| !value.is_empty()).collect();
        let mut settings = Self {
            listen: area(&vars)?,
            database: area(&vars)?,
            upstream: area(&vars)?,
            exchange: area(&vars)?,
            front_doors: area(&vars)?,
            jobs: area(&vars)?,
            rates: area(&vars)?,
            log: area(&vars)?,
            telemetry: area(&vars)?,
        };
        settings.check()?;
        if settings.upstream.openai_url.is_none() {
            settings.upstream.openai_url = settings.front_doors.provider().cloned();
        }
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        self.front_doors.check()?;
        self.telemetry.check()?;
        let admin = self.listen.admin_address;
        if !admin.ip().is_loopback() && self.listen.admin_token.is_none() {
            return Err(SettingsError(format!(
                "ADMIN_ADDRESS={admin} can be reached from elsewhere: set ADMIN_TOKEN, which /metrics will want as a bearer token, or use 127.0.0.1"
            )));
        }
        if self.listen.tls_cert.is_some() != self.listen.tls_key.is_some() {
            return Err(SettingsError(
                "TLS_CERT and TLS_KEY go together: set both, or neither".into(),
            ));
        }
        if self.database.database_url.is_none()
            && self.database.database_address.is_some() != self.database.database_name.is_some()
        {
            return Err(SettingsError(
                "DATABASE_ADDRESS and DATABASE_NAME go together (with DATABASE_USERNAME and DATABASE_PASSWORD): set both, or DATABASE_URL, or none for the private Postgres".into(),
            ));
        }
        Ok(())
    }
}

/// A secret that a table row keeps in the environment (`env:NAME`). `None` when unset or empty.
pub(crate) fn secret(name: &str) -> Option<Secret> {
    let value = std::env::var_os(name)?.into_string().ok()?;
    (!value.is_empty()).then(|| value.into())
}

/// One area's struct out of the environment. The message names the variable and the value's problem.
fn area<T: DeserializeOwned>(vars: &[(String, String)]) -> Result<T, SettingsError> {
    envy::from_iter(vars.iter().cloned()).map_err(|error| {
        // envy says what is wrong with a value but not whose it is: find the one without which the area reads.
        let culprit = vars.iter().find(|(name, _)| {
            envy::from_iter::<_, T>(vars.iter().filter(|(other, _)| other != name).cloned()).is_ok()
        });
        SettingsError(match culprit {
            Some((name, value)) => format!("{name}={value:?} cannot be used: {error}"),
            None => format!("the environment cannot be used: {error}"),
        })
    })
}

impl Secret {
    /// The value itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<Disconnect> for ledger::Disconnect {
    fn from(policy: Disconnect) -> Self {
        match policy {
            Disconnect::Drain => Self::Drain,
            Disconnect::Estimate => Self::Estimate,
            Disconnect::Void => Self::Void,
        }
    }
}

impl From<Orphans> for ledger::Orphans {
    fn from(policy: Orphans) -> Self {
        match policy {
            Orphans::Charge => Self::Charge,
            Orphans::Void => Self::Void,
        }
    }
}

impl Exchange {
    /// How long to read on after a client left.
    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

const fn any_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
const fn port() -> u16 {
    8080
}
const fn admin_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081)
}
const fn connections_max() -> NonZeroUsize {
    NonZeroUsize::new(16_384).expect("is not zero")
}
const fn client_idle_seconds() -> NonZeroU64 {
    NonZeroU64::new(75).expect("is not zero")
}
const fn client_stall_seconds() -> NonZeroU64 {
    NonZeroU64::new(300).expect("is not zero")
}
const fn shutdown_seconds() -> u64 {
    30
}
const fn answer_idle_seconds() -> NonZeroU64 {
    // What the SDKs themselves wait between two reads.
    NonZeroU64::new(600).expect("is not zero")
}
const fn usage_page() -> Switch {
    Switch::On
}

const fn address_unknown_tokens_per_minute() -> u32 {
    60
}
const fn database_pool_size() -> NonZeroUsize {
    NonZeroUsize::new(4).expect("is not zero")
}
const fn journal_bytes_max() -> u64 {
    ledger::Config::JOURNAL_BYTES_MAX
}
const fn settle_patience_ms() -> NonZeroU64 {
    NonZeroU64::new(2_000).expect("is not zero")
}
const fn lease_seconds() -> NonZeroU32 {
    NonZeroU32::new(120).expect("is not zero")
}
const fn yes() -> bool {
    true
}
const fn connect_timeout_seconds() -> NonZeroU64 {
    NonZeroU64::new(10).expect("is not zero")
}
const fn first_byte_timeout_seconds() -> NonZeroU64 {
    NonZeroU64::new(600).expect("is not zero")
}
const fn upstream_connections_max() -> NonZeroUsize {
    NonZeroUsize::new(4096).expect("is not zero")
}
const fn drain_seconds() -> u64 {
    120
}
const fn drain_bytes_max() -> u64 {
    64 * 1024 * 1024
}
const fn upload_seconds() -> NonZeroU64 {
    NonZeroU64::new(300).expect("is not zero")
}
const fn body_bytes_max() -> u64 {
    64 * 1024 * 1024
}
const fn body_buffer_bytes_max() -> usize {
    16 * 1024 * 1024
}
const fn open_exchanges_max() -> NonZeroUsize {
    NonZeroUsize::new(16_384).expect("is not zero")
}
const fn output_max_assumed() -> NonZeroU32 {
    NonZeroU32::new(131_072).expect("is not zero")
}
const fn context_window_assumed() -> NonZeroU32 {
    NonZeroU32::new(1_048_576).expect("is not zero")
}
const fn socket_idle_seconds() -> NonZeroU64 {
    NonZeroU64::new(900).expect("is not zero")
}
const fn tool_calls_assumed() -> NonZeroU32 {
    NonZeroU32::new(10).expect("is not zero")
}
fn log_level() -> String {
    "info".into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_vars(
            vars.iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_the_embedded_default() {
        let settings = read(&[]).unwrap();
        assert_eq!(
            (settings.listen.port, settings.exchange.stream_usage),
            (8080, StreamUsage::Estimate)
        );
        assert!(settings.database.database_url.is_none());
    }

    #[test]
    fn an_empty_value_counts_as_unset() {
        assert!(
            read(&[("DATABASE_URL", ""), ("PORT", "")])
                .unwrap()
                .database
                .database_url
                .is_none()
        );
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        let error = read(&[("PORT", "eighty")]).unwrap_err();
        assert!(
            error.contains("PORT") && error.contains("eighty"),
            "{error}"
        );
        let error = read(&[("STREAM_USAGE", "guess")]).unwrap_err();
        assert!(
            error.contains("STREAM_USAGE") && error.contains("inject"),
            "{error}"
        );
        assert!(
            read(&[("TLS_CERT", "a.pem")])
                .unwrap_err()
                .contains("TLS_KEY")
        );
    }

    #[test]
    fn an_admin_address_for_all_needs_a_token() {
        let error = read(&[("ADMIN_ADDRESS", "0.0.0.0:8081")]).unwrap_err();
        assert!(
            error.contains("ADMIN_TOKEN") && error.contains("127.0.0.1"),
            "{error}"
        );
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(read(&[("ADMIN_ADDRESS", loopback)]).is_ok());
        }
        let with_token = [("ADMIN_ADDRESS", "0.0.0.0:8081"), ("ADMIN_TOKEN", "x")];
        assert!(read(&with_token).is_ok());
    }

    #[test]
    fn what_a_collector_is_told_by_must_be_readable() {
        for (vars, says) in [
            (
                &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")][..],
                "http/protobuf",
            ),
            (
                &[("OTEL_EXPORTER_OTLP_HEADERS", "key-canary")],
                "name=value",
            ),
            (
                &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=key-canary")],
                "name=value",
            ),
            (&[("OTEL_TRACES_SAMPLER", "sometimes")], "traceidratio"),
            (
                &[("OTEL_TRACES_SAMPLER", "traceidratio")],
                "OTEL_TRACES_SAMPLER_ARG",
            ),
            (
                &[
                    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                    ("OTEL_TRACES_SAMPLER_ARG", "2"),
                ],
                "between 0 and 1",
            ),
            (&[("TRACE_CONTEXT", "keep")], "forward"),
            (
                &[("OTEL_BSP_MAX_QUEUE_SIZE", "0")],
                "OTEL_BSP_MAX_QUEUE_SIZE",
            ),
        ] {
            let error = read(vars).unwrap_err();
            assert!(
                error.contains(says) && !error.contains("key-canary"),
                "{error}"
            );
        }
        let settings = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x = c=d")]).unwrap();
        let headers = settings.telemetry.headers().unwrap();
        assert_eq!(
            headers,
            [("api-key".into(), "a b".into()), ("x".into(), "c=d".into())]
        );
    }

    #[test]
    fn a_secret_does_not_show_in_debug() {
        let settings = read(&[("OPENAI_API_KEY", "sk-canary")]).unwrap();
        assert!(!format!("{settings:?}").contains("sk-canary"));
    }

    /// Reads the field names out of this very file, so that a new setting cannot be forgotten.
    #[test]
    fn example_env_documents_every_setting_and_no_other() {
        let files = [
            include_str!("settings.rs"),
            include_str!("settings/front_doors.rs"),
            include_str!("settings/jobs.rs"),
            include_str!("settings/telemetry.rs"),
        ];
        let fields: BTreeSet<String> = files
            .concat()
            .split("#[derive(Clone, Debug, Deserialize)]")
            .skip(1)
            .flat_map(|area| area.split("\n}").next().unwrap_or_default().lines())
            .filter_map(|line| {
                line.trim()
                    .strip_prefix("pub(crate) ")?
                    .split_once(": ")
                    .map(|(name, _)| name.to_uppercase())
            })
            .collect();
        let documented: BTreeSet<String> = include_str!("../../../config/example.env")
            .lines()
            .filter_map(|line| line.trim_start_matches('#').split_once('='))
            .map(|(name, _)| name.trim().to_owned())
            .filter(|name| {
                !name.is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            })
            .collect();
        assert!(fields.len() > 20, "{fields:?}");
        assert_eq!(fields, documented);
    }
}
