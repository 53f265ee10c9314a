//! What money costs: a hold out of a purse, and settlements by group commit beside one transaction each. On a Postgres of its
//! own with its durability on, and with journal and flight recorder, as in use.
//!
//! `cargo bench -p benches --bench ledger`

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use ledger::{
    AccountId, Charge, Config, End, Evidence, HoldRequest, Ledger, Mark, Means, TokenId,
    admin::{Admin, IssueToken},
    cluster::{Cluster, Options},
    migrate,
};
use tariff::{Amount, Buckets, Flags, PriceId};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// Exchanges at once.
const AT_ONCE: [usize; 3] = [1, 16, 256];
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// Holds that are taken and released in one measurement.
const HOLDS: u32 = 200_000;

fn main() {
    let runtime = Runtime::new().expect("threads");
    let dir = tempfile::tempdir().expect("a directory for the bench");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let cluster = Cluster::start(&Options {
        dir: dir.path().join("postgres"),
        ..Options::default()
    })
    .expect("a Postgres");
    runtime.block_on(measure(&cluster, dir.path()));
    cluster.stop().expect("it stops");
}

/// What every exchange of the bench has in common.
#[derive(Clone, Copy)]
struct Books {
    account: AccountId,
    token: TokenId,
    price: PriceId,
}

async fn measure(cluster: &Cluster, dir: &std::path::Path) {
    cluster
        .create_database("turnpike")
        .await
        .expect("a database");
    let config = cluster
        .config("turnpike")
        .with_data_dir(dir.join("data"), Config::JOURNAL_BYTES_MAX);
    let books = books(cluster, &config).await;
    let ledger = Ledger::connect(config).await.expect("a ledger");

    println!("admission (take + release), one thread");
    for _ in 0..3 {
        let begun = Instant::now();
        for _ in 0..HOLDS {
            let hold = ledger.take(books.want()).await.expect("it fits");
            drop(hold.release());
        }
        println!("  {:>6} ns", (begun.elapsed() / HOLDS).as_nanos());
    }

    println!("settling: durable charges a second, second gate p50 and p99");
    for at_once in AT_ONCE {
        let grouped = grouped(&ledger, books, at_once).await;
        let plain = plain(cluster, books, at_once).await;
        println!(
            "  {at_once:>4} at once   group commit {grouped}   one transaction each {plain}   ratio {:.1}",
            grouped.times(&plain),
        );
    }
    ledger.drain(Duration::from_secs(10)).await;
    let admin = Admin::connect(&cluster.config("turnpike"))
        .await
        .expect("Postgres");
    let audit = admin.audit().await.expect("Postgres");
    println!("audit: {} rows", audit.len());
}

async fn books(cluster: &Cluster, config: &Config) -> Books {
    migrate::run(config).await.expect("migrations");
    let admin = Admin::connect(config).await.expect("Postgres");
    let account = admin
        .create_account("alice", None)
        .await
        .expect("a new name");
    let wanted = IssueToken {
        account: "alice".into(),
        ..IssueToken::default()
    };
    let token = admin.issue_token(&wanted).await.expect("an account").id;
    let (client, connection) = tokio_postgres::connect(&cluster.url("turnpike"), NoTls)
        .await
        .expect("Postgres");
    tokio::spawn(connection);
    let price = "select turnpike.set_price('gpt-4o', input => 2.5, output => 10)";
    let price = client.query_one(price, &[]).await.expect("a price").get(0);
    // The way not taken: what settle_exchanges() does for a group, a transaction for each.
    client
        .batch_execute(
            "create table plain_charge (like turnpike.charge including defaults);
             alter table plain_charge add primary key (id);
             create table plain_account (id bigint primary key, balance bigint not null) with (fillfactor = 50);
             insert into plain_account values (1, 0)",
        )
        .await
        .expect("the tables");
    Books {
        account,
        token,
        price: PriceId(price),
    }
}

impl Books {
    fn want(self) -> HoldRequest {
        HoldRequest {
            exchange: Uuid::now_v7(),
            token: self.token,
            account: self.account,
            means: Means {
                money: Amount::from_nano(3_000_000),
                prompt: 4_000,
                completion: 1_000,
            },
            evidence: Evidence {
                model: "gpt-4o".into(),
                endpoint: "chat/completions".into(),
                price: self.price,
                input_rate: 2_500_000_000,
                output_rate: 10_000_000_000,
                input_tokens: 900,
                stream: true,
                started_at_ms: 1_800_000_000_000,
                upstream: None,
                upstream_key: None,
                whole: false,
            },
        }
    }

