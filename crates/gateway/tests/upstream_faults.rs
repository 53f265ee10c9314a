//! Upstreams that misbehave: the client sees what it is, the hold ends, the charge is right, nothing stays behind.

mod cases;
mod errors;
mod everywhere;
mod huge;
mod stalls;
mod tls;

use std::net::SocketAddr;

use testkit::raw::{Head, Wire};

use crate::support::{Bank, Turnpike, eventually, post};

/// What a client got: a head if one came, and everything behind it.
struct Got {
    head: Option<Head>,
    body: Vec<u8>,
}

/// How an exchange looked from outside.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole,
    /// An answer that looks cut, or no answer at all.
    Cut,
    /// One of our own: status and code.
    Refused(u16, String),
    /// The upstream's own error, whole.
    Error(u16),
}

impl Got {
    fn seen(&self) -> Seen {
        let Some(head) = &self.head else {
            return Seen::Cut;
        };
        if let Some(code) = head.header("x-turnpike-refusal") {
            return Seen::Refused(head.status(), code.to_owned());
        }
        let is_whole = match head.header("content-length") {
            Some(length) => self.body.len() == length.parse::<usize>().unwrap(),
            None => self.body.ends_with(testkit::upstream::LAST_CHUNK),
        };
        match (is_whole, head.status()) {
            (false, _) => Seen::Cut,
            (true, 200) => Seen::Whole,
            (true, status) => Seen::Error(status),
        }
    }

    fn exchange(&self) -> Option<&str> {
        self.head.as_ref()?.header("x-turnpike-exchange")
    }
}

/// Makes one call on a connection of its own and reads until that ends.
async fn ask(address: SocketAddr, token: &str, body: &str) -> Got {
    let mut wire = Wire::connect(address).await;
    let request =
        post("/v1/chat/completions", token, body).replace("Host:", "Connection: close\r\nHost:");
    // Whoever answers early may not read it all.
    let _ = wire.try_send(request).await;
    let (bytes, _) = wire.read_to_end().await;
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Got {
            head: None,
            body: bytes,
        };
    };
    let (head, body) = bytes.split_at(end + 4);
    Got {
        head: Some(Head::parse(head.to_vec())),
        body: body.to_vec(),
    }
}

/// A chat for which an upstream can tell what it is to do.
fn chat(word: &str, stream: bool) -> String {
    let stream = if stream {
        r#""stream":true,"stream_options":{"include_usage":true},"#
    } else {
        ""
    };
    format!(
        r#"{{"model":"gpt-4o-mini",{stream}"max_tokens":5,"messages":[{{"role":"user","content":"{word}"}}]}}"#
    )
}

/// What 10 input and 5 output tokens cost.
const COST: i64 = 10 * 150 + 5 * 600;
/// A whole answer that used so many.
const JSON: &str = r#"{"id":"c","model":"gpt-4o-mini","choices":[{"message":{"content":"one two three"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
const DELTA: &str =
    r#"{"model":"gpt-4o-mini","choices":[{"delta":{"content":"one two three"}}],"usage":null}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;

/// The amount and mark of an exchange's charge; `None` if it has none.
async fn charge(bank: &Bank, exchange: &str) -> Option<(i64, String)> {
    let rows = bank
        .sql
        .query(
            "select amount, mark from turnpike.charge where id::text = $1",
            &[&exchange],
        )
        .await
        .unwrap();
    assert!(rows.len() <= 1, "{exchange} is charged twice");
    rows.first().map(|row| (row.get(0), row.get(1)))
}

/// Nothing is open, held or wrong in the books.
async fn nothing_left(bank: &Bank, turnpike: &Turnpike) {
    eventually("no exchange is open", async || {
        let metrics = turnpike.admin("/metrics").await.1;
        metrics
            .contains("\nturnpike_open_exchanges 0\n")
            .then_some(())
    })
    .await;
    bank.audited().await;
    assert!(!turnpike.log().contains("panicked"), "{}", turnpike.log());
}
