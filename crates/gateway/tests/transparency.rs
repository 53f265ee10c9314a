//! The upstream gets the client's bytes, the client the upstream's, but for ARCHITECTURE.md's table.
//!
//! `catalogue` has the exchanges, `exceptions` the table as data, `bench` runs each once against a recording upstream and once
//! through a running gateway and compares what both sides got, byte for byte.

mod bench;
mod catalogue;
mod connections;
mod exceptions;
mod h2;
mod message;

use testkit::{
    raw::{Wire, patiently},
    upstream::{self, LAST_CHUNK, Upstream, chunk, sse_head},
};

use crate::support::{Bank, Turnpike, eventually};
use bench::{Bench, case};
use exceptions::{EXCEPTIONS, Shows};

/// Runs the groups whose names these are, and says how much was compared.
async fn compare(names: &[&str]) {
    let mut bench = Bench::open().await;
    for (name, cases) in catalogue::groups() {
        if !names.contains(&name) {
            continue;
        }
        let (cases_before, bytes_before) = (bench.cases, bench.bytes);
        for case in &cases {
            bench.run(case).await;
        }
        println!(
            "transparency, {name}: {} cases, {} bytes compared",
            bench.cases - cases_before,
            bench.bytes - bytes_before
        );
    }
    assert!(bench.cases > 0, "no such group");
    bench.audited().await;
}

#[tokio::test]
async fn bodies_cross_as_they_are() {
    compare(&[
        "request bodies",
        "answer bodies",
        "bodiless",
        "interim answers",
        "HTTP/1.0",
    ])
    .await;
}

#[tokio::test]
async fn heads_cross_as_they_are() {
    compare(&[
        "status lines",
        "request headers",
        "answer headers",
        "targets",
    ])
    .await;
}

#[tokio::test]
async fn metered_bodies_cross_as_they_are() {
    compare(&["JSON", "event streams"]).await;
}

#[tokio::test]
async fn bodies_of_20_megabytes_cross_as_they_are() {
    let mut bench = Bench::open().await;
    let text = "0123456789abcdef".repeat(20 << 16);
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":5,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = format!(
        r#"{{"choices":["{text}"],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#
    );
    let answer_head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    bench
        .run(&case(
            "20 MB both ways, metered",
            head + &body,
            answer_head.clone() + &answer,
        ))
        .await;
    let head = format!(
        "PUT /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    bench
        .run(&case(
            "20 MB both ways",
            head + &body,
            answer_head + &answer,
        ))
        .await;
    println!(
        "transparency, large bodies: {} cases, {} bytes compared",
        bench.cases, bench.bytes
    );
    assert!(bench.bytes > 4 * (20 << 20));
    bench.audited().await;
}

/// A row that no exception has, or an exception that no row has, fails.
#[test]
fn the_exceptions_are_those_of_the_table() {
    let text = include_str!("../../../ARCHITECTURE.md");
    let table = text
        .split("## What is not passed on as it is")
        .nth(1)
        .unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter(|row| !row.starts_with("exception |"))
        .collect();
    for (at, exception) in EXCEPTIONS.iter().enumerate() {
        let row = rows
            .get(at)
            .unwrap_or_else(|| panic!("no row for {:?}", exception.row));
        assert!(
            row.starts_with(exception.row),
            "{:?} is not {row:?}",
            exception.row
        );
        if let Shows::Elsewhere(place) = exception.shows {
            assert!(!place.is_empty());
        }
    }
    assert_eq!(
        rows.len(),
        EXCEPTIONS.len(),
        "rows without an exception: {:?}",
        &rows[EXCEPTIONS.len().min(rows.len())..]
    );
}

const ANSWER: &str = "{ \"model\": \"gpt-4o\",\n\t\"id\":\"c\", \"x\":\"\\u00e9é\", \"usage\" : {\"prompt_tokens\": 1, \"completion_tokens\": 1, \"total_tokens\": 2} }\n";

