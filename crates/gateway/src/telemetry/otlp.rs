//! Traces and metrics to a collector, by OTLP over HTTP, apart from every exchange.

mod metrics;
mod sender;
mod traces;

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use proxy::{Pool, Target};
use tokio::{runtime::Handle, time::interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::traces::{Answered, Told, Trace, Traces};
use self::{metrics::Pushed, sender::Sender};
use crate::{
    gateway::Gateway,
    settings::{Exporter, SettingsError, Telemetry},
};

/// How long the last spans and metrics get at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is sent, and where to.
pub(crate) struct Otlp {
    /// Where spans go.
    pub(crate) traces: Option<Traces>,
    metrics: Option<(Pushed, Sender)>,
    every: Duration,
}

impl Otlp {
    /// As the settings say; `None` where no collector is named.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub(crate) fn new(
        settings: &Telemetry,
        pool: &Pool,
        control: &Handle,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(endpoint) = &settings.otel_exporter_otlp_endpoint else {
            return Ok(None);
        };
        let unusable = |error: &dyn std::fmt::Display| {
            SettingsError::new(format!(
                "OTEL_EXPORTER_OTLP_ENDPOINT={endpoint:?} cannot be used: {error}; write http://host:4318"
            ))
        };
        let target =
            Target::parse(endpoint.trim_end_matches('/')).map_err(|error| unusable(&error))?;
        let sender = |signal| Sender::new(signal, target.clone(), pool.clone(), control.clone());
        let resource = resource(settings);
        let traces = (settings.otel_traces_exporter == Exporter::Otlp)
            .then(|| Traces::new(settings, endpoint, &resource, sender("traces")))
            .transpose()
            .map_err(|error| unusable(&error))?;
        let metrics = (settings.otel_metrics_exporter == Exporter::Otlp).then(|| {
            let headers = settings.headers().unwrap_or_default();
            (Pushed::new(&resource, headers), sender("metrics"))
        });
        let every = Duration::from_millis(settings.otel_metric_export_interval.get());
        Ok(Some(Self {
            traces,
            metrics,
            every,
        }))
    }
}

/// Sends metrics again and again, until the program is about to end.
pub(crate) async fn push(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let Some(otlp) = &gateway.otlp else { return };
    let mut ticks = interval(otlp.every);
    // The first is at once, and has nothing to tell.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        otlp.push(&gateway).await;
    }
}

/// Sends what has not gone yet. For when all exchanges are over.
pub(crate) async fn finish(gateway: &Gateway) {
    let Some(otlp) = &gateway.otlp else { return };
    if let Some(traces) = otlp.traces.clone() {
        // It blocks its thread until all are sent.
        let _ = tokio::task::spawn_blocking(move || traces.finish(LAST_WORDS)).await;
    }
    let _ = tokio::time::timeout(LAST_WORDS, otlp.push(gateway)).await;
}

impl Otlp {
    async fn push(&self, gateway: &Gateway) {
        let Some((pushed, sender)) = &self.metrics else {
            return;
        };
        let request = pushed.request(&gateway.told());
        // It complains by itself.
        let _ = sender.send(request).await;
    }
}

/// Who tells all this.
fn resource(settings: &Telemetry) -> Resource {
    let named = settings.otel_resource_attributes.as_deref();
    let is_named = named.is_some_and(|list| list.contains("service.name="));
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ]);
    match &settings.otel_service_name {
        Some(name) => builder.with_service_name(name.clone()).build(),
        None if is_named => builder.build(),
        None => builder.with_service_name("turnpike").build(),
    }
}
