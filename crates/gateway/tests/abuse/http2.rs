//! HTTP/2 as enemies speak it.

use testkit::{
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};

use super::{
    CHAT, Siege,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, fields, frame, request,
    },
};
use crate::support::{Bank, Turnpike, eventually, post};

const INITIAL_WINDOW_SIZE: u16 = 4;
/// More frames than sockets hold on their way.
const SENT_MAX: usize = 3_000_000;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Frames behind a request that break its stream.
type Fault = fn(u32) -> Vec<u8>;

/// CVE-2023-44487: streams opened and reset at once, as fast as the wire takes them.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let mut siege = Siege::open(&[]).await;
    for _ in 0..4 {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        let block = request("GET", "/v1/nothing", "tp-wrong");
        let mut burst = Vec::new();
        for number in 0..20_000_u32 {
            let stream = 2 * number + 1;
            burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
            burst.extend(frame(RST_STREAM, 0, stream, 8_u32.to_be_bytes()));
        }
        client.send(&burst).await;
        let code = client.read_goodbye().await;
        assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
        siege.serves_others().await;
    }
    siege.holds("rapid resets").await;
}

/// The same without resets of the client's own (CVE-2025-8671): frames that make us reset each stream.
#[tokio::test]
async fn streams_that_make_us_reset_them_end_the_connection() {
    let mut siege = Siege::open(&[]).await;
    let block = request("GET", "/v1/nothing", "tp-wrong");
    let faults: [(&str, Fault); 3] = [
        ("no step of the window", |stream| {
            frame(WINDOW_UPDATE, 0, stream, 0_u32.to_be_bytes())
        }),
        ("a window too large", |stream| {
            frame(WINDOW_UPDATE, 0, stream, 0x7fff_ffff_u32.to_be_bytes())
        }),
        ("data behind the end", |stream| frame(DATA, 0, stream, "x")),
    ];
    for (name, fault) in faults {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        let mut went = true;
        for number in 0..20_000_u32 {
            let stream = 2 * number + 1;
            let bytes = [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
                fault(stream),
            ]
            .concat();
            went = client.send(bytes).await;
            if !went {
                break;
            }
        }
        if went {
            client.read_goodbye().await;
        }
        siege.serves_others().await;
        println!("abuse, {name}: over");
    }
    siege.holds("streams that must be reset").await;
}

/// CVE-2024-27316 and its like: a header block that does not end.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let mut siege = Siege::open(&[]).await;
    let filler = fields([("x-filler", &*"v".repeat(1_000))]);
    for (name, block) in [("fields", filler), ("empty", Vec::new())] {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        client
            .send(frame(
                HEADERS,
                END_STREAM,
                1,
                request("GET", "/v1/things", &siege.token),
            ))
            .await;
        let flood = frame(CONTINUATION, 0, 1, &block).repeat(1_000);
        let mut sent = 0;
        while sent < SENT_MAX && client.send(&flood).await {
            sent += 1_000;
        }
        assert!(sent < SENT_MAX, "{name}: the flood went on");
        siege.serves_others().await;
    }
    siege.holds("continuations").await;
}

/// Frames that ask for an answer each, and nobody who reads those answers.
#[tokio::test]
async fn floods_of_frames_are_bounded() {
    let mut siege = Siege::open(&[]).await;
    let token = siege.token.clone();
    for (name, flood) in [
        ("pings", frame(PING, 0, 0, [7; 8])),
        ("settings", frame(SETTINGS, 0, 0, [0, 4, 0, 0, 255, 255])),
        ("empty settings", frame(SETTINGS, 0, 0, "")),
        ("windows", frame(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())),
        ("priorities", frame(2, 0, 1, [0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xfa, 0, 0, [0; 100])),
        (
            "empty data",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    request("POST", "/v1/chat/completions", &token),
                ),
                frame(DATA, 0, 1, "").repeat(50_000),
            ]
            .concat(),
        ),
    ] {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        let burst = if flood.len() > 10_000 {
            flood
        } else {
            flood.repeat(100_000)
        };
        // Until it takes no more, or all went.
        let _ = tokio::time::timeout(
            std::time::Duration::from_secs(2),
            client.wire.try_send(&burst),
        )
        .await;
        siege.serves_others().await;
        println!("abuse, {name}: over");
        drop(client);
    }
    siege.holds("floods of frames").await;
}

