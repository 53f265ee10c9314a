//! The shapes of the sandbox's answers.

use std::collections::BTreeSet;

use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn post(path: &str, body: &Value) -> (u16, String) {
    let request = Request::post(path)
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = answer(request).await;
    let status = response.status().as_u16();
    let text = response
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    (status, String::from_utf8(text.to_vec()).expect("text"))
}

async fn json_of(path: &str, body: Value) -> Value {
    let (status, text) = post(path, &body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// The data of each event, `[DONE]` left out.
async fn events_of(path: &str, body: Value) -> Vec<Value> {
    let (status, text) = post(path, &body).await;
    assert_eq!(status, 200, "{text}");
    let data = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

fn hello(more: Value) -> Value {
    let mut body =
        json!({"model": "sandbox", "messages": [{"role": "user", "content": "Say hello please"}]});
    body.as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_chat_has_one_choice_and_counts_words() {
    let answer = json_of(CHAT, hello(json!({}))).await;
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "sandbox");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .expect("text");
    assert!(
        text.contains("sandbox model") && text.contains("OPENAI_API_KEY"),
        "{text}"
    );
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["usage"]["completion_tokens"], words::count(text));
    assert_eq!(answer["usage"]["total_tokens"], 3 + words::count(text));
}

#[tokio::test]
async fn limits_and_the_number_of_choices_are_honoured() {
    let answer = json_of(
        CHAT,
        hello(json!({"n": 3, "max_completion_tokens": 5, "max_tokens": 4})),
    )
    .await;
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(3));
    assert_eq!(answer["choices"][2]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn any_model_is_answered_under_its_own_name_and_tier() {
    let answer = json_of(
        CHAT,
        hello(json!({"model": "gpt-4o", "service_tier": "flex"})),
    )
    .await;
    assert_eq!(
        (&answer["model"], &answer["service_tier"]),
        (&json!("gpt-4o"), &json!("flex"))
    );
    let answer = json_of(CHAT, hello(json!({"service_tier": "auto"}))).await;
    assert_eq!(answer["service_tier"], "default");
}

#[tokio::test]
async fn a_stream_has_no_usage_unless_it_asks() {
    let chunks = events_of(CHAT, hello(json!({"stream": true, "max_tokens": 2}))).await;
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(
        chunks.last().expect("a last one")["choices"][0]["finish_reason"],
        "length"
    );
    assert_eq!(chunks.len(), 4);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn a_stream_that_asks_has_null_usage_and_then_one_bare_frame() {
    let body = hello(json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2}));
    let (_, text) = post(CHAT, &body).await;
    assert!(text.ends_with("data: [DONE]\n\n"));
    let chunks = events_of(CHAT, body).await;
    let (last, others) = chunks.split_last().expect("chunks");
    assert!(
        others.iter().all(
            |chunk| chunk.get("usage") == Some(&Value::Null) && chunk["choices"][0].is_object()
        )
    );
    assert_eq!(last["choices"], json!([]));
    let deltas = others.iter().filter(|chunk| {
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    });
    assert_eq!(
        last["usage"]["completion_tokens"].as_u64(),
        u64::try_from(deltas.count()).ok()
    );
    let ids: BTreeSet<_> = chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_legacy_completion_gives_sixteen_tokens_for_each_prompt() {
    let answer = json_of(
        "/v1/completions",
        json!({"model": "m", "prompt": ["one two", "three"], "n": 2}),
    )
    .await;
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(4));
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["usage"]["completion_tokens"], 64);
    let stream = json!({"model": "m", "prompt": [1, 2, 3], "stream": true, "stream_options": {"include_usage": true}});
    let chunks = events_of("/v1/completions", stream).await;
    assert_eq!(chunks.len(), 16 + 1 + 1);
    assert_eq!(chunks[17]["usage"]["total_tokens"], 19);
}

#[tokio::test]
async fn a_response_ends_in_a_completed_event_with_the_same_document() {
    let body = json!({"model": "sandbox", "instructions": "Be kind", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]});
    let answer = json_of("/v1/responses", body.clone()).await;
    assert_eq!(
        (&answer["object"], &answer["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(answer["usage"]["input_tokens"], 3);
    let mut stream = body;
    stream["stream"] = true.into();
    let events = events_of("/v1/responses", stream).await;
    let numbers: Vec<_> = events
        .iter()
        .filter_map(|event| event["sequence_number"].as_u64())
        .collect();
    assert!(
        numbers
            .iter()
            .copied()
            .eq(0..u64::try_from(events.len()).expect("few"))
    );
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(events[0]["response"]["usage"], Value::Null);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"], answer["usage"]);
    assert_eq!(
        last["response"]["output"][0]["content"],
        answer["output"][0]["content"]
    );
    let deltas: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(answer["output"][0]["content"][0]["text"], deltas);
}

#[tokio::test]
async fn a_response_cut_by_its_limit_is_incomplete() {
    let body = json!({"model": "sandbox", "input": "hi", "max_output_tokens": 3, "stream": true});
    let events = events_of("/v1/responses", body).await;
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(last["response"]["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_as_base64_of_the_same_numbers() {
    let body = |format: &str| json!({"model": "m", "input": ["a b", [1, 2, 3]], "dimensions": 2, "encoding_format": format});
    let floats = json_of("/v1/embeddings", body("float")).await;
    assert_eq!(floats["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(floats["data"][1]["index"], 1);
    assert_eq!(
        floats["data"][0]["embedding"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        floats["usage"],
        json!({"prompt_tokens": 5, "total_tokens": 5})
    );
    let coded = json_of("/v1/embeddings", body("base64")).await;
    assert_eq!(
        coded["data"][0]["embedding"].as_str().map(str::len),
        Some(12)
    );
}

#[tokio::test]
async fn wrong_requests_get_errors_of_openai_s_shape() {
    for (path, body, status, param) in [
        (CHAT, json!({"messages": []}), 400, json!("model")),
        (
            CHAT,
            json!({"model": "m", "messages": []}),
            400,
            json!("messages"),
        ),
        (
            CHAT,
            hello(json!({"max_tokens": 0})),
            400,
            json!("max_tokens"),
        ),
        (CHAT, hello(json!({"n": "2"})), 400, json!("n")),
        (CHAT, hello(json!({"n": 129})), 400, json!("n")),
        (CHAT, hello(json!({"stream": 1})), 400, json!("stream")),
        (
            CHAT,
            hello(json!({"stream_options": {}})),
            400,
            json!("stream_options"),
        ),
        (CHAT, json!([]), 400, Value::Null),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": ["a", ""]}),
            400,
            json!("input"),
        ),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": "a", "dimensions": 4097}),
            400,
            json!("dimensions"),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": "a", "background": true}),
            400,
            json!("background"),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": "a", "previous_response_id": "x"}),
            400,
            json!("previous_response_id"),
        ),
        (
            "/v1/images/generations",
            json!({"model": "m"}),
            404,
            Value::Null,
        ),
        (
            CHAT,
            hello(json!({"model": "sandbox-error-429"})),
            429,
            Value::Null,
        ),
    ] {
        let (got, text) = post(path, &body).await;
        assert_eq!(got, status, "{body}");
        let error = &serde_json::from_str::<Value>(&text).expect("JSON")["error"];
        assert_eq!(error["param"], param, "{body}");
        let keys: Vec<_> = error
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            BTreeSet::from_iter(keys),
            BTreeSet::from(["code", "message", "param", "type"])
        );
    }
}

#[tokio::test]
async fn a_stream_can_fail_midway_in_the_words_of_its_endpoint() {
    let chat = events_of(
        CHAT,
        hello(json!({"model": "sandbox-error-midway", "stream": true})),
    )
    .await;
    assert_eq!(
        chat.last().expect("events")["error"]["type"],
        "server_error"
    );
    let body = json!({"model": "sandbox-error-midway", "input": "a", "stream": true});
    let events = events_of("/v1/responses", body).await;
    let last = events.last().expect("events");
    assert_eq!(
        (&last["type"], &last["error"]["code"]),
        (&json!("error"), &json!("server_error"))
    );
    assert_eq!(last["sequence_number"], events.len() - 1);
}

#[tokio::test]
async fn usage_can_be_left_out() {
    let answer = json_of(CHAT, hello(json!({"model": "sandbox-no-usage"}))).await;
    assert!(answer.get("usage").is_none());
    let stream = json!({"model": "sandbox-no-usage", "stream": true, "stream_options": {"include_usage": true}});
    let chunks = events_of(CHAT, hello(stream)).await;
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.get("usage").is_none() && chunk["choices"][0].is_object())
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_pauses_before_each_event() {
    let before = tokio::time::Instant::now();
    let chunks = events_of(
        CHAT,
        hello(json!({"model": "sandbox-slow", "stream": true, "max_tokens": 2})),
    )
    .await;
    let pauses = u32::try_from(chunks.len()).expect("few") + 1;
    assert!(before.elapsed() >= Duration::from_millis(100) * pauses);
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let get = async |path: &str| {
        let response = answer(
            Request::get(path)
                .body(Full::<Bytes>::default())
                .expect("a request"),
        )
        .await;
        let text = response
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        serde_json::from_slice::<Value>(&text).expect("JSON")
    };
    assert_eq!(get("/v1/models").await["data"][0]["id"], "sandbox");
    assert_eq!(get("/v1/models/gpt-4o").await["id"], "gpt-4o");
    assert_eq!(get("/v1/files").await["error"]["code"], "unknown_url");
}

/// What a raw client reads until the server closes.
async fn raw(sandbox: &Sandbox, model: &str) -> String {
    let mut socket = TcpStream::connect(sandbox.address())
        .await
        .expect("connected");
    let body = hello(json!({"model": model, "max_tokens": 5})).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all((head + &body).as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("read");
    answer
}

#[tokio::test]
async fn it_serves_on_a_loopback_port_and_breaks_connections_on_request() {
    let sandbox = start().await.expect("started");
    assert!(sandbox.address().ip().is_loopback());
    let whole = raw(&sandbox, "sandbox").await;
    assert!(
        whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("content-length: "),
        "{whole}"
    );
    assert!(
        whole.contains("content-type: application/json\r\n")
            && whole.contains("x-request-id: req_")
    );
    let cut = raw(&sandbox, "sandbox-cut").await;
    assert!(
        cut.contains("transfer-encoding: chunked") && !cut.ends_with("0\r\n\r\n"),
        "{cut}"
    );
    assert!(cut.len() < whole.len());
}
