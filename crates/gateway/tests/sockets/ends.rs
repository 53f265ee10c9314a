//! How sockets are refused and how they end, and that replicas share what their turns may cost.

use testkit::{
    body::Held,
    raw::Wire,
    socket::{CLOSE, SWITCHING, read_frame, read_text, says, tells},
    upstream::{Upstream, json},
};

use super::{CREATE, CREATED, DONE, DONE_COSTS, PATH, SPOKEN, bank, open, speaking};
use crate::support::{Bank, Turnpike, eventually, post};

/// The code of an `error` event, and the close behind it.
pub(super) async fn parted(wire: &mut Wire) -> (String, u16) {
    let said: serde_json::Value = serde_json::from_str(&read_text(wire).await).unwrap();
    assert_eq!(said["type"], "error", "{said}");
    let (first, close) = read_frame(wire).await;
    assert_eq!(first, CLOSE);
    let code = u16::from_be_bytes(close[..2].try_into().unwrap());
    (said["error"]["code"].as_str().unwrap().to_owned(), code)
}

/// An upstream that begins a turn and ends it once it is released.
async fn thinking() -> (Upstream, Held) {
    let held = Held::default();
    let gate = held.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_head().await;
            wire.send(SWITCHING).await;
            read_frame(&mut wire).await;
            wire.send(tells(CREATED)).await;
            gate.released().await;
            let _ = wire.try_send(tells(DONE)).await;
            wire.has_more().await;
        }
    })
    .await;
    (upstream, held)
}

#[tokio::test]
async fn an_answer_of_another_account_is_as_if_it_were_not_there() {
    let bank = bank().await;
    let maker = bank.token("").await;
    bank.sql
        .batch_execute("select turnpike.create_account('mallory'), turnpike.top_up('mallory', 20)")
        .await
        .unwrap();
    let stranger: String = bank
        .one("select token from turnpike.issue_token('mallory')")
        .await;
    let done = |id: &str| {
        tells(&format!(
            r#"{{"type":"response.completed","response":{{"id":"{id}","model":"gpt-4o","status":"completed","usage":{{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}}}}"#
        ))
    };
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        for id in ["resp_a", "resp_b"] {
            if !wire.has_more().await {
                return;
            }
            read_frame(&mut wire).await;
            let created = format!(r#"{{"type":"response.created","response":{{"id":"{id}"}}}}"#);
            if wire
                .try_send([tells(&created), done(id)].concat())
                .await
                .is_err()
            {
                return;
            }
        }
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let ask = |more: &str| {
        says(&format!(
            r#"{{"type":"response.create","model":"gpt-4o","input":"Hi","max_output_tokens":20{more}}}"#
        ))
    };
    let following = ask(r#","previous_response_id":"resp_a""#);
    let mut wire = open(&turnpike, "/v1/responses", &maker).await;
    wire.send(ask("")).await;
    assert!(read_text(&mut wire).await.contains("response.created"));
    assert!(read_text(&mut wire).await.contains("response.completed"));

    let mut foreign = open(&turnpike, "/v1/responses", &stranger).await;
    foreign.send(&following).await;
    let (foreign_code, close) = parted(&mut foreign).await;
    assert_eq!(close, 1008);
    let mut unknown = open(&turnpike, "/v1/responses", &stranger).await;
    unknown
        .send(ask(r#","previous_response_id":"resp_z""#))
        .await;
    assert_eq!(parted(&mut unknown).await, (foreign_code, 1008));
    for received in upstream.received().iter().skip(1) {
        assert!(!received.text().contains('{'), "nothing of it goes up");
        assert!(!received.bytes().ends_with(&following));
    }

    // Its maker goes on with it, on the same socket.
    wire.send(&following).await;
    assert!(read_text(&mut wire).await.contains("response.created"));
    assert!(read_text(&mut wire).await.contains("response.completed"));
    drop(wire);
    bank.audited().await;
    let charges = "select count(*) from turnpike.charge where amount = 75000";
    assert_eq!(bank.one::<i64>(charges).await, 2);
}

#[tokio::test]
async fn replicas_share_one_purse_turn_by_turn() {
    let bank = bank().await;
    // A turn may cost up to 1.286144 USD, so that two at once do not fit, and one after another do.
    let token = bank.token(", budget_usd => 1.30").await;
    let (slow, held) = thinking().await;
    let quick = speaking().await;
    let one = Turnpike::start(&bank.db, &slow.url(), &[]);
    let other = Turnpike::start(&bank.db, &quick.url(), &[]);
    let mut first = open(&one, PATH, &token).await;
    first.send(says(CREATE)).await;
    assert_eq!(read_text(&mut first).await, CREATED);
    let mut second = open(&other, PATH, &token).await;
    second.send(says(CREATE)).await;
    assert_eq!(
        parted(&mut second).await,
        ("insufficient_quota".to_owned(), 1008)
    );
    held.release();
    assert_eq!(read_text(&mut first).await, DONE);
    // What the first did not use comes back from the other process.
    let mut third = open(&other, PATH, &token).await;
    third.send(says(CREATE)).await;
    for event in [CREATED, SPOKEN, DONE] {
        assert_eq!(read_text(&mut third).await, event);
    }
    drop((first, third));
    bank.audited().await;
    let sum = "select sum(amount)::bigint from turnpike.charge";
    assert_eq!(bank.one::<i64>(sum).await, 2 * DONE_COSTS);
}

#[tokio::test]
async fn a_socket_on_which_nothing_passes_is_closed() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = speaking().await;
    let settings = [("SOCKET_IDLE_SECONDS", "1")];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let mut wire = open(&turnpike, PATH, &token).await;
    assert_eq!(parted(&mut wire).await, ("idle".to_owned(), 1001));
    bank.audited().await;
}

#[tokio::test]
async fn a_shutdown_lets_the_open_turn_end_and_then_closes() {
    let bank = bank().await;
    let token = bank.token("").await;
    let (upstream, held) = thinking().await;
    let mut turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(says(CREATE)).await;
    assert_eq!(read_text(&mut wire).await, CREATED);
    turnpike.signal("TERM");
    eventually("it drains", async || {
        turnpike.log().contains("draining").then_some(())
    })
    .await;
    held.release();
    assert_eq!(read_text(&mut wire).await, DONE);
    assert_eq!(parted(&mut wire).await, ("unavailable".to_owned(), 1001));
    assert!(turnpike.ended().await.success(), "{}", turnpike.log());
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), DONE_COSTS);
    assert_eq!(charge.get::<_, &str>("mark"), "measured");
    bank.audited().await;
}

#[tokio::test]
async fn what_spends_unmetered_goes_up_only_where_the_operator_says_so() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(json(r#"{"value":"ek_1"}"#)).await;
    let secrets = post("/v1/realtime/client_secrets", &token, "{}");
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike.call(&secrets).await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(head.status(), 403, "{body}");
    assert!(body.contains("not_offered"), "{body}");
    assert_eq!(upstream.connections(), 0);
    drop(turnpike);

    let settings = [("ALLOW_UNMETERED_REALTIME", "on")];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let (head, body) = turnpike.call(&secrets).await;
    assert_eq!(head.status(), 200);
    assert_eq!(body, br#"{"value":"ek_1"}"#);
    eventually("the operator is warned each time", async || {
        turnpike.log().contains("realtime.unmetered").then_some(())
    })
    .await;
    bank.audited().await;
    let charges = "select count(*) from turnpike.charge";
    assert_eq!(bank.one::<i64>(charges).await, 0);
}
