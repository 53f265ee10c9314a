//! More exchanges than there is room for: refused at once, while those that are in go on.

use std::sync::Arc;

use testkit::{
    body::Held,
    raw::Wire,
    upstream::{Upstream, json},
};
use tokio::task::JoinSet;

use crate::support::{Bank, Turnpike, eventually, post};

const ROOM: usize = 20;
const CHAT: &str =
    r#"{"model":"gpt-4o-mini","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;

/// Nobody waits for anybody here: the refusals are all read before one of the exchanges that are in may end.
#[tokio::test(flavor = "multi_thread")]
async fn at_five_times_the_load_four_fifths_are_refused_at_once_and_the_rest_is_served() {
    let bank = Bank::open().await;
    let gate = Held::default();
    let go_on = gate.clone();
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
    let room = ROOM.to_string();
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("OPEN_EXCHANGES_MAX", &room)]);
    let token: Arc<str> = bank.token("").await.into();
    let address = turnpike.clients;
    let mut admitted = JoinSet::new();
    for _ in 0..ROOM {
        let token = Arc::clone(&token);
        admitted.spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.send(post("/v1/chat/completions", &token, CHAT)).await;
            wire.read_message().await.0.status()
        });
    }
    eventually("all that fit are with the upstream", async || {
        (upstream.connections() == ROOM).then_some(())
    })
    .await;
    let mut shed = JoinSet::new();
    for _ in 0..ROOM * 4 {
        let token = Arc::clone(&token);
        shed.spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.send(post("/v1/chat/completions", &token, CHAT)).await;
            let (head, _) = wire.read_message().await;
            let waits = head.header("retry-after").map(str::to_owned);
            (head.status(), waits)
        });
    }
    for refused in shed.join_all().await {
        assert_eq!(refused, (503, Some("1".to_owned())));
    }
    assert_eq!(
        upstream.connections(),
        ROOM,
        "what was refused went nowhere"
    );
    go_on.release();
    assert_eq!(admitted.join_all().await, vec![200; ROOM]);
    bank.audited().await;
    let charges: i64 = bank.one("select count(*) from turnpike.charge").await;
    assert_eq!(charges, i64::try_from(ROOM).unwrap());
}
