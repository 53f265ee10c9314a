//! The earlier systems' own examples, by the clients they were written for: Python's requests, and curl.

use std::{path::Path, process::Command};

use serde_json::json;

use super::{House, parsed};

/// Calls of `tests/sdk/test_doors.py` that a provider answers.
const CALLS: i64 = 7;

const ALL: &[(&str, &str)] = &[
    ("DOOR_AGENT", "on"),
    ("DOOR_RESALE", "on"),
    ("DOOR_SIMPLE", "on"),
    ("DOOR_COMPLETE", "on"),
    ("DOOR_CHATBOT", "on"),
    ("GPT_ENGINE", "gpt-4o"),
];

// The provider runs beside: these clients block.
#[tokio::test(flavor = "multi_thread")]
async fn requests_calls_every_door_as_the_readmes_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    assert!(
        root.join(".sdk/installed").exists(),
        "the SDK packages are not installed: run ./test once, it installs them into .sdk"
    );
    let house = House::open(ALL).await;
    let output = Command::new(root.join(".sdk/python/bin/python"))
        .arg(root.join("tests/sdk/test_doors.py"))
        .env("BASE", format!("http://{}", house.turnpike.clients))
        .env("NO_PROXY", "*")
        .env("TOKEN", &house.token)
        .env("ADMIN", house.admin())
        .env("OWN", house.own_token("1000000", "1000000"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    house.charged(CALLS).await;
}

/// What curl prints, and its exit code.
fn curl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(arguments)
        .output()
        .expect("curl is installed");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

// The provider runs beside: these clients block.
#[tokio::test(flavor = "multi_thread")]
async fn curl_calls_every_door() {
    let house = House::open(ALL).await;
    let base = format!("http://{}", house.turnpike.clients);
    let json = ["--header", "Content-Type: application/json", "--data"];
    let call = |path: &str, header: &str, body: serde_json::Value| {
        let (url, body) = (format!("{base}{path}"), body.to_string());
        parsed(&curl(
            &[&[&*url, "--header", header], &json[..], &[&*body]].concat(),
        ))
    };
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let bearer = format!("Authorization: Bearer {}", house.token);
    let told = call(
        "/chat",
        &bearer,
        json!({"model": "gpt-4o", "messages": messages}),
    );
    assert_eq!(told["usage"]["total_tokens"], 68);
    let told = call(
        "/chatgpt",
        "X: x",
        json!({"token": house.token, "query": "Hello"}),
    );
    assert_eq!(told["response"], "Hi there");
    let told = call(
        "/api",
        "X: x",
        json!({"api_key": house.token, "user_content": "Hello", "model": "gpt-4o"}),
    );
    assert_eq!(told["code"], 200);
    let key = format!("access-token: {}", house.token);
    let told = call(
        "/chat_complete",
        &key,
        json!({"prompt": "Hello", "generate_params": {"model_name": "gpt-4o"}}),
    );
    assert_eq!(told["status"], "ok");
    let ask = json!({"prompt": "Hello", "access_token": house.token}).to_string();
    assert_eq!(
        curl(&[&format!("{base}/ask"), "--data", &ask]),
        b" Hi there "
    );
    // A GET with a body, as resale's second README has it.
    let asked = json!({"token": house.token, "dialogName": "none"}).to_string();
    let url = format!("{base}/dialog-history");
    let told = curl(&[&["--request", "GET", &*url], &json[..], &[&*asked]].concat());
    assert_eq!(parsed(&told)["history"], json!([]));
    house.charged(5).await;
}
