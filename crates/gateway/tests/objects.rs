//! What providers keep is its maker's: whoever else names it, in a path or in a body, is told that there is no such thing.

use testkit::{
    raw::Wire,
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike};

const DONE: &str = r#"{"id":"ID","object":"response","model":"gpt-4o","status":"completed","output":[],"usage":{"input_tokens":100,"output_tokens":10,"total_tokens":110}}"#;

/// A provider that makes one of each, and reads whatever it is asked for.
pub(crate) async fn provider(name: &'static str) -> Upstream {
    Upstream::scripted(move |mut wire: Wire| async move {
        while wire.has_more().await {
            let (head, _) = wire.read_message().await;
            let mut words = head.start.split_whitespace();
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let answer = match (method, path) {
                ("POST", "/v1/responses") => DONE.replace("ID", &format!("resp_{name}")),
                ("POST", "/v1/chat/completions") => format!(
                    r#"{{"id":"chatcmpl_{name}","model":"gpt-4o","choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#
                ),
                ("POST", "/v1/conversations") => {
                    format!(r#"{{"id":"conv_{name}","object":"conversation"}}"#)
                }
                ("DELETE", _) => r#"{"object":"x.deleted","deleted":true}"#.to_owned(),
                _ => format!(r#"{{"object":"kept","by":"{name}","status":"completed"}}"#),
            };
            wire.send(json(&answer)).await;
        }
    })
    .await
}

pub(crate) fn call(method: &str, path: &str, token: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A token of another account.
async fn stranger(bank: &Bank) -> String {
    bank.sql
        .batch_execute("select turnpike.create_account('mallory'), turnpike.top_up('mallory', 20)")
        .await
        .unwrap();
    bank.one("select token from turnpike.issue_token('mallory')")
        .await
}

async fn status(turnpike: &Turnpike, request: String) -> (u16, String) {
    let (head, body) = turnpike.call(request).await;
    (head.status(), String::from_utf8(body).unwrap())
}

const MAKING: [(&str, &str); 3] = [
    ("/v1/responses", r#"{"model":"gpt-4o","input":"Hi"}"#),
    (
        "/v1/chat/completions",
        r#"{"model":"gpt-4o","messages":[],"store":true}"#,
    ),
    ("/v1/conversations", "{}"),
];

const READING: [(&str, &str); 12] = [
    ("GET", "/v1/responses/resp_a"),
    ("GET", "/v1/responses/resp_a?stream=true&starting_after=3"),
    ("GET", "/v1/responses/resp_a/input_items"),
    ("POST", "/v1/responses/resp_a/cancel"),
    ("GET", "/v1/chat/completions/chatcmpl_a"),
    ("GET", "/v1/chat/completions/chatcmpl_a/messages"),
    ("GET", "/v1/conversations/conv_a"),
    ("GET", "/v1/conversations/conv_a/items"),
    ("GET", "/v1/conversations/conv_a/items/msg_1"),
    ("DELETE", "/v1/responses/resp_a"),
    ("DELETE", "/v1/chat/completions/chatcmpl_a"),
    ("DELETE", "/v1/conversations/conv_a"),
];

#[tokio::test]
async fn only_its_maker_s_account_may_read_change_or_delete_what_is_kept() {
    let bank = Bank::open().await;
    let upstream = provider("a").await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("UNKNOWN_PATHS", "forward")]);
    let (maker, sibling) = (bank.token("").await, bank.token("").await);
    let stranger = stranger(&bank).await;
    for (path, body) in MAKING {
        let (head, _) = turnpike.post(path, &maker, body).await;
        assert_eq!(head.status(), 200, "{path}");
    }
    for (method, path) in READING {
        let (foreign, said) = status(&turnpike, call(method, path, &stranger)).await;
        assert_eq!(foreign, 404, "{method} {path}: {said}");
        assert!(said.contains(r#""code": "not_found""#), "{said}");
        // As if there were no such thing at all.
        let (unknown, same) = status(
            &turnpike,
            call(method, &path.replace("_a", "_b"), &stranger),
        )
        .await;
        assert_eq!((unknown, same), (404, said.replace("_a'", "_b'")));
        let escaped = path.replace("_a", "%5Fa");
        assert_eq!(
            status(&turnpike, call(method, &escaped, &stranger)).await.0,
            404
        );
        let (own, said) = status(&turnpike, call(method, path, &sibling)).await;
        assert_eq!(own, 200, "{method} {path}: {said}");
        if method == "DELETE" {
            assert_eq!(status(&turnpike, call(method, path, &maker)).await.0, 404);
        }
    }
    let list = call("GET", "/v1/chat/completions", &maker);
    assert_eq!(status(&turnpike, list).await.0, 403);
    // What was read cost nothing.
    let charges = "select count(*) from turnpike.charge";
    assert_eq!(bank.one::<i64>(charges).await, 2);
    bank.audited().await;
}

#[tokio::test]
async fn bodies_name_only_what_is_the_caller_s() {
    let bank = Bank::open().await;
    let upstream = provider("a").await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let maker = bank.token("").await;
    let stranger = stranger(&bank).await;
    for (path, body) in MAKING {
        turnpike.post(path, &maker, body).await;
    }
    bank.sql
        .batch_execute("insert into turnpike.object (id, kind, account_id, token_id) select 'file-a', 'file', account_id, token_id from turnpike.object limit 1")
        .await
        .unwrap();
    for (body, param) in [
        (
            r#"{"model":"gpt-4o","input":"x","previous_response_id":"resp_a"}"#,
            "previous_response_id",
        ),
        (
            r#"{"model":"gpt-4o","input":"x","conversation":{"id":"conv_a"}}"#,
            "conversation",
        ),
        (
            r#"{"model":"gpt-4o","input":[{"role":"user","content":[{"type":"input_file","file_id":"file-a"}]}]}"#,
            "file_id",
        ),
    ] {
        let (head, said) = turnpike.post("/v1/responses", &stranger, body).await;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(
            (head.status(), &said["error"]["param"]),
            (404, &param.into()),
            "{said}"
        );
        assert_eq!(
            turnpike
                .post("/v1/responses", &maker, body)
                .await
                .0
                .status(),
            200,
            "{body}"
        );
    }
    let items =
        r#"{"items":[{"role":"user","content":[{"type":"input_file","file_id":"file-a"}]}]}"#;
    assert_eq!(
        turnpike
            .post("/v1/conversations", &stranger, items)
            .await
            .0
            .status(),
        404
    );
    assert_eq!(
        turnpike
            .post("/v1/conversations", &maker, items)
            .await
            .0
            .status(),
        200
    );
    // One that is too long to be read ahead never gets there whole.
    let long = |letter: &str| {
        let input = letter.repeat(200_000);
        format!(r#"{{"model":"gpt-4o","input":"{input}","previous_response_id":"resp_a"}}"#)
    };
    for (token, letter, status) in [(&stranger, "y", 404), (&maker, "x", 200)] {
        let (head, _) = turnpike.post("/v1/responses", token, &long(letter)).await;
        assert_eq!(head.status(), status);
    }
    let received = upstream.received();
    let came_whole = |letter| {
        let body = long(letter);
        received.iter().any(|wire| wire.text().contains(&body))
    };
    assert!(came_whole("x") && !came_whole("y"));
    bank.audited().await;
}

#[tokio::test]
async fn requests_go_where_what_they_name_is_kept() {
    let bank = Bank::open().await;
    let (one, other) = (provider("a").await, provider("b").await);
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('one', '{}/v1', key => 'sk-1'), turnpike.set_upstream('other', '{}/v1', key => 'sk-2');
             select turnpike.set_route('gpt-4o', 'one'), turnpike.set_route('gpt-4o-mini', 'other');",
            one.url(),
            other.url()
        ))
        .await
        .unwrap();
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let token = bank.token("").await;
    let mini = r#"{"model":"gpt-4o-mini","input":"Hi"}"#;
    let (head, said) = turnpike.post("/v1/responses", &token, mini).await;
    assert_eq!(head.status(), 200);
    assert!(String::from_utf8_lossy(&said).contains("resp_b"));
    let (_, said) = status(&turnpike, call("GET", "/v1/responses/resp_b", &token)).await;
    assert!(said.contains(r#""by":"b""#), "{said}");
    // The model goes to the one, what it continues is at the other.
    let on = r#"{"model":"gpt-4o","input":"Hi","previous_response_id":"resp_b"}"#;
    let (head, said) = turnpike.post("/v1/responses", &token, on).await;
    assert_eq!(head.status(), 200);
    assert!(String::from_utf8_lossy(&said).contains("resp_b"));
    assert_eq!(one.connections(), 0);
    bank.audited().await;
}

/// A provider whose answers have parts that it keeps under ids of their own.
async fn of_parts() -> Upstream {
    Upstream::scripted(move |mut wire: Wire| async move {
        while wire.has_more().await {
            let (head, _) = wire.read_message().await;
            let answer = match head.start.split_whitespace().nth(1).unwrap() {
                "/v1/chat/completions" => r#"{"id":"chatcmpl_a","model":"gpt-4o","choices":[{"message":{"role":"assistant","audio":{"id":"audio_a","data":"AA=="}}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#.to_owned(),
                "/v1/messages" => r#"{"id":"msg_m","type":"message","model":"gpt-4o","container":{"id":"container_a"},"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#.to_owned(),
                _ => DONE.replace("ID", "resp_a").replace(
                    r#""output":[]"#,
                    r#""output":[{"type":"reasoning","id":"rs_a","summary":[]},{"type":"code_interpreter_call","id":"ci_a","container_id":"cntr_a"}]"#,
                ),
            };
            wire.send(json(&answer)).await;
        }
    })
    .await
}

#[tokio::test]
async fn bodies_name_only_the_caller_s_items_recordings_and_containers() {
    let bank = Bank::open().await;
    let upstream = of_parts().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (maker, stranger) = (bank.token("").await, stranger(&bank).await);
    let message = r#"{"model":"gpt-4o","max_tokens":9,"messages":[]}"#;
    let making = [
        MAKING[0],
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[]}"#,
        ),
        ("/v1/messages", message),
    ];
    let naming = [
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":[{"type":"item_reference","id":"rs_a"}]}"#,
            "input",
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":[{"type":"reasoning","id":"rs_a","summary":[]}]}"#,
            "input",
        ),
        (
            "/v1/responses/input_tokens",
            r#"{"model":"gpt-4o","input":[{"id":"ci_a"}]}"#,
            "input",
        ),
        (
            "/v1/conversations",
            r#"{"items":[{"type":"item_reference","id":"rs_a"}]}"#,
            "input",
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":"x","tools":[{"type":"code_interpreter","container":"cntr_a"}]}"#,
            "container",
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[{"role":"assistant","audio":{"id":"audio_a"}}]}"#,
            "audio.id",
        ),
        (
            "/v1/messages",
            r#"{"model":"gpt-4o","max_tokens":9,"container":"container_a","messages":[]}"#,
            "container",
        ),
    ];
    for (path, body, param) in naming {
        // Nobody has them yet.
        let (head, said) = turnpike.post(path, &maker, body).await;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        let error = (
            head.status(),
            &said["error"]["code"],
            &said["error"]["param"],
        );
        let expected = (404, &"not_found".into(), &param.into());
        assert!(
            error == expected || path == "/v1/messages",
            "{path} {body}: {said}"
        );
        assert_eq!(head.status(), 404);
    }
    assert_eq!(upstream.connections(), 0);
    for (path, body) in making {
        let (head, said) = turnpike.post(path, &maker, body).await;
        assert_eq!(
            head.status(),
            200,
            "{path}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    for (path, body, _) in naming {
        let (head, _) = turnpike.post(path, &stranger, body).await;
        assert_eq!(head.status(), 404, "{path} {body}");
        let (head, said) = turnpike.post(path, &maker, body).await;
        assert_eq!(
            head.status(),
            200,
            "{path} {body}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    // They go with the answer that they are parts of.
    let deleted = call("DELETE", "/v1/responses/resp_a", &maker);
    assert_eq!(status(&turnpike, deleted).await.0, 200);
    assert_eq!(
        turnpike
            .post(naming[0].0, &maker, naming[0].1)
            .await
            .0
            .status(),
        404
    );
    bank.audited().await;
}

#[tokio::test]
async fn an_answer_that_is_not_stored_and_has_no_parts_is_not_noted() {
    let bank = Bank::open().await;
    let upstream = provider("a").await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    for (path, body) in [
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[]}"#,
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":"Hi","store":false}"#,
        ),
    ] {
        let (head, _) = turnpike.post(path, &token, body).await;
        assert_eq!(head.status(), 200, "{path}");
    }
    let objects = "select count(*) from turnpike.object";
    assert_eq!(bank.one::<i64>(objects).await, 0);
}
