//! SIGTERM loses no charge: no new work, open streams finish, everything is settled.

use testkit::{
    raw::{Wire, patiently},
    upstream::{self, Upstream, sse_event, sse_head},
};

use crate::support::{Bank, Turnpike, eventually, paused_stream, post};

const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":20,"messages":[]}"#;
const DELTA: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":15,"total_tokens":17}}"#;

#[tokio::test]
async fn open_streams_finish_and_are_charged() {
    let bank = Bank::open().await;
    let (upstream, go_on) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;
    let mut turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let mut wires = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(turnpike.clients).await;
        wire.send(post("/v1/chat/completions", &token, STREAM))
            .await;
        wire.read_until(format!("data: {DELTA}\n\n")).await;
        wires.push(wire);
    }
    // One of them leaves; its charge must not be lost either.
    wires.pop().unwrap().reset();
    turnpike.signal("TERM");
    eventually("it drains", async || {
        turnpike.log().contains("draining").then_some(())
    })
    .await;
    go_on.release();
    for wire in &mut wires {
        wire.read_until("data: [DONE]\n\n").await;
    }
    assert!(patiently("the end", turnpike.ended()).await.success());
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge where mark = 'measured'")
            .await,
        8
    );
    assert_eq!(
        bank.one::<i64>("select sum(amount)::bigint from turnpike.charge")
            .await,
        8 * (2 * 2_500 + 15 * 10_000)
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_at_the_deadline_and_charged_by_estimate() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.send([sse_head(), sse_event(DELTA)].concat()).await;
        wire.has_more().await;
    })
    .await;
    let mut turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("SHUTDOWN_SECONDS", "1")]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    wire.read_until(format!("data: {DELTA}\n\n")).await;
    turnpike.signal("TERM");
    let (received, _) = patiently("the end", wire.read_to_end()).await;
    assert!(
        !received.ends_with(upstream::LAST_CHUNK),
        "a truncated stream must look truncated"
    );
    assert!(patiently("the end", turnpike.ended()).await.success());
    assert_eq!(bank.charge().await.get::<_, &str>("mark"), "estimated");
    bank.audited().await;
}
