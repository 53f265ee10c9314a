//! What one edit by SQL means to every running ledger, and how soon.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ledger::{Config, Disconnect, Ledger, SecretSource};

use crate::support::{Books, digest};

async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{what}: not in time"
        );
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    begun.elapsed()
}

async fn listening(ledgers: &[Ledger]) {
    until("listening", async || {
        ledgers.iter().all(|ledger| ledger.stats().listening)
    })
    .await;
}

/// Long lifetimes: only a notice can bring a change.
fn patient(books: &Books) -> Config {
    books
        .db
        .config()
        .with_token_ttl(Duration::from_secs(600), Duration::from_secs(600))
        .with_poll_every(Duration::from_secs(600))
}

#[tokio::test]
async fn a_revocation_holds_on_every_replica_in_well_under_a_second() {
    let books = Books::with(0).await;
    let ledgers = [
        Ledger::connect(patient(&books)).await.unwrap(),
        Ledger::connect(patient(&books)).await.unwrap(),
    ];
    listening(&ledgers).await;
    let wanted = digest(&books.secret);
    for ledger in &ledgers {
        assert!(!ledger.access_token(wanted).await.unwrap().unwrap().revoked);
    }
    books
        .client
        .execute("update turnpike.access_token set revoked_at = now()", &[])
        .await
        .unwrap();
    for ledger in &ledgers {
        let delay = until("revocation", async || {
            ledger.access_token(wanted).await.unwrap().unwrap().revoked
        })
        .await;
        println!("revocation seen after {delay:?}");
        assert!(delay < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn a_rotated_token_is_unknown_and_a_new_one_known_at_once() {
    let books = Books::with(0).await;
    let ledger = Ledger::connect(patient(&books)).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    let old = digest(&books.secret);
    assert!(ledger.access_token(old).await.unwrap().is_some());
    let new: String = books
        .client
        .query_one("select turnpike.rotate_token($1)", &[&books.secret])
        .await
        .unwrap()
        .get(0);
    until("the old secret goes", async || {
        ledger.access_token(old).await.unwrap().is_none()
    })
    .await;
    assert_eq!(
        ledger.access_token(digest(&new)).await.unwrap().unwrap().id,
        books.token
    );

    // One that was asked for before it existed is not refused for as long as unknown ones are remembered.
    let later = digest("tp-later");
    assert!(ledger.access_token(later).await.unwrap().is_none());
    books
        .client
        .execute("insert into turnpike.access_token (account_id, sha256, prefix) values ($1, $2, 'tp-later')", &[&books.account.0, &later.as_slice()])
        .await
        .unwrap();
    until("the new token is known", async || {
        ledger.access_token(later).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_token_is_looked_up_once_however_many_ask() {
    let books = Books::with(0).await;
    let ledger = Ledger::connect(patient(&books)).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    let wanted = digest(&books.secret);
    // Whoever looks it up waits for this lock.
    books
        .client
        .batch_execute("begin; lock table turnpike.access_token in access exclusive mode")
        .await
        .unwrap();
    let mut asking = Box::pin(join_all((0..200).map(|_| ledger.access_token(wanted))));
    let watcher = books.db.client().await;
    let waiting = async || -> i64 {
        watcher.query_one("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", &[]).await.unwrap().get(0)
    };
    until("a lookup waits", async || {
        assert!(futures_util::poll!(&mut asking).is_pending());
        waiting().await > 0
    })
    .await;
    assert_eq!(waiting().await, 1);
    books.client.batch_execute("commit").await.unwrap();
    assert!(
        asking
            .await
            .iter()
            .all(|answer| matches!(answer, Ok(Some(_))))
    );
}

#[tokio::test]
async fn a_lookup_overtaken_by_a_revocation_does_not_bring_the_old_state_back() {
    let books = Books::with(0).await;
    let ledger = Ledger::connect(patient(&books)).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    let wanted = digest(&books.secret);
    // Lookups all the time, so that some are under way whenever something changes.
    for _ in 0..30 {
        books
            .client
            .execute("update turnpike.access_token set revoked_at = null", &[])
            .await
            .unwrap();
        let asking = join_all((0..20).map(|_| ledger.access_token(wanted)));
        let revoking = books
            .client
            .execute("update turnpike.access_token set revoked_at = now()", &[]);
        let (_, revoked) = tokio::join!(asking, revoking);
        revoked.unwrap();
        until("revocation", async || {
            ledger.access_token(wanted).await.unwrap().unwrap().revoked
        })
        .await;
        // Nor does it come back afterwards.
        for _ in 0..5 {
            assert!(ledger.access_token(wanted).await.unwrap().unwrap().revoked);
        }
    }
}

#[tokio::test]
async fn what_was_said_while_nobody_listened_is_not_missed() {
    let books = Books::with(0).await;
    let ledger = Ledger::connect(patient(&books)).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    let wanted = digest(&books.secret);
    assert!(!ledger.access_token(wanted).await.unwrap().unwrap().revoked);
    let generation = ledger.catalog().generation();
    books
        .client
        .batch_execute(
            "begin;
             select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen%' or query = 'select';
             alter table turnpike.access_token disable trigger all;
             update turnpike.access_token set revoked_at = now();
             commit",
        )
        .await
        .unwrap();
    until("revocation", async || {
        ledger.access_token(wanted).await.unwrap().unwrap().revoked
    })
    .await;
    until("a new catalog", async || {
        ledger.catalog().generation() > generation
    })
    .await;
    listening(std::slice::from_ref(&ledger)).await;
}

#[tokio::test]
async fn prices_upstreams_and_routes_reach_a_running_ledger() {
    let books = Books::with(0).await;
    let ledger = Ledger::connect(patient(&books)).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    assert_eq!(ledger.catalog().prices().len(), 1);
    assert!(ledger.catalog().upstreams().is_empty());

    books.client.execute("select turnpike.set_price('o3*', input => 2, output => 8, disconnect => 'void', context_window => 200000)", &[]).await.unwrap();
    let delay = until("the price", async || ledger.catalog().prices().len() == 2).await;
    println!("price seen after {delay:?}");
    let catalog = ledger.catalog();
    let price = catalog
        .prices()
        .iter()
        .find(|price| price.id != books.price)
        .unwrap();
    assert_eq!(
        (price.rates.in_text, price.context_window),
        (Some(2_000_000_000), Some(200_000))
    );
    assert_eq!(
        (
            catalog.disconnect(price.id),
            catalog.disconnect(books.price)
        ),
        (Some(Disconnect::Void), None)
    );

    books
        .client
        .batch_execute(
            "select turnpike.set_upstream('openai', 'https://api.openai.com/v1/', key => 'env:OPENAI_API_KEY');
             select turnpike.set_upstream('other', 'http://10.0.0.1:8000', proxy => 'socks5://proxy:1080', priority => 1)",
        )
        .await
        .unwrap();
    until("two upstreams", async || {
        ledger.catalog().upstreams().len() == 2
    })
    .await;
    let catalog = ledger.catalog();
    assert_eq!(catalog.upstreams()[0].base_url, "https://api.openai.com/v1");
    assert_eq!(
        catalog.upstreams()[0].keys[0].secret,
        SecretSource::Env("OPENAI_API_KEY".into())
    );
    assert_eq!(
        catalog.upstreams()[1].proxy.as_deref(),
        Some("socks5://proxy:1080")
    );
    assert!(catalog.only_upstream().is_none());
    assert_eq!(catalog.candidates("gpt-4o").len(), 2);

    books
        .client
        .batch_execute(
            "select turnpike.set_route('gpt-4o*', 'other');
             select turnpike.set_route('gpt*', 'openai');
             select turnpike.set_route('gpt-4o', 'openai');
             select turnpike.set_route('gpt-4o', 'other', priority => 1);",
        )
        .await
        .unwrap();
    until("four routes", async || {
        ledger.catalog().candidates("gpt-4o-mini").len() == 1
    })
    .await;
    until("four routes", async || {
        ledger.catalog().candidates("gpt-4o").len() == 2
            && ledger.catalog().candidates("gpt-5").len() == 1
    })
    .await;
    let names = |model: &str| {
        ledger
            .catalog()
            .candidates(model)
            .iter()
            .map(|upstream| upstream.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("gpt-4o-mini"), ["other"]);
    assert_eq!(names("gpt-4o"), ["openai", "other"]);
    assert_eq!(names("gpt-5"), ["openai"]);
    assert_eq!(names("claude").len(), 2);

    books.client.batch_execute("delete from turnpike.route; update turnpike.upstream set enabled = false where name = 'other'").await.unwrap();
    until("one upstream", async || {
        ledger.catalog().only_upstream().is_some()
    })
    .await;
}

#[tokio::test]
async fn an_edit_without_a_notice_comes_with_the_poll_and_the_lifetime() {
    let books = Books::with(0).await;
    let config = books
        .db
        .config()
        .with_token_ttl(Duration::from_millis(50), Duration::from_millis(50))
        .with_poll_every(Duration::from_millis(50));
    let ledger = Ledger::connect(config).await.unwrap();
    listening(std::slice::from_ref(&ledger)).await;
    books.client.batch_execute("alter table turnpike.access_token disable trigger all; alter table turnpike.upstream disable trigger all").await.unwrap();
    let wanted = digest(&books.secret);
    assert!(!ledger.access_token(wanted).await.unwrap().unwrap().revoked);
    books.client.batch_execute("update turnpike.access_token set revoked_at = now(); insert into turnpike.upstream (name, base_url) values ('x', 'http://x')").await.unwrap();
    until("revocation", async || {
        ledger.access_token(wanted).await.unwrap().unwrap().revoked
    })
    .await;
    until("upstream", async || ledger.catalog().upstreams().len() == 1).await;
}

#[tokio::test]
async fn counters_tell_nobody() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    listening(std::slice::from_ref(&ledger)).await;
    // The load that follows listening.
    until("the second catalog", async || {
        ledger.catalog().generation() == 2
    })
    .await;
    let generation = 2;
    for _ in 0..10 {
        crate::support::take(&ledger, books.want(10))
            .await
            .settle(books.charge(5))
            .await
            .unwrap();
    }
    books
        .client
        .batch_execute("select turnpike.top_up('alice', 1)")
        .await
        .unwrap();
    // Notices come in order: had any of these said something, this one would not be the first.
    books
        .client
        .batch_execute("select turnpike.set_upstream('x', 'http://x')")
        .await
        .unwrap();
    until("an upstream", async || {
        !ledger.catalog().upstreams().is_empty()
    })
    .await;
    assert_eq!(ledger.catalog().generation(), generation + 1);
}

#[tokio::test]
async fn everything_a_token_may_do_is_read() {
    let books = Books::with(0).await;
    let ledger = books.ledger().await;
    let secret: String = books
        .client
        .query_one(
            "select token from turnpike.issue_token('alice', budget_usd => 20, expires => '2099-01-01', models => '{gpt-4o*,o3}', requests_per_minute => 60,
                concurrent_exchanges => 4, endpoints => '{embeddings}', addresses => '{10.0.0.0/8,::1}', label => 'x', upstream_key => 'file:/run/key')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let token = ledger.access_token(digest(&secret)).await.unwrap().unwrap();
    assert!(secret.starts_with(&token.prefix));
    assert_eq!(token.expires_at_ms, Some(4_070_908_800_000));
    assert!(token.is_valid(4_070_908_799_999) && !token.is_valid(4_070_908_800_000));
    assert!(
        token.allows_model("gpt-4o-mini")
            && token.allows_model("o3")
            && !token.allows_model("o3-mini")
    );
    assert!(token.allows_endpoint("embeddings") && !token.allows_endpoint("chat/completions"));
    for (address, allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("11.0.0.1", false),
        ("::1", true),
        ("::2", false),
    ] {
        assert_eq!(
            token.allows_address(address.parse().unwrap()),
            allowed,
            "{address}"
        );
    }
    assert_eq!(
        (token.requests_per_minute, token.concurrent_exchanges),
        (Some(60), Some(4))
    );
    assert_eq!(
        token.upstream_key,
        Some(SecretSource::File("/run/key".into()))
    );
    assert!(!format!("{token:?}").contains(&secret));
}
