//! A catalogue: what an upstream does, what its client sees, and what is charged.

use std::{io::Write as _, pin::Pin, sync::Arc, time::Duration};

use flate2::{Compression, write::GzEncoder};
use testkit::{
    raw::Wire,
    upstream::{LAST_CHUNK, Upstream, answer, chunk, head, json, sse_event, sse_head},
};
use tokio::{task::JoinSet, time::sleep};

use super::{COST, DELTA, JSON, Seen, USAGE, ask, charge, chat, nothing_left};
use crate::support::{Bank, Turnpike};

type Script = fn(Wire) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    Nothing,
    /// What was reported.
    Measured,
    /// What passed, marked so.
    Estimated,
}

/// Does something over and over until its peer has had enough.
async fn again(wire: &mut Wire, bytes: &[u8], pause: Duration) {
    while wire.try_send(bytes).await.is_ok() {
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            sleep(pause).await;
        }
    }
}

/// Sends what is given, then stays and says nothing.
async fn then_silence(mut wire: Wire, bytes: Vec<u8>) {
    wire.send(bytes).await;
    wire.has_more().await;
}

fn refused(status: u16, code: &str) -> Seen {
    Seen::Refused(status, code.to_owned())
}

/// A few kilobytes that open into 64 megabytes.
fn bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![b' '; 1024 * 1024];
    for _ in 0..64 {
        gzip.write_all(&zeros).unwrap();
    }
    gzip.finish().unwrap()
}