    fn charge(self) -> Charge {
        Charge {
            price: self.price,
            amount: Amount::from_nano(282_500),
            mark: Mark::Measured,
            model_requested: "gpt-4o".into(),
            model_answered: Some("gpt-4o-2024-08-06".into()),
            endpoint: "chat/completions".into(),
            service_tier: Some("default".into()),
            stream: true,
            buckets: Buckets {
                in_text: 53,
                out_text: 15,
                ..Buckets::default()
            },
            usage_raw: Some(
                r#"{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}"#.into(),
            ),
            flags: Flags::default(),
            provider_cost: None,
            status: 200,
            end: End::Complete,
            upstream: None,
            upstream_key: None,
            response_id: Some("chatcmpl-1".into()),
            key: None,
            object: None,
            started_at_ms: 1_800_000_000_000,
            head_after_ms: Some(120),
            first_byte_after_ms: Some(130),
            ended_after_ms: 900,
        }
    }
}

/// What one measurement came to.
struct Figures {
    took: Duration,
    each: Vec<Duration>,
}

impl Figures {
    fn new(took: Duration, mut each: Vec<Duration>) -> Self {
        each.sort_unstable();
        Self { took, each }
    }

    #[expect(
        clippy::float_arithmetic,
        clippy::cast_precision_loss,
        reason = "a figure for people"
    )]
    fn a_second(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    #[expect(clippy::float_arithmetic, reason = "a figure for people")]
    fn times(&self, other: &Self) -> f64 {
        self.a_second() / other.a_second()
    }

    fn quantile(&self, percent: usize) -> Duration {
        let at = self.each.len().saturating_sub(1) * percent / 100;
        self.each.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>6.0}/s {:>6} / {:>6} µs",
            self.a_second(),
            self.quantile(50).as_micros(),
            self.quantile(99).as_micros()
        )
    }
}

async fn grouped(ledger: &Ledger, books: Books, at_once: usize) -> Figures {
    let begun = Instant::now();
    let mut exchanges = JoinSet::new();
    for _ in 0..at_once {
        let ledger = ledger.clone();
        exchanges.spawn(async move {
            let mut each = Vec::new();
            while begun.elapsed() < MEASURED {
                let hold = ledger.take(books.want()).await.expect("it fits");
                let since = Instant::now();
                hold.settle(books.charge())
                    .await
                    .expect("Postgres is there");
                each.push(since.elapsed());
            }
            each
        });
    }
    let each = exchanges.join_all().await.concat();
    Figures::new(begun.elapsed(), each)
}

async fn plain(cluster: &Cluster, books: Books, at_once: usize) -> Figures {
    let begun = Instant::now();
    let mut exchanges = JoinSet::new();
    // As many connections as a server allows; more exchanges share them.
    let connections = at_once.min(64);
    for _ in 0..connections {
        let url = cluster.url("turnpike");
        exchanges.spawn(async move {
            let (mut client, connection) =
                tokio_postgres::connect(&url, NoTls).await.expect("Postgres");
            tokio::spawn(connection);
            let mut each = Vec::new();
            let (account, token, price) = (books.account.0, books.token.0, books.price.0);
            while begun.elapsed() < MEASURED {
                let since = Instant::now();
                let charge = client.transaction().await.expect("Postgres");
                charge
                    .execute(
                        "insert into plain_charge (id, account_id, token_id, price_id, instance_id, amount, held, in_text, out_text,
                             started_at, ended_after_ms, status, stream, mark, ending, endpoint, model_requested, model_answered, usage_raw)
                         values ($1, $2, $3, $4, 1, 282500, 3000000, 53, 15, now(), 900, 200, true, 'measured', 'complete',
                             'chat/completions', 'gpt-4o', 'gpt-4o-2024-08-06', '{\"prompt_tokens\":53,\"completion_tokens\":15,\"total_tokens\":68}')",
                        &[&Uuid::now_v7(), &account, &token, &price],
                    )
                    .await
                    .expect("Postgres");
                charge
                    .execute("update plain_account set balance = balance - 282500", &[])
                    .await
                    .expect("Postgres");
                charge.commit().await.expect("Postgres");
                each.push(since.elapsed());
            }
            each
        });
    }
    let each = exchanges.join_all().await.concat();
    Figures::new(begun.elapsed(), each)
}
