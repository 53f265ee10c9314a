//! chat_gpt_proxy's callers.

use serde_json::{Value, json};

use super::{ANSWER, House, parsed, text};

const ON: &[(&str, &str)] = &[("DOOR_COMPLETE", "on")];
const FORBIDDEN: &str = "Доступ запрещен, токен не верный";

impl House {
    async fn complete(&self, body: &Value) -> (u16, Value) {
        let header = format!("access-token: {}", self.token);
        self.post_json("/chat_complete", &[&header], body).await
    }
}

#[tokio::test]
async fn the_answer_is_the_provider_s_with_text_and_status() {
    let house = House::open(ON).await;
    let header = format!("access-token: {}", house.token);
    let headers = [header.as_str(), "Content-Type: application/json"];
    let body = r#"{"prompt":"Hello","generate_params":{"model_name":"gpt-4o","temperature":0.2,"stop":["\n"]}}"#;
    let (head, body) = house.send("POST", "/chat_complete", &headers, body).await;
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert!(head.header("x-turnpike-exchange").is_some());
    let (object, _) = ANSWER.rsplit_once('}').unwrap();
    assert_eq!(
        text(body),
        format!("{object},\"text\":\" Hi there \",\"status\":\"ok\"}}")
    );
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.2, "stop": ["\n"]})
    );
    house.charged(1).await;
}

#[tokio::test]
async fn what_is_left_out_has_its_default() {
    let house = House::open(ON).await;
    let messages = json!([{"role": "user", "content": "Hello"}]);
    // The README's smallest call, which the program refused.
    for body in [
        json!({"prompt": "Hello"}),
        json!({"messages": messages, "prompt": ""}),
        json!({"messages": messages, "generate_params": null}),
        json!({"messages": messages, "generate_params": {"temperature": null, "timeout": 10, "stream": false}}),
    ] {
        let (status, answer) = house.complete(&body).await;
        assert_eq!(
            (status, &answer["status"], &answer["text"]),
            (200, &json!("ok"), &json!(" Hi there "))
        );
    }
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o-mini", "messages": messages, "stream": false})
    );
    let (_, answer) = house
        .complete(&json!({"prompt": "Hi", "messages": [], "generate_params": {"extra_body": {"max_completion_tokens": 9}}}))
        .await;
    assert_eq!(answer["status"], "ok");
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9})
    );
}

