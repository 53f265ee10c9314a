//! What we ourselves answer, over the wire; and that what could be read in two ways is refused.

use testkit::{
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, post};

const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[]}"#;

async fn open() -> (Bank, Upstream, Turnpike) {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("OPEN_EXCHANGES_MAX", "8"), ("BODY_BYTES_MAX", "1000000")],
    );
    (bank, upstream, turnpike)
}

/// Status and code of a refusal.
async fn refused(turnpike: &Turnpike, request: impl AsRef<[u8]>) -> (u16, String) {
    let (head, body) = turnpike.call(request).await;
    let body: serde_json::Value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| panic!("{head:?}: {}", String::from_utf8_lossy(&body)));
    let code = body["error"]["code"].as_str().unwrap().to_owned();
    assert_eq!(head.header("x-turnpike-refusal"), Some(code.as_str()));
    assert!(
        head.header("x-turnpike-exchange").is_some(),
        "every answer names its exchange"
    );
    (head.status(), code)
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_401() {
    let (bank, upstream, turnpike) = open().await;
    let unauthorised = (401, "invalid_api_key".to_owned());
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", "tp-wrong", CHAT)).await,
        unauthorised
    );
    assert_eq!(
        refused(&turnpike, "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await,
        unauthorised
    );
    let expired = bank.token(", expires => now() + interval '1 second'").await;
    bank.sql
        .batch_execute("select pg_sleep(1.1)")
        .await
        .unwrap();
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", &expired, CHAT)).await,
        unauthorised
    );
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn what_a_token_is_not_for_is_refused() {
    let (bank, upstream, turnpike) = open().await;
    let elsewhere = bank.token(", addresses => '{10.0.0.0/8}'").await;
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", &elsewhere, CHAT)).await,
        (403, "not_allowed".to_owned())
    );
    let embeddings = bank.token(", endpoints => '{embeddings}'").await;
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", &embeddings, CHAT)).await,
        (403, "not_allowed".to_owned())
    );
    let mini = bank.token(", models => '{gpt-4o-mini*}'").await;
    for model in [
        "gpt-4o",
        "GPT-4o-mini",
        " gpt-4o-mini",
        "gpt-4o\u{2010}mini",
    ] {
        let body = CHAT.replace("gpt-4o", model);
        assert_eq!(
            refused(&turnpike, post("/v1/chat/completions", &mini, &body)).await,
            (404, "model_not_found".to_owned()),
            "{model}"
        );
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(
        turnpike
            .post(
                "/v1/chat/completions",
                &mini,
                &CHAT.replace("gpt-4o", "gpt-4o-mini")
            )
            .await
            .0
            .status(),
        200
    );
}

#[tokio::test]
async fn a_socket_that_is_asked_for_as_a_page_is_426() {
    let (bank, upstream, turnpike) = open().await;
    let token = bank.token("").await;
    for headers in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ] {
        let request = format!(
            "GET /v1/realtime?model=gpt-4o HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        );
        assert_eq!(
            refused(&turnpike, request).await,
            (426, "upgrade_required".to_owned()),
            "{headers}"
        );
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn rates_are_429_and_say_when() {
    let (bank, _upstream, turnpike) = open().await;
    let token = bank.token(", requests_per_minute => 2").await;
    for _ in 0..2 {
        assert_eq!(
            turnpike
                .post("/v1/chat/completions", &token, CHAT)
                .await
                .0
                .status(),
            200
        );
    }
    let (head, body) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (429, Some("rate_limit_exceeded"))
    );
    let wait: u64 = head.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&wait), "{wait}");
    assert!(String::from_utf8(body).unwrap().contains("\"requests\""));
}

