//! Work that ends after its request: parked, found by any process, ended once, and whose what it makes is.

use std::time::Duration;

use futures_util::future::join_all;
use ledger::{Charge, Hold, Ledger, NewJob, NewObject, OpenJob, Seen};

use crate::support::{Books, money, refusal, take};

fn object(books: &Books, id: &str) -> NewObject {
    NewObject {
        id: id.into(),
        kind: "response".into(),
        account: books.account,
        token: books.token,
        upstream: None,
        upstream_key: None,
        model: Some("gpt-4o".into()),
        parent: None,
        facts: Some(r#"{"bytes":3}"#.into()),
        kept: Some(Duration::from_hours(720)),
    }
}

fn job(books: &Books, id: &str) -> NewJob {
    NewJob {
        kind: "response".into(),
        object_id: id.into(),
        facts: "{}".into(),
        poll_after: Duration::ZERO,
        deadline_after: Duration::from_hours(1),
        object: Some(Box::new(object(books, id))),
    }
}

fn charge(books: &Books, nano: i64, key: &str) -> Charge {
    Charge {
        key: Some(key.into()),
        ..books.charge(nano)
    }
}

async fn parked(books: &Books, ledger: &Ledger, nano: i64, id: &str) -> OpenJob {
    let hold: Hold = take(ledger, books.want(nano)).await;
    ledger.park(hold, job(books, id)).await.unwrap();
    ledger.job_on(books.account, id).await.unwrap().unwrap()
}

const CLAIMED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn what_is_parked_counts_until_the_job_is_settled_whatever_becomes_of_its_process() {
    let books = Books::with(1_000).await;
    let first = books.ledger().await;
    let open = parked(&books, &first, 700, "resp_1").await;
    assert_eq!(open.held, money(700));
    books.until_held(0).await;
    books.audit_is_empty().await;
    // Its own process ends, and gives back what it has: the parked means are not among that.
    assert_eq!(first.drain(Duration::from_secs(10)).await, 0);
    drop(first);
    assert_eq!(books.leased().await, 700);

    let second = books.ledger().await;
    refusal(second.take(books.want(301)).await);
    let claimed = second.claim_jobs(9, CLAIMED).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(
        (claimed[0].exchange, claimed[0].attempts),
        (open.exchange, 1)
    );
    let charged = charge(&books, 150, "response:0:resp_1");
    assert!(second.settle_job(&claimed[0], vec![charged]).await.unwrap());
    assert_eq!(books.balance().await, 850);
    let rest = crate::support::eventually("the rest is free", async || {
        second.take(books.want(850)).await.ok()
    })
    .await;
    rest.release().await.unwrap();
    assert!(
        second
            .job_on(books.account, "resp_1")
            .await
            .unwrap()
            .is_none()
    );
    second.drain(Duration::from_secs(10)).await;
    assert_eq!(books.leased().await, 0);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn two_that_end_a_job_at_once_charge_once() {
    let books = Books::with(10_000).await;
    let (one, other) = (books.ledger().await, books.ledger().await);
    for round in 0..5 {
        let id = format!("resp_{round}");
        let open = parked(&books, &one, 700, &id).await;
        let settle = async |ledger: &Ledger, nano| {
            let charges = vec![charge(&books, nano, &format!("response:0:{id}"))];
            ledger.settle_job(&open, charges).await.unwrap()
        };
        let (ended, again, released) = tokio::join!(
            settle(&one, 100),
            settle(&other, 100),
            other.release_job(&open)
        );
        let ended = [ended, again, released.unwrap()];
        assert_eq!(ended.iter().filter(|it| **it).count(), 1, "{ended:?}");
    }
    books.audit_is_empty().await;
    let charges = books.number("select count(*) from turnpike.charge").await;
    assert!(charges <= 5);
    assert_eq!(books.balance().await, 10_000 - 100 * charges);
}

#[tokio::test]
async fn a_key_that_was_charged_before_costs_nothing_again_and_gives_the_means_back() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let hold = take(&ledger, books.want(100)).await;
    hold.settle(charge(&books, 40, "response:0:resp_1"))
        .await
        .unwrap();
    let open = parked(&books, &ledger, 500, "resp_1").await;
    let again = charge(&books, 40, "response:0:resp_1");
    assert!(ledger.settle_job(&open, vec![again]).await.unwrap());
    assert_eq!(books.balance().await, 960);
    ledger.drain(Duration::from_secs(10)).await;
    assert_eq!(books.leased().await, 0);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn several_charges_of_a_job_never_come_to_more_than_was_held() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let open = parked(&books, &ledger, 500, "batch_1").await;
    let charges = (0..3).map(|at| charge(&books, 200, &format!("line:{at}")));
    assert!(ledger.settle_job(&open, charges.collect()).await.unwrap());
    assert_eq!(books.balance().await, 500);
    assert_eq!(
        books.number("select count(*) from turnpike.charge").await,
        3
    );
    books.audit_is_empty().await;
}

#[tokio::test]
async fn a_job_is_one_process_s_until_its_claim_lapses_or_it_is_postponed() {
    let books = Books::with(10_000).await;
    let (one, other) = (books.ledger().await, books.ledger().await);
    for at in 0..4 {
        parked(&books, &one, 100, &format!("resp_{at}")).await;
    }
    let claims = [&one, &other, &one, &other].map(|ledger| ledger.claim_jobs(3, CLAIMED));
    let claimed: Vec<_> = join_all(claims)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    let mut ids: Vec<_> = claimed.iter().map(|job| job.object_id.clone()).collect();
    ids.sort();
    assert_eq!(ids, ["resp_0", "resp_1", "resp_2", "resp_3"]);

    // One is put off until now, the claim on another lapses.
    let mine = claimed
        .iter()
        .find(|job| job.object_id == "resp_0")
        .unwrap();
    for ledger in [&one, &other] {
        ledger
            .postpone(mine, Seen::Open, Duration::ZERO)
            .await
            .unwrap();
    }
    let lapse = "update turnpike.job set claimed_until = now() where object_id = 'resp_1'";
    books.client.execute(lapse, &[]).await.unwrap();
    let mut again: Vec<_> = other.claim_jobs(9, CLAIMED).await.unwrap();
    again.sort_by(|one, other| one.object_id.cmp(&other.object_id));
    let again: Vec<_> = again
        .iter()
        .map(|job| (&*job.object_id, job.attempts))
        .collect();
    assert_eq!(again, [("resp_0", 2), ("resp_1", 2)]);
}

#[tokio::test]
async fn a_claim_that_is_kept_does_not_lapse_and_one_that_was_lost_is_not_kept() {
    let books = Books::with(1_000).await;
    let (one, other) = (books.ledger().await, books.ledger().await);
    parked(&books, &one, 100, "resp_1").await;
    let mine = one.claim_jobs(1, CLAIMED).await.unwrap().remove(0);
    let lapse = "update turnpike.job set claimed_until = now()";
    books.client.execute(lapse, &[]).await.unwrap();
    assert!(one.keep_claim(&mine, CLAIMED).await.unwrap());
    assert_eq!(other.claim_jobs(1, CLAIMED).await.unwrap(), []);

    books.client.execute(lapse, &[]).await.unwrap();
    let theirs = other.claim_jobs(1, CLAIMED).await.unwrap().remove(0);
    assert!(!one.keep_claim(&mine, CLAIMED).await.unwrap());
    assert!(other.keep_claim(&theirs, CLAIMED).await.unwrap());
    assert!(other.release_job(&theirs).await.unwrap());
    assert!(!other.keep_claim(&theirs, CLAIMED).await.unwrap());
}

#[tokio::test]
async fn misses_and_failures_are_counted_in_a_row() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    parked(&books, &ledger, 100, "resp_1").await;
    let mut counted = Vec::new();
    for seen in [
        Seen::Missing,
        Seen::Missing,
        Seen::Nothing,
        Seen::Nothing,
        Seen::Missing,
        Seen::Open,
    ] {
        let claimed = ledger.claim_jobs(1, CLAIMED).await.unwrap();
        ledger
            .postpone(&claimed[0], seen, Duration::ZERO)
            .await
            .unwrap();
        let now = ledger.job_on(books.account, "resp_1").await.unwrap();
        let now = now.unwrap();
        counted.push((now.misses, now.failures));
    }
    assert_eq!(counted, [(1, 0), (2, 0), (0, 1), (0, 2), (1, 0), (0, 0)]);
}

