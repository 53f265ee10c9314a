//! Taking holds: what fits, what does not, whatever comes at once.

use futures_util::future::join_all;
use ledger::{Ledger, Limit, TakeError, TokenId};
use tariff::Amount;

use crate::support::{Books, refusal, take};

#[tokio::test]
async fn a_hold_counts_until_it_is_settled_or_released() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;

    let first = take(&ledger, books.want(400)).await;
    let second = take(&ledger, books.want(500)).await;
    assert_eq!((books.balance().await, books.held().await), (1_000, 900));
    books.audit_is_empty().await;

    first.settle(books.charge(150)).await.unwrap();
    assert_eq!((books.balance().await, books.held().await), (850, 500));
    second.release().await.unwrap();
    assert_eq!((books.balance().await, books.held().await), (850, 0));
    assert_eq!(books.number("select count(*) from turnpike.hold").await, 0);
    books.audit_is_empty().await;
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
        matches!(error, TakeError::Insufficient { available, by: Limit::Token } if available == Amount::from_nano(200)),
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
    let open = take(&ledger, books.want(500)).await;
    refusal(ledger.take(books.want(1)).await);
    books
        .client
        .execute("select turnpike.set_credit_limit('alice', null)", &[])
        .await
        .unwrap();
    let more = take(&ledger, books.want(4_000_000_000_000_000_000)).await;
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
    assert_eq!(books.held().await, 370);
    books.audit_is_empty().await;

    let settled = join_all(holds.into_iter().map(|hold| hold.settle(books.charge(10)))).await;
    assert!(settled.iter().all(Result::is_ok));
    assert_eq!((books.balance().await, books.held().await), (9, 0));
    books.audit_is_empty().await;
}

#[tokio::test]
async fn an_exchange_taken_twice_is_held_once() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let want = books.want(100);
    let first = take(&ledger, want.clone()).await;
    let again = take(&ledger, want).await;
    assert_eq!(books.held().await, 100);
    first.settle(books.charge(40)).await.unwrap();
    again.release().await.unwrap();
    assert_eq!((books.balance().await, books.held().await), (960, 0));
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
    // Takes are answered in order, so the first one is over once this one is.
    take(&ledger, books.want(1)).await.release().await.unwrap();
    assert_eq!(ledger.drain(std::time::Duration::from_secs(10)).await, 0);
    assert_eq!(books.held().await, 0);
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
async fn one_bad_row_does_not_refuse_the_holds_beside_it() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let mut negative = books.want(1);
    negative.amount = Amount::from_nano(-5);
    let mut poisoned = books.want(1);
    poisoned.model = "gpt\0-4o".repeat(100);
    let (good, bad, clean) = tokio::join!(
        ledger.take(books.want(10)),
        ledger.take(negative),
        ledger.take(poisoned)
    );
    let TakeError::Unavailable(error) = refusal(bad) else {
        panic!("another refusal")
    };
    assert_eq!(error.constraint(), Some("hold_not_negative"));
    for hold in [good.unwrap(), clean.unwrap()] {
        hold.release().await.unwrap();
    }
    books.audit_is_empty().await;
}
