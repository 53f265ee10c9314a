//! Clients that stay and do not read: their exchanges end as those of clients that leave.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{
    raw::Wire,
    upstream::{LAST_CHUNK, Upstream, chunk, sse_event, sse_head},
};
use tokio::net::TcpStream;

use super::{COST, USAGE, chat, nothing_left};
use crate::support::{Bank, Turnpike, post};

/// More than the sockets of both sides take.
const PIECES: usize = 24;

/// An upstream whose answer is long, and then tells what was used.
async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        let _ = wire.try_send(sse_head()).await;
        let piece = chunk(format!(": {}\n\n", "a".repeat(1024 * 1024)));
        for _ in 0..PIECES {
            if wire.try_send(&piece).await.is_err() {
                return;
            }
        }
        let end = [sse_event(USAGE), sse_event("[DONE]"), LAST_CHUNK.to_vec()].concat();
        let _ = wire.try_send(end).await;
        wire.has_more().await;
    })
    .await
}

async fn settled_as_one_who_left(bank: &Bank, turnpike: &Turnpike) {
    let charge = bank.charge().await;
    assert_eq!(
        (
            charge.get::<_, i64>("amount"),
            charge.get::<_, &str>("mark")
        ),
        (COST, "measured")
    );
    nothing_left(bank, turnpike).await;
    assert!(turnpike.log().contains("end=\"abandoned\""));
}

#[tokio::test]
async fn a_client_that_does_not_read_counts_as_gone() {
    let bank = Bank::open().await;
    let upstream = upstream().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("CLIENT_STALL_SECONDS", "1")]);
    let token = bank.token("").await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &token, &chat("go on", true)))
        .await;
    wire.read_head().await;
    // The connection stays open, and unread.
    settled_as_one_who_left(&bank, &turnpike).await;
    assert_eq!(wire.read_to_end().await.1, testkit::raw::Ending::Reset);
}

#[tokio::test]
async fn a_stream_of_http_2_that_gets_no_window_counts_as_gone_and_its_neighbours_go_on() {
    let bank = Bank::open().await;
    let upstream = upstream().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("CLIENT_STALL_SECONDS", "1")]);
    let token = bank.token("").await;
    let tcp = TcpStream::connect(turnpike.clients).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(tcp),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let request = |method: &str, path: &str, body: String| {
        http::Request::builder()
            .method(method)
            .uri(format!("http://gateway.example{path}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let stalled = sender
        .send_request(request("POST", "/v1/chat/completions", chat("go on", true)))
        .await
        .unwrap();
    assert_eq!(stalled.status(), 200);
    settled_as_one_who_left(&bank, &turnpike).await;
    let neighbour = sender
        .send_request(request("GET", "/v1/models", String::new()))
        .await
        .unwrap();
    assert_eq!(neighbour.status(), 200);
    // What was let go ends in an error, should it be read after all.
    let read = tokio::time::timeout(
        Duration::from_secs(30),
        http_body_util::BodyExt::collect(stalled.into_body()),
    );
    assert!(read.await.unwrap().is_err());
    connection.abort();
}