/// Whoever settles what a dead process left open must not charge what is a job by now.
#[tokio::test]
async fn a_parked_exchange_is_none_of_those_that_the_dead_left_open() {
    let books = Books::with(1_000).await;
    let first = books.ledger().await;
    let open = parked(&books, &first, 700, "resp_1").await;
    // As if it had died between the two: its evidence came after its end.
    let evidence = format!(
        "insert into turnpike.hold (exchange_id, token_id, account_id, instance_id, amount, estimate, price_id, model)
         values ('{}', {}, {}, {}, 700, 300, {}, 'gpt-4o');
         update turnpike.instance set stopped_at = now() where id = {}",
        open.exchange, books.token, books.account, first.instance(), books.price.0, first.instance()
    );
    books.client.batch_execute(&evidence).await.unwrap();
    let config = books.db.config().with_lease(Duration::from_secs(2));
    let second = Ledger::connect(config).await.unwrap();
    books.until_held(0).await;
    assert_eq!(books.balance().await, 1_000);
    let charged = charge(&books, 150, "response:0:resp_1");
    assert!(second.settle_job(&open, vec![charged]).await.unwrap());
    assert_eq!(books.balance().await, 850);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn nobody_parks_for_a_process_that_was_buried_or_an_exchange_that_was_charged() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let hold = take(&ledger, books.want(300)).await;
    let bury = "select turnpike.bury_instance(id) from turnpike.instance where id > 0";
    books.client.execute(bury, &[]).await.unwrap();
    ledger.park(hold, job(&books, "resp_1")).await.unwrap_err();
    assert_eq!(books.number("select count(*) from turnpike.job").await, 0);
    assert_eq!(books.leased().await, 0);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn words_that_postgres_does_not_take_are_parked_and_noted_without_what_is_wrong_with_them() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let facts = r#"{"size":"1\u00002","at":1}"#;
    let mut want = books.want(100);
    want.evidence.model = "gpt\0-4o".into();
    let odd = NewJob {
        facts: facts.into(),
        object: Some(Box::new(NewObject {
            facts: Some(facts.into()),
            ..object(&books, "resp_1")
        })),
        ..job(&books, "resp\0_1")
    };
    let hold = take(&ledger, want).await;
    ledger.park(hold, odd).await.unwrap();
    let open = ledger.job_on(books.account, "resp_1").await.unwrap();
    let open = open.unwrap();
    assert_eq!(
        (&*open.model, &*open.facts),
        ("gpt-4o", r#"{"at": 1, "size": "12"}"#)
    );
    let owned = ledger.owned(books.account, &["resp_1"]).await.unwrap();
    assert_eq!(owned[0].facts.as_deref(), Some(&*open.facts));
    let file = NewObject {
        facts: Some(facts.into()),
        ..object(&books, "file_1")
    };
    ledger.record_objects(&[file]).await.unwrap();
    books.audit_is_empty().await;
}

/// It goes on at the provider, and nobody will ask how it ends.
#[tokio::test]
async fn what_postgres_refuses_to_park_is_charged_what_was_held() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let unfit = NewJob {
        facts: "no JSON".into(),
        ..job(&books, "resp_1")
    };
    let hold = take(&ledger, books.want(700)).await;
    ledger.park(hold, unfit).await.unwrap_err();
    assert_eq!(books.balance().await, 300);
    let charged =
        "select count(*) from turnpike.charge where mark = 'bounded' and response_id = 'resp_1'";
    assert_eq!(books.number(charged).await, 1);
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    assert_eq!(books.leased().await, 0);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn objects_are_their_account_s_who_was_told_first() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let other = "select turnpike.create_account('bob')";
    let bob = ledger::AccountId(books.number(other).await);
    let token = "select token_id from turnpike.issue_token('bob')";
    let stolen = NewObject {
        account: bob,
        token: ledger::TokenId(books.number(token).await),
        ..object(&books, "resp_1")
    };
    let mut charged = books.charge(10);
    charged.object = Some(Box::new(object(&books, "resp_1")));
    take(&ledger, books.want(100))
        .await
        .settle(charged)
        .await
        .unwrap();
    let more = [stolen, object(&books, "file 1"), object(&books, "file_1")];
    ledger.record_objects(&more).await.unwrap();

    let ids = ["resp_1", "file_1", "file 1", "resp_2"];
    let mut owned = ledger.owned(books.account, &ids).await.unwrap();
    owned.sort_by(|one, other| one.id.cmp(&other.id));
    let found: Vec<_> = owned.iter().map(|it| (&*it.id, &*it.kind)).collect();
    assert_eq!(found, [("file_1", "response"), ("resp_1", "response")]);
    assert_eq!(owned[0].facts.as_deref(), Some(r#"{"bytes": 3}"#));
    assert!(ledger.owned(bob, &ids).await.unwrap().is_empty());

    ledger.forget_object(bob, "resp_1").await.unwrap();
    ledger.forget_object(books.account, "file_1").await.unwrap();
    let owned = ledger.owned(books.account, &ids).await.unwrap();
    assert_eq!(owned.len(), 1);
    books
        .client
        .execute("update turnpike.object set expires_at = now()", &[])
        .await
        .unwrap();
    assert!(ledger.owned(books.account, &ids).await.unwrap().is_empty());
}

#[tokio::test]
async fn parts_are_found_by_their_ids_and_are_those_of_the_first_who_was_told() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let plain = NewObject {
        facts: None,
        ..object(&books, "resp_1")
    };
    ledger
        .record_objects(std::slice::from_ref(&plain))
        .await
        .unwrap();
    let ids = ["rs_1".to_owned(), "not one".to_owned(), "cntr_1".to_owned()];
    let found = async |account| {
        let parts = ledger
            .owned_parts(account, &["cntr_1", "rs_1", "rs_2"])
            .await;
        let mut parts: Vec<_> = parts
            .unwrap()
            .into_iter()
            .map(|it| (it.id, it.kind, it.parent))
            .collect();
        parts.sort();
        parts
    };
    assert_eq!(found(books.account).await, []);
    let bob = ledger::AccountId(books.number("select turnpike.create_account('bob')").await);
    let token = "select token_id from turnpike.issue_token('bob')";
    let stolen = NewObject {
        account: bob,
        token: ledger::TokenId(books.number(token).await),
        ..plain.clone()
    };
    // Another's add nothing; its maker's do, once.
    for (whose, ids) in [
        (stolen, &ids[..1]),
        (plain.clone(), &ids[..]),
        (plain, &ids[1..2]),
    ] {
        ledger
            .record_objects(&[whose.with_parts(ids)])
            .await
            .unwrap();
    }
    let part = |id: &str| (id.to_owned(), "part".to_owned(), Some("resp_1".to_owned()));
    assert_eq!(found(books.account).await, [part("cntr_1"), part("rs_1")]);
    assert_eq!(found(bob).await, []);
    ledger.forget_object(books.account, "resp_1").await.unwrap();
    assert_eq!(found(books.account).await, []);
}
