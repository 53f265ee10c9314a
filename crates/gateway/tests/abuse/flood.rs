//! Too much of everything over HTTP/1.

use std::time::Duration;

use testkit::raw::Wire;

use super::Siege;

#[tokio::test]
async fn a_hundred_thousand_headers_are_431() {
    let mut siege = Siege::open(&[]).await;
    for line in ["a: b\r\n", "X-Header-Of-Some-Length: value\r\n"] {
        let head = format!(
            "GET /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{}\r\n",
            siege.token,
            line.repeat(100_000)
        );
        for _ in 0..4 {
            let answered = siege.attack(&head).await;
            assert!(
                matches!(answered.status, None | Some(431)),
                "{:?}",
                answered.status
            );
            siege.serves_others().await;
        }
    }
    siege.holds("headers").await;
}

#[tokio::test]
async fn endless_lines_are_cut() {
    let mut siege = Siege::open(&[]).await;
    let long = "x".repeat(10 << 20);
    for (request, statuses) in [
        (long.clone(), &[400, 431][..]),
        (format!("GET /{long}"), &[400, 414, 431]),
        (
            format!("GET /v1/things?{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            &[400, 414, 431],
        ),
        (
            format!("GET /v1/things HTTP/1.1\r\n{long}: x\r\n\r\n"),
            &[400, 431],
        ),
        (
            format!("GET /v1/things HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
            &[400, 431],
        ),
        ("\r\n".repeat(5 << 20), &[400, 431]),
    ] {
        let answered = siege.attack(&request).await;
        assert!(
            answered
                .status
                .is_none_or(|status| statuses.contains(&status)),
            "{:?}",
            answered.status
        );
        siege.serves_others().await;
    }
    siege.holds("endless lines").await;
}

#[tokio::test]
async fn a_thousand_idle_connections_are_in_nobodys_way() {
    let mut siege = Siege::open(&[]).await;
    let mut idle = Vec::new();
    for number in 0..1_000 {
        let mut wire = Wire::connect(siege.turnpike.clients).await;
        if number % 2 == 0 {
            wire.send("GET /v1/things HTTP/1.1\r\nHost: x\r\n").await;
        }
        idle.push(wire);
    }
    for _ in 0..20 {
        siege.serves_others().await;
    }
    drop(idle);
    siege.holds("idle connections").await;
}

/// Answers that nobody reads: a client that pipelines and takes nothing is not answered without bound.
#[tokio::test]
async fn pipelining_without_reading_is_bounded() {
    let mut siege = Siege::open(&[]).await;
    let request = "GET /v1/nothing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tp-wrong\r\n\r\n"
        .repeat(2_000);
    let mut wires = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(siege.turnpike.clients).await;
        // Until it takes no more.
        let sending = async { while wire.try_send(&request).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(700), sending).await;
        wires.push(wire);
        siege.serves_others().await;
    }
    siege.holds("pipelining").await;
}
