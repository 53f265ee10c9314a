//! Rates across replicas: several ledgers on one database, and a database that goes away.

use std::{net::IpAddr, time::Duration};

use futures_util::future::join_all;
use ledger::{Excess, Ledger, Pass, RateLimits, Subject, TokenId, cluster::Cluster};
use testkit::postgres::TestDb;

use crate::faults::own;

/// How long to wait for what happens in the background. Not a pause.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: Subject = Subject::Token(TokenId(17));

fn per_hour(limit: u32) -> RateLimits {
    RateLimits {
        requests_per_hour: Some(limit),
        ..RateLimits::default()
    }
}

fn at_once(limit: u32) -> RateLimits {
    RateLimits {
        concurrent_exchanges: Some(limit),
        ..RateLimits::default()
    }
}

async fn ledgers<const COUNT: usize>(db: &TestDb) -> [Ledger; COUNT] {
    let connecting = join_all((0..COUNT).map(|_| Ledger::connect(db.config()))).await;
    let ledgers: Vec<_> = connecting.into_iter().map(Result::unwrap).collect();
    ledgers.try_into().unwrap()
}

/// Asks until it is admitted.
async fn eventually_admitted(ledger: &Ledger, limits: &RateLimits) -> Pass {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(pass) = ledger.rates().admit(TOKEN, limits).await {
                return pass;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a place comes back")
}

fn is_at_once(answer: Result<Pass, Excess>) -> bool {
    matches!(answer, Err(Excess::AtOnce { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_let_exactly_the_limit_pass_of_many_parallel_requests() {
    let db = TestDb::new().await;
    let ledgers = ledgers::<3>(&db).await;
    let limits = per_hour(100);
    let answers = join_all((0..600).map(|n| ledgers[n % 3].rates().admit(TOKEN, &limits))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 100);
    let refused = answers.into_iter().find_map(Result::err).unwrap();
    assert!(
        matches!(refused, Excess::Requests { seconds: 3600, wait, .. } if wait <= Duration::from_secs(3600)),
        "{refused:?}"
    );
    let standing = refused.standing().requests.unwrap();
    assert_eq!((standing.limit, standing.remaining), (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_after_the_other_may_use_the_whole_limit() {
    let db = TestDb::new().await;
    let [ledger] = ledgers::<1>(&db).await;
    let limits = per_hour(50);
    for left in (0..50).rev() {
        let pass = ledger.rates().admit(TOKEN, &limits).await.unwrap();
        assert_eq!(pass.standing().requests.unwrap().remaining, left);
    }
    ledger.rates().admit(TOKEN, &limits).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subjects_at_once_are_counted_each_by_itself() {
    let db = TestDb::new().await;
    let ledgers = ledgers::<2>(&db).await;
    let limits = RateLimits {
        requests_per_minute: Some(4),
        concurrent_exchanges: Some(100),
        ..per_hour(3)
    };
    let subject = |n: u8| Subject::address(IpAddr::from([10, 0, 0, n]));
    let asks = (0..2_000_usize).map(|n| {
        let subject = subject(u8::try_from(n % 200).unwrap());
        ledgers[n / 200 % 2].rates().admit(subject, &limits)
    });
    let answers = join_all(asks).await;
    for n in 0..200 {
        let admitted = answers
            .iter()
            .skip(n)
            .step_by(200)
            .filter(|answer| answer.is_ok())
            .count();
        assert_eq!(admitted, 3, "address {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_exchanges_count_across_replicas_and_come_back() {
    let db = TestDb::new().await;
    let [one, two] = ledgers::<2>(&db).await;
    let limits = at_once(3);
    let first = one.rates().admit(TOKEN, &limits).await.unwrap();
    let second = one.rates().admit(TOKEN, &limits).await.unwrap();
    let third = two.rates().admit(TOKEN, &limits).await.unwrap();
    assert!(is_at_once(one.rates().admit(TOKEN, &limits).await));
    assert!(is_at_once(two.rates().admit(TOKEN, &limits).await));
    drop(first);
    let fourth = eventually_admitted(&two, &limits).await;
    assert!(is_at_once(one.rates().admit(TOKEN, &limits).await));
    drop((second, third, fourth));
    // A large limit keeps some ready, and gives them back when nobody uses them.
    let many = at_once(80);
    drop(eventually_admitted(&one, &many).await);
    let client = db.client().await;
    tokio::time::timeout(PATIENCE, async {
        while client
            .query_one("select count(*) from turnpike.rate_place", &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("idle places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_places_of_a_process_that_died_come_back() {
    let db = TestDb::new().await;
    let [dead, alive] = ledgers::<2>(&db).await;
    let limits = at_once(1);
    let _never_given_back = dead.rates().admit(TOKEN, &limits).await.unwrap();
    assert!(is_at_once(alive.rates().admit(TOKEN, &limits).await));
    let client = db.client().await;
    // Its signs of life stop: in truth it gives one every ten seconds, so its row is made another's.
    client
        .execute(
            "with gone as (insert into turnpike.instance (pid, name, version, seen_at) values (1, 'gone', '', now() - interval '31 seconds') returning id)
             update turnpike.rate_place set instance_id = gone.id from gone where instance_id = $1",
            &[&dead.instance().0],
        )
        .await
        .unwrap();
    eventually_admitted(&alive, &limits).await;
}

/// Time is an argument of the function, so that nobody has to wait for a window's end.
#[tokio::test]
async fn windows_begin_with_their_first_request_and_roll_over() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let lease = async |at: &str, spent: i64, wanted: i64| -> (i64, i64, i64) {
        let statement = format!(
            "select * from turnpike.lease_windows('{{token:1}}', '{{requests}}', '{{60}}', '{{32}}', array[{spent}]::bigint[], array[{wanted}]::bigint[], '2026-01-01 {at}+00')"
        );
        let row = client.query_one(&statement, &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(
        lease("00:00:30", 0, 1).await,
        (2, 30, 60_000),
        "a sixteenth"
    );
    assert_eq!(
        lease("00:00:31", 0, 20).await,
        (20, 10, 59_000),
        "what is wanted"
    );
    assert_eq!(
        lease("00:01:00", 4, 0).await,
        (0, 6, 30_000),
        "a debt is counted"
    );
    assert_eq!(
        lease("00:01:29.5", 0, 100).await,
        (6, 0, 500),
        "what is left"
    );
    assert_eq!(lease("00:01:29.9999", 0, 1).await, (0, 0, 1), "nothing");
    assert_eq!(
        lease("00:01:30", 0, 1).await,
        (2, 30, 60_000),
        "a new window"
    );
    assert_eq!(
        lease("00:10:00", 40, 1).await,
        (0, 0, 60_000),
        "a debt above the limit"
    );
    assert_eq!(
        lease("00:09:00", 0, 1).await,
        (0, 0, 60_000),
        "a clock set back waits no longer than a window"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_each_process_counts_by_itself_and_comes_back() {
    let (own, cluster) = own().await;
    let ledger = Ledger::connect(own.config.clone()).await.unwrap();
    let limits = RateLimits {
        requests_per_minute: Some(1_000),
        concurrent_exchanges: Some(50),
        ..RateLimits::default()
    };
    drop(ledger.rates().admit(TOKEN, &limits).await.unwrap());
    cluster.stop().unwrap();
    // More than the chunk that was leased.
    let open = join_all((0..50).map(|_| ledger.rates().admit(TOKEN, &limits))).await;
    assert!(
        open.iter().all(Result::is_ok),
        "nobody is refused because Postgres is away"
    );
    assert!(
        is_at_once(ledger.rates().admit(TOKEN, &limits).await),
        "but the limit holds"
    );
    let other = Subject::address(IpAddr::from([10, 0, 0, 1]));
    ledger.rates().admit(other, &limits).await.unwrap();

    let cluster = Cluster::start(&own.options).unwrap();
    // What is open is told to Postgres, so that another process sees it.
    let another = Ledger::connect(own.config.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        loop {
            let seen = another.rates().admit(TOKEN, &limits).await;
            let is_told = is_at_once(seen);
            // Asking makes it look at its places.
            let _ = ledger.rates().admit(TOKEN, &limits).await;
            if is_told {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("what is open is told to Postgres");
    drop((open, ledger, another));
    cluster.stop().unwrap();
}