#[tokio::test]
async fn a_wrong_access_token_is_403_in_its_words() {
    let house = House::open(ON).await;
    for headers in [
        &[][..],
        &["access-token: 123456"],
        &["access-token: "],
        &["access-token: tp-x", "openai-token: sk-x"],
    ] {
        let (status, answer) = house
            .post_json("/chat_complete", headers, &json!({"prompt": "x"}))
            .await;
        assert_eq!(
            (status, answer),
            (403, json!({"text": FORBIDDEN, "status": "error"})),
            "{headers:?}"
        );
    }
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn what_a_caller_does_wrong_is_400_and_says_what() {
    let house = House::open(ON).await;
    for (body, sentence) in [
        (json!({}), "Error. 'prompt' or 'messages' is needed."),
        (json!({"prompt": 1}), "Error. 'prompt' should be a string."),
        (
            json!({"messages": "x"}),
            "Error. 'messages' should be an array.",
        ),
        (
            json!({"prompt": "x", "generate_params": "y"}),
            "Error. generate_params should be dict",
        ),
        (
            json!({"prompt": "x", "generate_params": {"model_name": 1}}),
            "Error. 'model_name' should be a string.",
        ),
        (
            json!({"prompt": "x", "generate_params": {"model": "gpt-4o"}}),
            "Error. 'model' does not belong into generate_params; the model is 'model_name'.",
        ),
        (
            json!({"prompt": "x", "generate_params": {"extra_headers": {}}}),
            "Error. 'extra_headers' does not belong into generate_params.",
        ),
        (
            json!({"prompt": "x", "generate_params": {"extra_body": {"model": "o3"}}}),
            "Error. 'extra_body' may not hold the model or the messages.",
        ),
        (
            json!({"prompt": "x", "generate_params": {"stream": true}}),
            "Error. 'stream' is not offered here: use /v1/chat/completions.",
        ),
        (json!([]), "Error. The body should be a JSON object."),
    ] {
        let (status, answer) = house.complete(&body).await;
        assert_eq!(
            (status, answer),
            (400, json!({"text": sentence, "status": "error"})),
            "{body}"
        );
    }
    let (status, answer) = house
        .complete(&json!({"prompt": "x", "generate_params": {"model_name": "gpt-unpriced"}}))
        .await;
    assert_eq!((status, &answer["status"]), (400, &json!("error")));
    let header = format!("access-token: {}", house.token);
    for (content_type, body) in [
        ("application/json", "{no"),
        ("application/json", ""),
        ("text/plain", "{\"prompt\":\"x\"}"),
    ] {
        let content_type = format!("Content-Type: {content_type}");
        let (head, body) = house
            .send("POST", "/chat_complete", &[&header, &content_type], body)
            .await;
        assert_eq!(head.status(), 400);
        assert_eq!(parsed(&body)["status"], "error");
    }
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn the_upstream_s_errors_keep_their_status() {
    for status in [
        "400 Bad Request",
        "404 Not Found",
        "429 Too Many Requests",
        "503 Service Unavailable",
    ] {
        let house = House::failing(status, r#"{"error":{"message":"not today"}}"#, ON).await;
        let (told, answer) = house.complete(&json!({"prompt": "x"})).await;
        assert_eq!(
            (told.to_string(), answer),
            (
                status[..3].to_owned(),
                json!({"text": "Error. not today", "status": "error"})
            )
        );
        house.charged(0).await;
    }
}

#[tokio::test]
async fn a_key_of_the_caller_s_own_goes_up_and_its_refusal_comes_back() {
    let body = r#"{"error":{"message":"Incorrect API key provided"}}"#;
    let house = House::failing("401 Unauthorized", body, ON).await;
    let header = format!("access-token: {}", house.token);
    let call = json!({"prompt": "x"});
    let (status, answer) = house
        .post_json("/chat_complete", &[&header, "openai-token: sk-mine"], &call)
        .await;
    assert_eq!(
        (status, &answer["text"]),
        (401, &json!("Error. Incorrect API key provided"))
    );
    let sent = house.upstream.received_text().to_lowercase();
    assert!(
        sent.contains("authorization: bearer sk-mine\r\n") && !sent.contains("sk-upstream-canary"),
        "{sent}"
    );
    // Our own key's refusal is ours to know.
    let (status, answer) = house.post_json("/chat_complete", &[&header], &call).await;
    assert_eq!(status, 502);
    assert!(
        !answer["text"].as_str().unwrap().contains("Incorrect"),
        "{answer}"
    );
    let log = house.turnpike.log();
    assert!(
        !log.contains("sk-mine") && !log.contains(&house.token),
        "{log}"
    );
}

#[tokio::test]
async fn a_caller_s_key_names_no_file_and_no_variable() {
    let house = House::open(ON).await;
    let header = format!("access-token: {}", house.token);
    let (status, _) = house
        .post_json(
            "/chat_complete",
            &[&header, "openai-token: env:OPENAI_API_KEY"],
            &json!({"prompt": "x"}),
        )
        .await;
    assert_eq!(status, 200);
    let sent = house.upstream.received_text();
    assert!(sent.contains("Bearer env:OPENAI_API_KEY\r\n"), "{sent}");
}

#[tokio::test]
async fn a_shared_key_stands_for_the_door_s_own_token() {
    let bank = crate::support::Bank::open().await;
    let token = bank.token("").await;
    let upstream = testkit::upstream::Upstream::answering(testkit::upstream::json(ANSWER)).await;
    let settings = [
        ("DOOR_COMPLETE", "on"),
        ("ACCESS_KEY", "let-me-in"),
        ("COMPLETE_TOKEN", token.as_str()),
    ];
    let turnpike = crate::support::Turnpike::start(&bank.db, &upstream.url(), &settings);
    let house = House {
        bank,
        upstream,
        turnpike,
        token: "let-me-in".to_owned(),
        sent: super::Sent::default(),
    };
    let (status, _) = house
        .complete(&json!({"prompt": "x", "generate_params": {"model_name": "gpt-4o"}}))
        .await;
    assert_eq!(status, 200);
    house.charged(1).await;
}

#[test]
fn the_key_that_everybody_knows_is_refused_at_the_start() {
    for (key, token, said) in [
        ("123456", "tp-x", "ACCESS_KEY"),
        ("let-me-in", "", "COMPLETE_TOKEN"),
    ] {
        let settings = [
            ("DOOR_COMPLETE", "on"),
            ("ACCESS_KEY", key),
            ("COMPLETE_TOKEN", token),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        let output = crate::support::command(&settings).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said));
    }
}

#[tokio::test]
async fn a_get_shows_help_and_other_methods_are_405() {
    let house = House::open(ON).await;
    for path in ["/", "/chat_complete"] {
        let (head, body) = house.send("GET", path, &[], "").await;
        assert_eq!(
            (head.status(), head.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
        assert!(text(body).contains("generate_params"));
    }
    let (head, _) = house.send("PUT", "/chat_complete", &[], "").await;
    assert_eq!(
        (head.status(), head.header("allow")),
        (405, Some("GET, POST"))
    );
}

#[tokio::test]
async fn a_body_that_is_too_big_is_413() {
    let house = House::open(&[("DOOR_COMPLETE", "on"), ("DOOR_BODY_BYTES_MAX", "1000")]).await;
    let (status, answer) = house.complete(&json!({"prompt": "x".repeat(1000)})).await;
    assert_eq!((status, &answer["status"]), (413, &json!("error")));
}

#[tokio::test]
async fn parallel_completions_are_each_charged_once() {
    let house = House::open(ON).await;
    let header = format!("access-token: {}", house.token);
    let body = json!({"prompt": "x", "generate_params": {"model_name": "gpt-4o"}});
    house.in_parallel("/chat_complete", &[&header], &body).await;
}

#[tokio::test]
async fn a_door_that_is_shut_is_not_there() {
    let house = House::open(&[]).await;
    assert!(house.is_unknown("POST", "/chat_complete").await);
    assert!(house.is_unknown("GET", "/").await);
}
