//! What the program tells about itself: log lines and metrics.

mod books;
mod one_line;
mod otlp;
mod vitals;

use std::{
    collections::HashSet,
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
};

use ledger::Mark;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tariff::{Amount, Buckets};
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;

pub(crate) use self::otlp::{Answered, Otlp, Told, Trace, finish, push};
use self::{books::Books, one_line::OneLine, vitals::Vitals};
use crate::{
    places::Standing,
    settings::{Log, LogFormat, SettingsError},
};

/// Starts logging to standard error. Standard output stays free for what commands print.
pub(crate) fn start_logging(log: &Log) -> Result<(), SettingsError> {
    let filter = EnvFilter::try_new(&log.log_level).map_err(|error| {
        SettingsError::new(format!(
            "LOG_LEVEL={:?} cannot be used: {error}",
            log.log_level
        ))
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine::new(std::io::stderr(), is_terminal));
    match log.log_format {
        LogFormat::Text => builder.with_ansi(is_terminal).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Every metric, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Exchanges by endpoint and how they ended.
    pub(crate) exchanges: Family<ExchangeLabels, Counter>,
    /// Calls at front doors, by door and status.
    pub(crate) door_calls: Family<DoorLabels, Counter>,
    /// Our own refusals by code.
    pub(crate) refusals: Family<CodeLabel, Counter>,
    /// Charges by how their figure came about.
    pub(crate) charges: Family<MarkLabel, Counter>,
    tokens: Family<SideLabels, Counter>,
    charged_nano_usd: Family<ModelLabel, Counter>,
    /// The models told apart so far.
    models: Mutex<HashSet<String>>,
    /// Exchanges open now.
    pub(crate) open_exchanges: Gauge,
    /// Charges handed to the ledger and not yet durable.
    settling: Gauge,
    journal_records: Gauge,
    journal_bytes: Gauge,
    homeless: Gauge,
    interrupted: Gauge,
    lease_statements: Gauge,
    /// When the certificate in use ends, in seconds since 1970; 0 without TLS.
    pub(crate) certificate_expires_at: Gauge,
    key_resting: Family<KeyLabels, Gauge>,
    /// Tries to deliver events, by how they ended.
    pub(crate) webhook_deliveries: Family<OutcomeLabel, Counter>,
    /// Deliveries still to be made, by all gateways.
    pub(crate) webhook_deliveries_pending: Gauge,
    vitals: Vitals,
    books: Books,
    /// 1 while the settle writer and `LISTEN` have their connections.
    database_connected: Gauge,
    /// From the request's facts to the hold.
    pub(crate) first_gate_seconds: Histogram,
    /// From the terminal event to the durable charge.
    pub(crate) second_gate_seconds: Histogram,
    /// From the request's head to the answer's first byte.
    pub(crate) first_byte_seconds: Histogram,
}

/// Which endpoint, and how the exchange ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ExchangeLabels {
    pub(crate) endpoint: &'static str,
    pub(crate) end: &'static str,
}

/// Which front door, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DoorLabels {
    pub(crate) door: &'static str,
    pub(crate) status: u16,
}

/// A refusal's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CodeLabel {
    pub(crate) code: &'static str,
}

/// One of an upstream's keys; `none` where it is asked without.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KeyLabels {
    pub(crate) upstream: String,
    pub(crate) key: String,
}

/// How a try to deliver an event ended: `delivered`, `failed`, `given_up`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: &'static str,
}

/// A charge's mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MarkLabel {
    pub(crate) mark: &'static str,
}

/// `input` or `output`, of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    model: String,
    side: &'static str,
}

/// A model as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// How many models are told apart; whatever comes later is counted as `other`. Clients name models, and each name is a time series.
const MODELS_MAX: usize = 200;

/// Upper edges in seconds: from a tenth of a millisecond to ten minutes.
const BUCKETS: [f64; 14] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0,
];