/// Bodies that two parsers could read differently, and the code each gets.
const AMBIGUOUS: &[(&str, &str)] = &[
    (
        r#"{"model":"gpt-4o","model":"gpt-4o-mini","messages":[]}"#,
        "duplicate_key",
    ),
    (
        r#"{"model":"gpt-4o","mod\u0065l":"gpt-4o-mini","messages":[]}"#,
        "duplicate_key",
    ),
    (
        r#"{"model":"gpt-4o","Model":"gpt-4o-mini","messages":[]}"#,
        "lookalike_key",
    ),
    (
        r#"{"model":"gpt-4o","max_tokens":1,"max_tokens":100000,"messages":[]}"#,
        "duplicate_key",
    ),
    (
        r#"{"model":"gpt-4o","n":1,"\u006e":128,"messages":[]}"#,
        "duplicate_key",
    ),
    (
        r#"{"model":"gpt-4o","stream":false,"stream":true,"messages":[]}"#,
        "duplicate_key",
    ),
    (
        r#"{"model":"gpt-4o","max_tokens":1e3,"messages":[]}"#,
        "invalid_type",
    ),
    (
        r#"{"model":"gpt-4o","max_tokens":1.0,"messages":[]}"#,
        "invalid_type",
    ),
    (
        r#"{"model":"gpt-4o","n":"2","messages":[]}"#,
        "invalid_type",
    ),
    (r#"{"model":["gpt-4o"],"messages":[]}"#, "invalid_type"),
    (
        r#"{"model":"gpt-4o","stream":"true","messages":[]}"#,
        "invalid_type",
    ),
    (r#"{"model":"gpt-4o","messages":[],}"#, "invalid_json"),
    (
        r#"{"model":"gpt-4o","messages":[] /* no */}"#,
        "invalid_json",
    ),
    (r#"{"model":"gpt-4o","temperature":NaN}"#, "invalid_json"),
    (
        r#"{"model":"gpt-4o","messages":[]}{"model":"gpt-4o-mini"}"#,
        "trailing_bytes",
    ),
    (r#"{"model":"gpt-4o","messages":["#, "incomplete_json"),
    ("\u{feff}{\"model\":\"gpt-4o\"}", "byte_order_mark"),
    (r#"["gpt-4o"]"#, "not_an_object"),
    ("", "empty_body"),
    (r#"{"messages":[]}"#, "missing_model"),
    (
        r#"{"model":"gpt-4o","background":true,"input":"x"}"#,
        "unsupported_parameter",
    ),
];

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_never_reaches_the_upstream_whole() {
    let (bank, upstream, turnpike) = open().await;
    let token = bank.token("").await;
    for (body, code) in AMBIGUOUS {
        assert_eq!(
            refused(&turnpike, post("/v1/chat/completions", &token, body)).await,
            (400, (*code).to_owned()),
            "{body}"
        );
    }
    let gzip = post("/v1/chat/completions", &token, CHAT)
        .replace("Content-Type", "Content-Encoding: gzip\r\nContent-Type");
    assert_eq!(
        refused(&turnpike, gzip).await,
        (400, "unsupported_content_encoding".to_owned())
    );
    let text = post("/v1/chat/completions", &token, CHAT).replace("application/json", "text/plain");
    assert_eq!(
        refused(&turnpike, text).await,
        (400, "unsupported_content_type".to_owned())
    );
    assert_eq!(upstream.connections(), 0);
    bank.audited().await;
}

#[tokio::test]
async fn an_ambiguous_body_that_flows_is_cut_before_its_last_byte() {
    let (bank, upstream, turnpike) = open().await;
    let token = bank.token("").await;
    let body = format!(
        r#"{{"model":"gpt-4o","messages":["{}"],"model":"gpt-4o-mini"}}"#,
        "x".repeat(300_000)
    );
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", &token, &body)).await,
        (400, "duplicate_key".to_owned())
    );
    for received in upstream.received() {
        assert!(!received.text().ends_with('}'));
    }
    bank.audited().await;
}

#[tokio::test]
async fn bodies_that_are_too_long_are_413() {
    let (bank, upstream, turnpike) = open().await;
    let token = bank.token("").await;
    let announced = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 2000000\r\n\r\n"
    );
    assert_eq!(
        refused(&turnpike, announced).await,
        (413, "request_too_large".to_owned())
    );
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn unknown_paths_are_refused_unless_the_operator_forwards_them() {
    let (bank, upstream, turnpike) = open().await;
    let token = bank.token("").await;
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    for path in [
        "/v1/skills",
        "/v1/chat/completion",
        "/v1/../admin",
        "/v1//models",
        "/",
    ] {
        assert_eq!(
            refused(&turnpike, get(path)).await,
            (404, "unknown_url".to_owned()),
            "{path}"
        );
    }
    assert_eq!(upstream.connections(), 0);
    let open = Turnpike::start(&bank.db, &upstream.url(), &[("UNKNOWN_PATHS", "forward")]);
    let (head, body) = open.call(get("/v1/skills?limit=2&after=%2Fx")).await;
    assert_eq!((head.status(), body), (200, ANSWER.into()));
    assert!(
        upstream
            .received_text()
            .starts_with("GET /v1/skills?limit=2&after=%2Fx HTTP/1.1\r\n"),
        "{}",
        upstream.received_text()
    );
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_502_and_nothing_stays_held() {
    let bank = Bank::open().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let turnpike = Turnpike::start(&bank.db, &format!("http://{closed}"), &[]);
    let token = bank.token("").await;
    assert_eq!(
        refused(&turnpike, post("/v1/chat/completions", &token, CHAT)).await,
        (502, "upstream_unreachable".to_owned())
    );
    bank.audited().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504_and_not_to_be_retried() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("FIRST_BYTE_TIMEOUT_SECONDS", "1")],
    );
    let (head, _) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        (
            head.status(),
            head.header("x-turnpike-refusal"),
            head.header("x-should-retry")
        ),
        (504, Some("upstream_timeout"), Some("false"))
    );
    bank.audited().await;
}

#[tokio::test]
async fn an_upstream_that_refuses_our_key_is_502_and_never_the_clients_fault() {
    let bank = Bank::open().await;
    let error = r#"{"error":{"message":"Incorrect API key provided: sk-up**nary.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
    let upstream = Upstream::answering(testkit::upstream::answer(
        "401 Unauthorized",
        &[("Content-Type", "application/json")],
        error,
    ))
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (502, Some("upstream_auth"))
    );
    assert!(!String::from_utf8(body).unwrap().contains("sk-up"));
    bank.audited().await;
}

#[tokio::test]
async fn too_many_open_exchanges_are_503() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("OPEN_EXCHANGES_MAX", "2")]);
    let token = bank.token("").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(turnpike.clients).await;
        wire.send(post("/v1/chat/completions", &token, CHAT)).await;
        open.push(wire);
    }
    crate::support::eventually("both are open", async || {
        (upstream.connections() == 2).then_some(())
    })
    .await;
    let (head, _) = patiently(
        "an answer",
        turnpike.post("/v1/chat/completions", &token, CHAT),
    )
    .await;
    assert_eq!(
        (head.status(), head.header("retry-after")),
        (503, Some("1"))
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_holds_nothing() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("UPLOAD_SECONDS", "1")]);
    let token = bank.token("").await;
    let mut wire = Wire::connect(turnpike.clients).await;
    let request = post("/v1/chat/completions", &token, CHAT);
    wire.send(&request[..request.len() - 5]).await;
    assert_eq!(patiently("an answer", wire.read_head()).await.status(), 408);
    bank.audited().await;
}

/// With `UNKNOWN_PATHS=forward`, `/v1/%63hat/completions` was answered by the upstream and charged by nobody.
#[tokio::test]
async fn look_alikes_of_metered_paths_are_not_forwarded() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("UNKNOWN_PATHS", "forward")]);
    let token = bank.token("").await;
    for path in [
        "/v1/%63hat/completions",
        "/v1/chat/completions/",
        "/v1/Chat/Completions",
    ] {
        assert_eq!(
            refused(&turnpike, post(path, &token, CHAT)).await,
            (404, "unknown_url".to_owned()),
            "{path}"
        );
    }
    assert_eq!(upstream.connections(), 0);
}
