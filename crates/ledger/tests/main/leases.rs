//! What becomes of leases, keys and months: the dead are buried, repeats are charged once, old charges are dropped and add up.

use std::time::Duration;

use ledger::{Ledger, Orphans};
use uuid::Uuid;

use crate::support::{Books, eventually, take};

/// Short enough for a test, and longer than any heartbeat of a busy machine takes.
const LEASE: Duration = Duration::from_secs(4);

async fn charges(books: &Books) -> Vec<String> {
    let rows = books
        .client
        .query(
            "select format('%s %s', mark, amount) from turnpike.charge order by id",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_process_is_buried_its_exchanges_charged_what_is_known_and_its_leases_returned() {
    for (orphans, whole, expected) in [
        (
            Orphans::Charge,
            false,
            vec!["interrupted 250000".to_owned()],
        ),
        (
            Orphans::Charge,
            true,
            vec!["interrupted 3000000".to_owned()],
        ),
        (Orphans::Void, false, vec![]),
    ] {
        let books = Books::with(100_000_000).await;
        let config = || books.db.config().with_lease(LEASE).with_orphans(orphans);
        let dead = Ledger::connect(config()).await.unwrap();
        let mut want = books.want(3_000_000);
        // 100 tokens of input at 2.50 USD per million are known; of the output nothing is.
        want.evidence.input_tokens = 100;
        // Unless it goes on at the provider.
        want.evidence.whole = whole;
        let open = take(&dead, want).await;
        books.until_held(3_000_000).await;
        // It dies: nobody settles, nobody gives a sign of life.
        drop(open);
        drop(dead);
        let living = Ledger::connect(config()).await.unwrap();
        books
            .until(
                "select count(*) from turnpike.lease as l join turnpike.instance as i on i.id = l.instance_id where i.buried_at is null",
                0,
            )
            .await;
        books.until("select leased from turnpike.account", 0).await;
        books.until_held(0).await;
        assert_eq!(charges(&books).await, expected);
        assert_eq!(
            living.stats().interrupted,
            u64::from(orphans == Orphans::Charge)
        );
        books.audit_is_empty().await;
        // And everything is there for the living.
        let left = books.balance().await;
        take(&living, books.want(left))
            .await
            .release()
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_taken_for_dead_begins_anew_and_charges_nothing_twice() {
    let books = Books::with(1_000).await;
    let ledger = Ledger::connect(books.db.config().with_lease(LEASE))
        .await
        .unwrap();
    let before = ledger.instance();
    let open = take(&ledger, books.want(100)).await;
    books.until_held(100).await;
    // Another process found it silent, and settled its exchange.
    books
        .client
        .batch_execute(
            "update turnpike.instance set buried_at = now(); select turnpike.bury_instance(id) from turnpike.instance",
        )
        .await
        .unwrap();
    eventually("it begins anew", async || {
        (ledger.instance() != before).then_some(())
    })
    .await;
    take(&ledger, books.want(500))
        .await
        .settle(books.charge(400))
        .await
        .unwrap();
    // What it had open is charged still, once: by itself, or by whoever settled for it meanwhile.
    open.settle(books.charge(60)).await.unwrap();
    assert_eq!(
        books.number("select count(*) from turnpike.charge").await,
        2
    );
    assert!([540, 600].contains(&books.balance().await));
    books.until_held(0).await;
    books.audit_is_empty().await;
}

#[tokio::test]
async fn what_a_key_names_is_charged_once_whatever_exchange_tells_it() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let with_key = |key: &str| {
        let mut charge = books.charge(100);
        charge.key = Some(key.into());
        charge
    };
    let (first, second, other) = (
        take(&ledger, books.want(100)).await,
        take(&ledger, books.want(100)).await,
        take(&ledger, books.want(100)).await,
    );
    // Of one group, and of a later one.
    let (one, two, three) = tokio::join!(
        first.settle(with_key("response resp_1")),
        second.settle(with_key("response resp_1")),
        other.settle(with_key("response resp_2")),
    );
    one.unwrap();
    two.unwrap();
    three.unwrap();
    take(&ledger, books.want(100))
        .await
        .settle(with_key("response resp_1"))
        .await
        .unwrap();
    assert_eq!(books.balance().await, 800);
    // What was held for the repeats is free again, to the last.
    take(&ledger, books.want(800))
        .await
        .release()
        .await
        .unwrap();
    books.audit_is_empty().await;
}

#[tokio::test]
async fn dropped_months_leave_their_sums_and_the_books_add_up() {
    let books = Books::with(1_000).await;
    books
        .client
        .batch_execute(
            "create table turnpike.charge_2020_09 (like turnpike.charge including defaults including constraints);
             alter table turnpike.charge attach partition turnpike.charge_2020_09
               for values from (turnpike.first_id('2020-09-01Z')) to (turnpike.first_id('2020-10-01Z'))",
        )
        .await
        .unwrap();
    let ledger = books.ledger().await;
    let mut old = books.want(100);
    old.exchange = Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        1_600_000_000,
        0,
    ));
    let mut charge = books.charge(60);
    charge.key = Some("batch batch_1".into());
    take(&ledger, old).await.settle(charge).await.unwrap();
    // It was settled then, too.
    books
        .client
        .batch_execute(
            "alter table turnpike.charge disable trigger all;
             update turnpike.charge set settled_at = '2020-09-13Z';
             alter table turnpike.charge enable trigger all;
             update turnpike.access_token_counter set day = '2020-09-13', month = '2020-09-01'",
        )
        .await
        .unwrap();
    take(&ledger, books.want(100))
        .await
        .settle(books.charge(70))
        .await
        .unwrap();
    let usage = "select (sum(usd) * 1000000000)::bigint from turnpike.usage_daily";
    assert_eq!(books.number(usage).await, 130);

    let dropped = "select turnpike.drop_charges('2021-01-01')::bigint";
    assert_eq!(books.number(dropped).await, 1);
    assert_eq!(books.number(dropped).await, 0);
    assert_eq!(
        books.number("select count(*) from turnpike.charge").await,
        1
    );
    assert_eq!(books.number(usage).await, 130);
    assert_eq!(
        books
            .number("select amount from turnpike.charge_closed")
            .await,
        60
    );
    assert_eq!(books.balance().await, 870);
    books.audit_is_empty().await;
    // This month and the last are kept whatever is asked for.
    let error = books
        .client
        .query_one("select turnpike.drop_charges(current_date)", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22023");
}

#[tokio::test]
async fn a_row_of_charge_and_its_index_entries_stay_small() {
    let books = Books::with(1_000_000_000).await;
    let ledger = books.ledger().await;
    for _ in 0..4 {
        let holds =
            futures_util::future::join_all((0..256).map(|_| ledger.take(books.want(100)))).await;
        let settling = holds
            .into_iter()
            .map(|hold| hold.unwrap().settle(books.charge(60)));
        for settled in futures_util::future::join_all(settling).await {
            settled.unwrap();
        }
    }
    let bytes = books
        .number("select (sum(pg_total_relation_size(inhrelid)) / 1024)::bigint from pg_inherits where inhparent = 'turnpike.charge'::regclass and pg_relation_size(inhrelid) > 0")
        .await;
    assert!(bytes < 800, "{bytes} bytes a charge, indexes included");
}