/// `CLIENT_STALL_SECONDS` over HTTP/2: windows held shut, and opened a byte at a time.
#[tokio::test]
async fn shut_windows_are_given_up() {
    let bank = Bank::open().await;
    let long = format!(
        r#"{{"x":"{}","usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#,
        "x".repeat(300_000)
    );
    let upstream = Upstream::answering(json(&long)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("CLIENT_STALL_SECONDS", "1")]);
    let token = bank.token("").await;
    let mut client = Frames::connect(turnpike.clients, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let block = [
        request("POST", "/v1/chat/completions", &token),
        fields([("content-type", "application/json")]),
    ]
    .concat();
    for number in 0..10_u32 {
        let stream = 2 * number + 1;
        client
            .send(
                [
                    frame(HEADERS, END_HEADERS, stream, &block),
                    frame(DATA, END_STREAM, stream, CHAT),
                ]
                .concat(),
            )
            .await;
    }
    // One of them is opened, by a single byte.
    client
        .send(frame(WINDOW_UPDATE, 0, 1, 1_u32.to_be_bytes()))
        .await;
    // Given up, they are read to their end and charged.
    eventually("all are charged", async || {
        (bank
            .one::<i64>("select count(*) from turnpike.charge")
            .await
            == 10)
            .then_some(())
    })
    .await;
    // A stream whose window is open is served on the same connection.
    client
        .send(
            [
                frame(HEADERS, END_HEADERS, 21, &block),
                frame(DATA, END_STREAM, 21, CHAT),
                frame(WINDOW_UPDATE, 0, 21, 1_000_000_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 0, 1_000_000_u32.to_be_bytes()),
            ]
            .concat(),
        )
        .await;
    let end = client
        .read_until(|frame| {
            frame.kind == DATA && frame.stream == 21 && frame.flags & END_STREAM != 0
        })
        .await;
    assert!(end.is_some());
    // All were answered whole by the upstream: that is what they cost.
    eventually("all are charged", async || {
        (bank
            .one::<i64>("select count(*) from turnpike.charge")
            .await
            == 11)
            .then_some(())
    })
    .await;
    bank.audited().await;
}

/// `CLIENT_IDLE_SECONDS` over HTTP/2: a connection without requests ends, however busy it is otherwise.
#[tokio::test]
async fn an_idle_connection_is_closed_whatever_it_pings() {
    let mut siege = Siege::open(&[("CLIENT_IDLE_SECONDS", "1")]).await;
    let mut idle = Frames::connect(siege.turnpike.clients, &[]).await;
    let mut half = Frames::connect(siege.turnpike.clients, &[]).await;
    // A head that does not end is no request.
    half.send(frame(
        HEADERS,
        0,
        1,
        request("GET", "/v1/things", &siege.token),
    ))
    .await;
    let pings = eventually("the connection ends", async || {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let answers = frame(PING, 1, 0, [11, 123, 162, 240, 139, 155, 254, 84]);
        (!idle
            .send([frame(PING, 0, 0, [7; 8]), answers].concat())
            .await)
            .then_some(())
    });
    patiently("the end", pings).await;
    siege.serves_others().await;
    let _ = half;
    siege.holds("idle HTTP/2 connections").await;
}

/// A connection with an open request is not idle, however long its answer takes.
#[tokio::test]
async fn a_connection_with_an_open_request_is_not_idle() {
    let bank = Bank::open().await;
    let (upstream, go_on) = crate::support::paused_stream(
        &[r#"{"choices":[]}"#],
        &[
            r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
            "[DONE]",
        ],
    )
    .await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("CLIENT_IDLE_SECONDS", "1"), ("CLIENT_STALL_SECONDS", "1")],
    );
    let token = bank.token("").await;
    let mut client = Frames::connect(turnpike.clients, &[]).await;
    let body =
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    client
        .send(
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    request("POST", "/v1/chat/completions", &token),
                ),
                frame(DATA, END_STREAM, 1, body),
            ]
            .concat(),
        )
        .await;
    assert!(
        client
            .read_until(|frame| frame.kind == DATA)
            .await
            .is_some()
    );
    // A second connection idles beside it; once that is closed, this one has been open for as long.
    let mut idle = Frames::connect(turnpike.clients, &[]).await;
    idle.read_until(|frame| frame.kind == GOAWAY).await;
    go_on.release();
    let end = client
        .read_until(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0)
        .await;
    assert_eq!(
        end.map(|frame| frame.kind),
        Some(DATA),
        "the answer ends as it should"
    );
    bank.audited().await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_the_rest_served() {
    let mut siege = Siege::open(&[]).await;
    let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
    // Open, and never ended: 200 are allowed.
    let block = request("POST", "/v1/chat/completions", &siege.token);
    for number in 0..300_u32 {
        client
            .send(frame(HEADERS, END_HEADERS, 2 * number + 1, &block))
            .await;
    }
    let refused = client
        .read_until(|frame| frame.kind == RST_STREAM && frame.payload == [0, 0, 0, 7])
        .await;
    assert!(refused.is_some(), "REFUSED_STREAM");
    siege.serves_others().await;
    drop(client);
    let whole = siege.forwarded().matches(CHAT).count();
    assert_eq!(
        whole, siege.served,
        "heads may go up, whole requests do not"
    );
    siege.bank.audited().await;
}

