//! Clients that call without a pause, an upstream that serves them, and what the books must say of them afterwards.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use testkit::{
    raw::{Head, Wire},
    upstream::{self, LAST_CHUNK, Upstream, json, sse_event, sse_head},
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_postgres::Client;

use crate::support::{eventually, post};

/// Whether the tests are to take their time (`just soak`).
pub(super) fn is_soak() -> bool {
    std::env::var_os("TURNPIKE_SOAK").is_some()
}

/// What call `number` sends: two of three are streams. Its number makes its output limit, and so its usage.
pub(super) fn request(number: usize) -> String {
    let stream = if number.is_multiple_of(3) {
        ""
    } else {
        r#""stream":true,"stream_options":{"include_usage":true},"#
    };
    let limit = output(number);
    format!(
        r#"{{"model":"gpt-4o-mini",{stream}"max_tokens":{limit},"messages":[{{"role":"user","content":"call {number:07}"}}]}}"#
    )
}

fn output(number: usize) -> usize {
    number % 500 + 1
}

/// What it costs: 10 input tokens at 0.15 USD and its limit in output tokens at 0.60 USD per million, in nano-USD.
pub(super) fn cost(number: usize) -> i64 {
    10 * 150 + i64::try_from(output(number)).unwrap() * 600
}

/// What it could use at most, a token for each byte of its body and its limit, and what that would cost.
pub(super) fn bound(number: usize) -> [i64; 3] {
    let [prompt, completion] = [request(number).len(), output(number)];
    [prompt * 150 + completion * 600, prompt, completion].map(|bound| i64::try_from(bound).unwrap())
}

/// What it does use: money, prompt tokens, completion tokens.
pub(super) fn used(number: usize) -> [i64; 3] {
    [cost(number), 10, i64::try_from(output(number)).unwrap()]
}

/// An upstream that answers everything.
pub(super) async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire: Wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            if answer(&mut wire, &body).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Answers a request, reporting its own output limit as what was used. A stream's events come one by one.
pub(super) async fn answer(wire: &mut Wire, request: &[u8]) -> std::io::Result<()> {
    let request = std::str::from_utf8(request).unwrap();
    let limit = figure(request, "\"max_tokens\":");
    let usage = format!(r#""usage":{{"prompt_tokens":10,"completion_tokens":{limit}}}"#);
    if request.contains("\"stream\"") {
        return stream(wire, &usage).await;
    }
    let answer = format!(r#"{{"id":"c","model":"gpt-4o-mini","choices":[],{usage}}}"#);
    wire.try_send(json(&answer)).await
}

async fn stream(wire: &mut Wire, usage: &str) -> std::io::Result<()> {
    wire.try_send(sse_head()).await?;
    for _ in 0..3 {
        wire.try_send(sse_event(DELTA)).await?;
        // How a model writes; nothing waits for it.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    wire.try_send(sse_event(&format!(r#"{{"choices":[],{usage}}}"#)))
        .await?;
    wire.try_send(sse_event("[DONE]")).await?;
    wire.try_send(LAST_CHUNK).await
}

pub(super) const DELTA: &str =
    r#"{"model":"gpt-4o-mini","choices":[{"delta":{"content":"word "}}],"usage":null}"#;

/// The number behind a name in a body.
pub(super) fn figure(body: &str, name: &str) -> String {
    let (_, rest) = body.split_once(name).unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect()
}

/// A call as its client saw it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: usize,
    /// From the answer's head, if that came.
    pub(super) exchange: Option<String>,
    pub(super) end: End,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the whole answer.
    Whole,
    /// In the middle of an answer, or without any.
    Cut,
    /// With a refusal: its status, code, and whether it says when to come again.
    Refused(u16, String, bool),
}

/// Makes one call; `None` when nobody listens.
pub(super) async fn call(address: SocketAddr, token: &str, number: usize) -> Option<Call> {
    call_with(address, token, number, &request(number)).await
}

/// The same with this body.
pub(super) async fn call_with(
    address: SocketAddr,
    token: &str,
    number: usize,
    body: &str,
) -> Option<Call> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut wire = Wire::new(stream);
    let request =
        post("/v1/chat/completions", token, body).replace("Host:", "Connection: close\r\nHost:");
    let cut = Call {
        number,
        exchange: None,
        end: End::Cut,
    };
    if wire.try_send(request).await.is_err() {
        return Some(cut);
    }
    let (answer, _) = wire.read_to_end().await;
    let Some(end_of_head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Some(cut);
    };
    let (head, body) = answer.split_at(end_of_head + 4);
    let head = Head::parse(head.to_vec());
    let end = match head.header("x-turnpike-refusal") {
        Some(code) => End::Refused(
            head.status(),
            code.to_owned(),
            head.header("retry-after").is_some(),
        ),
        // The upstream's own.
        None if head.status() != 200 => End::Refused(head.status(), String::new(), false),
        None if is_whole(&head, body) => End::Whole,
        None => End::Cut,
    };
    Some(Call {
        number,
        exchange: head.header("x-turnpike-exchange").map(str::to_owned),
        end,
    })
}

fn is_whole(head: &Head, body: &[u8]) -> bool {
    match head.header("content-length") {
        Some(length) => body.len() == length.parse::<usize>().unwrap(),
        None => body.ends_with(upstream::LAST_CHUNK),
    }
}

/// Clients that call until they are told to stop, or until nobody listens.
pub(super) struct Load {
    clients: JoinSet<Vec<Call>>,
    ended: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// `numbers` goes on over all loads of a test, so that no two calls are the same.
    pub(super) fn start(
        address: SocketAddr,
        token: &str,
        clients: usize,
        numbers: &Arc<AtomicUsize>,
    ) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            ended: Arc::default(),
            stop: Arc::default(),
        };
        for _ in 0..clients {
            let (token, numbers) = (token.to_owned(), Arc::clone(numbers));
            let (ended, stop) = (Arc::clone(&load.ended), Arc::clone(&load.stop));
            load.clients.spawn(async move {
                let mut calls = Vec::new();
                while !stop.load(Relaxed) {
                    let number = numbers.fetch_add(1, Relaxed);
                    let Some(call) = call(address, &token, number).await else {
                        break;
                    };
                    calls.push(call);
                    ended.fetch_add(1, Relaxed);
                }
                calls
            });
        }
        load
    }

    /// Waits until so many more calls have ended, however they did.
    pub(super) async fn went_on_for(&self, calls: usize) {
        let goal = self.ended.load(Relaxed) + calls;
        eventually("the load goes on", async || {
            (self.ended.load(Relaxed) >= goal).then_some(())
        })
        .await;
    }

    /// Lets every client end its call, and tells of all.
    pub(super) async fn stop(self) -> Vec<Call> {
        self.stop.store(true, Relaxed);
        self.clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

/// A row of `turnpike.charge`.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) amount: i64,
    pub(super) mark: String,
}

