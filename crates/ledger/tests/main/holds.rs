//! Taking holds: what fits, what does not, whatever comes at once.

use std::time::Duration;

use futures_util::future::join_all;
use ledger::{Ledger, Limit, Period, TakeError, TokenId};
use tariff::Amount;

use crate::support::{Books, money, refusal, take};

#[tokio::test]
async fn a_hold_counts_until_it_is_settled_or_released() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;

    let first = take(&ledger, books.want(400)).await;
    let second = take(&ledger, books.want(500)).await;
    books.until_held(900).await;
    assert_eq!(books.balance().await, 1_000);
    assert!((900..=1_000).contains(&books.leased().await));
    books.audit_is_empty().await;

    first.settle(books.charge(150)).await.unwrap();
    books.until_held(500).await;
    assert_eq!(books.balance().await, 850);
    assert!((500..=850).contains(&books.leased().await));
    second.release().await.unwrap();
    books.until_held(0).await;
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    assert_eq!((books.balance().await, books.leased().await), (850, 0));
    books.audit_is_empty().await;
}

/// Rows are deleted without waiting for the disk, so a crash of Postgres can bring one back; and whoever took this process for dead
/// afterwards would have charged for an exchange that was released.
#[tokio::test]
async fn a_row_that_came_back_goes_again_and_those_of_open_exchanges_stay() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let open = take(&ledger, books.want(400)).await;
    books.until_held(400).await;
    books
        .client
        .batch_execute(
            "insert into turnpike.hold (exchange_id, token_id, account_id, amount, instance_id, model)
             select gen_random_uuid(), token_id, account_id, 5, instance_id, model from turnpike.hold",
        )
        .await
        .unwrap();
    books.until_held(400).await;
    assert_eq!(
        books.number("select count(*) from turnpike.hold").await,
        1,
        "the open one's stays"
    );
    open.release().await.unwrap();
    books.until_held(0).await;
}

#[tokio::test]
async fn what_does_not_fit_the_account_is_refused_with_what_is_left() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let open = take(&ledger, books.want(700)).await;
    let error = refusal(ledger.take(books.want(301)).await);
    assert!(
        matches!(error, TakeError::Insufficient { available, by: Limit::Account } if available == Amount::from_nano(300)),
        "{error:?}"
    );
    let exactly = take(&ledger, books.want(300)).await;
    open.release().await.unwrap();
    exactly.release().await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_the_token_s_budget_is_refused_with_what_is_left() {
    let books = Books::with(1_000).await;
    books
        .client
        .execute("update turnpike.access_token set budget = 500", &[])
        .await
        .unwrap();
    let ledger = books.ledger().await;
    take(&ledger, books.want(400))
        .await
        .settle(books.charge(200))
        .await
        .unwrap();
    let open = take(&ledger, books.want(100)).await;
    let error = refusal(ledger.take(books.want(201)).await);
    assert!(
        matches!(error, TakeError::Insufficient { available, by: Limit::Budget(Period::Life) } if available == Amount::from_nano(200)),
        "{error:?}"
    );
    open.release().await.unwrap();
}

