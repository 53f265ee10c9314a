//! Everything at once, for a while: streams that stay open, short calls, refusals, upstream faults, clients that hang up, and
//! a Postgres that goes away. Afterwards nothing is left, nothing has grown, and every answer is paid once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use testkit::{
    raw::Wire,
    relay::Relay,
    upstream::{LAST_CHUNK, Upstream, chunk, sse_event, sse_head},
};
use tokio::{task::JoinSet, time::sleep};

use super::load::{self, Call, DELTA, End, audited, call_with, charges, cost, figure, request};
use crate::support::{Bank, Turnpike, eventually, post};

/// Seconds that it goes on. `just soak` says more.
const SECONDS: u64 = 12;
/// Streams open at once, and in `just soak`.
const STREAMS: usize = 60;
const STREAMS_SOAK: usize = 1_000;
/// Clients of each other kind.
const OTHERS: usize = 4;
/// Samples of the memory curve.
const SAMPLES: u32 = 24;
/// How often Postgres goes away, and for how long.
const RESTARTS: u32 = 3;
const OUTAGE: Duration = Duration::from_secs(1);
/// What memory may grow by from the second quarter to the last, and a thousandth of it may be so many times that.
const GROWTH_BYTES_MAX: i64 = 24 * 1024 * 1024;
const GROWTH_PER_MILLE_MAX: i64 = 200;
/// Idle connections to the upstream that two workers keep.
const IDLE_MAX: i64 = 2 * 256;
/// Descriptors beside them, and tasks, that are there by themselves: connections to Postgres, listeners, files.
const SLACK: i64 = 40;

fn duration() -> Duration {
    let seconds = std::env::var_os("TURNPIKE_SOAK_SECONDS");
    Duration::from_secs(seconds.map_or(SECONDS, |seconds| {
        seconds.to_str().unwrap().parse().unwrap()
    }))
}

fn streams() -> usize {
    if std::env::var_os("TURNPIKE_SOAK_SECONDS").is_some() {
        STREAMS_SOAK
    } else {
        STREAMS
    }
}

/// A stream that stays for seconds; a fault of one kind or another; else an answer at once.
async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let text = std::str::from_utf8(&body).unwrap();
            let served = if text.contains("\"stay ") {
                stay(&mut wire, text).await
            } else if text.contains("\"fault ") {
                return fault(wire, figure(text, "\"fault ").parse().unwrap()).await;
            } else {
                load::answer(&mut wire, &body).await
            };
            if served.is_err() {
                return;
            }
        }
    })
    .await
}

async fn stay(wire: &mut Wire, request: &str) -> std::io::Result<()> {
    let number: usize = figure(request, "\"stay ").parse().unwrap();
    wire.try_send(sse_head()).await?;
    for _ in 0..4 + number % 8 {
        sleep(Duration::from_millis(400)).await;
        wire.try_send(sse_event(DELTA)).await?;
        wire.try_send(chunk(": keep-alive\n\n")).await?;
    }
    let limit = figure(request, "\"max_tokens\":");
    let usage =
        format!(r#"{{"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":{limit}}}}}"#);
    wire.try_send([sse_event(&usage), sse_event("[DONE]"), LAST_CHUNK.to_vec()].concat())
        .await
}

async fn fault(mut wire: Wire, number: usize) {
    let begun = [sse_head(), sse_event(DELTA)].concat();
    match number % 5 {
        0 => drop(wire),
        1 => wire.reset(),
        2 => {
            let _ = wire.try_send(begun).await;
            wire.reset();
        }
        3 => {
            // Silent until it is given up.
            let _ = wire.try_send(begun).await;
            wire.has_more().await;
        }
        _ => {
            let _ = wire
                .try_send("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}")
                .await;
        }
    }
}

/// What one kind of client does, over and over.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Stays,
    Calls,
    MeetsFaults,
    IsRefused,
    HangsUp,
}

/// One thing of this kind. The call, where it is one that must be paid if it is whole.
async fn act(
    kind: Kind,
    turnpike: std::net::SocketAddr,
    token: &str,
    number: usize,
) -> Option<Call> {
    let stream = request(number / 3 * 3 + 1);
    let number = if matches!(kind, Kind::Calls) {
        number
    } else {
        number / 3 * 3 + 1
    };
    let as_word = |word: &str| stream.replace("\"call ", &format!("\"{word} "));
    match kind {
        Kind::Calls => load::call(turnpike, token, number).await,
        Kind::Stays => call_with(turnpike, token, number, &as_word("stay")).await,
        Kind::MeetsFaults => call_with(turnpike, token, number, &as_word("fault")).await,
        Kind::IsRefused => {
            let (token, body) = match number % 3 {
                0 => ("tp-unknown", as_word("call")),
                1 => (token, "{".to_owned()),
                _ => (token, as_word("call").replace("gpt-4o-mini", "unpriced")),
            };
            call_with(turnpike, token, number, &body).await;
            sleep(Duration::from_millis(20)).await;
            None
        }
        Kind::HangsUp => {
            let mut wire = Wire::connect(turnpike).await;
            let body = as_word("stay");
            if wire
                .try_send(post("/v1/chat/completions", token, &body))
                .await
                .is_ok()
            {
                sleep(Duration::from_millis(500)).await;
            }
            wire.reset();
            None
        }
    }
}

