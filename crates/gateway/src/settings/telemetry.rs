//! Where traces and metrics are sent, by the names that OpenTelemetry gave its settings.

use std::num::{NonZeroU64, NonZeroUsize};

use serde::Deserialize;

use super::{Secret, SettingsError};

/// OpenTelemetry over OTLP.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Telemetry {
    /// Base URL of a collector (`http://collector:4318`). Unset: nothing is sent, and nothing is spent on it.
    pub(crate) otel_exporter_otlp_endpoint: Option<String>,
    /// How it is spoken to.
    #[serde(default)]
    pub(crate) otel_exporter_otlp_protocol: Protocol,
    /// Headers for the collector: `name=value,name=value`, values percent-encoded.
    pub(crate) otel_exporter_otlp_headers: Option<Secret>,
    /// Spans: `otlp` or `none`.
    #[serde(default)]
    pub(crate) otel_traces_exporter: Exporter,
    /// Metrics: `otlp` or `none`.
    #[serde(default)]
    pub(crate) otel_metrics_exporter: Exporter,
    /// The name that spans and metrics come under.
    pub(crate) otel_service_name: Option<String>,
    /// More about where they come from: `deployment.environment.name=production,…`.
    pub(crate) otel_resource_attributes: Option<String>,
    /// Which exchanges get a span; `parentbased_…` does as the client's trace says, where it has one.
    #[serde(default)]
    pub(crate) otel_traces_sampler: Sampler,
    /// For the samplers by ratio: between 0 and 1.
    pub(crate) otel_traces_sampler_arg: Option<f64>,
    /// Spans that wait to be sent; whatever comes beyond them is dropped.
    #[serde(default = "spans_queued_max")]
    pub(crate) otel_bsp_max_queue_size: NonZeroUsize,
    /// Milliseconds between two batches of spans.
    #[serde(default = "batch_ms")]
    pub(crate) otel_bsp_schedule_delay: NonZeroU64,
    /// Milliseconds between two sets of metrics.
    #[serde(default = "metrics_ms")]
    pub(crate) otel_metric_export_interval: NonZeroU64,
    /// What becomes of the client's trace context.
    #[serde(default)]
    pub(crate) trace_context: TraceContext,
}

/// What can be spoken to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Protocol {
    /// Protobuf in HTTP requests.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// Whether a signal is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Exporter {
    /// It is.
    #[default]
    Otlp,
    /// It is not.
    None,
}

/// Which exchanges get a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share of them, by trace id.
    #[serde(rename = "traceidratio")]
    TraceIdRatio,
    /// As the client's trace says, else all.
    #[default]
    #[serde(rename = "parentbased_always_on")]
    ParentElseOn,
    /// As the client's trace says, else none.
    #[serde(rename = "parentbased_always_off")]
    ParentElseOff,
    /// As the client's trace says, else a share of them.
    #[serde(rename = "parentbased_traceidratio")]
    ParentElseRatio,
}

/// What becomes of `traceparent` and `tracestate` of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TraceContext {
    /// Our spans continue the client's trace; providers do not hear of it.
    #[default]
    Strip,
    /// The same, and both headers go up as they are.
    Forward,
    /// Our spans begin traces of their own, and providers do not hear of the client's.
    Ignore,
}

impl Telemetry {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let is_by_ratio = matches!(
            self.otel_traces_sampler,
            Sampler::TraceIdRatio | Sampler::ParentElseRatio
        );
        let ratio = self.otel_traces_sampler_arg;
        if is_by_ratio && !ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)) {
            return Err(SettingsError::new(
                "OTEL_TRACES_SAMPLER by ratio needs OTEL_TRACES_SAMPLER_ARG, a share between 0 and 1 (0.1 is a tenth of all exchanges)".into(),
            ));
        }
        self.headers().map(drop)
    }

    /// The headers that the collector wants, values decoded.
    ///
    /// # Errors
    /// When they are no list of `name=value`. What they are is not said: they are keys.
    pub(crate) fn headers(&self) -> Result<Vec<(String, String)>, SettingsError> {
        let Some(list) = &self.otel_exporter_otlp_headers else {
            return Ok(Vec::new());
        };
        list.expose()
            .split(',')
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let value = percent_encoding::percent_decode_str(value.trim());
                let value = value.decode_utf8().ok()?.into_owned();
                http::HeaderName::try_from(name.trim()).ok()?;
                http::HeaderValue::try_from(&value).ok()?;
                Some((name.trim().to_owned(), value))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                SettingsError::new(
                    "OTEL_EXPORTER_OTLP_HEADERS is no list of headers: write name=value,name=value, with values percent-encoded".into(),
                )
            })
    }
}

fn spans_queued_max() -> NonZeroUsize {
    NonZeroUsize::new(2_048).expect("is not zero")
}
fn batch_ms() -> NonZeroU64 {
    NonZeroU64::new(5_000).expect("is not zero")
}
fn metrics_ms() -> NonZeroU64 {
    NonZeroU64::new(60_000).expect("is not zero")
}
