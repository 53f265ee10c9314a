//! What a provider's errors may tell a client: all but what they say of our account.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use testkit::upstream::{Upstream, answer, head};

use super::{Seen, ask, chat, nothing_left};
use crate::support::{Bank, Turnpike};

const LIMIT: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-CanaryCanaryCanary on tokens per min (key sk-upstream-canary, sk-up*****nary, project proj_CanaryCanary).","code":"rate_limit_exceeded"}}"#;
const HUSHED: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-****************** on tokens per min (key ******************, **************, project proj_************).","code":"rate_limit_exceeded"}}"#;
const CONTEXT: &str = r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","code":"context_length_exceeded"}}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let body = gzip.finish().unwrap();
    let length = body.len().to_string();
    let head = head(
        "429 Too Many Requests",
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", &length),
        ],
    );
    [head, body].concat()
}

async fn told(bank: &Bank, error: Vec<u8>) -> super::Got {
    let upstream = Upstream::answering(error).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let got = ask(turnpike.clients, &token, &chat("hello", false)).await;
    nothing_left(bank, &turnpike).await;
    got
}

#[tokio::test]
async fn an_error_that_names_our_key_or_organisation_is_written_over() {
    let bank = Bank::open().await;
    let plain = answer(
        "429 Too Many Requests",
        &[("Content-Type", "application/json")],
        LIMIT,
    );
    let got = told(&bank, plain).await;
    assert_eq!(got.seen(), Seen::Error(429));
    assert_eq!(String::from_utf8(got.body).unwrap(), HUSHED);

    let got = told(&bank, gzip(LIMIT)).await;
    assert_eq!(got.seen(), Seen::Error(429));
    assert_eq!(got.head.as_ref().unwrap().header("content-encoding"), None);
    assert_eq!(String::from_utf8(got.body).unwrap(), HUSHED);
}

#[tokio::test]
async fn an_error_that_does_not_passes_byte_for_byte() {
    let bank = Bank::open().await;
    let got = told(&bank, answer("400 Bad Request", &[], CONTEXT)).await;
    assert_eq!(
        (got.seen(), &*got.body),
        (Seen::Error(400), CONTEXT.as_bytes())
    );
    let coded = gzip(CONTEXT);
    let got = told(&bank, coded.clone()).await;
    assert_eq!(
        got.head.as_ref().unwrap().header("content-encoding"),
        Some("gzip")
    );
    assert!(coded.ends_with(&got.body));
}

#[tokio::test]
async fn a_redirect_reaches_neither_the_client_nor_its_target() {
    let bank = Bank::open().await;
    let target = Upstream::answering("").await;
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let url = target.url();
        let got = told(&bank, answer(status, &[("Location", &url)], "")).await;
        let refused = Seen::Refused(502, "upstream_redirect".to_owned());
        assert_eq!(got.seen(), refused, "{status}");
        assert_eq!(got.head.as_ref().unwrap().header("location"), None);
    }
    assert_eq!(target.connections(), 0);
}
