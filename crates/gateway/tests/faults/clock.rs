//! Somebody sets the machine's clock back by an hour while the gateway serves.

use std::sync::{Arc, atomic::AtomicUsize};

use testkit::Clock;

use super::load::{
    self, End, Load, charges, each_whole_answer_is_paid, settled, whole_or_told_to_wait,
};
use crate::support::{Bank, Turnpike};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_by_an_hour_changes_no_sum() {
    let (bank, upstream, clock) = (Bank::open().await, load::upstream().await, Clock::new());
    // As if the prices had been set two hours ago: what was not priced an hour ago would be refused.
    bank.sql
        .batch_execute(
            "set session_replication_role = replica;
             update turnpike.price set valid_from = valid_from - interval '2 hours';
             reset session_replication_role;",
        )
        .await
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let environment = clock.environment();
    let mut settings = vec![
        ("DATA_DIR", data.path().to_str().unwrap()),
        ("LOG_LEVEL", "warn"),
    ];
    settings.extend(environment.iter().map(|(name, value)| (*name, &**value)));
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let token = bank.token("").await;
    let numbers = Arc::new(AtomicUsize::new(0));
    let load = Load::start(turnpike.clients, &token, 8, &numbers);
    load.went_on_for(100).await;
    clock.set_back();
    load.went_on_for(200).await;
    let calls = load.stop().await;

    settled(&bank.sql).await;
    let charges = charges(&bank.sql).await;
    whole_or_told_to_wait(&calls);
    each_whole_answer_is_paid(&calls, &charges);
    let whole = calls.iter().filter(|call| call.end == End::Whole).count();
    assert_eq!(charges.len(), whole);
    let earlier: i64 = bank
        .one(
            "select count(*) from turnpike.charge where started_at < now() - interval '50 minutes'",
        )
        .await;
    assert!(earlier > 0, "the clock was not set back");
}
