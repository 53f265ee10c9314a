//! Where a case runs: once against a recording upstream, once through the gateway, and then compared.

use std::sync::{Arc, Mutex};

use testkit::{
    raw::{Wire, patiently},
    upstream::Upstream,
};
use tokio::net::TcpStream;

use super::{
    exceptions::{Around, of_answer, of_request},
    message::{Message, text},
};
use crate::support::{Bank, Turnpike};

/// An exchange: what is asked, and what is answered.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Vec<u8>,
    pub(super) answer: Vec<u8>,
    /// The upstream ends the connection behind its answer.
    pub(super) closes: bool,
}

/// A case by its parts. `TOKEN` in the request becomes the access token.
pub(super) fn case(name: &str, request: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Case {
    Case {
        name: name.to_owned(),
        request: request.into(),
        answer: answer.into(),
        closes: false,
    }
}

impl Case {
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    fn head(&self) -> String {
        let end = self.request.windows(4).position(|four| four == b"\r\n\r\n");
        text(&self.request[..end.expect("a request has a head")]).to_ascii_lowercase()
    }
}

/// What is to be answered next, and what came.
#[derive(Default)]
struct Script {
    answer: Vec<u8>,
    closes: bool,
    requests: Vec<Vec<u8>>,
}

/// A gateway, the upstream behind it, and how much has been compared.
pub(super) struct Bench {
    bank: Bank,
    pub(super) turnpike: Turnpike,
    upstream: Upstream,
    script: Arc<Mutex<Script>>,
    pub(super) token: String,
    pub(super) cases: usize,
    pub(super) bytes: usize,
    /// All of them are told at the end.
    differences: Vec<String>,
}

impl Bench {
    pub(super) async fn open() -> Self {
        let bank = Bank::open().await;
        let script = Arc::<Mutex<Script>>::default();
        let shared = Arc::clone(&script);
        let upstream = Upstream::scripted(move |mut wire| {
            let script = Arc::clone(&shared);
            async move {
                let mut raw = Vec::new();
                while let Some(more) = wire.read_some_at_leisure().await {
                    raw.extend(more);
                    let mut rest = &raw[..];
                    if Message::take(&mut rest, false, true).is_none() {
                        continue;
                    }
                    let left = rest.len();
                    let request = raw[..raw.len() - left].to_vec();
                    raw.drain(..request.len());
                    let (answer, closes) = {
                        let mut script = script.lock().unwrap();
                        script.requests.push(request);
                        (script.answer.clone(), script.closes)
                    };
                    if wire.try_send(answer).await.is_err() || closes {
                        return;
                    }
                }
            }
        })
        .await;
        let turnpike = Turnpike::start(
            &bank.db,
            &upstream.url(),
            &[("UNKNOWN_PATHS", "forward"), ("BODY_BYTES_MAX", "50000000")],
        );
        let token = bank.token("").await;
        Self {
            bank,
            turnpike,
            upstream,
            script,
            token,
            cases: 0,
            bytes: 0,
            differences: Vec::new(),
        }
    }

    /// Runs a case both ways and compares what each side received.
    pub(super) async fn run(&mut self, case: &Case) {
        let request = self.with_token(&case.request);
        {
            let mut script = self.script.lock().unwrap();
            script.answer.clone_from(&case.answer);
            script.closes = case.closes;
            script.requests.clear();
        }
        let around = Around {
            upstream: self.upstream.address().to_string(),
            wants_trailers: case.head().contains("te: trailers"),
            is_http10: case.head().contains(" http/1.0"),
        };
        let has_body = !case.request.starts_with(b"HEAD ");

        let mut direct = Wire::new(TcpStream::connect(self.upstream.address()).await.unwrap());
        let answered = exchange(&case.name, &mut direct, &request, has_body, case.closes).await;
        let asked = self.asked(&case.name);
        drop(direct);
        let mut through = Wire::connect(self.turnpike.clients).await;
        let answered_through =
            exchange(&case.name, &mut through, &request, has_body, case.closes).await;
        let asked_through = self.asked(&case.name);

        self.compare(
            &case.name,
            "the upstream",
            &of_request(asked, &around),
            &asked_through,
        );
        let answered = of_answer(answered, &around);
        let mut got = answered_through;
        for (name, value) in &mut got.headers {
            if name == "x-turnpike-exchange" {
                assert_eq!(value.len(), 36, "{}: an exchange is named", case.name);
                value.clear();
            }
        }
        self.compare(&case.name, "the client", &answered, &got);
        self.cases += 1;
    }

    /// What the client would send with its token.
    pub(super) fn with_token(&self, request: &[u8]) -> Vec<u8> {
        let mut with = Vec::with_capacity(request.len() + 64);
        let mut rest = request;
        while let Some(at) = rest.windows(5).position(|five| five == b"TOKEN") {
            with.extend(&rest[..at]);
            with.extend(self.token.as_bytes());
            rest = &rest[at + 5..];
            if at > 4096 {
                break;
            }
        }
        with.extend(rest);
        with
    }

    /// Sets what is answered from now on.
    pub(super) fn answers(&self, answer: impl Into<Vec<u8>>) {
        let mut script = self.script.lock().unwrap();
        script.answer = answer.into();
        script.closes = false;
        script.requests.clear();
    }

    pub(super) fn upstream_address(&self) -> std::net::SocketAddr {
        self.upstream.address()
    }

    /// The requests that came since.
    pub(super) fn requests(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.script.lock().unwrap().requests)
    }

    /// The books are right after all of it.
    pub(super) async fn audited(&self) {
        let differences = &self.differences;
        assert!(
            differences.is_empty(),
            "{} differences:\n{}",
            differences.len(),
            differences.join("\n\n")
        );
        self.bank.audited().await;
    }

    fn asked(&self, name: &str) -> Message {
        let requests = self.requests();
        let [request] = &*requests else {
            panic!("{name}: the upstream got {} requests", requests.len());
        };
        let mut rest = &request[..];
        let message = Message::take(&mut rest, false, true).expect("a request is whole");
        assert!(rest.is_empty(), "{name}: bytes behind a request");
        message
    }

    fn compare(&mut self, name: &str, who: &str, expected: &Message, got: &Message) {
        let (expected, got) = (expected.bytes(), got.bytes());
        let shown = |bytes: &[u8]| text(&bytes[..bytes.len().min(2_000)]);
        if expected != got {
            self.differences.push(format!(
                "{name}: {who} should have got ({} bytes)\n{}\nand got ({} bytes)\n{}",
                expected.len(),
                shown(&expected),
                got.len(),
                shown(&got),
            ));
        }
        self.bytes += got.len();
    }
}