impl Metrics {
    /// Registers everything under the prefix `turnpike`.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("turnpike"),
            exchanges: Family::default(),
            door_calls: Family::default(),
            refusals: Family::default(),
            charges: Family::default(),
            tokens: Family::default(),
            charged_nano_usd: Family::default(),
            models: Mutex::default(),
            open_exchanges: Gauge::default(),
            settling: Gauge::default(),
            key_resting: Family::default(),
            webhook_deliveries: Family::default(),
            webhook_deliveries_pending: Gauge::default(),
            vitals: Vitals::default(),
            books: Books::default(),
            database_connected: Gauge::default(),
            journal_records: Gauge::default(),
            journal_bytes: Gauge::default(),
            homeless: Gauge::default(),
            interrupted: Gauge::default(),
            lease_statements: Gauge::default(),
            certificate_expires_at: Gauge::default(),
            first_gate_seconds: Histogram::new(BUCKETS),
            second_gate_seconds: Histogram::new(BUCKETS),
            first_byte_seconds: Histogram::new(BUCKETS),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "exchanges",
            "Exchanges by endpoint and how they ended",
            self.exchanges.clone(),
        );
        registry.register(
            "door_calls",
            "Calls at front doors, by door and status",
            self.door_calls.clone(),
        );
        registry.register(
            "refusals",
            "Answers of the gateway's own, by code",
            self.refusals.clone(),
        );
        registry.register(
            "charges",
            "Charges by how their figure came about",
            self.charges.clone(),
        );
        registry.register(
            "tokens",
            "Tokens charged, by model and side",
            self.tokens.clone(),
        );
        registry.register(
            "charged_nano_usd",
            "Money charged, in nano-USD, by model",
            self.charged_nano_usd.clone(),
        );
        registry.register(
            "open_exchanges",
            "Exchanges open now",
            self.open_exchanges.clone(),
        );
        registry.register(
            "settling",
            "Charges handed to the ledger and not yet durable",
            self.settling.clone(),
        );
        registry.register(
            "database_connected",
            "1 while Postgres takes charges and tells changes",
            self.database_connected.clone(),
        );
        for (name, help, gauge) in [
            (
                "journal_records",
                "Charges in the journal that are not yet in Postgres",
                &self.journal_records,
            ),
            ("journal_bytes", "Bytes of the journal", &self.journal_bytes),
            (
                "charges_without_place",
                "Charges that neither Postgres nor the journal takes now; their answers were cut off",
                &self.homeless,
            ),
            (
                "interrupted_exchanges",
                "Open exchanges of dead processes that this one has settled",
                &self.interrupted,
            ),
            (
                "lease_statements",
                "Statements that filled purses",
                &self.lease_statements,
            ),
            (
                "certificate_expires_at_seconds",
                "When the certificate that clients are shown ends, in seconds since 1970; 0 without TLS",
                &self.certificate_expires_at,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "upstream_key_resting",
            "1 while an upstream's key is left alone after errors; 0 while it is well",
            self.key_resting.clone(),
        );
        registry.register(
            "webhook_deliveries",
            "Tries to deliver events to webhooks, by how they ended",
            self.webhook_deliveries.clone(),
        );
        registry.register(
            "webhook_deliveries_pending",
            "Deliveries to webhooks that are still to be made, by all gateways",
            self.webhook_deliveries_pending.clone(),
        );
        self.vitals.register(registry);
        self.books.register(registry);
        registry.register(
            "first_gate_seconds",
            "From the request's facts to the hold",
            self.first_gate_seconds.clone(),
        );
        registry.register(
            "second_gate_seconds",
            "From the terminal event to the durable charge",
            self.second_gate_seconds.clone(),
        );
        registry.register(
            "first_byte_seconds",
            "From the request's head to the answer's first byte",
            self.first_byte_seconds.clone(),
        );
        self
    }

    /// Counts the tasks of this runtime as well.
    pub(crate) fn watch(&self, runtime: Handle) {
        self.vitals.watch(runtime);
    }

    /// Counts the connections of this pool as well.
    pub(crate) fn watch_pool(&self, pool: proxy::Pool) {
        self.books.watch(pool);
    }

    /// Counts what was charged.
    pub(crate) fn charged(&self, model: &str, amount: Amount, mark: Mark, buckets: &Buckets) {
        let mark = mark.as_str();
        self.charges.get_or_create(&MarkLabel { mark }).inc();
        let model = self.told_apart(model);
        for (side, count) in [("input", buckets.input()), ("output", buckets.output())] {
            let model = model.clone();
            self.tokens
                .get_or_create(&SideLabels { model, side })
                .inc_by(count);
        }
        self.charged_nano_usd
            .get_or_create(&ModelLabel { model })
            .inc_by(amount.nano().unsigned_abs());
    }

    /// The model's name, or `other` once there are too many.
    fn told_apart(&self, model: &str) -> String {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if models.contains(model) {
            return model.to_owned();
        }
        if models.len() >= MODELS_MAX {
            return "other".to_owned();
        }
        models.insert(model.to_owned());
        model.to_owned()
    }

    /// The text that Prometheus reads, the ledger's own figures and the keys' health included.
    pub(crate) fn text(&self, ledger: ledger::Stats, keys: Vec<Standing>) -> String {
        // Those that are gone are told no more.
        self.key_resting.clear();
        for standing in &keys {
            let (upstream, key) = (standing.upstream.clone(), standing.key_name());
            self.key_resting
                .get_or_create(&KeyLabels { upstream, key })
                .set(i64::from(standing.rests));
        }
        self.books.look(&ledger, &keys);
        self.settling
            .set(i64::try_from(ledger.settling).unwrap_or(i64::MAX));
        self.database_connected
            .set(i64::from(ledger.connected && ledger.listening));
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.journal_records.set(gauge(ledger.journal_records));
        self.journal_bytes.set(gauge(ledger.journal_bytes));
        self.homeless
            .set(i64::try_from(ledger.homeless).unwrap_or(i64::MAX));
        self.interrupted.set(gauge(ledger.interrupted));
        self.lease_statements.set(gauge(ledger.lease_groups));
        self.vitals.look();
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_beyond_the_limit_are_counted_together() {
        let metrics = Metrics::new();
        for number in 0..MODELS_MAX + 5 {
            let (amount, model) = (Amount::from_nano(1), format!("model-{number}"));
            metrics.charged(&model, amount, Mark::Measured, &Buckets::default());
        }
        let text = metrics.text(ledger::Stats::default(), Vec::new());
        assert!(
            text.contains("turnpike_charged_nano_usd_total{model=\"other\"} 5"),
            "{text}"
        );
        let series = text.matches("turnpike_charged_nano_usd_total{").count();
        assert_eq!(series, MODELS_MAX + 1);
    }

    #[test]
    fn metrics_carry_the_prefix_and_their_help() {
        let metrics = Metrics::new();
        metrics
            .refusals
            .get_or_create(&CodeLabel {
                code: "invalid_api_key",
            })
            .inc();
        let text = metrics.text(ledger::Stats::default(), Vec::new());
        assert!(
            text.contains("turnpike_refusals_total{code=\"invalid_api_key\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("# HELP turnpike_second_gate_seconds"),
            "{text}"
        );
    }
}
