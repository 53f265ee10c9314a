//! Two thousand mixed calls: each charged once, to the nano-dollar, also when the program is told to end in the middle.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use testkit::{
    raw::Wire,
    upstream::{self, Upstream, json, sse},
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::support::{Bank, Turnpike, eventually, post};

const CALLS: usize = 2_000;
const AT_ONCE: usize = 50;

/// What call `number` sends: every third one a stream. Its number is its output limit, and so its usage.
fn request(number: usize) -> String {
    let stream = if number.is_multiple_of(3) {
        r#""stream":true,"stream_options":{"include_usage":true},"#
    } else {
        ""
    };
    let limit = number % 500 + 1;
    format!(
        r#"{{"model":"gpt-4o-mini",{stream}"max_tokens":{limit},"messages":[{{"role":"user","content":"call {number}"}}]}}"#
    )
}

/// What it costs: 10 input tokens at 0.15 USD and its limit in output tokens at 0.60 USD per million, in nano-USD.
fn cost(number: usize) -> i64 {
    let limit = i64::try_from(number % 500 + 1).unwrap();
    10 * 150 + limit * 600
}

/// An upstream that reports the request's own output limit as what was used.
async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire: Wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let body = String::from_utf8(body).unwrap();
            let limit = body
                .split("\"max_tokens\":")
                .nth(1)
                .unwrap()
                .split(',')
                .next()
                .unwrap();
            let usage = format!(r#""usage":{{"prompt_tokens":10,"completion_tokens":{limit}}}"#);
            let answer = if body.contains("\"stream\"") {
                sse(&[
                    r#"{"model":"gpt-4o-mini","choices":[{"delta":{"content":"x"}}],"usage":null}"#,
                    &format!(r#"{{"choices":[],{usage}}}"#),
                    "[DONE]",
                ])
            } else {
                json(&format!(
                    r#"{{"id":"c","model":"gpt-4o-mini","choices":[],{usage}}}"#
                ))
            };
            if wire.try_send(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Whether the answer came whole.
async fn call(turnpike: std::net::SocketAddr, token: &str, number: usize) -> bool {
    let Ok(stream) = tokio::net::TcpStream::connect(turnpike).await else {
        return false;
    };
    let mut wire = Wire::new(stream);
    if wire
        .try_send(
            post("/v1/chat/completions", token, &request(number))
                .replace("Host:", "Connection: close\r\nHost:"),
        )
        .await
        .is_err()
    {
        return false;
    }
    let (answer, _) = wire.read_to_end().await;
    answer.starts_with(b"HTTP/1.1 200")
        && (answer.ends_with(upstream::LAST_CHUNK) || answer.ends_with(b"}"))
}

/// Makes all calls; what the whole ones cost, and how many there were.
async fn all(turnpike: &Turnpike, token: &str, started: Arc<AtomicUsize>) -> (usize, i64) {
    let (places, whole, sum) = (
        Arc::new(Semaphore::new(AT_ONCE)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicI64::new(0)),
    );
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (address, token, whole, sum, started) = (
            turnpike.clients,
            token.to_owned(),
            Arc::clone(&whole),
            Arc::clone(&sum),
            Arc::clone(&started),
        );
        calls.spawn(async move {
            started.fetch_add(1, Ordering::Relaxed);
            if call(address, &token, number).await {
                whole.fetch_add(1, Ordering::Relaxed);
                sum.fetch_add(cost(number), Ordering::Relaxed);
            }
            drop(place);
        });
    }
    calls.join_all().await;
    (whole.load(Ordering::Relaxed), sum.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_mixed_calls_leave_two_thousand_charges_of_the_right_sum() {
    let (bank, upstream) = (Bank::open().await, upstream().await);
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("LOG_LEVEL", "warn")]);
    let token = bank.token("").await;
    let (whole, sum) = all(&turnpike, &token, Arc::default()).await;
    assert_eq!((whole, sum), (CALLS, (0..CALLS).map(cost).sum()));
    assert_eq!(
        bank.one::<i64>(
            "select count(*) from turnpike.charge where mark = 'measured' and ending = 'complete'"
        )
        .await,
        2_000
    );
    assert_eq!(
        bank.one::<i64>("select sum(amount)::bigint from turnpike.charge")
            .await,
        sum
    );
    assert_eq!(
        bank.one::<i64>("select balance from turnpike.account")
            .await,
        20_000_000_000 - sum
    );
    bank.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_loses_no_charge() {
    let (bank, upstream) = (Bank::open().await, upstream().await);
    let mut turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("LOG_LEVEL", "warn")]);
    let token = bank.token("").await;
    let started = Arc::new(AtomicUsize::new(0));
    let half = async {
        eventually("half the calls have begun", async || {
            (started.load(Ordering::Relaxed) >= CALLS / 2).then_some(())
        })
        .await;
        turnpike.signal("TERM");
    };
    let ((whole, sum), ()) = tokio::join!(all(&turnpike, &token, Arc::clone(&started)), half);
    assert!(turnpike.ended().await.success());
    // Whoever has his whole answer has paid for it, and nobody else has.
    assert!(
        (CALLS / 2 - AT_ONCE..CALLS).contains(&whole),
        "{whole} whole answers"
    );
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        i64::try_from(whole).unwrap()
    );
    assert_eq!(
        bank.one::<i64>("select sum(amount)::bigint from turnpike.charge")
            .await,
        sum
    );
    bank.audited().await;
}

