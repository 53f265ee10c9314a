//! What a collector gets by OpenTelemetry: a span for each exchange that says what the books say, and all metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message as _;
use testkit::{
    body::Held,
    raw::Wire,
    upstream::{Upstream, answer, json},
};

use crate::support::{Bank, Turnpike, eventually, post};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;
const ANSWER: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68,"prompt_tokens_details":{"cached_tokens":20}}}"#;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector got, by path.
type Posted = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes whatever is posted to it.
pub(crate) struct Collector {
    upstream: Upstream,
    posted: Posted,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let gate = Held::default();
        gate.release();
        Self::that_waits(gate).await
    }

    /// Answers nobody until it is released.
    async fn that_waits(gate: Held) -> Self {
        let posted = Posted::default();
        let kept = Arc::clone(&posted);
        let upstream = Upstream::scripted(move |mut wire: Wire| {
            let (kept, gate) = (Arc::clone(&kept), gate.clone());
            async move {
                while wire.has_more().await {
                    let (head, body) = wire.read_message().await;
                    let path = head.start.split(' ').nth(1).unwrap().to_owned();
                    kept.lock().unwrap().push((path, body));
                    gate.released().await;
                    if wire.try_send(answer("200 OK", &[], "")).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { upstream, posted }
    }

    pub(crate) fn url(&self) -> String {
        self.upstream.url()
    }

    /// Every request: its path and its body.
    pub(crate) fn received(&self) -> Vec<(String, Vec<u8>)> {
        self.posted.lock().unwrap().clone()
    }

    fn of(&self, path: &str) -> Vec<Vec<u8>> {
        let received = self.received().into_iter();
        received
            .filter(|(at, _)| at == path)
            .map(|(_, body)| body)
            .collect()
    }

    /// All spans, those of steps as well.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.of("/v1/traces")
            .iter()
            .flat_map(|body| {
                let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                request.resource_spans
            })
            .flat_map(|of_resource| of_resource.scope_spans)
            .flat_map(|of_scope| of_scope.spans)
            .collect()
    }

    /// The spans of exchanges.
    fn exchanges(&self) -> Vec<Span> {
        let spans = self.spans().into_iter();
        spans
            .filter(|span| said(&span.attributes).contains_key("turnpike.exchange"))
            .collect()
    }

    /// The last set of metrics.
    fn metrics(&self) -> Vec<Metric> {
        let bodies = self.of("/v1/metrics");
        let request = ExportMetricsServiceRequest::decode(&bodies.last().unwrap()[..]).unwrap();
        request.resource_metrics[0].scope_metrics[0].metrics.clone()
    }
}

/// Attributes as text.
fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter().map(|pair| {
        let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (pair.key.clone(), value)
    });
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call that is part of a trace.
fn traced(token: &str, flags: &str) -> String {
    post("/v1/chat/completions", token, CHAT).replace(
        "Content-Type",
        &format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\nTraceState: vendor=1,other=2\r\nbaggage: who=me\r\nContent-Type"),
    )
}

/// Ends it as an operator does: what waits is sent.
async fn ended(mut turnpike: Turnpike) {
    turnpike.signal("TERM");
    assert!(turnpike.ended().await.success(), "{}", turnpike.log());
}

#[tokio::test]
async fn a_span_says_what_the_books_say() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let (upstream, collector) = (
        Upstream::answering(json(ANSWER)).await,
        Collector::start().await,
    );
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=it%20is"),
            ("OTEL_SERVICE_NAME", "till"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            ),
        ],
    );
    let (head, _) = turnpike.call(traced(&token, "01")).await;
    assert_eq!(head.status(), 200);
    let (refused, _) = turnpike
        .post("/v1/chat/completions", "tp-nobody", CHAT)
        .await;
    assert_eq!(refused.status(), 401);
    // Long before a batch is due: the end sends what waits.
    ended(turnpike).await;

    let charge = bank.charge().await;
    let exchanges = collector.exchanges();
    assert_eq!(exchanges.len(), 2);
    let span = exchanges
        .iter()
        .find(|span| span.name == "chat gpt-4o")
        .unwrap();
    let attributes = said(&span.attributes);
    let told = |name: &str| attributes[name].clone();
    assert_eq!(
        told("turnpike.exchange"),
        charge.get::<_, uuid::Uuid>("id").to_string()
    );
    assert_eq!(
        told("turnpike.charge_nano_usd"),
        charge.get::<_, i64>("amount").to_string()
    );
    // 33 x 2.50 + 20 x 1.25 + 15 x 10
    assert_eq!(told("turnpike.charge_nano_usd"), "257500");
    assert_eq!(told("turnpike.mark"), charge.get::<_, &str>("mark"));
    assert_eq!(told("turnpike.end"), "complete");
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.response.model", "gpt-4o-2024-08-06"),
        ("gen_ai.response.id", "chatcmpl-1"),
        ("gen_ai.usage.input_tokens", "53"),
        ("gen_ai.usage.output_tokens", "15"),
        ("gen_ai.usage.cache_read.input_tokens", "20"),
        ("http.response.status_code", "200"),
        ("http.route", "chat/completions"),
    ] {
        assert_eq!(told(name), value, "{name}");
    }
    // It continues the client's trace, and its steps are below it.
    assert_eq!(
        (hex(&span.trace_id), hex(&span.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    let below: Vec<_> = collector
        .spans()
        .into_iter()
        .filter(|step| step.parent_span_id == span.span_id)
        .collect();
    let names: Vec<_> = below.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["hold", "upstream", "charge"]);
    for step in &below {
        assert!(span.start_time_unix_nano <= step.start_time_unix_nano);
        assert!(step.start_time_unix_nano <= step.end_time_unix_nano);
        assert!(step.end_time_unix_nano <= span.end_time_unix_nano);
        assert_eq!(hex(&step.trace_id), TRACE);
    }
    let refusal = exchanges.iter().find(|span| span.name == "chat").unwrap();
    let attributes = said(&refusal.attributes);
    assert_eq!(attributes["turnpike.refusal"], "invalid_api_key");
    assert_eq!(attributes["error.type"], "invalid_api_key");
    assert!(!attributes.contains_key("turnpike.charge_nano_usd"));
    assert_ne!(hex(&refusal.trace_id), TRACE);

    let bodies = collector.of("/v1/traces");
    let request = ExportTraceServiceRequest::decode(&bodies[0][..]).unwrap();
    let resource = said(
        &request.resource_spans[0]
            .resource
            .as_ref()
            .unwrap()
            .attributes,
    );
    assert_eq!(resource["service.name"], "till");
    assert_eq!(resource["deployment.environment.name"], "test");
    let received = collector.upstream.received_text();
    assert!(received.contains("api-key: it is\r\n"), "{received}");
    assert_eq!(
        received.matches("api-key: it is\r\n").count(),
        collector.received().len()
    );
}

#[tokio::test]
async fn metrics_are_pushed_as_prometheus_reads_them() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let (upstream, collector) = (
        Upstream::answering(json(ANSWER)).await,
        Collector::start().await,
    );
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_TRACES_EXPORTER", "none"),
        ],
    );
    for _ in 0..3 {
        turnpike.post("/v1/chat/completions", &token, CHAT).await;
    }
    let (_, text) = turnpike.admin("/metrics").await;
    ended(turnpike).await;
    assert!(collector.spans().is_empty());
    let metrics = collector.metrics();
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let pushed: Vec<&str> = metrics.iter().map(|metric| &*metric.name).collect();
    assert_eq!(pushed, told);
    let metric = |name: &str| {
        metrics
            .iter()
            .find(|it| it.name == name)
            .unwrap()
            .data
            .clone()
            .unwrap()
    };
    let Data::Sum(charged) = metric("turnpike_charged_nano_usd") else {
        panic!("a sum")
    };
    assert_eq!(said(&charged.data_points[0].attributes)["model"], "gpt-4o");
    let amount: i64 = bank
        .one("select sum(amount)::bigint from turnpike.charge")
        .await;
    assert_eq!(
        charged.data_points[0].value,
        Some(number_data_point::Value::AsInt(amount))
    );
    let Data::Histogram(gate) = metric("turnpike_second_gate_seconds") else {
        panic!("a histogram")
    };
    assert_eq!(gate.data_points[0].count, 3);
    assert_eq!(gate.data_points[0].bucket_counts.iter().sum::<u64>(), 3);
}

