//! What is told of one exchange when it is over: one log line, and the metrics.

mod span;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{Method, StatusCode};
use ledger::{Charge, Mark};
use tariff::Amount;
use tracing::info;
use uuid::Uuid;

use crate::{
    refusal::Refusal,
    telemetry::{Answered, CodeLabel, ExchangeLabels, Metrics, Trace},
};

/// Everything the log line says. It is written when the record is dropped, wherever that happens.
/// No body, prompt, query or secret is ever put here.
#[derive(Debug)]
pub(crate) struct Record {
    /// The exchange's id: also the charge's, and the client's `x-turnpike-exchange`.
    pub(crate) id: Uuid,
    /// When the request's head was read.
    pub(crate) started: Instant,
    /// The same by the wall clock, in milliseconds since the epoch: the price in force is this instant's.
    pub(crate) started_at_ms: i64,
    /// The front door it came through.
    pub(crate) door: Option<&'static str>,
    pub(crate) endpoint: &'static str,
    pub(crate) end: &'static str,
    pub(crate) status: Option<StatusCode>,
    pub(crate) token: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) upstream: Option<String>,
    pub(crate) request_bytes: u64,
    pub(crate) answer_bytes: u64,
    /// Where traces are sent.
    pub(crate) trace: Option<Box<Trace>>,
    method: Method,
    peer: IpAddr,
    refusal: Option<&'static str>,
    first_byte: Option<Duration>,
    charge: Option<(Amount, Mark)>,
    metrics: Arc<Metrics>,
}

impl Record {
    /// A record that starts now.
    pub(crate) fn start(
        metrics: Arc<Metrics>,
        peer: IpAddr,
        method: Method,
        endpoint: &'static str,
    ) -> Self {
        metrics.open_exchanges.inc();
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            id: Uuid::now_v7(),
            started: Instant::now(),
            started_at_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
            endpoint,
            door: None,
            end: "abandoned",
            status: None,
            token: None,
            model: None,
            upstream: None,
            request_bytes: 0,
            answer_bytes: 0,
            trace: None,
            method,
            peer,
            refusal: None,
            first_byte: None,
            charge: None,
            metrics,
        }
    }

    /// Notes that we answered it ourselves with a refusal.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let code = refusal.code();
        self.end = "refused";
        self.refusal = Some(code);
        self.status = Some(refusal.status());
        self.metrics
            .refusals
            .get_or_create(&CodeLabel { code })
            .inc();
    }

    /// Notes bytes of the answer as they pass.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if self.first_byte.is_none() {
            let elapsed = self.started.elapsed();
            self.first_byte = Some(elapsed);
            self.metrics
                .first_byte_seconds
                .observe(elapsed.as_secs_f64());
        }
        self.answer_bytes = self
            .answer_bytes
            .saturating_add(bytes.try_into().unwrap_or(u64::MAX));
    }

    /// Notes the charge that was handed to the ledger.
    pub(crate) fn charged(&mut self, charge: &Charge) {
        self.charge = Some((charge.amount, charge.mark));
        let model = self.model.as_deref().unwrap_or("none");
        self.metrics
            .charged(model, charge.amount, charge.mark, &charge.buckets);
        if let Some(trace) = &mut self.trace {
            trace.answered(Answered {
                model: charge.model_answered.clone(),
                response_id: charge.response_id.clone(),
                service_tier: charge.service_tier.clone(),
                buckets: charge.buckets,
            });
        }
    }

    /// Notes a step of ours, from then until now.
    pub(crate) fn step(&mut self, name: &'static str, from: Instant) {
        if let Some(trace) = &mut self.trace {
            trace.step(name, from);
        }
    }

    /// Notes that the answer's head is here, where an upstream was asked.
    pub(crate) fn headed(&mut self) {
        if let (Some(trace), Some(_)) = (&mut self.trace, &self.upstream) {
            trace.headed(self.started);
        }
    }

    /// The metrics this record counts in.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.open_exchanges.dec();
        self.metrics
            .exchanges
            .get_or_create(&ExchangeLabels {
                endpoint: self.endpoint,
                end: self.end,
            })
            .inc();
        let (amount, mark) = self.charge.unzip();
        info!(
            exchange = %self.id,
            end = self.end,
            method = %self.method,
            door = self.door,
            endpoint = self.endpoint,
            status = self.status.map(|status| status.as_u16()),
            refusal = self.refusal,
            peer = %self.peer,
            token = self.token,
            model = self.model,
            upstream = self.upstream,
            request_bytes = self.request_bytes,
            answer_bytes = self.answer_bytes,
            first_byte_ms = self.first_byte.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            charge_nano_usd = amount.map(Amount::nano),
            mark = mark.map(Mark::as_str),
            "exchange",
        );
        if let Some(trace) = self.trace.take() {
            let told = span::told(self, trace.told());
            trace.end(told);
        }
    }
}