/// Every charge, by its exchange.
pub(super) async fn charges(sql: &Client) -> HashMap<String, Charge> {
    let rows = sql
        .query("select id::text, amount, mark from turnpike.charge", &[])
        .await
        .unwrap();
    let count = rows.len();
    let charges: HashMap<_, _> = rows
        .into_iter()
        .map(|row| {
            let charge = Charge {
                amount: row.get(1),
                mark: row.get(2),
            };
            (row.get(0), charge)
        })
        .collect();
    assert_eq!(charges.len(), count, "an exchange has one charge");
    charges
}

/// No answer was cut, and whoever was refused was told to come again: the purse was empty and nobody could fill it.
pub(super) fn whole_or_told_to_wait(calls: &[Call]) {
    for call in calls {
        match &call.end {
            End::Whole | End::Refused(503, _, true) => {}
            _ => panic!("{call:?}"),
        }
    }
}

/// Whoever has the whole answer has paid what it costs, once.
pub(super) fn each_whole_answer_is_paid(calls: &[Call], charges: &HashMap<String, Charge>) {
    for call in calls.iter().filter(|call| call.end == End::Whole) {
        let exchange = call.exchange.as_ref().unwrap();
        let charge = charges
            .get(exchange)
            .unwrap_or_else(|| panic!("{call:?} is answered and not charged"));
        assert_eq!(
            (charge.amount, charge.mark.as_str()),
            (cost(call.number), "measured"),
            "{call:?}"
        );
    }
    assert!(
        charges.len() <= calls.len(),
        "{} charges for {} calls",
        charges.len(),
        calls.len()
    );
}

/// Waits until nothing is held and nothing is leased to processes that are gone (all but the newest), then audits.
pub(super) async fn settled(sql: &Client) {
    eventually("every exchange has an end, every lease of the dead is back", async || {
        let left: i64 = sql
            .query_one(
                "select (select count(*) from turnpike.hold) +
                        (select count(*) from turnpike.lease where instance_id <> (select max(id) from turnpike.instance))",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        (left == 0).then_some(())
    })
    .await;
    audited(sql).await;
}

/// The books agree with themselves.
pub(super) async fn audited(sql: &Client) {
    let rows = sql
        .query("select audit::text from turnpike.audit", &[])
        .await
        .unwrap();
    let complaints: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