/// Sends a request and reads its answer; those with 1xx in front of it are passed over, but for what they say of the body.
async fn exchange(
    name: &str,
    wire: &mut Wire,
    request: &[u8],
    has_body: bool,
    closes: bool,
) -> Message {
    let sending = wire.try_send(request).await;
    let mut raw = Vec::new();
    let has_length = |message: &Message| {
        message.is_chunked || message.value("content-length").is_some() || closes
    };
    loop {
        let mut rest = &raw[..];
        let taken = Message::take(&mut rest, true, has_body);
        let len = raw.len() - rest.len();
        match taken {
            Some(message)
                if message.start.contains(" 1")
                    && message
                        .start
                        .split(' ')
                        .nth(1)
                        .is_some_and(|status| status.starts_with('1')) =>
            {
                raw.drain(..len);
            }
            Some(message) if !has_body || has_length(&message) && !closes || is_bare(&message) => {
                assert!(rest.is_empty(), "bytes behind an answer: {}", text(rest));
                break message;
            }
            _ => match patiently(name, wire.read_some()).await {
                Some(more) => raw.extend(more),
                None => {
                    let mut rest = &raw[..];
                    let message = Message::take(&mut rest, true, has_body);
                    break message.unwrap_or_else(|| {
                        panic!("{name}: no answer: {} ({sending:?})", text(&raw))
                    });
                }
            },
        }
    }
}

fn is_bare(message: &Message) -> bool {
    matches!(message.start.split(' ').nth(1), Some("204" | "304"))
}