/// Name, whether the client streams, what the upstream does, what the client sees, what is charged.
fn catalogue() -> Vec<(&'static str, bool, Script, Seen, Charge)> {
    let unreachable = || refused(502, "upstream_unreachable");
    let overdue = || refused(504, "upstream_timeout");
    vec![
        (
            "endless head",
            false,
            |mut wire| {
                Box::pin(async move {
                    let _ = wire.try_send("HTTP/1.1 200 OK\r\n").await;
                    let line = format!("X-Pad: {}\r\n", "a".repeat(1000));
                    again(&mut wire, line.as_bytes(), Duration::ZERO).await;
                })
            },
            unreachable(),
            Charge::Nothing,
        ),
        (
            "a head a byte at a time, without end",
            false,
            |mut wire| {
                Box::pin(async move {
                    let _ = wire.try_send("HTTP/1.1 200 OK\r\nX-Slow: ").await;
                    again(&mut wire, b"a", Duration::from_millis(50)).await;
                })
            },
            overdue(),
            Charge::Nothing,
        ),
        (
            "interim answers without end",
            false,
            |mut wire| {
                Box::pin(async move {
                    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
                    again(&mut wire, hint, Duration::ZERO).await;
                })
            },
            overdue(),
            Charge::Nothing,
        ),
        (
            "many interim answers, then one",
            false,
            |mut wire| {
                Box::pin(async move {
                    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
                    wire.send(hints).await;
                    wire.send(json(JSON)).await;
                    wire.has_more().await;
                })
            },
            Seen::Whole,
            Charge::Measured,
        ),
        (
            "no answer at all",
            false,
            |wire| Box::pin(then_silence(wire, Vec::new())),
            overdue(),
            Charge::Nothing,
        ),
        (
            "a hang-up without an answer",
            false,
            |wire| Box::pin(async move { drop(wire) }),
            unreachable(),
            Charge::Nothing,
        ),
        (
            "nonsense",
            false,
            |wire| Box::pin(then_silence(wire, b"220 mail ready\r\n\r\n".to_vec())),
            unreachable(),
            Charge::Nothing,
        ),
        (
            "two lengths",
            false,
            |wire| {
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
                Box::pin(then_silence(wire, answer.to_vec()))
            },
            unreachable(),
            Charge::Nothing,
        ),
        (
            "an answer shorter than announced",
            false,
            |mut wire| {
                Box::pin(async move {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"id\":").await;
                })
            },
            Seen::Cut,
            Charge::Estimated,
        ),
        (
            "an answer that goes on after its announced length",
            false,
            |wire| {
                let more = [
                    json(JSON),
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse".to_vec(),
                ]
                .concat();
                Box::pin(then_silence(wire, more))
            },
            Seen::Whole,
            Charge::Measured,
        ),
        (
            "a bad chunk",
            true,
            |wire| {
                let stream = [sse_head(), sse_event(DELTA), b"zz\r\n".to_vec()].concat();
                Box::pin(then_silence(wire, stream))
            },
            Seen::Cut,
            Charge::Estimated,
        ),
        (
            "an endless chunk size",
            true,
            |mut wire| {
                Box::pin(async move {
                    let _ = wire.try_send([sse_head(), sse_event(DELTA)].concat()).await;
                    again(&mut wire, b"0", Duration::ZERO).await;
                })
            },
            Seen::Cut,
            Charge::Estimated,
        ),
        (
            "a reset in the middle",
            true,
            |mut wire| {
                Box::pin(async move {
                    wire.send([sse_head(), sse_event(DELTA)].concat()).await;
                    sleep(Duration::from_millis(50)).await;
                    wire.reset();
                })
            },
            Seen::Cut,
            Charge::Estimated,
        ),
        (
            "silence after the head",
            false,
            |wire| {
                let head = head(
                    "200 OK",
                    &[
                        ("Content-Type", "application/json"),
                        ("Content-Length", "50"),
                    ],
                );
                Box::pin(then_silence(wire, head))
            },
            Seen::Cut,
            Charge::Nothing,
        ),
        (
            "silence in a stream",
            true,
            |wire| Box::pin(then_silence(wire, [sse_head(), sse_event(DELTA)].concat())),
            Seen::Cut,
            Charge::Estimated,
        ),
        (
            "silence after the usage",
            true,
            |wire| {
                let stream = [sse_head(), sse_event(DELTA), sse_event(USAGE)].concat();
                Box::pin(then_silence(wire, stream))
            },
            Seen::Cut,
            Charge::Measured,
        ),
        (
            "comments that keep a slow answer alive",
            true,
            |mut wire| {
                Box::pin(async move {
                    wire.send(sse_head()).await;
                    for _ in 0..6 {
                        sleep(Duration::from_millis(400)).await;
                        wire.send(chunk(": keep-alive\n\n")).await;
                    }
                    let end = [sse_event(USAGE), sse_event("[DONE]"), LAST_CHUNK.to_vec()].concat();
                    wire.send(end).await;
                    wire.has_more().await;
                })
            },
            Seen::Whole,
            Charge::Measured,
        ),
        (
            "empty lines that keep a slow answer alive",
            false,
            |mut wire| {
                Box::pin(async move {
                    wire.send(head(
                        "200 OK",
                        &[
                            ("Content-Type", "application/json"),
                            ("Transfer-Encoding", "chunked"),
                        ],
                    ))
                    .await;
                    for _ in 0..6 {
                        sleep(Duration::from_millis(400)).await;
                        wire.send(chunk("\n")).await;
                    }
                    wire.send([chunk(JSON), LAST_CHUNK.to_vec()].concat()).await;
                    wire.has_more().await;
                })
            },
            Seen::Whole,
            Charge::Measured,
        ),
        (
            "a bomb",
            false,
            |mut wire| {
                Box::pin(async move {
                    let bomb = bomb();
                    let length = bomb.len().to_string();
                    let head = head(
                        "200 OK",
                        &[
                            ("Content-Type", "application/json"),
                            ("Content-Encoding", "gzip"),
                            ("Content-Length", &length),
                        ],
                    );
                    let _ = wire.try_send([head, bomb].concat()).await;
                    wire.has_more().await;
                })
            },
            Seen::Whole,
            Charge::Estimated,
        ),
        (
            "a coding that it is not",
            false,
            |wire| {
                let answer = answer(
                    "200 OK",
                    &[
                        ("Content-Type", "application/json"),
                        ("Content-Encoding", "zstd"),
                    ],
                    JSON,
                );
                Box::pin(then_silence(wire, answer))
            },
            Seen::Whole,
            Charge::Estimated,
        ),
        (
            "switching protocols",
            false,
            |wire| {
                let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
                Box::pin(then_silence(wire, switch.to_vec()))
            },
            unreachable(),
            Charge::Nothing,
        ),
        (
            "an error",
            false,
            |wire| Box::pin(then_silence(wire, answer("500 Oops", &[], "{}"))),
            Seen::Error(500),
            Charge::Nothing,
        ),
        (
            "an error without end",
            false,
            |mut wire| {
                Box::pin(async move {
                    let _ = wire
                        .try_send(head("500 Oops", &[("Transfer-Encoding", "chunked")]))
                        .await;
                    again(&mut wire, &chunk("a".repeat(10_000)), Duration::ZERO).await;
                })
            },
            unreachable(),
            Charge::Nothing,
        ),
        (
            "a redirect",
            false,
            |wire| {
                Box::pin(then_silence(
                    wire,
                    answer(
                        "307 Elsewhere",
                        &[("Location", "https://provider.example/v1")],
                        "",
                    ),
                ))
            },
            refused(502, "upstream_redirect"),
            Charge::Nothing,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_upstream_does_the_client_sees_it_and_the_books_are_right() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        if !wire.has_more().await {
            return;
        }
        let (_, body) = wire.read_message().await;
        let body = String::from_utf8(body).unwrap();
        let (_, number) = body.split_once("case ").unwrap();
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        let (_, _, script, ..) = catalogue().swap_remove(number.parse().unwrap());
        script(wire).await;
    })
    .await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[
            ("FIRST_BYTE_TIMEOUT_SECONDS", "2"),
            ("ANSWER_IDLE_SECONDS", "1"),
        ],
    );
    let token: Arc<str> = bank.token("").await.into();
    let address = turnpike.clients;
    let mut calls = JoinSet::new();
    for (number, (_, streams, ..)) in catalogue().into_iter().enumerate() {
        let token = Arc::clone(&token);
        calls.spawn(async move {
            let got = ask(address, &token, &chat(&format!("case {number}"), streams)).await;
            (number, got)
        });
    }
    for (number, got) in calls.join_all().await {
        let (name, _, _, seen, expected) = catalogue().swap_remove(number);
        assert_eq!(got.seen(), seen, "{name}");
        let charged = match got.exchange() {
            Some(exchange) if expected != Charge::Nothing => {
                let charge =
                    crate::support::eventually(name, async || charge(&bank, exchange).await);
                Some(charge.await)
            }
            Some(exchange) => charge(&bank, exchange).await,
            None => None,
        };
        match (expected, charged) {
            (Charge::Nothing, None) => {}
            (Charge::Measured, Some((COST, mark))) if mark == "measured" => {}
            (Charge::Estimated, Some((amount, mark))) if mark == "estimated" => {
                assert!(amount > 0, "{name}");
            }
            (_, charged) => panic!("{name}: charged {charged:?}, expected {expected:?}"),
        }
    }
    nothing_left(&bank, &turnpike).await;
}

