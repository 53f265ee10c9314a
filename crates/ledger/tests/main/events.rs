//! What becomes an event, and that it becomes one once; who is told, and what becomes of it when he does not answer.

use std::time::Duration;

use ledger::{Told, UpstreamEvent, UpstreamId};
use serde_json::Value;

use crate::support::Books;

async fn events(books: &Books, wanted: &str) -> Vec<String> {
    let statement = format!(
        "select concat_ws(' ', kind, payload ->> 'budget', coalesce(payload ->> 'threshold', payload ->> 'days')) from turnpike.event
          where {wanted} order by at, (payload ->> 'threshold')::integer, 1"
    );
    let rows = books.client.query(&statement, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Books with a webhook.
async fn watched() -> Books {
    let books = Books::with(1_000).await;
    books
        .client
        .batch_execute("select turnpike.set_webhook('ops', 'https://example.com/hook')")
        .await
        .unwrap();
    books
}

#[tokio::test]
async fn each_threshold_is_told_once_whoever_looks() {
    let books = watched().await;
    let ledgers = [books.ledger().await, books.ledger().await];
    let look = async || {
        let told = tokio::join!(ledgers[0].watch_budgets(), ledgers[1].watch_budgets());
        told.0.unwrap() + told.1.unwrap()
    };
    books
        .client
        .batch_execute("update turnpike.access_token set budget = 1000")
        .await
        .unwrap();
    for (spent, told) in [(499, 0), (500, 1), (799, 0), (1000, 2), (1000, 0)] {
        books
            .client
            .execute(
                "update turnpike.access_token_counter set spent = $1",
                &[&i64::from(spent)],
            )
            .await
            .unwrap();
        assert_eq!(look().await, told, "at {spent}");
    }
    assert_eq!(
        events(&books, "true").await,
        [
            "budget.reached budget 50",
            "budget.reached budget 80",
            "budget.reached budget 100"
        ]
    );
    assert_eq!(
        books.number("select count(*) from turnpike.delivery").await,
        3
    );
    // A raised budget is another one.
    books
        .client
        .batch_execute("update turnpike.access_token set budget = 2000")
        .await
        .unwrap();
    assert_eq!(look().await, 1);
}

#[tokio::test]
async fn every_kind_of_budget_speaks_and_a_new_window_speaks_again() {
    let books = watched().await;
    let ledger = books.ledger().await;
    books
        .client
        .batch_execute(
            "update turnpike.access_token set budget = 10, budget_day = 10, budget_month = 10, prompt_tokens = 10, prompt_tokens_day = 10,
                    prompt_tokens_month = 10, completion_tokens = 10, completion_tokens_day = 10, completion_tokens_month = 10;
             update turnpike.access_token_counter set spent = 5, spent_day = 5, spent_month = 5, prompt = 5, prompt_day = 5, prompt_month = 5,
                    completion = 5, completion_day = 5, completion_month = 5, day = (now() at time zone 'UTC')::date,
                    month = date_trunc('month', now() at time zone 'UTC')::date",
        )
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 9);
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    // The day is over: nothing is used of the next one's budget, until something is.
    books
        .client
        .batch_execute("update turnpike.access_token_counter set day = day - 1; delete from turnpike.event where payload ->> 'budget' like '%_day'")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    books
        .client
        .batch_execute("update turnpike.access_token_counter set day = day + 2")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 3);
}

#[tokio::test]
async fn an_account_speaks_when_its_last_top_up_runs_out() {
    let books = watched().await;
    let ledger = books.ledger().await;
    for (balance, told) in [(501, 0), (500, 1), (201, 0), (200, 1), (0, 1)] {
        books
            .client
            .execute(
                "update turnpike.account set balance = $1",
                &[&i64::from(balance)],
            )
            .await
            .unwrap();
        assert_eq!(ledger.watch_budgets().await.unwrap(), told, "at {balance}");
    }
    // Paid in again: from there it counts anew.
    books
        .client
        .batch_execute("insert into turnpike.credit (account_id, amount, note) values (1, 100, '')")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    books
        .client
        .batch_execute("update turnpike.account set balance = 50")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 1);
}

