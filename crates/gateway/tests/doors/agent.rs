//! chatgpt-agent's callers.

use serde_json::{Value, json};
use testkit::upstream::{Upstream, sse};

use super::{ANSWER, House, parsed, text};

const ON: &[(&str, &str)] = &[("DOOR_AGENT", "on")];
const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;

impl House {
    async fn chat(&self, authorization: Option<&str>, body: &str) -> (u16, String) {
        let header = authorization.map(|value| format!("Authorization: {value}"));
        let headers: Vec<&str> = header.iter().map(String::as_str).collect();
        let (head, body) = self.send("POST", "/chat", &headers, body).await;
        (head.status(), text(body))
    }
}

#[tokio::test]
async fn a_chat_passes_as_it_is_and_is_charged() {
    let house = House::open(ON).await;
    // Spaces, key order and numbers stay as they were: nothing is written anew.
    let body = r#"{ "temperature": 1.0, "model":"gpt-4o", "seed":123456789012345678901,"messages":[{"role":"user","content":"Hello"}]}"#;
    let bearer = format!("Bearer {}", house.token);
    assert_eq!(
        house.chat(Some(&bearer), body).await,
        (200, ANSWER.to_owned())
    );
    let sent = house.upstream.received_text();
    assert!(
        sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{sent}"
    );
    assert!(sent.ends_with(body), "{sent}");
    assert!(!sent.contains(&house.token), "{sent}");
    house.charged(1).await;
    assert!(
        house.turnpike.log().contains("door=\"agent\""),
        "{}",
        house.turnpike.log()
    );
}

#[tokio::test]
async fn a_stream_passes_as_a_stream() {
    const DELTA: &str = r#"{"id":"c","model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"Hi"}}]}"#;
    const USAGE: &str = r#"{"id":"c","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
    let upstream = Upstream::answering(sse(&[DELTA, USAGE, "[DONE]"])).await;
    let house = House::with(upstream, ON).await;
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello"}]}"#;
    let (status, stream) = house
        .chat(Some(&format!("Bearer {}", house.token)), body)
        .await;
    assert_eq!(
        (status, stream),
        (
            200,
            format!("data: {DELTA}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n")
        )
    );
    house.charged(1).await;
}

