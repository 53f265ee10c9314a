//! Clients that take their time: over heads, bodies and answers.

use testkit::{
    raw::{Wire, patiently},
    upstream::{LAST_CHUNK, Upstream, chunk},
};

use super::{CHAT, Siege};
use crate::support::{Bank, Turnpike, eventually, post};

/// `CLIENT_IDLE_SECONDS` over HTTP/1: from connecting, or from the last answer, to the end of a head.
#[tokio::test]
async fn a_head_that_does_not_end_is_cut() {
    let mut siege = Siege::open(&[("CLIENT_IDLE_SECONDS", "1")]).await;
    let mut slow = Vec::new();
    for begin in [
        "",
        "G",
        "GET /v1/things HTTP/1.1\r\n",
        "GET /v1/things HTTP/1.1\r\nHost: x\r\nX-A: ",
        "PRI * HT",
    ] {
        for _ in 0..10 {
            let mut wire = Wire::connect(siege.turnpike.clients).await;
            wire.send(begin).await;
            slow.push((begin, wire));
        }
    }
    siege.serves_others().await;
    for (begin, wire) in &mut slow {
        let (answer, _) = patiently("the cut", wire.read_to_end()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{begin:?}: {answer}"
        );
    }
    siege.holds("slow heads").await;
}

/// A byte now and then does not win time: the limit is for the whole head.
#[tokio::test]
async fn a_head_that_trickles_is_cut() {
    let siege = Siege::open(&[("CLIENT_IDLE_SECONDS", "1")]).await;
    let mut wire = Wire::connect(siege.turnpike.clients).await;
    wire.send("GET /v1/things HTTP/1.1\r\nHost: x\r\nX-A: ")
        .await;
    let trickle = eventually("the trickle ends", async || {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        wire.try_send("x").await.err()
    });
    patiently("the cut", trickle).await;
    siege.holds("trickling heads").await;
}

/// `UPLOAD_SECONDS`: a body that trickles, in chunks or with a length, in small or large pieces.
#[tokio::test]
async fn a_body_that_trickles_is_408() {
    let mut siege = Siege::open(&[("UPLOAD_SECONDS", "1")]).await;
    let head = |framing: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{framing}\r\n",
            siege.token
        )
    };
    let mut slow = Vec::new();
    for (framing, begin) in [
        (
            format!("Content-Length: {}\r\n", CHAT.len()),
            &CHAT.as_bytes()[..10],
        ),
        (
            "Content-Length: 1000000\r\n".to_owned(),
            &[b' '; 100_000][..],
        ),
        ("Transfer-Encoding: chunked\r\n".to_owned(), b"ff\r\n{"),
    ] {
        for _ in 0..5 {
            let mut wire = Wire::connect(siege.turnpike.clients).await;
            wire.send(head(&framing)).await;
            wire.send(begin).await;
            slow.push(wire);
        }
    }
    siege.serves_others().await;
    for mut wire in slow {
        assert_eq!(patiently("an answer", wire.read_head()).await.status(), 408);
    }
    siege.serves_others().await;
    let whole = siege.forwarded().matches(CHAT).count();
    assert_eq!(
        whole, siege.served,
        "the upstream has no more than the good client's requests whole"
    );
    siege.bank.audited().await;
}

/// `CLIENT_STALL_SECONDS`: an answer nobody takes is given up, the upstream let go, and what was used is charged.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        let event = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "word ".repeat(4_000)
        );
        wire.send(testkit::upstream::sse_head()).await;
        // Far more than sockets and buffers hold.
        for _ in 0..2_000 {
            if wire.try_send(chunk(&event)).await.is_err() {
                return;
            }
        }
        let _ = wire.try_send(LAST_CHUNK).await;
    })
    .await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("CLIENT_STALL_SECONDS", "1"), ("DISCONNECT", "estimate")],
    );
    let token = bank.token("").await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post(
        "/v1/chat/completions",
        &token,
        r#"{"model":"gpt-4o","stream":true,"messages":[]}"#,
    ))
    .await;
    patiently("an answer", wire.read_head()).await;
    let charge = bank.charge().await;
    assert_ne!(charge.get::<_, String>("mark"), "measured");
    patiently("the cut", wire.read_to_end()).await;

    bank.audited().await;
}
