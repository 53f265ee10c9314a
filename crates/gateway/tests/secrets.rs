//! Words that must not be found where they do not belong, after everything that can happen to them.

use std::{path::Path, process::Command};

use testkit::upstream::{Upstream, answer, json, sse, sse_head};

use crate::{
    support::{Bank, Turnpike, command, eventually, post},
    telemetry::Collector,
};

/// What each secret is called here. None may be found anywhere.
const CANARIES: [&str; 11] = [
    "prompt-canary",
    "answer-canary",
    "query-canary",
    "header-canary",
    "token-canary",
    "sk-upstream-canary",
    "password-canary",
    "admin-canary",
    "error-canary",
    // The dialog key, as it is set.
    "ZGlhbG9nLWNhbmFyeS1kaWFsb2ctY2FuYXJ5LWRpYWw=",
    "collector-canary",
];

const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[{"message":{"content":"answer-canary"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A body for every endpoint that takes JSON.
const BODIES: [(&str, &str); 6] = [
    (
        "chat/completions",
        r#"{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"prompt-canary"}]}"#,
    ),
    (
        "chat/completions",
        r#"{"model":"gpt-4o","max_tokens":1,"stream":true,"messages":[{"role":"user","content":"prompt-canary"}]}"#,
    ),
    (
        "completions",
        r#"{"model":"gpt-4o","max_tokens":1,"prompt":"prompt-canary"}"#,
    ),
    (
        "embeddings",
        r#"{"model":"text-embedding-3-small","input":"prompt-canary"}"#,
    ),
    (
        "responses",
        r#"{"model":"gpt-4o","max_output_tokens":1,"input":"prompt-canary"}"#,
    ),
    (
        "messages",
        r#"{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"prompt-canary"}]}"#,
    ),
];

/// Answers, breaks off, errs, hangs up: in turn.
async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        let mut turn = 0;
        while wire.has_more().await {
            wire.read_message().await;
            turn += 1;
            let event = r#"{"choices":[{"delta":{"content":"answer-canary"}}]}"#;
            match turn % 5 {
                1 => wire.send(json(ANSWER)).await,
                2 => {
                    wire.send(answer(
                        "400 Bad Request",
                        &[],
                        r#"{"error":"error-canary sk-upstream-canary"}"#,
                    ))
                    .await
                }
                3 => wire.send(sse(&[event, "[DONE]"])).await,
                4 => {
                    wire.send(answer(
                        "401 Unauthorized",
                        &[],
                        r#"{"error":"error-canary"}"#,
                    ))
                    .await
                }
                _ => {
                    wire.send([sse_head(), b"answer-canary".to_vec()].concat())
                        .await;
                    return;
                }
            }
        }
    })
    .await
}

/// Every way to be refused.
async fn refusals(turnpike: &Turnpike, token: &str) {
    let path = "/v1/chat/completions?key=query-canary";
    let good = BODIES[0].1;
    for (token, body) in [
        ("token-canary-unknown", good.to_owned()),
        (token, good.replace("gpt-4o", "unpriced")),
        (token, good.replace("\"max", "\"model\":\"x\",\"max")),
        (token, format!("{good}prompt-canary")),
        (token, "prompt-canary".to_owned()),
        (token, good.replace("\"prompt", "\"\\ud800prompt")),
        (
            token,
            good.replace("max_tokens\":1", "max_tokens\":999999999"),
        ),
    ] {
        turnpike.post(path, token, &body).await;
    }
    let bad = format!(
        "GET /v1/prompt-canary HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-A: header-canary\r\nCookie: header-canary\r\n\r\n"
    );
    turnpike.call(bad).await;
    // One that leaves in the middle of its request.
    let mut wire = testkit::raw::Wire::connect(turnpike.clients).await;
    let request = post(path, token, good);
    wire.send(&request[..request.len() - 3]).await;
    wire.reset();
}

