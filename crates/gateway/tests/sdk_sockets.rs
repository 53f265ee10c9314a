//! The real openai packages, unmodified, with their own WebSocket clients: each turn costs what its usage says.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use testkit::{
    raw::Wire,
    socket::{CLOSE, frame, read_frame, tells},
    tls::Identity,
    upstream::Upstream,
};
use tokio::process::Command;

use crate::{
    sdk::{installed, root},
    sockets::{CREATED, DONE, DONE_COSTS, SPOKEN, bank},
    support::Turnpike,
};

/// 10 x 2.50 + 5 x 10
const RESPONSE_COSTS: i64 = 75_000;
const COMPLETED: &str = r#"{"type":"response.completed","sequence_number":1,"response":{"id":"resp_1","object":"response","created_at":1,"model":"gpt-4o","status":"completed","output":[],"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}"#;

/// What proves that a handshake was understood (RFC 6455, 4.2.2), which these clients check.
fn accepted(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    BASE64_STANDARD.encode(digest)
}

/// Answers each `response.create` with one whole turn, whose id nobody had before.
async fn provider() -> Upstream {
    let turns = Arc::new(AtomicU64::new(1));
    Upstream::scripted(move |mut wire: Wire| {
        let turns = Arc::clone(&turns);
        async move {
            let head = wire.read_head().await;
            let accept = accepted(head.header("sec-websocket-key").unwrap());
            wire.send(format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"))
                .await;
            let events: &[&str] = if head.start.contains("/realtime") {
                &[CREATED, SPOKEN, DONE]
            } else {
                &[CREATED, COMPLETED]
            };
            while wire.has_more().await {
                let (first, said) = read_frame(&mut wire).await;
                if first == CLOSE {
                    let _ = wire.try_send(frame(CLOSE, &said, None)).await;
                    return;
                }
                if String::from_utf8_lossy(&said).contains("response.create") {
                    let id = format!("resp_{}", turns.fetch_add(1, Ordering::Relaxed));
                    for event in events {
                        let _ = wire.try_send(tells(&event.replace("resp_1", &id))).await;
                    }
                }
            }
        }
    })
    .await
}

async fn passes(program: &str, arguments: &[&str], turns: i64) {
    installed();
    let bank = bank().await;
    let upstream = provider().await;
    // The package for Node speaks TLS alone over sockets.
    let identity = Identity::new(&["127.0.0.1"]);
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("TLS_CERT", &path(identity.certificate())),
            ("TLS_KEY", &path(identity.key())),
        ],
    );
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root().join(".sdk/node"))
        .env(
            "OPENAI_BASE_URL",
            format!("https://{}/v1", turnpike.clients),
        )
        .env("SSL_CERT_FILE", identity.roots())
        .env("NODE_EXTRA_CA_CERTS", identity.roots())
        .env("OPENAI_API_KEY", bank.token("").await)
        .env("POOR_API_KEY", bank.token(", budget_usd => 0.01").await)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    bank.audited().await;
    let charged = bank
        .sql
        .query(
            "select endpoint, count(*), sum(amount)::bigint from turnpike.charge where mark = 'measured' group by endpoint order by endpoint",
            &[],
        )
        .await
        .unwrap();
    let charged: Vec<(&str, i64, i64)> = charged
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        charged,
        [
            ("realtime", turns, turns * DONE_COSTS),
            ("responses", 1, RESPONSE_COSTS)
        ],
        "{said}"
    );
    let all = "select count(*) from turnpike.charge";
    assert_eq!(bank.one::<i64>(all).await, turns + 1);
}

#[tokio::test]
async fn python_speaks_over_sockets() {
    let python = root().join(".sdk/python/bin/python");
    let script = root().join("tests/sdk/test_realtime.py");
    passes(python.to_str().unwrap(), &[script.to_str().unwrap()], 3).await;
}

#[tokio::test]
async fn node_speaks_over_sockets() {
    let script = root().join(".sdk/node/realtime.test.mjs");
    if root().join(".sdk/node").exists() {
        std::fs::copy(root().join("tests/sdk/realtime.test.mjs"), script).unwrap();
    }
    passes("node", &["--test", "realtime.test.mjs"], 2).await;
}
