//! Postgres going away and coming back, and long mixes of everything: the books stay right.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use futures_util::future::join_all;
use ledger::{
    AccountId, Config, HoldRequest, Ledger, TakeError, TokenId,
    admin::{Admin, IssueToken},
    cluster::{Cluster, Options},
    migrate,
};
use tariff::PriceId;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Books, charge, evidence, money, refusal, take};

/// A cluster of the test's own, which it may stop: here with its durability on.
pub(crate) struct Own {
    pub(crate) options: Options,
    pub(crate) config: Config,
    account: AccountId,
    token: TokenId,
    price: PriceId,
    _dir: TempDir,
}

pub(crate) async fn own() -> (Own, Cluster) {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options {
        dir: dir.path().join("turnpike"),
        ..Options::default()
    };
    let cluster = Cluster::start(&options).unwrap();
    cluster.create_database("turnpike").await.unwrap();
    let config = cluster.config("turnpike");
    migrate::run(&config).await.unwrap();
    let admin = Admin::connect(&config).await.unwrap();
    let account = admin.create_account("alice", None).await.unwrap();
    let token = admin
        .issue_token(&IssueToken {
            account: "alice".into(),
            ..IssueToken::default()
        })
        .await
        .unwrap()
        .id;
    let (client, connection) =
        tokio_postgres::connect(&cluster.url("turnpike"), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let price = client
        .query_one("select turnpike.set_price('gpt-4o', input => 1)", &[])
        .await
        .unwrap()
        .get(0);
    (
        Own {
            options,
            config,
            account,
            token,
            price: PriceId(price),
            _dir: dir,
        },
        cluster,
    )
}

impl Own {
    fn want(&self) -> HoldRequest {
        HoldRequest {
            exchange: Uuid::now_v7(),
            token: self.token,
            account: self.account,
            means: money(100),
            evidence: evidence(self.price),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_wait_for_postgres_to_come_back_and_none_is_lost() {
    let (own, cluster) = own().await;
    let ledger = Ledger::connect(own.config.clone()).await.unwrap();
    let holds = join_all((0..300).map(|_| ledger.take(own.want()))).await;
    let mut settling = Vec::new();
    let mut holds = holds.into_iter().map(Result::unwrap);
    let spared = holds.next().unwrap();
    for hold in holds.by_ref().take(100) {
        settling.push(hold.settle(charge(own.price, 60)));
    }
    // While these are under way.
    cluster.stop().unwrap();
    for hold in holds {
        settling.push(hold.settle(charge(own.price, 60)));
    }
    while ledger.stats().connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    spared.release().await.unwrap();
    // While the purse lasts, exchanges go on; then a take is refused after some patience, and not before.
    let mut on_credit = Vec::new();
    let error = loop {
        match ledger.take(own.want()).await {
            Ok(hold) => on_credit.push(hold),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TakeError::Unavailable(error) if error.is_unavailable()));
    assert!(!on_credit.is_empty());
    for hold in on_credit {
        hold.release().await.unwrap();
    }
    assert!(ledger.drain(Duration::from_millis(10)).await >= 200);

    let cluster = Cluster::start(&own.options).unwrap();
    assert!(join_all(settling).await.iter().all(Result::is_ok));
    take(&ledger, own.want()).await.release().await.unwrap();
    assert!(ledger.is_ready());
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    let admin = Admin::connect(&own.config).await.unwrap();
    let accounts = admin.accounts().await.unwrap();
    assert_eq!(
        (accounts[0].balance.nano(), accounts[0].held.nano()),
        (-299 * 60, 0)
    );
    assert!(admin.audit().await.unwrap().is_empty());
    drop(admin);
    drop(ledger);
    cluster.stop().unwrap();
}

/// With a journal nobody waits: what is settled while Postgres is away is durable on this disk, and goes there when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_are_durable_in_the_journal_while_postgres_is_away() {
    let (own, cluster) = own().await;
    let data = TempDir::new().unwrap();
    let config = || {
        own.config
            .clone()
            .with_data_dir(data.path(), Config::JOURNAL_BYTES_MAX)
    };
    let ledger = Ledger::connect(config()).await.unwrap();
    let holds = join_all((0..100).map(|_| ledger.take(own.want()))).await;
    let mut holds: Vec<_> = holds.into_iter().map(Result::unwrap).collect();
    let kept = holds.split_off(50);
    cluster.stop().unwrap();
    let settled = holds
        .into_iter()
        .map(|hold| hold.settle(charge(own.price, 60)));
    assert!(join_all(settled).await.iter().all(Result::is_ok));
    assert_eq!(ledger.stats().journal_records, 50);
    assert!(ledger.is_ready(), "it has a durable place");
    // It goes on from its purse.
    take(&ledger, own.want())
        .await
        .settle(charge(own.price, 60))
        .await
        .unwrap();

    let cluster = Cluster::start(&own.options).unwrap();
    crate::support::eventually("it is replayed", async || {
        (ledger.stats().journal_records == 0).then_some(())
    })
    .await;
    for hold in kept {
        hold.settle(charge(own.price, 60)).await.unwrap();
    }
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    let admin = Admin::connect(&own.config).await.unwrap();
    let accounts = admin.accounts().await.unwrap();
    assert_eq!(accounts[0].balance.nano(), -101 * 60);
    assert!(admin.audit().await.unwrap().is_empty());
    // An orderly end leaves nothing behind, and the next start finds nothing to recover.
    drop(ledger);
    let ledger = Ledger::connect(config()).await.unwrap();
    assert_eq!(ledger.stats().interrupted, 0);
    drop(admin);
    drop(ledger);
    cluster.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_mix_from_two_replicas_leaves_the_audit_empty_at_every_moment() {
    let books = Books::with(200_000).await;
    books
        .client
        .batch_execute("update turnpike.access_token set budget = 150000")
        .await
        .unwrap();
    let ledgers = [books.ledger().await, books.ledger().await];
    let auditor = books.db.client().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let auditing = tokio::spawn(async move {
        let mut audits = 0;
        while stopped.try_recv().is_err() {
            assert!(
                auditor
                    .query("select * from turnpike.audit", &[])
                    .await
                    .unwrap()
                    .is_empty()
            );
            audits += 1;
        }
        audits
    });
    // A fixed sequence of pseudo-random numbers: the same mix every time.
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        i64::try_from(seed % below).unwrap()
    };
    let mut open = Vec::new();
    let mut charged = 0;
    for _ in 0..60 {
        let wants: Vec<_> = (0..20).map(|_| books.want(next(2_000))).collect();
        let taken = join_all(
            wants
                .into_iter()
                .enumerate()
                .map(|(n, want)| ledgers[n % 2].take(want)),
        )
        .await;
        open.extend(taken.into_iter().filter_map(Result::ok));
        let mut settling = Vec::new();
        while next(10) > 1 && !open.is_empty() {
            let hold = open.swap_remove(usize::try_from(next(1_000)).unwrap() % open.len());
            if next(3) == 0 {
                settling.push(hold.release());
            } else {
                let amount = next(u64::try_from(hold.amount().nano()).unwrap() + 1);
                charged += amount;
                settling.push(hold.settle(books.charge(amount)));
            }
        }
        if next(2) == 0 {
            assert!(join_all(settling).await.iter().all(Result::is_ok));
        }
    }
    for hold in open {
        hold.release().await.unwrap();
    }
    for ledger in &ledgers {
        assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    }
    stop.send(()).unwrap();
    assert!(auditing.await.unwrap() > 10);
    assert_eq!(
        (books.balance().await, books.leased().await),
        (200_000 - charged, 0)
    );
    assert!(charged <= 150_000);
    books.audit_is_empty().await;
}

/// Somebody begins a transaction in psql, tops an account up and goes to lunch. Before, every settlement of every account
/// waited for that one row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_kept_locked_stops_nobody_else() {
    let books = Books::with(1_000_000).await;
    let bob = books
        .client
        .query_one("select turnpike.create_account('bob', null)", &[])
        .await
        .unwrap()
        .get(0);
    let bobs = books
        .client
        .query_one("select token_id from turnpike.issue_token('bob')", &[])
        .await
        .unwrap()
        .get(0);
    let ledger = books.ledger().await;
    let bob_wants = || {
        let mut want = books.want(10);
        (want.account, want.token) = (AccountId(bob), TokenId(bobs));
        want
    };
    let (hers, his) = (
        take(&ledger, books.want(10)).await,
        take(&ledger, bob_wants()).await,
    );

    let lunch = books.db.client().await;
    lunch
        .batch_execute("begin; select turnpike.top_up('alice', 1)")
        .await
        .unwrap();
    let mut waiting = vec![hers.settle(books.charge(5))];
    his.settle(books.charge(5)).await.unwrap();
    // Her purse lasts a little.
    let mut hers = Vec::new();
    let error = loop {
        match ledger.take(books.want(10)).await {
            Ok(hold) => hers.push(hold),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TakeError::Unavailable(error) if error.is_unavailable()));

    // From here on it is known who is locked, and nobody else waits long.
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        take(&ledger, bob_wants())
            .await
            .settle(books.charge(5))
            .await
            .unwrap();
        let (alice, bob) = tokio::join!(ledger.take(books.want(10)), ledger.take(bob_wants()));
        refusal(alice);
        bob.unwrap().settle(books.charge(5)).await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(futures_util::poll!(&mut waiting[0]).is_pending());

    lunch.batch_execute("commit").await.unwrap();
    waiting.remove(0).await.unwrap();
    for hold in hers {
        hold.release().await.unwrap();
    }
    take(&ledger, books.want(10))
        .await
        .settle(books.charge(5))
        .await
        .unwrap();
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    assert_eq!(books.balance().await, 1_000_000 + 1_000_000_000 - 2 * 5);
    books.audit_is_empty().await;
}
