//! Which connection a request gets.

use std::time::Duration;

use proxy::PoolLimits;
use testkit::body::Held;
use testkit::raw::Wire;
use testkit::raw::patiently;
use testkit::upstream::Upstream;
use testkit::upstream::json;
use testkit::upstream::sse;

use crate::relay::Relay;
use crate::relay::limits;

const GET: &str = "GET / HTTP/1.1\r\nHost: gw\r\n\r\n";

async fn get(client: &mut Wire) -> u16 {
    client.send(GET).await;
    client.read_message().await.0.status()
}

#[tokio::test]
async fn one_connection_serves_requests_one_after_the_other() {
    for answer in [json("{}"), sse(&["one", "[DONE]"]), json("")] {
        let upstream = Upstream::answering(answer).await;
        let relay = Relay::to(&upstream.url());
        let pool = relay.pool.clone();
        let relay = relay.start();
        for _ in 0..3 {
            let mut client = relay.connect().await;
            for _ in 0..3 {
                assert_eq!(get(&mut client).await, 200);
            }
        }
        assert_eq!(upstream.connections(), 1);
        assert_eq!(pool.idle_connections(), 1);
    }
}

#[tokio::test]
async fn an_upstream_that_says_close_is_not_asked_again() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
            .await;
    let relay = Relay::to(&upstream.url());
    let pool = relay.pool.clone();
    let relay = relay.start();
    let mut client = relay.connect().await;
    for _ in 0..2 {
        assert_eq!(get(&mut client).await, 200);
        assert_eq!(pool.idle_connections(), 0);
    }
    assert_eq!(upstream.connections(), 2);
    assert!(
        !client
            .received()
            .text()
            .to_lowercase()
            .contains("connection"),
        "it is for one hop"
    );
}

/// Upstreams close idle connections whenever they like; the request that finds out must not suffer.
#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let closed = Held::default();
    let close = closed.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let closed = closed.clone();
        async move {
            wire.read_message().await;
            wire.send(json("{}")).await;
            drop(wire);
            closed.release();
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    for number in 1..=5 {
        client
            .send("POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 2\r\n\r\n{}")
            .await;
        assert_eq!(client.read_message().await.0.status(), 200);
        patiently("the upstream to close", close.released()).await;
        assert_eq!(upstream.connections(), number);
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_not_repeated() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.send(json("{}")).await;
        // The second request on this connection is read and lost.
        wire.read_message().await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    assert_eq!(get(&mut client).await, 200);
    assert_eq!(get(&mut client).await, 502);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn connections_are_capped_and_those_who_wait_are_served_in_turn() {
    let gate = Held::default();
    let opened = gate.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = opened.clone();
        async move {
            while wire.has_more().await {
                let (head, _) = wire.read_message().await;
                gate.released().await;
                let path = head.start.split(' ').nth(1).unwrap().to_owned();
                wire.send(json(&path)).await;
            }
        }
    })
    .await;
    let limits = PoolLimits {
        connections_max: 2,
        ..limits()
    };
    let relay = Relay::with_limits(&upstream.url(), limits).start();
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = relay.connect().await;
        client
            .send(format!("GET /{number} HTTP/1.1\r\nHost: gw\r\n\r\n"))
            .await;
        clients.push(client);
    }
    gate.release();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(
            client.read_message().await.1,
            format!("/{number}").as_bytes()
        );
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn waiting_in_line_has_an_end() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_to_end().await;
    })
    .await;
    let limits = PoolLimits {
        connections_max: 1,
        queue_timeout: Duration::from_millis(20),
        ..limits()
    };
    let relay = Relay::with_limits(&upstream.url(), limits).start();
    let mut first = relay.connect().await;
    first.send(GET).await;
    let mut second = relay.connect().await;
    // Whichever of the two came first has the connection.
    second.send(GET).await;
    let answered = tokio::select! {
        (head, body) = first.read_message() => (head.status(), body),
        (head, body) = second.read_message() => (head.status(), body),
    };
    assert_eq!(answered, (504, b"Timeout(Queue)".to_vec()));
}

#[tokio::test]
async fn an_idle_connection_is_let_go() {
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(move |mut wire| {
        let told = told.clone();
        async move {
            wire.read_message().await;
            wire.send(json("{}")).await;
            let _ = told.send(wire.read_to_end().await.1);
        }
    })
    .await;
    let limits = PoolLimits {
        idle_timeout: Duration::from_millis(20),
        ..limits()
    };
    let relay = Relay::with_limits(&upstream.url(), limits);
    let pool = relay.pool.clone();
    let relay = relay.start();
    assert_eq!(get(&mut relay.connect().await).await, 200);
    assert!(
        patiently("the connection to close", ends.recv())
            .await
            .is_some()
    );
    assert_eq!(pool.idle_connections(), 0);
}

#[tokio::test]
async fn an_answer_that_is_not_read_costs_its_connection() {
    let upstream = Upstream::answering(sse(&["one", "two", "[DONE]"])).await;
    let relay = Relay::to(&upstream.url());
    let request = || http::Request::get("/").body(proxy::Whole::empty()).unwrap();
    for number in 1..=2 {
        let response = relay
            .pool
            .send(&relay.target, &relay.egress, request())
            .await
            .unwrap();
        drop(response);
        assert_eq!(relay.pool.idle_connections(), 0);
        assert_eq!(upstream.connections(), number);
    }
}