/// A point of the curve.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: u64,
    memory: i64,
    descriptors: i64,
    tasks: i64,
    open: i64,
}

async fn sample(turnpike: &Turnpike, since: Instant) -> Sample {
    Sample {
        seconds: since.elapsed().as_secs(),
        memory: turnpike.figure("process_resident_memory_bytes").await,
        descriptors: turnpike.figure("process_open_fds").await,
        tasks: turnpike.figure("tasks").await,
        open: turnpike.figure("open_exchanges").await,
    }
}

fn print(sample: Sample) {
    let Sample {
        seconds,
        memory,
        descriptors,
        tasks,
        open,
    } = sample;
    println!(
        "{seconds:>5} s  {:>7} KiB  {descriptors:>5} descriptors  {tasks:>5} tasks  {open:>5} open",
        memory / 1024
    );
}

fn median(samples: &[Sample]) -> i64 {
    let mut memory: Vec<_> = samples.iter().map(|sample| sample.memory).collect();
    memory.sort_unstable();
    memory[memory.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn after_everything_at_once_nothing_is_left_and_nothing_has_grown() {
    let bank = Bank::open().await;
    let relay = Relay::to(&bank.db.url()).await;
    bank.sql
        .batch_execute("select turnpike.top_up('alice', 100000, 'soak')")
        .await
        .unwrap();
    let token = bank.token("").await;
    let upstream = upstream().await;
    let turnpike = Turnpike::start_with(&[
        ("DATABASE_URL", relay.url()),
        ("OPENAI_URL", format!("{}/v1", upstream.url())),
        ("OPENAI_API_KEY", "sk-soak".to_owned()),
        ("ANSWER_IDLE_SECONDS", "3".to_owned()),
        ("FIRST_BYTE_TIMEOUT_SECONDS", "5".to_owned()),
        ("ADDRESS_UNKNOWN_TOKENS_PER_MINUTE", "0".to_owned()),
        ("LOG_LEVEL", "off".to_owned()),
    ]);
    let (numbers, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut clients = JoinSet::new();
    let kinds = [
        (Kind::Stays, streams()),
        (Kind::Calls, OTHERS),
        (Kind::MeetsFaults, OTHERS * 2),
        (Kind::IsRefused, OTHERS),
        (Kind::HangsUp, OTHERS * 4),
    ];
    for kind in kinds
        .into_iter()
        .flat_map(|(kind, count)| std::iter::repeat_n(kind, count))
    {
        let (token, numbers, stop) = (token.clone(), Arc::clone(&numbers), Arc::clone(&stop));
        let address = turnpike.clients;
        clients.spawn(async move {
            let mut calls = Vec::new();
            while !stop.load(Relaxed) {
                let number = numbers.fetch_add(1, Relaxed);
                if let Some(call) = act(kind, address, &token, number).await
                    && call.end != End::Cut
                {
                    calls.push(call);
                }
                // A client that is refused does not storm.
                sleep(Duration::from_millis(5)).await;
            }
            calls
        });
    }
    let (began, step) = (Instant::now(), duration() / SAMPLES);
    let mut curve = Vec::new();
    for number in 1..=SAMPLES {
        sleep(step).await;
        curve.push(sample(&turnpike, began).await);
        print(curve[curve.len() - 1]);
        if number % (SAMPLES / (RESTARTS + 1)) == 0 && number < SAMPLES {
            // To the program it is the same whether Postgres restarts or cannot be reached.
            relay.close();
            sleep(OUTAGE).await;
            relay.open();
        }
    }
    stop.store(true, Relaxed);
    let calls: Vec<Call> = clients.join_all().await.into_iter().flatten().collect();
    let left = eventually("every exchange has its end", async || {
        let left = sample(&turnpike, began).await;
        let settling = turnpike.figure("settling").await + turnpike.figure("journal_records").await;
        (left.open == 0 && settling == 0).then_some(left)
    })
    .await;
    print(left);
    let sql = &bank.sql;
    eventually("no hold is left", async || {
        let holds: i64 = sql
            .query_one("select count(*) from turnpike.hold", &[])
            .await
            .unwrap()
            .get(0);
        (holds == 0).then_some(())
    })
    .await;
    audited(sql).await;
    let charges = charges(sql).await;
    let whole = calls.iter().filter(|call| call.end == End::Whole);
    let mut paid = 0;
    for call in whole {
        let charge = &charges[call.exchange.as_ref().unwrap()];
        let expected = (cost(call.number), "measured");
        assert_eq!((charge.amount, charge.mark.as_str()), expected, "{call:?}");
        paid += 1;
    }
    let grown =
        median(&curve[curve.len() * 3 / 4..]) - median(&curve[curve.len() / 4..curve.len() / 2]);
    println!(
        "{} calls, {paid} whole and paid, {} charges, memory grew by {} KiB",
        numbers.load(Relaxed),
        charges.len(),
        grown / 1024
    );
    assert!(paid > 20, "{paid}");
    assert!(
        grown < GROWTH_BYTES_MAX + curve[0].memory * GROWTH_PER_MILLE_MAX / 1000,
        "memory grew by {grown}"
    );
    assert!(
        left.tasks < SLACK && left.descriptors < SLACK + IDLE_MAX,
        "{left:?}"
    );
}