#[tokio::test]
async fn the_tighter_limit_is_the_one_that_is_named() {
    let books = Books::with(1_000).await;
    books
        .client
        .execute("update turnpike.access_token set budget = 1500", &[])
        .await
        .unwrap();
    let ledger = books.ledger().await;
    let error = refusal(ledger.take(books.want(2_000)).await);
    assert!(
        matches!(error, TakeError::Insufficient { available, by: Limit::Account } if available == Amount::from_nano(1_000)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_credit_limit_widens_the_account_and_null_has_no_limit() {
    let books = Books::with(0).await;
    let ledger = books.ledger().await;
    refusal(ledger.take(books.want(1)).await);
    books
        .client
        .execute("select turnpike.set_credit_limit('alice', 0.0000005)", &[])
        .await
        .unwrap();
    let open = crate::support::eventually("the limit is felt", async || {
        ledger.take(books.want(500)).await.ok()
    })
    .await;
    refusal(ledger.take(books.want(1)).await);
    books
        .client
        .execute("select turnpike.set_credit_limit('alice', null)", &[])
        .await
        .unwrap();
    let more = crate::support::eventually("there is no limit", async || {
        ledger
            .take(books.want(4_000_000_000_000_000_000))
            .await
            .ok()
    })
    .await;
    open.settle(books.charge(500)).await.unwrap();
    more.release().await.unwrap();
    assert_eq!(books.balance().await, -500);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn a_token_revoked_or_expired_or_unknown_takes_nothing_even_before_anybody_is_told() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let mut unknown = books.want(1);
    unknown.token = TokenId(999);
    assert!(matches!(
        refusal(ledger.take(unknown).await),
        TakeError::TokenGone
    ));
    books
        .client
        .execute(
            "update turnpike.access_token set expires_at = now() - interval '1 second'",
            &[],
        )
        .await
        .unwrap();
    assert!(matches!(
        refusal(ledger.take(books.want(1)).await),
        TakeError::TokenGone
    ));
    books
        .client
        .execute(
            "update turnpike.access_token set expires_at = null, revoked_at = now()",
            &[],
        )
        .await
        .unwrap();
    assert!(matches!(
        refusal(ledger.take(books.want(1)).await),
        TakeError::TokenGone
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_at_once_exactly_as_many_fit_as_the_account_affords() {
    let books = Books::with(37 * 10 + 9).await;
    // Two replicas, so that statements overlap too.
    let ledgers = [books.ledger().await, books.ledger().await];
    let answers = join_all((0..200).map(|n| ledgers[n % 2].take(books.want(10)))).await;
    let holds: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(holds.len(), 37);
    books.until_held(370).await;
    books.audit_is_empty().await;

    let settled = join_all(holds.into_iter().map(|hold| hold.settle(books.charge(10)))).await;
    assert!(settled.iter().all(Result::is_ok));
    for ledger in &ledgers {
        assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    }
    assert_eq!((books.balance().await, books.leased().await), (9, 0));
    books.audit_is_empty().await;
}

#[tokio::test]
async fn a_take_nobody_waits_for_any_more_is_given_back() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    // A lock on the account keeps the statement waiting until its caller has gone.
    books
        .client
        .batch_execute("begin; select from turnpike.account for update")
        .await
        .unwrap();
    {
        let mut taking = Box::pin(ledger.take(books.want(100)));
        assert!(futures_util::poll!(&mut taking).is_pending());
        wait_for_a_blocked_statement(&books).await;
    }
    books.client.batch_execute("commit").await.unwrap();
    // Everything is there for the next one.
    take(&ledger, books.want(1_000))
        .await
        .release()
        .await
        .unwrap();
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    assert_eq!(books.leased().await, 0);
    books.audit_is_empty().await;
}

async fn wait_for_a_blocked_statement(books: &Books) {
    let watcher = books.db.client().await;
    while watcher
        .query_one(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'",
            &[],
        )
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_more_exchanges_are_open_than_the_queue_has_places() {
    let books = Books::with(1_000).await;
    let ledger = Ledger::connect(books.db.config().with_exchanges_max(2))
        .await
        .unwrap();
    let first = take(&ledger, books.want(1)).await;
    let second = take(&ledger, books.want(1)).await;
    assert!(matches!(
        refusal(ledger.take(books.want(1)).await),
        TakeError::Busy
    ));
    assert!(!ledger.is_ready());
    first.release().await.unwrap();
    take(&ledger, books.want(1)).await.release().await.unwrap();
    assert!(ledger.is_ready());
    second.release().await.unwrap();
}

#[tokio::test]
async fn a_hold_is_never_negative_and_its_texts_break_nothing() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let mut negative = books.want(1);
    negative.means.money = Amount::from_nano(-5);
    let mut poisoned = books.want(1);
    poisoned.evidence.model = "gpt\0-4o".repeat(100);
    let (good, zero, clean) = tokio::join!(
        ledger.take(books.want(10)),
        ledger.take(negative),
        ledger.take(poisoned)
    );
    books.until_held(11).await;
    assert_eq!(zero.as_ref().unwrap().amount(), Amount::ZERO);
    for hold in [good.unwrap(), zero.unwrap(), clean.unwrap()] {
        hold.release().await.unwrap();
    }
    books.until_held(0).await;
    books.audit_is_empty().await;
}

/// What one process has ready and does not use is what another needs to spend an account's last cent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_can_spare_another_spends_to_the_last() {
    let books = Books::with(1_000).await;
    let ledgers = [books.ledger().await, books.ledger().await];
    // Each has a purse with something ready.
    for ledger in &ledgers {
        take(ledger, books.want(10)).await.release().await.unwrap();
    }
    assert!(books.number("select min(money) from turnpike.lease").await > 0);
    let all = take(&ledgers[0], books.want(1_000)).await;
    let error = refusal(ledgers[1].take(books.want(1)).await);
    assert!(
        matches!(error, TakeError::Insufficient { available, by: Limit::Account } if available == Amount::ZERO),
        "{error:?}"
    );
    all.settle(books.charge(999)).await.unwrap();
    // A shortage is remembered for a moment, since nobody is told of what others have left over.
    let last = crate::support::eventually("the last nano-USD is there", async || {
        ledgers[1].take(books.want(1)).await.ok()
    })
    .await;
    last.settle(books.charge(1)).await.unwrap();
    assert_eq!(books.balance().await, 0);
    books.audit_is_empty().await;
}

#[tokio::test]
async fn money_of_one_token_s_purse_serves_another_token_of_the_account() {
    let books = Books::with(1_000).await;
    let other = books
        .client
        .query_one("select token_id from turnpike.issue_token('alice')", &[])
        .await
        .unwrap()
        .get(0);
    let ledger = books.ledger().await;
    take(&ledger, books.want(10)).await.release().await.unwrap();
    let mut want = books.want(1_000);
    want.token = TokenId(other);
    take(&ledger, want).await.release().await.unwrap();
    books.audit_is_empty().await;
}

#[tokio::test]
async fn a_top_up_is_felt_at_once() {
    let books = Books::with(0).await;
    let ledger = books.ledger().await;
    refusal(ledger.take(books.want(5)).await);
    books
        .client
        .batch_execute("select turnpike.top_up('alice', 0.000000005)")
        .await
        .unwrap();
    let hold = crate::support::eventually("the top-up is there", async || {
        ledger.take(books.want(5)).await.ok()
    })
    .await;
    hold.release().await.unwrap();
}

#[tokio::test]
async fn caps_on_money_and_tokens_of_a_day_a_month_and_a_life_are_kept() {
    for (column, by) in [
        ("budget", Limit::Budget(Period::Life)),
        ("budget_day", Limit::Budget(Period::Day)),
        ("budget_month", Limit::Budget(Period::Month)),
        ("prompt_tokens", Limit::PromptTokens(Period::Life)),
        ("prompt_tokens_day", Limit::PromptTokens(Period::Day)),
        ("prompt_tokens_month", Limit::PromptTokens(Period::Month)),
        ("completion_tokens", Limit::CompletionTokens(Period::Life)),
        (
            "completion_tokens_day",
            Limit::CompletionTokens(Period::Day),
        ),
        (
            "completion_tokens_month",
            Limit::CompletionTokens(Period::Month),
        ),
    ] {
        let books = Books::with(1_000_000).await;
        // What the charges of these tests use, twice and a bit.
        let cap = match by {
            Limit::PromptTokens(_) => 2 * 53 + 10,
            Limit::CompletionTokens(_) => 2 * 15 + 10,
            _ => 2 * 100 + 10,
        };
        books
            .client
            .batch_execute(&format!(
                "update turnpike.access_token set {column} = {cap}"
            ))
            .await
            .unwrap();
        let ledger = books.ledger().await;
        let want = || {
            let mut want = books.want(100);
            (want.means.prompt, want.means.completion) = (53, 15);
            want
        };
        for _ in 0..2 {
            take(&ledger, want())
                .await
                .settle(books.charge(100))
                .await
                .unwrap();
        }
        let error = refusal(ledger.take(want()).await);
        match error {
            TakeError::Insufficient {
                available,
                by: which,
            } => {
                assert_eq!((available, which), (Amount::from_nano(10), by), "{column}");
            }
            TakeError::OverQuota {
                available,
                by: which,
            } => {
                assert_eq!((available, which), (10, by), "{column}");
            }
            other => panic!("{column}: {other:?}"),
        }
        // The window has passed: by Postgres' clock, which a test moves by moving the counters' day.
        if matches!(
            by,
            Limit::Budget(Period::Day | Period::Month)
                | Limit::PromptTokens(Period::Day | Period::Month)
                | Limit::CompletionTokens(Period::Day | Period::Month)
        ) {
            books
                .client
                .batch_execute(
                    "alter table turnpike.charge disable trigger all;
                     update turnpike.charge set settled_at = settled_at - interval '40 days';
                     alter table turnpike.charge enable trigger all;
                     update turnpike.access_token_counter set day = day - 40, month = date_trunc('month', month - 2)::date",
                )
                .await
                .unwrap();
            let hold =
                crate::support::eventually("a new window", async || ledger.take(want()).await.ok())
                    .await;
            hold.settle(books.charge(100)).await.unwrap();
        }
        books.audit_is_empty().await;
    }
}

#[tokio::test]
async fn a_charge_counts_at_most_what_its_hold_foresaw() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let mut want = books.want(100);
    want.means = ledger::Means {
        prompt: 7,
        completion: 5,
        ..money(100)
    };
    let hold = take(&ledger, want).await;
    let mut claim = books.charge(1_000_000_000);
    claim.buckets.in_text = 1_000_000_000_000_000_000;
    hold.settle(claim).await.unwrap();
    let row = books
        .client
        .query_one(
            "select format('%s %s %s %s', amount, prompt, completion, mark) from turnpike.charge",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "100 7 5 bounded");
    assert_eq!(books.balance().await, 900);
    books.audit_is_empty().await;
}