#[tokio::test]
async fn errors_are_the_plain_texts_that_callers_know() {
    let house = House::open(ON).await;
    let bearer = format!("Bearer {}", house.token);
    let cases: &[(Option<&str>, &str, u16, &str)] = &[
        (None, CHAT, 401, "dont have token"),
        (Some("bearer x"), CHAT, 401, "not a valid bearer token"),
        (Some("Bearer 123"), CHAT, 401, "not a valid bearer token"),
        (
            Some("Basic dXNlcjpwYXNz"),
            CHAT,
            401,
            "not a valid bearer token",
        ),
        (Some("Bearer tp-unknown"), CHAT, 401, "token error"),
        (Some("Bearer tp-unknown"), "no json", 401, "token error"),
        (Some("Bearer kl\u{fc}ssel"), CHAT, 401, "token error"),
        (Some(&bearer), "no json", 400, "not a json param"),
        (Some(&bearer), "", 400, "not a json param"),
        (
            Some(&bearer),
            r#"{"model":"gpt-unpriced","messages":[]}"#,
            400,
            "model gpt-unpriced not config. please contact administrator",
        ),
    ];
    for (authorization, body, status, sentence) in cases {
        let told = house.chat(*authorization, body).await;
        assert_eq!(
            told,
            (*status, (*sentence).to_owned()),
            "{authorization:?} {body}"
        );
    }
    let headers = [format!("Authorization: {bearer}")];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let (head, body) = house.send("POST", "/chat", &headers, b"\xff\xfe").await;
    assert_eq!((head.status(), text(body).as_str()), (400, "invalid param"));
    assert_eq!(
        head.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    // Without a model nothing can be priced; the sentence says so.
    let (status, sentence) = house.chat(Some(&bearer), r#"{"messages":[]}"#).await;
    assert_eq!(status, 400);
    assert!(sentence.contains("model parameter"), "{sentence}");
    assert_eq!(house.asked(), 0, "nothing of this may reach the provider");
}

#[tokio::test]
async fn methods_and_paths_are_as_they_were() {
    let house = House::open(ON).await;
    let (head, body) = house.send("GET", "/chat", &[], "").await;
    assert_eq!(
        (head.status(), head.header("allow"), body.len()),
        (405, Some("POST"), 0)
    );
    assert!(house.is_unknown("POST", "/chat/").await);
}

#[tokio::test]
async fn a_bearer_without_a_blank_is_taken_as_it_was() {
    let house = House::open(ON).await;
    assert_eq!(
        house
            .chat(Some(&format!("Bearer{}", house.token)), CHAT)
            .await
            .0,
        200
    );
    house.charged(1).await;
}

#[tokio::test]
async fn a_body_that_is_too_big_is_told_in_its_words() {
    let house = House::open(&[("DOOR_AGENT", "on"), ("DOOR_BODY_BYTES_MAX", "262144")]).await;
    let big = format!("{{\"model\":\"gpt-4o\",\"x\":\"{}\"}}", "x".repeat(262_144));
    assert_eq!(
        house.chat(Some("Bearer x"), &big).await,
        (413, "Payload reached size limit.".to_owned())
    );
}

#[tokio::test]
async fn the_upstream_s_errors_keep_status_and_body_and_cost_nothing() {
    let body = r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    let house = House::failing("429 Too Many Requests", body, ON).await;
    assert_eq!(
        house
            .chat(Some(&format!("Bearer {}", house.token)), CHAT)
            .await,
        (429, body.to_owned())
    );
    house.charged(0).await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_500_and_names_no_address() {
    let gone = Upstream::answering("").await;
    let url = gone.url();
    drop(gone);
    let house = House::open(&[("DOOR_AGENT", "on"), ("OPENAI_URL", &url)]).await;
    let (status, sentence) = house
        .chat(Some(&format!("Bearer {}", house.token)), CHAT)
        .await;
    assert_eq!(status, 500);
    assert!(
        sentence.contains("could not be reached") && !sentence.contains("127.0.0.1"),
        "{sentence}"
    );
    house.charged(0).await;
}

#[tokio::test]
async fn a_token_s_own_upstream_key_goes_up() {
    let house = House::open(ON).await;
    let token = house.bank.token(", upstream_key => 'sk-his-own'").await;
    assert_eq!(
        house.chat(Some(&format!("Bearer {token}")), CHAT).await.0,
        200
    );
    let sent = house.upstream.received_text().to_lowercase();
    assert!(
        sent.contains("authorization: bearer sk-his-own\r\n"),
        "{sent}"
    );
}

#[tokio::test]
async fn the_week_tells_a_caller_s_own_exchanges() {
    let house = House::open(ON).await;
    let other = house.bank.token("").await;
    let bearer = format!("Bearer {}", house.token);
    assert_eq!(house.chat(Some(&bearer), CHAT).await.0, 200);
    assert_eq!(
        house.chat(Some(&format!("Bearer {other}")), CHAT).await.0,
        200
    );
    house
        .bank
        .sql
        .batch_execute(
            "insert into turnpike.imported_usage (token_id, source_id, total_tokens, price, requested_at, remote_id, model)
             select min(id), n, 7, 21000, now() - n * interval '3 days', 'old-' || n, 'gpt-3.5-turbo-0301'
               from turnpike.access_token, generate_series(1, 3) as n group by n",
        )
        .await
        .unwrap();
    let header = format!("Authorization: {bearer}");
    let (head, body) = house.send("GET", "/data/week", &[&header], "").await;
    assert_eq!(head.status(), 200);
    assert!(
        text(body.clone()).contains("\"price\":0.0002825"),
        "a number, and exact"
    );
    let rows = parsed(&body);
    let rows = rows.as_array().unwrap();
    let told = |row: &Value, name: &str| row[name].clone();
    assert_eq!(
        rows.iter()
            .map(|row| told(row, "remote_id"))
            .collect::<Vec<_>>(),
        [json!("old-2"), json!("old-1"), json!("chatcmpl-1")],
        "seven days, oldest first, and nobody else's"
    );
    assert_eq!(told(&rows[2], "model"), "gpt-4o-2024-08-06");
    assert_eq!(
        (
            told(&rows[2], "total_tokens"),
            told(&rows[2], "total_token")
        ),
        (json!(68), json!(68))
    );
    assert!(told(&rows[2], "timestamp").as_i64().unwrap() > 1_700_000_000);

    let (head, body) = house.send("GET", "/data/week", &[], "").await;
    assert_eq!(
        (head.status(), text(body).as_str()),
        (401, "dont have token")
    );
    let (head, _) = house.send("POST", "/data/week", &[&header], "").await;
    assert_eq!((head.status(), head.header("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn parallel_chats_are_each_charged_once() {
    let house = House::open(ON).await;
    let bearer = format!("Authorization: Bearer {}", house.token);
    house
        .in_parallel("/chat", &[&bearer], &parsed(CHAT.as_bytes()))
        .await;
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_told_with_its_status() {
    let house = House::open(ON).await;
    let poor = house.bank.token(", budget_usd => 0.00001").await;
    let (status, sentence) = house.chat(Some(&format!("Bearer {poor}")), CHAT).await;
    assert_eq!(status, 429);
    assert!(sentence.contains("USD are left"), "{sentence}");
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn a_door_that_is_shut_is_not_there() {
    let house = House::open(&[]).await;
    assert!(house.is_unknown("POST", "/chat").await);
    assert!(house.is_unknown("GET", "/data/week").await);
}
