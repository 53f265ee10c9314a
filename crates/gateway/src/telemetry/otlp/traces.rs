//! Spans: one for each exchange, with one below it for each step that takes time.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{
        Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler as Sample, SdkTracer, SdkTracerProvider,
    },
};
use tariff::Buckets;
use tracing::warn;

use super::sender::Sender;
use crate::settings::{Protocol, Sampler, Telemetry, TraceContext};

/// Where spans go: into a bounded queue, out of which a thread of its own sends them.
#[derive(Clone)]
pub(crate) struct Traces {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    context: TraceContext,
}

/// What is known of one exchange until its span is written.
#[derive(Debug)]
pub(crate) struct Trace {
    tracer: Arc<SdkTracer>,
    /// The client's trace, or none.
    parent: Context,
    steps: Vec<Step>,
    answered: Option<Answered>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    kind: SpanKind,
    from: Instant,
    to: Instant,
}

/// What the answer said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) model: Option<String>,
    pub(crate) response_id: Option<String>,
    pub(crate) service_tier: Option<String>,
    pub(crate) buckets: Buckets,
}

/// What the exchange's own span says.
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) attributes: Vec<KeyValue>,
    /// Set where it did not go well through our or the provider's doing.
    pub(crate) error: Option<String>,
    pub(crate) started: Instant,
}

impl Traces {
    pub(super) fn new(
        settings: &Telemetry,
        endpoint: &str,
        resource: &Resource,
        sender: Sender,
    ) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_protocol(match settings.otel_exporter_otlp_protocol {
                Protocol::HttpProtobuf => opentelemetry_otlp::Protocol::HttpBinary,
            })
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()?;
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(settings.otel_bsp_max_queue_size.get())
            .with_scheduled_delay(Duration::from_millis(
                settings.otel_bsp_schedule_delay.get(),
            ))
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(queue)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sample(settings))
            .with_resource(resource.clone())
            .build();
        Ok(Self {
            tracer: provider.tracer("turnpike"),
            provider,
            context: settings.trace_context,
        })
    }

    /// A trace for an exchange whose request had these headers.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Box<Trace> {
        let parent = match self.context {
            TraceContext::Ignore => Context::new(),
            TraceContext::Strip | TraceContext::Forward => TraceContextPropagator::new()
                .extract_with_context(&Context::new(), &HeaderExtractor(headers)),
        };
        Box::new(Trace {
            tracer: Arc::new(self.tracer.clone()),
            parent,
            steps: Vec::new(),
            answered: None,
        })
    }

    /// Sends what waits, and takes no more.
    pub(super) fn finish(&self, patience: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(patience) {
            warn!(%error, "telemetry.spans_lost: the last spans could not be sent");
        }
    }
}

impl Trace {
    /// Another exchange of the same client's trace.
    pub(crate) fn again(&self) -> Box<Self> {
        Box::new(Self {
            tracer: Arc::clone(&self.tracer),
            parent: self.parent.clone(),
            steps: Vec::new(),
            answered: None,
        })
    }

    /// Notes that a step of ours is over.
    pub(crate) fn step(&mut self, name: &'static str, from: Instant) {
        self.noted(name, SpanKind::Internal, from);
    }

    /// Notes that the upstream's head is here: since the last step, it was waited for.
    pub(crate) fn headed(&mut self, started: Instant) {
        let from = self.steps.last().map_or(started, |step| step.to);
        self.noted("upstream", SpanKind::Client, from);
    }

    fn noted(&mut self, name: &'static str, kind: SpanKind, from: Instant) {
        let to = Instant::now();
        self.steps.push(Step {
            name,
            kind,
            from,
            to,
        });
    }

    /// Notes what the answer said.
    pub(crate) fn answered(&mut self, answered: Answered) {
        self.answered = Some(answered);
    }

    /// What the answer said, if any came.
    pub(crate) const fn told(&self) -> Option<&Answered> {
        self.answered.as_ref()
    }

    /// Writes the spans: all times by one clock, which does not jump.
    pub(crate) fn end(self, told: Told) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| {
            wall.checked_sub(now.saturating_duration_since(instant))
                .unwrap_or(wall)
        };
        let builder = SpanBuilder::from_name(told.name)
            .with_kind(SpanKind::Server)
            .with_start_time(at(told.started))
            .with_attributes(told.attributes);
        let mut span = self.tracer.build_with_context(builder, &self.parent);
        if let Some(error) = told.error {
            span.set_status(Status::error(error));
        }
        if span.is_recording() {
            let below = Context::new().with_remote_span_context(span.span_context().clone());
            for step in &self.steps {
                let builder = SpanBuilder::from_name(step.name)
                    .with_kind(step.kind.clone())
                    .with_start_time(at(step.from));
                self.tracer
                    .build_with_context(builder, &below)
                    .end_with_timestamp(at(step.to));
            }
        }
        span.end_with_timestamp(wall);
    }
}

fn sample(settings: &Telemetry) -> Sample {
    let ratio = || Sample::TraceIdRatioBased(settings.otel_traces_sampler_arg.unwrap_or(1.0));
    let by_parent = |otherwise| Sample::ParentBased(Box::new(otherwise));
    match settings.otel_traces_sampler {
        Sampler::AlwaysOn => Sample::AlwaysOn,
        Sampler::AlwaysOff => Sample::AlwaysOff,
        Sampler::TraceIdRatio => ratio(),
        Sampler::ParentElseOn => by_parent(Sample::AlwaysOn),
        Sampler::ParentElseOff => by_parent(Sample::AlwaysOff),
        Sampler::ParentElseRatio => by_parent(ratio()),
    }
}
