//! One reading: whatever two parsers could read differently is a 400, and the upstream never has a complete request.
//!
//! `json`, `forms`, `types` and `models` are the catalogue. Each case goes through a running gateway whole, byte by byte, and
//! swollen so that it flows up while it is scanned.

mod forms;
mod json;
mod models;
mod types;

use testkit::{
    raw::{Wire, patiently},
    upstream::{Upstream, json as json_answer},
};

use crate::support::{Bank, Turnpike};

const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
/// More than the gateway reads before it lets a body flow.
const FLOWS: usize = 200_000;
/// Longer bodies are not sent a byte at a time: every byte is a packet.
const SINGLE_BYTES_MAX: usize = 400;

/// A body that must be refused, with its `Content-Type`, and the code of the refusal.
pub(super) struct Case {
    content_type: String,
    body: Vec<u8>,
    code: &'static str,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Whole,
    /// In as many writes and chunks as it has bytes.
    ByBytes,
    /// In two writes, cut in the middle.
    Cut,
}

/// A gateway before an upstream that would answer anything.
struct Court {
    bank: Bank,
    upstream: Upstream,
    turnpike: Turnpike,
    token: String,
    tried: usize,
}

impl Court {
    async fn open(prices: &str) -> Self {
        let bank = Bank::open().await;
        bank.sql.batch_execute(prices).await.unwrap();
        let upstream = Upstream::answering(json_answer(ANSWER)).await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
        let token = bank.token("").await;
        Self {
            bank,
            upstream,
            turnpike,
            token,
            tried: 0,
        }
    }

    fn head(&self, path: &str, content_type: &str, framing: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{content_type}{framing}\r\n",
            self.token
        )
    }

    /// Status and code of what comes back.
    async fn send(
        &mut self,
        path: &str,
        content_type: &str,
        body: &[u8],
        sent: Sent,
    ) -> (u16, String) {
        self.tried += 1;
        let mut wire = Wire::connect(self.turnpike.clients).await;
        if sent == Sent::ByBytes {
            wire.send(self.head(path, content_type, "Transfer-Encoding: chunked\r\n"))
                .await;
            for byte in body {
                // It may have been refused by now.
                if wire
                    .try_send([b"1\r\n", &[*byte][..], b"\r\n"].concat())
                    .await
                    .is_err()
                {
                    break;
                }
            }
            let _ = wire.try_send("0\r\n\r\n").await;
        } else {
            wire.send(self.head(
                path,
                content_type,
                &format!("Content-Length: {}\r\n", body.len()),
            ))
            .await;
            let cut = if sent == Sent::Cut { body.len() / 2 } else { 0 };
            let _ = wire.try_send(&body[..cut]).await;
            let _ = wire.try_send(&body[cut..]).await;
        }
        let (head, body) = patiently("an answer", wire.read_message()).await;
        let code = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|body| body["error"]["code"].as_str().map(str::to_owned));
        (head.status(), code.unwrap_or_default())
    }

    /// Refused however it is sent.
    async fn refuses(&mut self, path: &str, case: &Case) {
        for sent in [Sent::Whole, Sent::Cut, Sent::ByBytes] {
            if sent == Sent::ByBytes && case.body.len() > SINGLE_BYTES_MAX {
                continue;
            }
            let got = self.send(path, &case.content_type, &case.body, sent).await;
            assert_eq!(
                got,
                (400, case.code.to_owned()),
                "{sent:?} {path} {}{}",
                case.content_type,
                String::from_utf8_lossy(&case.body[..case.body.len().min(1_000)])
            );
        }
        self.nothing_complete(&case.body);
    }

    /// No request that the upstream has so far ends as a request ends.
    fn nothing_complete(&self, body: &[u8]) {
        for received in self.upstream.received() {
            let got = received.bytes();
            let head = got
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(got.len(), |at| at + 4);
            let text = String::from_utf8_lossy(&got[..head]).to_lowercase();
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            let is_complete = match length {
                Some(length) => got.len() - head >= length,
                None => got.ends_with(b"0\r\n\r\n"),
            };
            assert!(
                !is_complete,
                "the upstream has all of {}",
                String::from_utf8_lossy(&body[..body.len().min(1_000)])
            );
        }
    }

    async fn close(self, group: &str, cases: usize) {
        println!(
            "one reading, {group}: {cases} cases, {} requests",
            self.tried
        );
        let charges: i64 = self.bank.one("select count(*) from turnpike.charge").await;
        assert_eq!(charges, 0, "nothing was charged");
        self.bank.audited().await;
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

fn case(content_type: &str, body: impl Into<Vec<u8>>, code: &'static str) -> Case {
    Case {
        content_type: content_type.to_owned(),
        body: body.into(),
        code,
    }
}

/// A friend among the enemies: what is refused is refused for what it is.
#[tokio::test]
async fn the_same_requests_in_order_are_served() {
    let mut court = Court::open("").await;
    for sent in [Sent::Whole, Sent::Cut, Sent::ByBytes] {
        let body = br#"{"model":"gpt-4o","messages":[]}"#;
        assert_eq!(
            court.send("/v1/chat/completions", JSON, body, sent).await.0,
            200
        );
        let swollen = format!(
            r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
            "x".repeat(FLOWS)
        );
        if sent != Sent::ByBytes {
            assert_eq!(
                court
                    .send("/v1/chat/completions", JSON, swollen.as_bytes(), sent)
                    .await
                    .0,
                200
            );
        }
    }
    court.bank.audited().await;
}
