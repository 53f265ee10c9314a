//! HTTP/1.1 and HTTP/2, with TLS and without, on both sides; spoken by curl.

use std::process::Command;

use testkit::{
    tls::Identity,
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike};

const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// What curl says: the HTTP version, the status and the body.
fn curl(arguments: &[&str], url: &str, token: &str) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_version} %{http_code}",
        ])
        .args([
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--header",
            "Content-Type: application/json",
            "--data",
            CHAT,
        ])
        .args(arguments)
        .arg(format!("{url}/v1/chat/completions"))
        .output()
        .expect("curl runs: ./test installs it");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, line) = text.rsplit_once('\n').unwrap();
    (line.to_owned(), body.to_owned())
}

// curl blocks the thread it is awaited on; the scripted upstream needs another.
#[tokio::test(flavor = "multi_thread")]
async fn clients_come_by_http_1_and_2_with_and_without_tls() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let plain = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let url = format!("http://{}", plain.clients);
    assert_eq!(
        curl(&["--http1.1"], &url, &token),
        ("1.1 200".into(), ANSWER.into())
    );
    assert_eq!(
        curl(&["--http2-prior-knowledge"], &url, &token),
        ("2 200".into(), ANSWER.into())
    );

    let identity = Identity::new(&["127.0.0.1"]);
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (certificate, key, roots) = (
        path(identity.certificate()),
        path(identity.key()),
        path(identity.roots()),
    );
    let secure = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("TLS_CERT", &certificate), ("TLS_KEY", &key)],
    );
    let url = format!("https://{}", secure.clients);
    assert_eq!(
        curl(&["--http1.1", "--cacert", &roots], &url, &token),
        ("1.1 200".into(), ANSWER.into())
    );
    assert_eq!(
        curl(&["--http2", "--cacert", &roots], &url, &token),
        ("2 200".into(), ANSWER.into())
    );
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        4
    );
}

#[tokio::test]
async fn an_upstream_is_reached_by_tls_with_the_certificates_that_ssl_cert_file_names() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let identity = Identity::new(&["127.0.0.1"]);
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (certificate, key, roots) = (
        path(identity.certificate()),
        path(identity.key()),
        path(identity.roots()),
    );
    // A second Turnpike with TLS is as good an upstream as any.
    let secure = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("TLS_CERT", &certificate), ("TLS_KEY", &key)],
    );
    let url = format!("https://{}", secure.clients);
    let front = Turnpike::start(
        &bank.db,
        &url,
        &[("SSL_CERT_FILE", &roots), ("OPENAI_API_KEY", &token)],
    );
    let (head, body) = front.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!((head.status(), body), (200, ANSWER.into()));
    let distrustful = Turnpike::start(&bank.db, &url, &[("OPENAI_API_KEY", &token)]);
    let (head, _) = distrustful.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (502, Some("upstream_unreachable"))
    );
    bank.audited().await;
}