/// Requests that HTTP/1 could not even say, or would say differently.
#[tokio::test]
async fn what_would_be_smuggled_by_translation_is_refused() {
    let mut siege = Siege::open(&[]).await;
    let authorization = format!("Bearer {}", siege.token);
    let with = |more: &[(&str, &str)]| {
        let mut all = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "x"),
            (":path", "/v1/chat/completions"),
            ("authorization", &*authorization),
        ];
        for (name, value) in more {
            match all
                .iter_mut()
                .find(|(own, _)| own.starts_with(':') && own == name)
            {
                Some(own) => own.1 = value,
                None => all.push((name, value)),
            }
        }
        fields(all)
    };
    let mut cases = 0;
    for more in [
        &[("transfer-encoding", "chunked")][..],
        &[("connection", "close")],
        &[("upgrade", "h2c")],
        &[("te", "chunked")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "x")],
        &[("content-length", "1")],
        &[("content-length", "48"), ("content-length", "1")],
        &[("content-length", "x")],
        &[("content-length", "+48")],
        &[("X-Upper", "1")],
        &[("x a", "1")],
        &[("x\r\nInjected", "1")],
        &[("x-a", "1\r\nInjected: 1")],
        &[("x-a", "1\nInjected: 1")],
        &[("x-a", "1\0")],
        &[("", "x")],
        &[(":path", "")],
        &[(":path", "v1/things")],
        &[(":path", "/v1/things HTTP/1.1\r\nInjected: 1")],
        &[(":path", "/v1/../things")],
        &[(":path", "//v1/things")],
        &[(":method", "GET /v1/hidden HTTP/1.1\r\nx: ")],
        &[(":method", "")],
        &[(":method", "CONNECT")],
        &[(":authority", "x y")],
        &[(":authority", "x\r\nInjected: 1")],
        &[(":status", "200")],
        &[(":protocol", "websocket")],
        &[(":unknown", "x")],
        &[("host", "other"), (":path", "/v1/%2e%2e/x")],
    ] {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        client
            .send(
                [
                    frame(HEADERS, END_HEADERS, 1, with(more)),
                    frame(DATA, END_STREAM, 1, CHAT),
                ]
                .concat(),
            )
            .await;
        let end = client
            .read_until(|frame| {
                matches!(
                    (frame.kind, frame.stream),
                    (RST_STREAM | HEADERS, 1) | (GOAWAY, _)
                )
            })
            .await;
        // 0x88 is `:status: 200`.
        let is_served =
            end.is_some_and(|frame| frame.kind == HEADERS && frame.payload.first() == Some(&0x88));
        assert!(!is_served, "{more:?}");
        siege.only_good_was_forwarded(&format!("{more:?}"));
        cases += 1;
    }
    println!("abuse, HTTP/2 heads: {cases} cases");
    siege.serves_others().await;
    siege.holds("HTTP/2 heads").await;
}