#[tokio::test]
async fn a_trace_context_goes_up_only_where_it_is_asked_for() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let collector = Collector::start().await;
    for (setting, goes_up, continues) in [
        ("", false, true),
        ("strip", false, true),
        ("forward", true, true),
        ("ignore", false, false),
    ] {
        let upstream = Upstream::answering(json(ANSWER)).await;
        let before = collector.exchanges().len();
        let settings = [
            ("TRACE_CONTEXT", setting),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_METRICS_EXPORTER", "none"),
        ];
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
        let (head, _) = turnpike.call(traced(&token, "01")).await;
        assert_eq!(head.status(), 200);
        ended(turnpike).await;
        let received = upstream.received_text();
        let crossed = format!(
            "traceparent: 00-{TRACE}-{PARENT}-01\r\nTraceState: vendor=1,other=2\r\nContent-Type"
        );
        assert_eq!(
            received.contains(&crossed),
            goes_up,
            "{setting}: {received}"
        );
        assert_eq!(
            received.to_lowercase().contains("trace"),
            goes_up,
            "{setting}: {received}"
        );
        assert!(!received.contains("baggage"), "{received}");
        let exchanges = collector.exchanges();
        assert_eq!(exchanges.len(), before + 1);
        assert_eq!(
            hex(&exchanges[before].trace_id) == TRACE,
            continues,
            "{setting}"
        );
        if continues {
            assert_eq!(exchanges[before].trace_state, "vendor=1,other=2");
        }
    }
}

