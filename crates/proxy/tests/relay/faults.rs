//! When something breaks: what the other side gets to see.

use std::time::Duration;

use proxy::Abort;
use proxy::PoolLimits;
use testkit::body::Held;
use testkit::raw::Ending;
use testkit::upstream::Upstream;
use testkit::upstream::chunk;
use testkit::upstream::sse_event;
use testkit::upstream::sse_head;

use crate::relay::Relay;
use crate::relay::answering;
use crate::relay::limits;
use crate::relay::serve;

const GET: &str = "GET / HTTP/1.1\r\nHost: gw\r\n\r\n";

#[tokio::test]
async fn a_stream_cut_upstream_is_cut_for_the_client() {
    let read = Held::default();
    let begun = read.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let begun = begun.clone();
        async move {
            wire.read_head().await;
            let mut start = sse_head();
            start.extend(sse_event("one"));
            wire.send(start).await;
            begun.released().await;
            wire.reset();
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    client.read_head().await;
    assert_eq!(client.read_chunk().await, b"data: one\n\n");
    read.release();
    let (rest, _) = client.read_to_end().await;
    assert!(rest.is_empty(), "no chunk says that this was all: {rest:?}");
}

#[tokio::test]
async fn an_answer_shorter_than_announced_is_short_for_the_client() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let head = client.read_head().await;
    assert_eq!(head.header("content-length"), Some("10"));
    let (rest, _) = client.read_to_end().await;
    assert_eq!(rest, b"half");
}

#[tokio::test]
async fn a_client_of_http_1_0_sees_the_cut_as_a_reset() {
    let read = Held::default();
    let begun = read.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let begun = begun.clone();
        async move {
            wire.read_head().await;
            let mut start = sse_head();
            start.extend(chunk("one"));
            wire.send(start).await;
            begun.released().await;
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    client.read_until("one").await;
    read.release();
    assert_eq!(client.read_to_end().await.1, Ending::Reset);
}

#[tokio::test]
async fn an_upstream_that_hangs_up_unheard_is_reported() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let (head, body) = client.read_message().await;
    assert_eq!((head.status(), &*body), (502, &b"Closed"[..]));
    assert_eq!(
        upstream.connections(),
        1,
        "it may have been carried out: not repeated"
    );
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense_is_reported() {
    let upstream = Upstream::answering("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    assert_eq!(client.read_message().await.1, b"Protocol");
}

#[tokio::test]
async fn an_endless_head_is_cut_off() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        let _ = wire.try_send("HTTP/1.1 200 OK\r\n").await;
        while wire
            .try_send(format!("X-Pad: {}\r\n", "a".repeat(1000)))
            .await
            .is_ok()
        {}
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    assert_eq!(client.read_message().await.1, b"Protocol");
}

#[tokio::test]
async fn nobody_listening_is_reported() {
    let gone = Upstream::answering("").await.url();
    let relay = Relay::to(&gone).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let (head, body) = client.read_message().await;
    assert_eq!((head.status(), &*body), (502, &b"Connect"[..]));
}

#[tokio::test]
async fn a_silent_upstream_runs_out_of_time_and_is_let_go() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.read_to_end().await;
    })
    .await;
    let limits = PoolLimits {
        first_byte_timeout: Duration::from_millis(20),
        ..limits()
    };
    let relay = Relay::with_limits(&upstream.url(), limits).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let (head, body) = client.read_message().await;
    assert_eq!((head.status(), &*body), (504, &b"Timeout(FirstByte)"[..]));
}

#[tokio::test]
async fn the_first_byte_is_not_due_while_the_request_is_going_up() {
    let upstream = Upstream::answering(testkit::upstream::json("{}")).await;
    let limits = PoolLimits {
        first_byte_timeout: Duration::from_millis(20),
        ..limits()
    };
    let relay = Relay::with_limits(&upstream.url(), limits).start();
    let mut client = relay.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 2\r\n\r\n{")
        .await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    client.send("}").await;
    assert_eq!(client.read_message().await.0.status(), 200);
}

#[tokio::test]
async fn an_upstream_learns_that_the_client_has_left() {
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(move |mut wire| {
        let told = told.clone();
        async move {
            wire.read_head().await;
            wire.send(sse_head()).await;
            let (_, ending) = wire.read_to_end().await;
            let _ = told.send(ending);
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    client.read_head().await;
    drop(client);
    assert!(
        testkit::raw::patiently("the end upstream", ends.recv())
            .await
            .is_some()
    );
}

#[tokio::test]
async fn an_upstream_that_answers_early_gets_the_rest_of_the_request() {
    let upstream = Upstream::scripted(|mut wire| async move {
        let head = wire.read_head().await;
        // More than any buffer in between holds, and the client reads it only when it has sent everything.
        let mut early = sse_head();
        early.extend(chunk(vec![b'x'; 8 << 20]));
        let (answered, got) = {
            wire.try_send(&early[..64 << 10]).await.unwrap();
            let got = wire.read_body(&head).await;
            (wire.try_send(&early[64 << 10..]).await, got)
        };
        answered.unwrap();
        wire.send(chunk(got.len().to_string())).await;
        wire.send("0\r\n\r\n").await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    let len = 16 << 20;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: {len}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'y'; len]).await;
    let (_, body) = client.read_message().await;
    assert!(body.ends_with(len.to_string().as_bytes()));
}

/// A client that does not read must stop the upstream, not fill our memory.
#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    let (told, mut counts) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(move |mut wire| {
        let told = told.clone();
        async move {
            wire.read_head().await;
            wire.send(sse_head()).await;
            let piece = chunk(vec![b'x'; 64 << 10]);
            while wire.try_send(&piece).await.is_ok() {
                let _ = told.send(piece.len());
            }
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    client.read_head().await;
    let mut passed = 0;
    // Quiet for a while: everything in between is full.
    while let Ok(Some(sent)) = tokio::time::timeout(Duration::from_millis(300), counts.recv()).await
    {
        passed += sent;
        assert!(passed < 64 << 20, "more went up than the sockets hold");
    }
    // Reading again makes it move again.
    client.read_exact(passed / 2).await;
    assert!(
        testkit::raw::patiently("more bytes", counts.recv())
            .await
            .is_some()
    );
}

#[tokio::test]
async fn an_aborted_exchange_ends_the_connection_without_an_answer() {
    let server = serve(answering(|_| async { Err(Abort) }));
    let mut client = server.connect().await;
    client.send(GET).await;
    assert!(client.read_to_end().await.0.is_empty());
}
