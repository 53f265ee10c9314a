//! Upstreams that are not OpenAI, spoken to as they are: their credentials, paths and errors.

use testkit::upstream::{Upstream, json, sse_head};

use crate::support::{Bank, Turnpike};

const ANSWER: &str = r#"{"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
const CHAT: &str = r#"{"messages":[{"role":"user","content":"Hello"}]}"#;

const MESSAGE: &str = r#"{"model":"claude-x","max_tokens":100,"messages":[{"role":"user","content":"Hello, how are you today?"}]}"#;

async fn upstream_of(bank: &Bank, dialect: &str, path: &str, upstream: &Upstream) {
    let url = upstream.url();
    let statement = format!(
        "select turnpike.set_upstream('{dialect}', '{url}{path}', key => 'its-key', dialect => '{dialect}');
         select turnpike.set_price('claude-x', input => 3, output => 15, context_window => 1000, output_max => 1000);
         select turnpike.set_price('my-deployment', input => 5, output => 20, context_window => 1000, output_max => 1000);"
    );
    bank.sql.batch_execute(&statement).await.unwrap();
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn azures_deployments_and_key_header_are_kept() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    upstream_of(&bank, "azure", "/openai", &upstream).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let token = bank.token("").await;
    let path = "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21";
    let (head, body) = turnpike
        .call(post(path, &format!("api-key: {token}"), CHAT))
        .await;
    let said = String::from_utf8_lossy(&body);
    assert_eq!((head.status(), &*said), (200, ANSWER));
    let received = upstream.received_text();
    let start = "POST /openai/deployments/my-deployment/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n";
    assert!(received.starts_with(start), "{received}");
    assert!(
        received.contains("\r\napi-key: its-key\r\n") && !received.contains(&token),
        "{received}"
    );
    // The deployment is what was asked for; the answer's own model has the price of gpt-4o: 53 x 2.50 + 15 x 10.
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, &str>("model_requested"), "my-deployment");
    assert_eq!(charge.get::<_, i64>("amount"), 282_500);
    bank.audited().await;
}

#[tokio::test]
async fn without_a_deployment_azure_is_called_by_its_v1() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    upstream_of(&bank, "azure", "/openai", &upstream).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let token = bank.token("").await;
    let body = r#"{"model":"my-deployment","messages":[]}"#;
    let authorization = format!("Authorization: Bearer {token}");
    let (head, _) = turnpike
        .call(post("/openai/v1/chat/completions", &authorization, body))
        .await;
    assert_eq!(head.status(), 200);
    let received = upstream.received_text();
    assert!(
        received.starts_with("POST /openai/v1/chat/completions HTTP/1.1\r\n"),
        "{received}"
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_deployment_is_nothing_to_an_upstream_that_is_not_azure() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let path = "/openai/deployments/gpt-4o/chat/completions";
    let (head, _) = turnpike
        .call(post(path, &format!("api-key: {token}"), CHAT))
        .await;
    assert_eq!(head.status(), 404);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_token_for_some_models_is_for_no_other_deployment() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    upstream_of(&bank, "azure", "/openai", &upstream).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let token = bank.token(", models => '{gpt-4o}'").await;
    // What the body says beside the path decides nothing.
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let path = "/openai/deployments/my-deployment/chat/completions";
    let (head, _) = turnpike
        .call(post(path, &format!("api-key: {token}"), body))
        .await;
    assert_eq!(head.status(), 404);
    bank.audited().await;
}

#[tokio::test]
async fn anthropics_messages_stream_with_its_own_key_header() {
    let bank = Bank::open().await;
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":20}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let chunked = [
        sse_head(),
        testkit::upstream::chunk(events),
        testkit::upstream::LAST_CHUNK.to_vec(),
    ]
    .concat();
    let upstream = Upstream::answering(chunked).await;
    upstream_of(&bank, "anthropic", "/v1", &upstream).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let token = bank.token("").await;
    let body = MESSAGE.replace("\"messages\"", "\"stream\":true,\"messages\"");
    let headers = format!("x-api-key: {token}\r\nanthropic-version: 2023-06-01");
    let (head, answer) = turnpike.call(post("/v1/messages", &headers, &body)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(String::from_utf8(answer).unwrap(), events);
    let received = upstream.received_text();
    assert!(
        received.starts_with("POST /v1/messages HTTP/1.1\r\n")
            && received.contains("\r\nx-api-key: its-key\r\n")
            && received.contains("\r\nanthropic-version: 2023-06-01\r\n")
            && !received.contains(&token),
        "{received}"
    );
    // 10 x 3 + 20 x 15
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), 330_000);
    assert_eq!(charge.get::<_, &str>("mark"), "measured");
    assert_eq!(charge.get::<_, &str>("response_id"), "msg_1");
    bank.audited().await;
}

#[tokio::test]
async fn refusals_of_messages_have_anthropics_shape() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json("{}")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    for (headers, status, kind) in [
        ("x-api-key: tp-unknown", 401, "authentication_error"),
        ("accept: */*", 401, "authentication_error"),
    ] {
        let (head, body) = turnpike.call(post("/v1/messages", headers, MESSAGE)).await;
        assert_eq!(head.status(), status);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "error");
        assert_eq!(body["error"]["type"], kind);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_advisors_tokens_cost_what_its_own_model_does() {
    let bank = Bank::open().await;
    let answer = r#"{"type":"message","model":"claude-x","stop_reason":"end_turn","usage":{"input_tokens":8,"output_tokens":5,"iterations":[{"type":"message","input_tokens":8,"output_tokens":5},{"type":"advisor_message","model":"my-deployment","input_tokens":7,"output_tokens":2}]}}"#;
    let upstream = Upstream::answering(json(answer)).await;
    upstream_of(&bank, "anthropic", "/v1", &upstream).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let headers = format!("x-api-key: {}", bank.token("").await);
    let (head, _) = turnpike.call(post("/v1/messages", &headers, MESSAGE)).await;
    assert_eq!(head.status(), 200);
    // 8 x 3 + 5 x 15, and 7 x 5 + 2 x 20
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), 99_000 + 75_000);
    bank.audited().await;
}