fn settings(
    bank: &Bank,
    upstream: &Upstream,
    collector: &Collector,
) -> Vec<(&'static str, String)> {
    let url = bank.db.url();
    let (scheme, host) = url.split_once('@').unwrap();
    let user = scheme
        .rsplit('/')
        .next()
        .unwrap()
        .split(':')
        .next()
        .unwrap();
    vec![
        (
            "DATABASE_URL",
            format!("postgres://{user}:password-canary@{host}"),
        ),
        ("OPENAI_URL", format!("{}/v1", upstream.url())),
        ("OPENAI_API_KEY", "sk-upstream-canary".into()),
        ("ADMIN_TOKEN", "admin-canary".into()),
        ("DIALOG_KEY", CANARIES[9].into()),
        ("DOOR_AGENT", "on".into()),
        ("LOG_LEVEL", "trace".into()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key=collector-canary".into(),
        ),
    ]
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Everything in the database, as SQL.
fn dump(bank: &Bank) -> String {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = installed
        .map(|dir| dir.unwrap().path().join("bin/pg_dump"))
        .filter(|path| path.exists())
        .max();
    let program = newest.unwrap_or_else(|| "pg_dump".into());
    let output = Command::new(program)
        .args(["--schema=turnpike", "--dbname", &bank.db.url()])
        .output()
        .expect("pg_dump comes with Postgres");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_where_it_does_not_belong() {
    let bank = Bank::open().await;
    let upstream = upstream().await;
    let collector = Collector::start().await;
    let mut seen = Vec::new();
    let mut tokens = Vec::new();
    for format in ["text", "json"] {
        let mut settings = settings(&bank, &upstream, &collector);
        settings.push(("LOG_FORMAT", format.to_owned()));
        let mut turnpike = Turnpike::start_with(&settings);
        let token = bank.token("").await;
        for (endpoint, body) in BODIES.iter().cycle().take(BODIES.len() * 5) {
            let request = post(&format!("/v1/{endpoint}?key=query-canary"), &token, body).replace(
                "Host:",
                "tracestate: a=1\r\nbaggage: header-canary=1\r\nX-Own: header-canary\r\nConnection: close\r\nHost:",
            );
            let mut wire = testkit::raw::Wire::connect(turnpike.clients).await;
            wire.send(request).await;
            wire.read_to_end().await;
        }
        turnpike.post("/chat", &token, BODIES[0].1).await;
        refusals(&turnpike, &token).await;
        // By HTTP/2 as well, whose library logs other things.
        let over_h2 = Command::new("curl")
            .args(["--silent", "--http2-prior-knowledge", "--max-time", "20"])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--header", "X-Own: header-canary", "--data", BODIES[0].1])
            .args(["--header", "Content-Type: application/json"])
            .arg(format!(
                "http://{}/v1/chat/completions?key=query-canary",
                turnpike.clients
            ))
            .output()
            .expect("curl runs: ./test installs it");
        assert!(over_h2.status.success());
        for path in ["/metrics", "/healthz", "/readyz", "/x"] {
            let mut wire = testkit::raw::Wire::connect(turnpike.admin).await;
            wire.send(format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-canary\r\n\r\n"
            ))
            .await;
            let (_, body) = wire.read_message().await;
            seen.push((format!("{path} {format}"), body));
        }
        eventually("every exchange is logged", async || {
            (turnpike.figure_with("open_exchanges", "admin-canary").await == 0).then_some(())
        })
        .await;
        bank.audited().await;
        let process = format!("/proc/{}", turnpike.pid());
        for file in ["cmdline", "comm"] {
            if let Ok(bytes) = std::fs::read(format!("{process}/{file}")) {
                seen.push((file.to_owned(), bytes));
            }
        }
        for file in files(turnpike.data_dir()) {
            let bytes = std::fs::read(&file).unwrap();
            seen.push((file.display().to_string(), bytes));
        }
        // What is left for the collector goes to it.
        turnpike.signal("TERM");
        turnpike.ended().await;
        seen.push((format!("log {format}"), turnpike.log().into_bytes()));
        tokens.push(token);
    }
    for arguments in [
        &["--help"][..],
        &["token", "list"],
        &["account", "list"],
        &["price", "list"],
        &["usage"],
        &["audit"],
        &["doctor"],
        &["upstream", "list"],
        &["token", "revoke", "token-canary-unknown"],
        &["nonsense"],
    ] {
        let output = command(&settings(&bank, &upstream, &collector))
            .args(arguments)
            .output()
            .unwrap();
        // A command may say again what it was told.
        let told = arguments.join(" ");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        seen.push((told, said.replace("token-canary-unknown", "").into_bytes()));
    }
    for (path, body) in collector.received() {
        seen.push((format!("the collector, {path}"), body));
    }
    assert!(collector.spans().len() > 60, "they came there");
    seen.push(("the database".to_owned(), dump(&bank).into_bytes()));
    let canaries = CANARIES
        .iter()
        .copied()
        .chain(tokens.iter().map(String::as_str));
    for canary in canaries {
        for (place, bytes) in &seen {
            let found = bytes
                .windows(canary.len())
                .position(|window| window == canary.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
                panic!(
                    "{canary} is in {place}: {}",
                    String::from_utf8_lossy(around)
                );
            }
        }
    }
    println!(
        "{} places, {} bytes searched",
        seen.len(),
        seen.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    );
}

/// A key that an operator puts into the table belongs there, and nowhere else.
#[tokio::test]
async fn an_upstream_key_in_the_database_is_in_its_table_alone() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[("LOG_LEVEL", "trace")]);
    bank.sql
        .execute(
            "select turnpike.set_upstream('a', $1, key => 'sk-row-canary')",
            &[&format!("{}/v1", upstream.url())],
        )
        .await
        .unwrap();
    let token = bank.token("").await;
    eventually("it is used", async || {
        let (head, _) = turnpike
            .post("/v1/chat/completions", &token, BODIES[0].1)
            .await;
        (head.status() == 200).then_some(())
    })
    .await;
    bank.audited().await;
    assert_eq!(dump(&bank).matches("sk-row-canary").count(), 1);
    assert!(!turnpike.log().contains("sk-row-canary"));
    assert!(!turnpike.admin("/metrics").await.1.contains("sk-row-canary"));
}
