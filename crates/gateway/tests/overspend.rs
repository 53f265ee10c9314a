//! No overspend: a hold is an upper bound, counted before the request's last byte goes up.

use tariff::Amount;
use testkit::{
    body::Held,
    raw::{Wire, patiently},
    upstream::{LAST_CHUNK, Upstream, chunk, json},
};
use tokio::task::JoinSet;

use crate::support::{Bank, Turnpike, eventually, post};

/// At most 100 output tokens at 10 USD and 74 bytes of input at 2.5 USD per million.
const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":""}]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":100,"total_tokens":110}}"#;
/// What CHAT could cost at most, and what ANSWER does cost, in nano-USD.
const BOUND: i64 = CHAT.len() as i64 * 2_500 + 100 * 10_000;
const COST: i64 = 10 * 2_500 + 100 * 10_000;

#[tokio::test]
async fn a_hold_that_does_not_fit_is_refused_before_the_upstream_hears_of_it() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token(", budget_usd => 0.0005").await;
    let (head, body) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(
        (
            head.status(),
            head.header("x-turnpike-refusal"),
            head.header("x-should-retry")
        ),
        (429, Some("insufficient_quota"), Some("false"))
    );
    let body = String::from_utf8(body).unwrap();
    assert!(
        body.contains("insufficient_quota") && body.contains("of at most 3"),
        "{body}"
    );
    assert_eq!(upstream.connections(), 0);
    // The limit it names does fit.
    let limit = body
        .split("of at most ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let fitting = CHAT.replace("100", limit);
    let (head, _) = turnpike
        .post("/v1/chat/completions", &token, &fitting)
        .await;
    assert_eq!(head.status(), 200, "{fitting}");
}

#[tokio::test]
async fn exactly_the_affordable_number_of_parallel_calls_succeeds() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    // Two gateways share the account: holds count across them.
    let gateways = [
        Turnpike::start(&bank.db, &upstream.url(), &[]),
        Turnpike::start(&bank.db, &upstream.url(), &[]),
    ];
    // 20 calls at their cost, plus what one more hold needs above its cost: then 20 fit one after the other, and never 21.
    let budget = COST * 20 + (BOUND - COST);
    bank.sql.execute("insert into turnpike.credit (account_id, amount, note) select id, $1 - balance, 'test' from turnpike.account", &[&budget]).await.unwrap();
    let token = bank.token("").await;
    let mut calls = JoinSet::new();
    for call in 0..200 {
        let (address, request) = (
            gateways[call % 2].clients,
            post("/v1/chat/completions", &token, CHAT),
        );
        calls.spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.send(request).await;
            patiently("an answer", wire.read_message()).await.0.status()
        });
    }
    let statuses = calls.join_all().await;
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!(count(200) + count(429), 200, "{statuses:?}");
    // Calls that ran at the same time needed their holds at the same time, so fewer may have fitted; the rest fit now.
    let mut succeeded = count(200);
    bank.audited().await;
    while turnpike_call(&gateways[0], &token).await == 200 {
        succeeded += 1;
    }
    bank.audited().await;
    assert_eq!(succeeded, 20);
    assert_eq!(
        bank.one::<i64>("select balance from turnpike.account")
            .await,
        budget - 20 * COST
    );
}

async fn turnpike_call(turnpike: &Turnpike, token: &str) -> u16 {
    turnpike
        .post("/v1/chat/completions", token, CHAT)
        .await
        .0
        .status()
}

#[tokio::test]
async fn an_open_exchange_counts_by_its_bound() {
    let bank = Bank::open().await;
    let go_on = Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_message().await;
            gate.released().await;
            wire.send(json(ANSWER)).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    // Enough for one bound, not for two.
    let budget = format!(", budget_usd => {}", Amount::from_nano(BOUND / 2 * 3));
    let token = bank.token(&budget).await;
    let mut first = Wire::connect(turnpike.clients).await;
    first.send(post("/v1/chat/completions", &token, CHAT)).await;
    eventually("the first is held", async || {
        (bank
            .one::<i64>("select count(*) from turnpike.open_holds")
            .await
            == 1)
            .then_some(())
    })
    .await;
    assert_eq!(
        bank.one::<i64>("select amount from turnpike.hold").await,
        BOUND
    );
    assert_eq!(turnpike_call(&turnpike, &token).await, 429);
    go_on.release();
    assert_eq!(
        patiently("an answer", first.read_message())
            .await
            .0
            .status(),
        200
    );
    bank.audited().await;
}

#[tokio::test]
async fn the_last_byte_is_withheld_until_the_hold() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token(", budget_usd => 0.000000001").await;
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":1,"model":"gpt-4o"}}"#,
        "x".repeat(200_000)
    );
    let request = post("/v1/chat/completions", &token, &body);
    let (head, rest) = request.split_at(1_000);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(head).await;
    // Bytes flow before the model is known…
    eventually("bytes flow", async || {
        upstream
            .received()
            .first()
            .is_some_and(|got| got.text().contains("xxx"))
            .then_some(())
    })
    .await;
    wire.send(rest).await;
    assert_eq!(
        patiently("an answer", wire.read_message()).await.0.status(),
        429
    );
    // …and the last never comes.
    let got = upstream.received_text();
    assert!(!got.ends_with('}'), "the upstream has the whole body");
    bank.audited().await;
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_before_the_last_byte() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let (head, body) = turnpike
        .post(
            "/v1/chat/completions",
            &token,
            r#"{"model":"gpt-9","messages":[]}"#,
        )
        .await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (404, Some("model_not_found"))
    );
    assert!(String::from_utf8(body).unwrap().contains("`gpt-9`"));
    assert_eq!(upstream.connections(), 0);
}

/// A chunked body tells its end only after its last byte of JSON: that byte must wait all the same.
#[tokio::test]
async fn the_closing_brace_of_a_chunked_body_is_withheld_until_the_hold() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token(", budget_usd => 0.000000001").await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    wire.send(chunk(r#"{"model":"gpt-4o","max_tokens":1,"#))
        .await;
    eventually("the first chunk flows", async || {
        let received = upstream.received();
        received
            .first()
            .is_some_and(|got| got.text().contains("max_tokens"))
            .then_some(())
    })
    .await;
    wire.send(chunk(r#""messages":[]}"#)).await;
    eventually("the second chunk flows", async || {
        upstream.received_text().contains("messages").then_some(())
    })
    .await;
    assert!(
        !upstream.received_text().contains("[]}"),
        "the upstream has all of the JSON"
    );
    wire.send(LAST_CHUNK).await;
    assert_eq!(
        patiently("an answer", wire.read_message()).await.0.status(),
        429
    );
    assert!(
        !upstream.received_text().contains("[]}"),
        "the upstream has all of the JSON"
    );
    bank.audited().await;
}
