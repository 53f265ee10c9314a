//! Whoever guesses access tokens gets few tries, and Postgres hears of few.

use testkit::upstream::{Upstream, json};

use crate::support::{Bank, Turnpike, eventually};

const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[]}"#;
const ANSWER: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
/// As the default has it.
const PER_MINUTE: usize = 60;
const GUESSES: usize = 300;

/// How often the table of access tokens was looked into.
async fn lookups(bank: &Bank) -> i64 {
    bank.sql
        .batch_execute("select pg_stat_clear_snapshot()")
        .await
        .unwrap();
    bank.one("select (coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::bigint from pg_stat_user_tables where schemaname = 'turnpike' and relname = 'access_token'").await
}

#[tokio::test]
async fn guessed_tokens_are_slowed_and_do_not_reach_postgres() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let path = "/v1/chat/completions";
    assert_eq!(turnpike.post(path, &token, CHAT).await.0.status(), 200);
    let before = lookups(&bank).await;
    let (mut unknown, mut waiting) = (0, 0);
    for number in 0..GUESSES {
        let (head, _) = turnpike
            .post(path, &format!("tp-guess-{number}"), CHAT)
            .await;
        match (head.status(), head.header("retry-after")) {
            (401, None) => unknown += 1,
            (429, Some(_)) => waiting += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((unknown, waiting), (PER_MINUTE, GUESSES - PER_MINUTE));
    // What is known already is known from here as well, be it that nobody knows it.
    assert_eq!(turnpike.post(path, &token, CHAT).await.0.status(), 200);
    assert_eq!(
        turnpike.post(path, "tp-guess-0", CHAT).await.0.status(),
        401
    );
    // Postgres tells of what it did with a delay.
    eventually("the look-ups are counted", async || {
        (lookups(&bank).await - before >= i64::try_from(PER_MINUTE).unwrap()).then_some(())
    })
    .await;
    let looked_up = lookups(&bank).await - before;
    println!("{GUESSES} guesses, {looked_up} look-ups");
    // Settling and leasing look there as well, a few times.
    assert!(
        looked_up < i64::try_from(PER_MINUTE + 30).unwrap(),
        "{looked_up}"
    );
}

#[tokio::test]
async fn a_token_shown_by_many_at_once_is_looked_up_once_and_no_limit_is_no_limit() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("ADDRESS_UNKNOWN_TOKENS_PER_MINUTE", "0")],
    );
    let path = "/v1/chat/completions";
    for number in 0..PER_MINUTE * 2 {
        let (head, _) = turnpike
            .post(path, &format!("tp-guess-{number}"), CHAT)
            .await;
        assert_eq!(head.status(), 401);
    }
    let calls = (0..100).map(|_| turnpike.post(path, "tp-same", CHAT));
    for (head, _) in futures_util::future::join_all(calls).await {
        assert_eq!(head.status(), 401);
    }
}