/// Frames that break the protocol itself: the connection ends with a reason, and nothing else happens.
#[tokio::test]
async fn frames_out_of_form_end_the_connection() {
    let mut siege = Siege::open(&[]).await;
    let block = request("GET", "/v1/things", "tp-wrong");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("data on stream 0", frame(DATA, 0, 0, "x")),
        ("data on an idle stream", frame(DATA, 0, 1, "x")),
        (
            "headers on stream 0",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &block),
        ),
        (
            "an even stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &block),
        ),
        (
            "a stream number that goes back",
            [
                frame(HEADERS, END_HEADERS | END_STREAM, 5, &block),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, &block),
            ]
            .concat(),
        ),
        ("a ping of 7 bytes", frame(PING, 0, 0, [0; 7])),
        ("a ping on a stream", frame(PING, 0, 1, [0; 8])),
        ("settings of 5 bytes", frame(SETTINGS, 0, 0, [0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, [])),
        (
            "an answer to settings with a payload",
            frame(SETTINGS, 1, 0, [0; 6]),
        ),
        (
            "a window beyond 2^31",
            frame(SETTINGS, 0, 0, [0, 4, 255, 255, 255, 255]),
        ),
        (
            "frames of 0 bytes at most",
            frame(SETTINGS, 0, 0, [0, 5, 0, 0, 0, 0]),
        ),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, [0; 4])),
        ("a reset of 3 bytes", frame(RST_STREAM, 0, 1, [0; 3])),
        (
            "no step of the connection's window",
            frame(WINDOW_UPDATE, 0, 0, [0; 4]),
        ),
        (
            "a window update of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
        ),
        (
            "a connection's window beyond 2^31",
            frame(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &block),
        ),
        (
            "a ping between headers",
            [
                frame(HEADERS, END_STREAM, 1, &block),
                frame(PING, 0, 0, [0; 8]),
            ]
            .concat(),
        ),
        (
            "a frame longer than allowed",
            frame(DATA, 0, 1, vec![0; 20_000]),
        ),
        ("a promise", frame(5, END_HEADERS, 1, [0, 0, 0, 2])),
        (
            "padding longer than the frame",
            [
                frame(HEADERS, END_HEADERS, 1, &block),
                frame(DATA, 8, 1, [200, 1, 2]),
            ]
            .concat(),
        ),
        (
            "a header block that is none",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 20]),
        ),
        (
            "an index out of the table",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xfe]),
        ),
        (
            "a table larger than allowed",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                [0x3f, 0xff, 0xff, 0xff, 0x7f],
            ),
        ),
    ];
    for (name, bytes) in &cases {
        let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
        client.send(bytes).await;
        let code = client.read_goodbye().await;
        assert!(code.is_none_or(|code| code != 0), "{name}: {code:?}");
    }
    println!("abuse, HTTP/2 frames: {} cases", cases.len());
    siege.serves_others().await;
    siege.holds("HTTP/2 frames").await;
}

/// A gigabyte of header out of a few bytes: the table refers to one long value again and again.
#[tokio::test]
async fn a_header_bomb_is_refused() {
    let siege = Siege::open(&[]).await;
    let mut client = Frames::connect(siege.turnpike.clients, &[]).await;
    // A literal that is indexed (0x40), then references to it (0xbe is the newest entry).
    let mut block = request("GET", "/v1/things", &siege.token);
    let long = fields([("x", &*"v".repeat(4_000))]);
    block.push(0x40);
    block.extend(&long[1..]);
    block.extend([0xbe; 10_000]);
    client
        .send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    let end = client
        .read_until(|frame| {
            matches!(
                (frame.kind, frame.stream),
                (RST_STREAM | HEADERS, 1) | (GOAWAY, _)
            )
        })
        .await;
    let is_served =
        end.is_some_and(|frame| frame.kind == HEADERS && frame.payload.first() == Some(&0x88));
    assert!(!is_served);
    siege.holds("a header bomb").await;
}

/// A client of good will over HTTP/2 beside one of ill will on the same worker.
#[tokio::test]
async fn http1_is_served_while_http2_is_attacked() {
    let mut siege = Siege::open(&[("WORKERS", "1")]).await;
    let address = siege.turnpike.clients;
    let attack = tokio::spawn(async move {
        let block = request("GET", "/v1/nothing", "tp-wrong");
        loop {
            let mut client = Frames::connect(address, &[]).await;
            let mut number = 0_u32;
            while client
                .send(
                    [
                        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block),
                        frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes()),
                    ]
                    .concat(),
                )
                .await
            {
                number += 1;
            }
        }
    });
    for _ in 0..50 {
        let mut wire = Wire::connect(address).await;
        wire.send(post("/v1/chat/completions", &siege.token, CHAT))
            .await;
        assert_eq!(
            patiently("an answer", wire.read_message()).await.0.status(),
            200
        );
        siege.served += 1;
    }
    attack.abort();
    siege.holds("an attack that goes on").await;
}