/// A stream of one image whose event has so many bytes of it, chunk after chunk.
async fn streaming_an_image(bytes: usize) -> Upstream {
    Upstream::scripted(move |mut wire: Wire| async move {
        while wire.has_more().await {
            wire.read_message().await;
            wire.send(upstream::sse_head()).await;
            let start = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"";
            wire.send(upstream::chunk(start)).await;
            let piece = upstream::chunk("iVBORw0K".repeat(8 * 1024));
            for _ in 0..bytes / (64 * 1024) {
                wire.send(&piece).await;
            }
            let end = "\",\"usage\":{\"input_tokens\":10,\"output_tokens\":20,\"total_tokens\":30}}\n\n";
            wire.send(upstream::chunk(end)).await;
            wire.send(upstream::LAST_CHUNK).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_event_of_twenty_megabytes_passes_and_is_not_held() {
    let bank = Bank::open().await;
    let price = "select turnpike.set_price('gpt-image-1', input => 5, output_image => 40)";
    bank.sql.batch_execute(price).await.unwrap();
    let upstream = streaming_an_image(20 * 1024 * 1024).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let body = r#"{"model":"gpt-image-1","prompt":"a cat","stream":true}"#;
    // A small exchange first, so that what any takes is there.
    turnpike
        .post(
            "/v1/embeddings",
            &token,
            r#"{"model":"text-embedding-3-small","input":"a"}"#,
        )
        .await;
    let before = turnpike.memory_peak_bytes();
    for call in 1..=2 {
        let mut wire = Wire::connect(turnpike.clients).await;
        wire.send(post("/v1/images/generations", &token, body))
            .await;
        assert_eq!(wire.read_head().await.status(), 200);
        let mut passed = 0;
        loop {
            let chunk = wire.read_chunk().await;
            if chunk.is_empty() {
                break;
            }
            passed += chunk.len();
        }
        assert!(passed > 20 * 1024 * 1024, "{passed}");
        let grown = turnpike.memory_peak_bytes().saturating_sub(before);
        assert!(
            grown < 10 * 1024 * 1024,
            "it grew by {grown} bytes in call {call}"
        );
    }
    // 10 x 5 + 20 x 40, twice, and one embedding that told nothing.
    let charged = bank.one::<i64>(
        "select sum(amount)::bigint from turnpike.charge where endpoint = 'images/generations'",
    );
    assert_eq!(charged.await, 2 * 850_000);
    bank.audited().await;
}