#[tokio::test]
async fn a_token_speaks_seven_days_and_one_before_its_end_and_not_once_it_is_gone() {
    let books = watched().await;
    let ledger = books.ledger().await;
    let expires = async |left: &str| {
        let set = format!(
            "update turnpike.access_token set created_at = now() - interval '1 year', expires_at = '2100-01-01Z'::timestamptz;
             update turnpike.access_token set expires_at = date_trunc('minute', now()) + interval '{left}'"
        );
        books.client.batch_execute(&set).await.unwrap();
        ledger.watch_budgets().await.unwrap()
    };
    assert_eq!(expires("8 days").await, 0);
    assert_eq!(expires("6 days").await, 1);
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    assert_eq!(events(&books, "true").await, ["token.expiring 7"]);
    // Revoked or expired, it has nothing more to say, budgets included.
    books
        .client
        .batch_execute(
            "update turnpike.access_token set budget = 1;
             update turnpike.access_token_counter set spent = 1;
             update turnpike.access_token set expires_at = now() - interval '1 second'",
        )
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    books
        .client
        .batch_execute("update turnpike.access_token set expires_at = now() + interval '1 hour', revoked_at = now()")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    // One that is made for an hour ends as its maker knows.
    books
        .client
        .batch_execute(
            "update turnpike.access_token set created_at = now(), revoked_at = null, budget = null",
        )
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_past_before_a_webhook_came_is_not_told_to_it() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    books
        .client
        .batch_execute(
            "update turnpike.account set balance = 100;
             select turnpike.set_webhook('ops', 'https://example.com/hook')",
        )
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 0);
    assert_eq!(books.number("select count(*) from turnpike.event").await, 2);
    assert_eq!(
        books.number("select count(*) from turnpike.delivery").await,
        0
    );
}

#[tokio::test]
async fn a_webhook_hears_of_its_account_and_its_kinds_only() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    // A name is data, whatever it looks like.
    books
        .client
        .batch_execute(
            "select turnpike.create_account('bob''); drop table turnpike.event; --');
             select turnpike.top_up('bob''); drop table turnpike.event; --', 1);
             select turnpike.set_webhook('all', 'https://example.com/1');
             select turnpike.set_webhook('bob''s', 'https://example.com/2', account => 'bob''); drop table turnpike.event; --');
             select turnpike.set_webhook('keys', 'https://example.com/3', events => '{upstream.key_ejected}');
             select turnpike.set_upstream('main', 'https://example.com');
             update turnpike.account set balance = balance / 2",
        )
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 2);
    let told = async |name: &str| {
        let statement =
            format!("select count(*) from turnpike.webhook_deliveries where webhook = '{name}'");
        books.number(&statement).await
    };
    assert_eq!(
        (told("all").await, told("bob''s").await, told("keys").await),
        (2, 1, 0)
    );
    let key = || ledger.tell_upstream(UpstreamEvent::KeyEjected, UpstreamId(1), None);
    assert!(key().await.unwrap());
    assert!(!key().await.unwrap(), "told within this hour");
    assert_eq!(
        (told("all").await, told("bob''s").await, told("keys").await),
        (3, 1, 1)
    );
}

