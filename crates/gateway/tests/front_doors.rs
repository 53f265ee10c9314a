//! The front doors: callers of five earlier systems, replayed against the program.

mod agent;
mod chatbot;
mod clients;
mod complete;
mod imports;
mod resale;
mod simple;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use testkit::{
    raw::Head,
    upstream::{Upstream, answer, json},
};

use crate::support::{Bank, Turnpike, eventually};

/// What the provider answers: 53 input and 15 output tokens, 282,500 nano-USD for `gpt-4o`.
pub(crate) const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":" Hi there "},"finish_reason":"stop"}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
const CHARGE: i64 = 282_500;

/// Parallel calls that must each be charged once.
const PARALLEL: usize = 50;

/// A gateway with one door open, its database and its provider.
pub(crate) struct House {
    pub(crate) bank: Bank,
    pub(crate) upstream: Upstream,
    pub(crate) turnpike: Turnpike,
    pub(crate) token: String,
    /// Bodies as the provider got them, in order; of [`House::open`] alone.
    pub(crate) sent: Sent,
}

/// Bodies in the order in which they came, over whatever connections.
pub(crate) type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A provider that keeps what it is sent, and answers it so.
pub(crate) async fn keeping(answer: Vec<u8>, sent: &Sent) -> Upstream {
    let sent = Arc::clone(sent);
    Upstream::scripted(move |mut wire| {
        let (answer, sent) = (answer.clone(), Arc::clone(&sent));
        async move {
            while wire.has_more().await {
                let (_, body) = wire.read_message().await;
                sent.lock().unwrap().push(body);
                if wire.try_send(&answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

impl House {
    /// With a provider that answers [`ANSWER`].
    pub(crate) async fn open(settings: &[(&str, &str)]) -> Self {
        let sent = Sent::default();
        let mut house = Self::with(keeping(json(ANSWER), &sent).await, settings).await;
        house.sent = sent;
        house
    }

    /// With a provider that answers this error.
    pub(crate) async fn failing(status: &str, body: &str, settings: &[(&str, &str)]) -> Self {
        let failure = answer(status, &[("Content-Type", "application/json")], body);
        Self::with(Upstream::answering(failure).await, settings).await
    }

    /// With this provider.
    pub(crate) async fn with(upstream: Upstream, settings: &[(&str, &str)]) -> Self {
        let bank = Bank::open().await;
        let token = bank.token("").await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), settings);
        Self {
            bank,
            upstream,
            turnpike,
            token,
            sent: Sent::default(),
        }
    }

    /// Sends a request with these headers (`Name: value` lines) and a body.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: impl AsRef<[u8]>,
    ) -> (Head, Vec<u8>) {
        let body = body.as_ref();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: door.example\r\nContent-Length: {}\r\n",
            body.len()
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        self.turnpike.call(request).await
    }

    /// Posts JSON; the status and the JSON that came back.
    pub(crate) async fn post_json(
        &self,
        path: &str,
        headers: &[&str],
        body: &Value,
    ) -> (u16, Value) {
        let headers = [&["Content-Type: application/json"], headers].concat();
        let (head, body) = self.send("POST", path, &headers, body.to_string()).await;
        (head.status(), parsed(&body))
    }

    /// What the provider was sent last, as JSON.
    pub(crate) fn sent_up(&self) -> Value {
        let sent = self.sent.lock().unwrap();
        parsed(sent.last().expect("the provider was asked"))
    }

    /// Requests that reached the provider.
    pub(crate) fn asked(&self) -> usize {
        let received = self.upstream.received();
        received
            .iter()
            .map(|one| one.text().matches("HTTP/1.1\r\n").count())
            .sum()
    }

    /// As many charges, each of [`CHARGE`], and books that are right.
    pub(crate) async fn charged(&self, calls: i64) {
        eventually("every charge", async || {
            let count: i64 = self.bank.one("select count(*) from turnpike.charge").await;
            (count >= calls).then_some(())
        })
        .await;
        self.bank.audited().await;
        let statement = "select count(*) || ' ' || coalesce(sum(amount), 0) from turnpike.charge";
        assert_eq!(
            self.bank.one::<String>(statement).await,
            format!("{calls} {}", calls * CHARGE)
        );
    }

    /// Calls of the same kind at once; all must be 200 and each charged once.
    pub(crate) async fn in_parallel(&self, path: &str, headers: &[&str], body: &Value) {
        let calls = (0..PARALLEL).map(|_| self.post_json(path, headers, body));
        for (status, answer) in futures_util::future::join_all(calls).await {
            assert_eq!(status, 200, "{answer}");
        }
        self.charged(PARALLEL as i64).await;
    }

    /// Whether a path is as unknown as any other.
    pub(crate) async fn is_unknown(&self, method: &str, path: &str) -> bool {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let headers = [bearer.as_str(), "Content-Type: application/json"];
        let (head, _) = self.send(method, path, &headers, "{}").await;
        head.status() == 404 && head.header("x-turnpike-refusal") == Some("unknown_url")
    }
}

/// A body as JSON.
pub(crate) fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

/// A body as text.
pub(crate) fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).expect("text")
}