#[tokio::test]
async fn the_client_or_the_sampler_decides_what_gets_a_span() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    for (sampler, share, flags, spans) in [
        ("parentbased_always_on", "", "00", 0),
        ("always_on", "", "00", 1),
        ("always_off", "", "01", 0),
        ("parentbased_traceidratio", "0", "01", 1),
        ("traceidratio", "0", "01", 0),
    ] {
        let collector = Collector::start().await;
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url()),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", share),
        ];
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
        turnpike.call(traced(&token, flags)).await;
        ended(turnpike).await;
        assert_eq!(collector.exchanges().len(), spans, "{sampler}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_keeps_nobody_and_gets_no_more_than_the_queue_holds() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gate = Held::default();
    let collector = Collector::that_waits(gate.clone()).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
        ],
    );
    let calls = 60;
    for _ in 0..calls {
        let (head, _) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
        assert_eq!(head.status(), 200);
    }
    eventually("all are over", async || {
        (turnpike.figure("open_exchanges").await == 0).then_some(())
    })
    .await;
    gate.release();
    ended(turnpike).await;
    // A batch on its way and a full queue; each exchange would have had four.
    let sent = collector.spans().len();
    assert!((1..=16).contains(&sent), "{sent}");
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        calls
    );
}

#[tokio::test]
async fn a_collector_that_is_away_is_complained_about_once() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let mut turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ],
    );
    turnpike.post("/v1/chat/completions", &token, CHAT).await;
    let complaints = |log: String| log.matches("telemetry.not_sent").count();
    eventually("it is told", async || {
        (complaints(turnpike.log()) == 1).then_some(())
    })
    .await;
    for _ in 0..20 {
        let (head, _) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
        assert_eq!(head.status(), 200);
    }
    turnpike.signal("TERM");
    assert!(turnpike.ended().await.success());
    assert_eq!(complaints(turnpike.log()), 1);
}

/// The value of a series.
fn series(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[tokio::test]
async fn every_figure_that_is_promised_is_told() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    for _ in 0..3 {
        turnpike.post("/v1/chat/completions", &token, CHAT).await;
    }
    turnpike
        .post("/v1/chat/completions", "tp-nobody", CHAT)
        .await;
    let text = eventually("all are over", async || {
        let (_, text) = turnpike.admin("/metrics").await;
        (series(&text, "turnpike_open_exchanges") == Some(0)).then_some(text)
    })
    .await;
    for (name, value) in [
        (
            r#"exchanges_total{endpoint="chat/completions",end="complete"}"#,
            3,
        ),
        (r#"refusals_total{code="invalid_api_key"}"#, 1),
        (r#"tokens_total{model="gpt-4o",side="input"}"#, 159),
        (r#"tokens_total{model="gpt-4o",side="output"}"#, 45),
        (r#"charged_nano_usd_total{model="gpt-4o"}"#, 3 * 257_500),
        ("first_gate_seconds_count", 3),
        ("second_gate_seconds_count", 3),
        ("holds_total", 3),
        ("holds_open", 0),
        ("settled_total", 3),
        ("settlements_refused_total", 0),
        ("journal_records", 0),
        ("upstream_connections", 0),
        (
            r#"upstream_answers_total{upstream="OPENAI_URL",key="none",outcome="well"}"#,
            3,
        ),
        (
            r#"upstream_answers_total{upstream="OPENAI_URL",key="none",outcome="failed"}"#,
            0,
        ),
        (
            r#"upstream_key_resting{upstream="OPENAI_URL",key="none"}"#,
            0,
        ),
    ] {
        let name = format!("turnpike_{name}");
        assert_eq!(series(&text, &name), Some(value), "{name} in\n{text}");
    }
}

#[tokio::test]
async fn no_client_makes_series_by_what_it_names() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let count = async || {
        let (_, text) = turnpike.admin("/metrics").await;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let strange = async |number: u32| {
        let method = ["GET", "POST", "PUT"][number as usize % 3];
        turnpike.call(format!("{method} /v1/{number}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n")).await;
        let body = CHAT.replace("gpt-4o", &format!("model-{number}"));
        turnpike.post("/v1/chat/completions", &token, &body).await;
        turnpike
            .post(&format!("/v1/responses/{number}/cancel"), &token, "{}")
            .await;
    };
    for number in 0..3 {
        strange(number).await;
    }
    let before = count().await;
    for number in 3..40 {
        strange(number).await;
    }
    assert_eq!(count().await, before);
}
