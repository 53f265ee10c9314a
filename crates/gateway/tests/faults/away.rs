//! Postgres is away for a while, or the line to it breaks: whoever gets his whole answer has paid, once.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use testkit::{
    cluster::{OwnCluster, Stop},
    relay::Relay,
};

use super::load::{
    self, Call, End, Load, audited, charges, each_whole_answer_is_paid, settled,
    whole_or_told_to_wait,
};
use crate::support::{ACCOUNTS, Bank, Turnpike, eventually};

const CLIENTS: usize = 16;

/// How long Postgres is away at least in `just soak`; else until every client has seen it.
const AWAY_SOAK: Duration = Duration::from_secs(20);

/// So many calls are made at most while a purse lasts.
const CALLS_MAX: usize = 300;

/// Which statement settles.
const SETTLE: &str = "turnpike.settle_exchanges(";

fn start(database_url: &str, upstream_url: &str, data_dir: &Path) -> Turnpike {
    Turnpike::start_with(&[
        ("DATABASE_URL", database_url.to_owned()),
        ("DATA_DIR", data_dir.to_str().unwrap().to_owned()),
        ("OPENAI_URL", format!("{upstream_url}/v1")),
        ("OPENAI_API_KEY", "sk-upstream".to_owned()),
        ("LOG_LEVEL", "warn".to_owned()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_stop_twice_under_load_and_every_answer_is_paid_once() {
    let (mut postgres, data) = (OwnCluster::start().await, tempfile::tempdir().unwrap());
    let sql = postgres.client().await;
    sql.batch_execute(ACCOUNTS).await.unwrap();
    let token: String = sql
        .query_one("select token from turnpike.issue_token('alice')", &[])
        .await
        .unwrap()
        .get(0);
    drop(sql);
    let upstream = load::upstream().await;
    let mut turnpike = start(postgres.url(), &upstream.url(), data.path());
    let numbers = Arc::new(AtomicUsize::new(0));

    let load = Load::start(turnpike.clients, &token, CLIENTS, &numbers);
    load.went_on_for(200).await;
    for how in [Stop::Immediate, Stop::Kill] {
        postgres.stop(how).await;
        let since = Instant::now();
        load.went_on_for(CLIENTS).await;
        while load::is_soak() && since.elapsed() < AWAY_SOAK {
            load.went_on_for(1).await;
        }
        postgres.start_again().await;
        load.went_on_for(200).await;
    }
    let calls = load.stop().await;
    whole_or_told_to_wait(&calls);

    let sql = postgres.client().await;
    settled_and_paid(&sql, &calls).await;
    turnpike.signal("TERM");
    assert!(turnpike.ended().await.success());
    // An orderly end leaves no journal and no leases.
    audited(&sql).await;
    let leased: i64 = sql
        .query_one("select count(*) from turnpike.lease", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(leased, 0);
}

/// What the journal has comes to Postgres by itself.
async fn settled_and_paid(sql: &tokio_postgres::Client, calls: &[Call]) {
    let whole = calls.iter().filter(|call| call.end == End::Whole).count();
    eventually("the journal is replayed", async || {
        (charges(sql).await.len() >= whole).then_some(())
    })
    .await;
    settled(sql).await;
    each_whole_answer_is_paid(calls, &charges(sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_the_purse_lasts() {
    let (bank, data) = (Bank::open().await, tempfile::tempdir().unwrap());
    let (relay, upstream) = (Relay::to(&bank.db.url()).await, load::upstream().await);
    let turnpike = start(&relay.url(), &upstream.url(), data.path());
    let token = bank.token("").await;
    let numbers = Arc::new(AtomicUsize::new(0));
    // Until the purse is larger than one call needs.
    let load = Load::start(turnpike.clients, &token, CLIENTS, &numbers);
    load.went_on_for(300).await;
    let mut calls = load.stop().await;
    settled(&bank.sql).await;

    relay.close();
    // The gateway can neither fill the purse nor give any of it back from here on.
    let row = bank
        .sql
        .query_one("select money, prompt, completion from turnpike.lease", &[])
        .await
        .unwrap();
    let mut purse: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    let mut answered = 0;
    loop {
        let number = 1_000_000 + answered;
        let mut fits = purse.iter().zip(load::bound(number));
        if !fits.all(|(left, bound)| *left >= bound) || answered == CALLS_MAX {
            break;
        }
        let call = load::call(turnpike.clients, &token, number).await.unwrap();
        assert_eq!(call.end, End::Whole, "there was {purse:?} left");
        for (left, used) in purse.iter_mut().zip(load::used(number)) {
            *left -= used;
        }
        answered += 1;
        calls.push(call);
    }
    assert!(answered >= 4, "{answered} calls found room in the purse");

    relay.open();
    settled_and_paid(&bank.sql, &calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_the_commit_charges_once() {
    let (bank, data) = (Bank::open().await, tempfile::tempdir().unwrap());
    let (relay, upstream) = (Relay::to(&bank.db.url()).await, load::upstream().await);
    let turnpike = start(&relay.url(), &upstream.url(), data.path());
    let token = bank.token("").await;
    relay.lose_answers(SETTLE, 2);
    let load = Load::start(turnpike.clients, &token, CLIENTS, &Arc::default());
    eventually("answers get lost", async || {
        (relay.answers_lost() >= 3).then_some(())
    })
    .await;
    relay.lose_no_answers();
    let calls = load.stop().await;
    whole_or_told_to_wait(&calls);
    settled_and_paid(&bank.sql, &calls).await;
}

/// Nobody says that Postgres is away: it just does not answer, though it has got what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_falls_silent_holds_no_answer_up_for_long() {
    let (bank, data) = (Bank::open().await, tempfile::tempdir().unwrap());
    let (relay, upstream) = (Relay::to(&bank.db.url()).await, load::upstream().await);
    let turnpike = start(&relay.url(), &upstream.url(), data.path());
    let token = bank.token("").await;
    let load = Load::start(turnpike.clients, &token, CLIENTS, &Arc::default());
    load.went_on_for(200).await;
    relay.hang();
    load.went_on_for(2 * CLIENTS).await;
    relay.open();
    load.went_on_for(100).await;
    let calls = load.stop().await;
    whole_or_told_to_wait(&calls);
    settled_and_paid(&bank.sql, &calls).await;
}