#[tokio::test]
async fn a_claimed_delivery_is_nobody_else_s_and_a_delivered_one_never_comes_back() {
    let books = watched().await;
    let ledger = books.ledger().await;
    books
        .client
        .batch_execute("update turnpike.account set balance = 200")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 2);
    let claim = async || {
        ledger
            .claim_deliveries(&[], 10, 10, Duration::from_secs(60))
            .await
            .unwrap()
    };
    let first = claim().await;
    assert_eq!(first.len(), 2);
    assert_eq!(
        (first[0].attempt, &first[0].event.payload["threshold"]),
        (1, &Value::from(50))
    );
    assert!(claim().await.is_empty(), "claimed");
    ledger
        .record_delivery(&first[0], &Told::Delivered)
        .await
        .unwrap();
    // Its process died: the claim of the other lapses.
    const LAPSE: &str = "update turnpike.delivery set next_at = now() - interval '1 second'";
    books.client.batch_execute(LAPSE).await.unwrap();
    let second = claim().await;
    assert_eq!(second.len(), 1);
    assert_eq!(
        (second[0].event.id, second[0].attempt),
        (first[1].event.id, 2)
    );
    // Who was slow says that it failed: another is at it now.
    ledger
        .record_delivery(&first[1], &Told::Failed("slow".into()))
        .await
        .unwrap();
    assert!(claim().await.is_empty());
    // But what was delivered was delivered.
    ledger
        .record_delivery(&first[1], &Told::Delivered)
        .await
        .unwrap();
    books.client.batch_execute(LAPSE).await.unwrap();
    assert!(claim().await.is_empty());
    assert_eq!(ledger.pending_deliveries().await.unwrap(), 0);
}

#[tokio::test]
async fn a_delivery_is_tried_for_a_day_and_then_given_up() {
    let books = watched().await;
    let ledger = books.ledger().await;
    books
        .client
        .batch_execute("update turnpike.account set balance = 500")
        .await
        .unwrap();
    assert_eq!(ledger.watch_budgets().await.unwrap(), 1);
    let mut waited = 0_i64;
    let mut tries = 0;
    loop {
        let claimed = ledger
            .claim_deliveries(&[], 10, 10, Duration::from_secs(60))
            .await
            .unwrap();
        let [delivery] = &claimed[..] else {
            panic!("{claimed:?}")
        };
        tries += 1;
        let recorded = ledger
            .record_delivery(delivery, &Told::Failed("500".into()))
            .await
            .unwrap();
        if recorded == ledger::Recorded::GivenUp {
            break;
        }
        waited += books
            .number(
                "select round(extract(epoch from next_at - now()))::bigint from turnpike.delivery",
            )
            .await;
        books
            .client
            .batch_execute("update turnpike.delivery set next_at = now()")
            .await
            .unwrap();
    }
    assert_eq!(tries, 11);
    assert!((85_000..=90_000).contains(&waited), "{waited} seconds");
    assert_eq!(
        books
            .number("select count(*) from turnpike.delivery where failed_at is not null and last_error = '500'")
            .await,
        1
    );
    assert!(
        ledger
            .claim_deliveries(&[], 10, 10, Duration::from_secs(60))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_webhook_that_cannot_be_is_refused_with_what_would_be_right() {
    let books = Books::with(0).await;
    for (arguments, says) in [
        ("'', 'https://a'", "the name"),
        ("'a', 'ftp://a'", "the URL"),
        ("'a', 'https://user:pw@a'", "the URL"),
        ("'a', 'https://a', form => 'xml'", "no form"),
        (
            "'a', 'https://a', events => '{budget.exceeded}'",
            "names one that is unknown",
        ),
        ("'a', 'https://a', events => '{}'", "is empty"),
        ("'a', 'https://a', secret => 'hunter2'", "the secret"),
        ("'a', 'https://a', secret => 'whsec_short'", "the secret"),
        ("'a', 'https://a', account => 'nobody'", "no account nobody"),
    ] {
        let error = books
            .client
            .batch_execute(&format!("select turnpike.set_webhook({arguments})"))
            .await
            .unwrap_err();
        let said = error.as_db_error().unwrap().message();
        assert!(said.contains(says), "{arguments}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // A secret is made and shown once; changing the webhook keeps it.
    let set = "select turnpike.set_webhook('a', 'https://a')";
    let secret: Option<String> = books.client.query_one(set, &[]).await.unwrap().get(0);
    assert!(secret.unwrap().starts_with("whsec_"));
    let again: Option<String> = books.client.query_one(set, &[]).await.unwrap().get(0);
    assert_eq!(again, None);
}