#[tokio::test]
async fn an_answer_without_end_is_cut_where_the_operator_says_so() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        let _ = wire.try_send(sse_head()).await;
        again(&mut wire, &sse_event(DELTA), Duration::from_millis(20)).await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("ANSWER_SECONDS", "1")]);
    let token = bank.token("").await;
    let got = ask(turnpike.clients, &token, &chat("go on", true)).await;
    assert_eq!(got.seen(), Seen::Cut);
    assert!(String::from_utf8_lossy(&got.body).contains(DELTA));
    // More than could be paid for: no more than that is charged.
    assert_eq!(bank.charge().await.get::<_, &str>("mark"), "bounded");
    nothing_left(&bank, &turnpike).await;
}

#[tokio::test]
async fn an_upstream_that_takes_none_of_a_request_is_given_up() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_exact(10).await;
        // It stays, and reads nothing.
        std::future::pending::<()>().await;
    })
    .await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("FIRST_BYTE_TIMEOUT_SECONDS", "1")],
    );
    let token = bank.token("").await;
    let body = chat(&"a".repeat(20_000_000), false);
    let got = ask(turnpike.clients, &token, &body).await;
    // Who is still sending may lose the refusal to a reset.
    assert!(
        matches!(got.seen(), Seen::Refused(504, _) | Seen::Cut),
        "{:?}",
        got.seen()
    );
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
    nothing_left(&bank, &turnpike).await;
    assert!(turnpike.log().contains("upstream.no_answer"));
}

#[tokio::test]
async fn an_answer_before_the_request_is_whole_is_an_error_or_none() {
    let bank = Bank::open().await;
    for (early, seen) in [
        (answer("429 Slow down", &[], "{}"), Seen::Error(429)),
        (json(JSON), refused(502, "upstream_unreachable")),
    ] {
        let upstream = Upstream::scripted(move |mut wire| {
            let early = early.clone();
            async move {
                wire.read_head().await;
                wire.send(early).await;
                std::future::pending::<()>().await;
            }
        })
        .await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
        let token = bank.token("").await;
        let mut wire = Wire::connect(turnpike.clients).await;
        let body = chat(&"a".repeat(100_000), false);
        let request = crate::support::post("/v1/chat/completions", &token, &body);
        // All but the end.
        wire.send(&request[..request.len() - 1000]).await;
        let head = wire.read_head().await;
        let body = wire.read_body(&head).await;
        let got = super::Got {
            head: Some(head),
            body,
        };
        assert_eq!(got.seen(), seen);
        drop(wire);
        nothing_left(&bank, &turnpike).await;
    }
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}
