//! HTTP as enemies speak it: refused at our door, never forwarded, bounded while it goes on, and others are served meanwhile.

mod flood;
mod frames;
mod http2;
mod slow;
mod smuggling;

use testkit::{
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, post};

const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[]}"#;

/// What an attack may add to the gateway's memory at its peak: buffers of the connections it holds, and no more.
const ATTACK_BYTES_MAX: u64 = 96 << 20;

/// A gateway, a client of good will, and what attacks are measured by.
pub(super) struct Siege {
    bank: Bank,
    upstream: Upstream,
    turnpike: Turnpike,
    token: String,
    memory: u64,
    /// Requests of the good client that the upstream has.
    served: usize,
}

impl Siege {
    async fn open(settings: &[(&str, &str)]) -> Self {
        let bank = Bank::open().await;
        let upstream = Upstream::answering(json(ANSWER)).await;
        let mut all = vec![("UNKNOWN_PATHS", "forward")];
        all.extend(settings);
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &all);
        let token = bank.token("").await;
        let mut siege = Self {
            bank,
            upstream,
            turnpike,
            token,
            memory: 0,
            served: 0,
        };
        siege.serves_others().await;
        siege.memory = siege.turnpike.memory_peak_bytes();
        siege
    }

    /// The good client is served, now.
    async fn serves_others(&mut self) {
        let request = post("/v1/chat/completions", &self.token, CHAT)
            .replace("gateway.example", "good.example");
        let (head, body) = patiently("the good client's answer", self.turnpike.call(request)).await;
        assert_eq!((head.status(), body), (200, ANSWER.into()));
        self.served += 1;
    }

    /// Everything that the upstream was asked.
    fn forwarded(&self) -> String {
        self.upstream
            .received()
            .iter()
            .map(testkit::raw::Received::text)
            .collect()
    }

    /// The upstream has the good client's requests and nothing else.
    fn only_good_was_forwarded(&self, what: &str) {
        let all = self.forwarded();
        let requests = all.matches(" HTTP/1.1\r\n").count();
        assert_eq!(requests, self.served, "{what}: {all}");
        assert_eq!(all.matches(CHAT).count(), self.served, "{what}: {all}");
    }

    /// The attack is over: memory stayed bounded, others are served, the books are right.
    async fn holds(mut self, what: &str) {
        self.serves_others().await;
        let added = self
            .turnpike
            .memory_peak_bytes()
            .saturating_sub(self.memory);
        println!(
            "abuse, {what}: {} KiB more memory at the peak",
            added / 1024
        );
        assert!(
            added < ATTACK_BYTES_MAX,
            "{what}: {added} bytes more at the peak"
        );
        self.only_good_was_forwarded(what);
        self.bank.audited().await;
    }

    /// Sends these bytes on a connection of their own, and reads until it closes or an answer is whole.
    async fn attack(&self, bytes: impl AsRef<[u8]>) -> Answered {
        let mut wire = Wire::connect(self.turnpike.clients).await;
        let _ = wire.try_send(bytes).await;
        let mut raw = Vec::new();
        while !raw.windows(4).any(|four| four == b"\r\n\r\n") {
            match patiently("an answer", wire.read_some()).await {
                Some(more) => raw.extend(more),
                None => break,
            }
        }
        let text = String::from_utf8_lossy(&raw).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answered { status, wire }
    }
}

/// What came of an attack.
struct Answered {
    /// `None`: the connection was cut.
    status: Option<u16>,
    wire: Wire,
}