#[tokio::test]
async fn a_request_goes_up_byte_for_byte() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(upstream::json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let body = "{\n  \"messages\" : [ {\"role\":\"user\", \"content\":\"\\u00e9 é \u{1f600} \\/ \"} ] , \"zzz\": 1.50e+01,\n\"model\":\"gpt-4o\",\"max_tokens\":5 }\r\n";
    let request = format!(
        "POST /v1/chat/completions?b=2&a=%20x&a= HTTP/1.1\r\nHost: gateway.example\r\nX-Stainless-Lang: python\r\nAUTHORIZATION: Bearer {token}\r\nuser-Agent: OpenAI/Python 3\r\nContent-Type: application/json\r\nOpenAI-Organization: org-client\r\nCookie: a=b\r\nIdempotency-Key: k\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: {}\r\nX-Last: 1\r\n\r\n{body}",
        body.len()
    );
    let (head, answer) = turnpike.call(request).await;
    assert_eq!(
        (head.status(), String::from_utf8(answer).unwrap().as_str()),
        (200, ANSWER)
    );
    let expected = format!(
        "POST /v1/chat/completions?b=2&a=%20x&a= HTTP/1.1\r\nHost: {}\r\nX-Stainless-Lang: python\r\nAUTHORIZATION: Bearer sk-upstream-canary\r\nuser-Agent: OpenAI/Python 3\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nAccept-Encoding: gzip, deflate\r\nContent-Length: {}\r\nX-Last: 1\r\n\r\n{body}",
        upstream.address(),
        body.len()
    );
    assert_eq!(upstream.received_text(), expected);
}

#[tokio::test]
async fn an_answer_comes_down_byte_for_byte_less_what_tells_about_our_account() {
    let bank = Bank::open().await;
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Request-ID", "req_1"),
        ("openai-organization", "our-org"),
        ("openai-processing-ms", "17"),
        ("Set-Cookie", "__cf_bm=x"),
        ("x-ratelimit-remaining-requests", "9"),
        ("Server", "cloudflare"),
        ("x-Custom", "1"),
    ];
    let upstream = Upstream::answering(upstream::answer("200 Fine", &headers, ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post(
            "/v1/chat/completions",
            &bank.token("").await,
            r#"{"model":"gpt-4o","messages":[]}"#,
        )
        .await;
    assert_eq!(body, ANSWER.as_bytes());
    assert_eq!(head.start, "HTTP/1.1 200 Fine");
    assert_eq!(
        head.names(),
        [
            "Content-Type",
            "X-Request-ID",
            "openai-processing-ms",
            "x-Custom",
            "Content-Length",
            "x-turnpike-exchange"
        ]
    );
}

#[tokio::test]
async fn a_chunked_request_stays_chunked_and_flows_as_it_comes() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(upstream::json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    wire.send(chunk(r#"{"model":"gpt-4o","#)).await;
    eventually("the first chunk flows", async || {
        upstream
            .received()
            .first()
            .is_some_and(|got| got.text().contains("gpt-4o"))
            .then_some(())
    })
    .await;
    wire.send([chunk(r#""messages":[]}"#), LAST_CHUNK.to_vec()].concat())
        .await;
    assert_eq!(
        patiently("an answer", wire.read_message()).await.0.status(),
        200
    );
    let got = upstream.received_text().to_lowercase();
    assert!(
        got.contains("transfer-encoding: chunked") && !got.contains("content-length"),
        "{got}"
    );
    assert!(got.ends_with("0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn frames_of_a_stream_pass_at_once() {
    let bank = Bank::open().await;
    let go_on = testkit::body::Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_message().await;
            wire.send([sse_head(), chunk(": comment\r\n\r\ndata: {\"choices\":[]}\r\n\r\nda")].concat()).await;
            gate.released().await;
            wire.send([chunk("ta: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n"), LAST_CHUNK.to_vec()].concat()).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(crate::support::post(
        "/v1/chat/completions",
        &bank.token("").await,
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
    ))
    .await;
    let head = wire.read_head().await;
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    // Half an event passes as well: it is not ours to wait for its end.
    assert_eq!(
        wire.read_chunk().await,
        b": comment\r\n\r\ndata: {\"choices\":[]}\r\n\r\nda"
    );
    go_on.release();
    wire.read_until("data: [DONE]\n\n").await;
    bank.audited().await;
}

#[tokio::test]
async fn expect_100_continue_is_answered_only_after_authentication() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(upstream::json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let head = |token: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(head("tp-wrong")).await;
    assert_eq!(patiently("an answer", wire.read_head()).await.status(), 401);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(head(&bank.token("").await)).await;
    assert_eq!(patiently("an answer", wire.read_head()).await.status(), 100);
    wire.send(body).await;
    assert_eq!(
        patiently("an answer", wire.read_message()).await.0.status(),
        200
    );
    assert!(!upstream.received_text().to_lowercase().contains("expect"));
}
