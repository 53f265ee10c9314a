//! The contract for people: each function as an operator calls it in psql, and the errors it gives.

use crate::support::{Books, take};
use testkit::postgres::TestDb;
use tokio_postgres::Client;

/// SQLSTATE, message and hint of what must fail.
async fn error(client: &Client, statement: &str) -> (String, String, String) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let refused = error.as_db_error().expect("an error of Postgres");
    (
        refused.code().code().into(),
        refused.message().into(),
        refused.hint().unwrap_or_default().into(),
    )
}

async fn fails(client: &Client, statement: &str, sqlstate: &str, message: &str) {
    let (code, said, _) = error(client, statement).await;
    assert!(
        code == sqlstate && said.contains(message),
        "{statement}\n  gives {code}: {said}\n  not  {sqlstate}: {message}"
    );
}

async fn breaks(client: &Client, statement: &str, constraint: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    assert_eq!(
        error.as_db_error().and_then(|refused| refused.constraint()),
        Some(constraint),
        "{statement}: {error}"
    );
}

async fn text(client: &Client, statement: &str) -> String {
    client
        .query_one(statement, &[])
        .await
        .expect(statement)
        .get(0)
}

/// The lines of the design, word for word.
#[tokio::test]
async fn the_examples_of_the_design_work() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute("select turnpike.create_account('alice')")
        .await
        .unwrap();
    let token = text(
        &client,
        "select token from turnpike.issue_token(account => 'alice', budget_usd => 20, expires => '2027-01-01',
                                                models => '{gpt-4o*}', requests_per_minute => 60)",
    )
    .await;
    assert!(token.starts_with("tp-") && token.len() == 67);
    client
        .batch_execute(&format!(
            "select turnpike.rotate_token('{prefix}…'), turnpike.revoke_token('{prefix}…') where false;
             select turnpike.top_up('alice', 20, 'invoice 17');
             select turnpike.set_price('gpt-4o', input => 2.50, cached_input => 1.25, output => 10.00);
             select turnpike.set_upstream('openai', 'https://api.openai.com/v1', key => 'env:OPENAI_API_KEY');",
            prefix = &token[..7],
        ))
        .await
        .unwrap();
    for view in [
        "balances",
        "usage_daily",
        "usage_by_model",
        "open_holds",
        "estimates",
        "audit",
    ] {
        client
            .query(&format!("select * from turnpike.{view}"), &[])
            .await
            .expect(view);
    }
    assert_eq!(
        text(&client, "select available_usd::text from turnpike.balances").await,
        "20"
    );
    assert_eq!(text(&client, "select string_agg(in_text || ' ' || cr_text || ' ' || out_text, ',') from turnpike.price").await, "2500000000 1250000000 10000000000");
}

#[tokio::test]
async fn money_is_read_exactly_or_refused() {
    let db = TestDb::new().await;
    let client = db.client().await;
    assert_eq!(text(&client, "select turnpike.nano(2.5)::text || turnpike.nano(0.000000001)::text || turnpike.nano(-1)::text").await, "25000000001-1000000000");
    assert_eq!(text(&client, "select turnpike.usd(1)::text || ' ' || turnpike.usd(2500000000) || ' ' || turnpike.usd(-9223372036854775807)").await, "0.000000001 2.5 -9223372036.854775807");
    fails(
        &client,
        "select turnpike.nano('NaN')",
        "22023",
        "the amount is NaN",
    )
    .await;
    fails(
        &client,
        "select turnpike.nano('-Infinity')",
        "22023",
        "the amount is -Infinity",
    )
    .await;
    fails(
        &client,
        "select turnpike.nano(0.0000000001)",
        "22023",
        "finer than one nano-USD",
    )
    .await;
    fails(
        &client,
        "select turnpike.nano(9223372036.854775808)",
        "22003",
        "out of range",
    )
    .await;
}

#[tokio::test]
async fn accounts_are_made_and_topped_up() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client.batch_execute("select turnpike.create_account('alice'), turnpike.create_account('bob', 5), turnpike.create_account('carol', null)").await.unwrap();
    assert_eq!(text(&client, "select string_agg(concat_ws(' ', account, balance_usd, credit_limit_usd, available_usd), ',') from turnpike.balances").await, "alice 0 0 0,bob 0 5 5,carol 0");
    assert_eq!(
        text(
            &client,
            "select turnpike.top_up('alice', 20, 'invoice 17')::text"
        )
        .await,
        "20"
    );
    assert_eq!(
        text(
            &client,
            "select turnpike.top_up('alice', -0.5, 'refund')::text"
        )
        .await,
        "19.5"
    );
    assert_eq!(
        text(
            &client,
            "select string_agg(note, ',' order by id) from turnpike.credit"
        )
        .await,
        "invoice 17,refund"
    );
    // A plain insert does as well, of many rows too.
    client.batch_execute("insert into turnpike.credit (account_id, amount, note) select id, 7, 'gift' from turnpike.account, generate_series(1, 3)").await.unwrap();
    assert_eq!(
        text(&client, "select sum(balance)::text from turnpike.account").await,
        "19500000063"
    );
    assert_eq!(
        text(&client, "select count(*)::text from turnpike.audit").await,
        "0"
    );

    let (code, message, hint) = error(&client, "select turnpike.top_up('dave', 1)").await;
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("P0002", "there is no account dave")
    );
    assert_eq!(
        hint,
        "Create it first: select turnpike.create_account('dave');"
    );
    fails(
        &client,
        "select turnpike.top_up('alice', 0)",
        "22023",
        "must not be zero",
    )
    .await;
    fails(
        &client,
        "select turnpike.top_up('alice', null)",
        "22023",
        "must not be zero",
    )
    .await;
    fails(
        &client,
        "select turnpike.top_up('alice', 'NaN')",
        "22023",
        "the credit is NaN",
    )
    .await;
    fails(
        &client,
        "select turnpike.create_account('x', -1)",
        "22023",
        "negative",
    )
    .await;
    breaks(
        &client,
        "select turnpike.create_account('alice')",
        "account_name_unique",
    )
    .await;
    breaks(
        &client,
        "select turnpike.create_account('')",
        "account_name_printable",
    )
    .await;
    breaks(
        &client,
        "select turnpike.create_account(' alice')",
        "account_name_printable",
    )
    .await;
    breaks(
        &client,
        "update turnpike.account set held = -1",
        "account_held_not_negative",
    )
    .await;
}

#[tokio::test]
async fn what_only_grows_refuses_every_change() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    take(&ledger, books.want(10))
        .await
        .settle(books.charge(5))
        .await
        .unwrap();
    for table in ["credit", "charge"] {
        for statement in [
            format!("update turnpike.{table} set amount = amount"),
            format!("delete from turnpike.{table}"),
            format!("truncate turnpike.{table} cascade"),
        ] {
            fails(&books.client, &statement, "55000", "append-only").await;
        }
    }
    let partition = text(
        &books.client,
        "select tableoid::regclass::text from turnpike.charge",
    )
    .await;
    fails(
        &books.client,
        &format!("delete from {partition}"),
        "55000",
        "append-only",
    )
    .await;
}

#[tokio::test]
async fn issuing_a_token_refuses_what_makes_no_sense() {
    let books = Books::with(0).await;
    let client = &books.client;
    let (code, message, hint) = error(client, "select turnpike.issue_token('bob')").await;
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("P0002", "there is no account bob")
    );
    assert!(hint.contains("create_account('bob')"));
    for (arguments, message) in [
        ("budget_usd => -1", "the budget is negative"),
        ("budget_usd => 'NaN'", "the budget is NaN"),
        ("budget_usd => 0.0000000001", "finer than one nano-USD"),
        ("expires => '2020-01-01'", "expired already"),
        ("models => '{}'", "the list of models is empty"),
        (
            "models => '{\"\"}'",
            "the list of models is empty or names something that is no pattern",
        ),
        ("models => '{g*t}'", "no pattern"),
        ("models => array[null]", "no pattern"),
        ("endpoints => '{}'", "the list of endpoints is empty"),
        ("addresses => '{}'", "the list of addresses is empty"),
        ("requests_per_minute => 0", "a limit must be at least 1"),
        ("concurrent_exchanges => -1", "a limit must be at least 1"),
    ] {
        fails(
            client,
            &format!("select turnpike.issue_token('alice', {arguments})"),
            "22023",
            message,
        )
        .await;
    }
    fails(
        client,
        "select turnpike.issue_token('alice', budget_usd => 1e10)",
        "22003",
        "out of range",
    )
    .await;
    breaks(
        client,
        "select turnpike.issue_token('alice', upstream_key => 'with space')",
        "access_token_upstream_key_not_empty",
    )
    .await;
    assert_eq!(
        books
            .number("select count(*) from turnpike.access_token")
            .await,
        1
    );
}

#[tokio::test]
async fn secrets_are_random_and_kept_as_digests_only() {
    let books = Books::with(0).await;
    let secrets = books
        .client
        .query(
            "select (turnpike.issue_token('alice')).token from generate_series(1, 200)",
            &[],
        )
        .await
        .unwrap();
    let mut secrets: Vec<String> = secrets.iter().map(|row| row.get(0)).collect();
    secrets.sort_unstable();
    secrets.dedup();
    assert_eq!(secrets.len(), 200);
    // Every position of the digits varies: no fixed bits of UUIDs show.
    for at in 3..67 {
        let mut digits: Vec<_> = secrets.iter().map(|secret| secret.as_bytes()[at]).collect();
        digits.sort_unstable();
        digits.dedup();
        assert!(digits.len() > 10, "position {at}");
    }
    let dump = text(
        &books.client,
        "select string_agg(t::text, '') from turnpike.access_token as t",
    )
    .await;
    assert!(secrets.iter().all(|secret| !dump.contains(&secret[3..])));
    assert_eq!(
        books
            .number("select count(*) from turnpike.access_token where octet_length(sha256) = 32")
            .await,
        201
    );
}

#[tokio::test]
async fn a_token_is_named_by_its_secret_or_its_beginning() {
    let books = Books::with(0).await;
    let client = &books.client;
    let prefix = text(client, "select prefix from turnpike.access_token").await;
    for name in [
        books.secret.clone(),
        prefix.clone(),
        format!("{prefix}…"),
        format!("{prefix}..."),
        prefix[..6].to_owned(),
        format!(" {prefix} "),
    ] {
        let found = client
            .query_one("select turnpike.find_token($1)", &[&name])
            .await
            .unwrap();
        assert_eq!(found.get::<_, i64>(0), books.token.0, "{name}");
    }
    fails(
        client,
        "select turnpike.revoke_token('tp-')",
        "22023",
        "at least five characters",
    )
    .await;
    fails(
        client,
        "select turnpike.revoke_token(null)",
        "22023",
        "at least five characters",
    )
    .await;
    fails(
        client,
        "select turnpike.revoke_token('tp-zzzzzzz')",
        "P0002",
        "no access token begins like this",
    )
    .await;
    // The secret itself never shows in an error.
    let (_, message, hint) = error(
        client,
        "select turnpike.revoke_token('tp-0123456789012345678901234567890123456789')",
    )
    .await;
    assert!(!format!("{message}{hint}").contains("0123456789"));
    client
        .batch_execute("insert into turnpike.access_token (account_id, sha256, prefix) select id, sha256(n::text::bytea), 'tp-same' || n from turnpike.account, generate_series(1, 2) as n")
        .await
        .unwrap();
    fails(
        client,
        "select turnpike.revoke_token('tp-same')",
        "P0003",
        "2 access tokens begin like this: tp-same1, tp-same2",
    )
    .await;
    assert_eq!(
        text(client, "select turnpike.revoke_token('tp-same2')").await,
        "tp-same2"
    );
}

#[tokio::test]
async fn a_rotated_token_keeps_its_limits_and_a_revoked_one_is_not_rotated() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    take(&ledger, books.want(10))
        .await
        .settle(books.charge(5))
        .await
        .unwrap();
    let new = text(
        &books.client,
        "select turnpike.rotate_token(prefix) from turnpike.access_token",
    )
    .await;
    assert!(new.starts_with("tp-") && new != books.secret);
    assert_eq!(
        books
            .number("select spent from turnpike.access_token_counter")
            .await,
        5
    );
    fails(
        &books.client,
        &format!("select turnpike.rotate_token('{}')", books.secret),
        "P0002",
        "no access token",
    )
    .await;
    assert_eq!(
        text(
            &books.client,
            &format!("select turnpike.revoke_token('{new}')")
        )
        .await,
        new[..11]
    );
    let first = text(
        &books.client,
        "select revoked_at::text from turnpike.access_token",
    )
    .await;
    text(
        &books.client,
        &format!("select turnpike.revoke_token('{new}')"),
    )
    .await;
    assert_eq!(
        text(
            &books.client,
            "select revoked_at::text from turnpike.access_token"
        )
        .await,
        first,
        "revoked once"
    );
    fails(
        &books.client,
        &format!("select turnpike.rotate_token('{new}')"),
        "55000",
        "revoked",
    )
    .await;
}

#[tokio::test]
async fn a_price_is_superseded_never_changed() {
    let books = Books::with(0).await;
    let client = &books.client;
    let set = async |arguments: &str| {
        books
            .number(&format!("select turnpike.set_price('gpt-4o', {arguments})"))
            .await
    };
    let first = books.price.0;
    assert_eq!(
        set("input => 2.5, output => 10").await,
        first,
        "the same again is no new version"
    );
    let second = set("input => 3, output => 10").await;
    assert!(second > first);
    let later = set("input => 4, output => 10, valid_from => now() + interval '1 day'").await;
    let third = set("input => 3.5, output => 10").await;
    // In order and without gaps: first, second, third, later.
    let versions = client
        .query(
            "select id, valid_from, valid_to from turnpike.price order by valid_from, id",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        versions
            .iter()
            .map(|row| row.get::<_, i64>(0))
            .collect::<Vec<_>>(),
        [first, second, third, later]
    );
    assert_eq!(books.number("select count(*) from turnpike.price as a join turnpike.price as b on b.valid_from = a.valid_to and b.id <> a.id").await, 3);
    // The scheduled one can still be replaced before it comes into force, and is then never in force.
    let replaced = books
        .number("select turnpike.set_price('gpt-4o', input => 5, output => 10, valid_from => (select max(valid_from) from turnpike.price))")
        .await;
    assert_eq!(
        books
            .number(&format!(
                "select count(*) from turnpike.price where id = {later} and valid_to = valid_from"
            ))
            .await,
        1
    );
    assert!(replaced > third);

    for statement in [
        "update turnpike.price set in_text = 0".to_owned(),
        "update turnpike.price set pattern = 'x'".to_owned(),
        format!("update turnpike.price set valid_to = null where id = {first}"),
        format!(
            "update turnpike.price set valid_to = now() + interval '2 days' where id = {third}"
        ),
        format!(
            "update turnpike.price set valid_to = now() - interval '1 hour' where id = {third}"
        ),
    ] {
        fails(
            client,
            &statement,
            "55000",
            "never changed, only superseded",
        )
        .await;
    }
    fails(
        client,
        "delete from turnpike.price",
        "55000",
        "never deleted",
    )
    .await;
    fails(
        client,
        "truncate turnpike.price cascade",
        "55000",
        "append-only",
    )
    .await;
    fails(client, "select turnpike.set_price('gpt-4o', input => 9, valid_from => now() - interval '1 microsecond' * 2000)", "22023", "in the past").await;
    // By hand too: closing works, overlapping does not.
    client
        .batch_execute(&format!(
            "update turnpike.price set valid_to = now() + interval '1 hour' where id = {third}"
        ))
        .await
        .unwrap();
    breaks(
        client,
        "insert into turnpike.price (pattern, in_text) values ('gpt-4o', 1)",
        "price_versions_disjoint",
    )
    .await;
    breaks(client, "insert into turnpike.price (pattern, in_text, valid_from, valid_to) values ('gpt-4o', 1, now() - interval '1 year', now() + interval '1 minute')", "price_versions_disjoint").await;
}

#[tokio::test]
async fn two_versions_never_overlap_however_many_set_them_at_once() {
    let books = Books::with(0).await;
    let clients: Vec<_> = futures_util::future::join_all((0..6).map(|_| books.db.client())).await;
    let setting = clients.iter().enumerate().map(|(n, client)| async move {
        for round in 0..10 {
            let price = 1 + (n * 7 + round * 3) % 5;
            // Two at the same millisecond may be refused, but never both stand.
            let _ = client
                .batch_execute(&format!(
                    "select turnpike.set_price('gpt-4o', input => {price})"
                ))
                .await;
        }
    });
    futures_util::future::join_all(setting).await;
    assert_eq!(
        books
            .number(
                "select count(*) from turnpike.price as a join turnpike.price as b on a.id < b.id
                  where tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)",
            )
            .await,
        0
    );
    assert_eq!(
        books
            .number("select count(*) from turnpike.price where valid_to is null")
            .await,
        1
    );
}

#[tokio::test]
async fn setting_a_price_refuses_what_makes_no_sense() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (arguments, message) in [
        ("'gpt-4o', input => -1", "the price of gpt-4o is negative"),
        ("'gpt-4o', output_image => -0.1", "negative"),
        ("'gpt-4o', input => 'NaN'", "the price of input is NaN"),
        (
            "'gpt-4o', output => 0.0000000001",
            "the price of output (0.0000000001 USD) is finer than one nano-USD",
        ),
        ("'gpt-4o'", "has no figures"),
        ("'', input => 1", "no name"),
        ("null, input => 1", "no name"),
        ("'g*t', input => 1", "no name"),
        (
            "'gpt-4o', input => 1, tier => 'fast'",
            "'fast' is no tier with a price of its own",
        ),
        ("'gpt-4o', input => 1, tier => null", "no tier"),
        (
            "'gpt-4o', input => 1, disconnect => 'x'",
            "none of drain, estimate, void",
        ),
        (
            "'gpt-4o', input => 1, context_window => 0",
            "must be positive",
        ),
        (
            "'gpt-4o', input => 1, min_context => -1",
            "must be positive",
        ),
        (
            "'gpt-4o', input => 1, valid_from => 'infinity'",
            "must be an instant",
        ),
    ] {
        fails(
            &client,
            &format!("select turnpike.set_price({arguments})"),
            "22023",
            message,
        )
        .await;
    }
    fails(
        &client,
        "select turnpike.set_price('gpt-4o', input => 1e10)",
        "22003",
        "out of range",
    )
    .await;
    breaks(
        &client,
        "insert into turnpike.price (pattern, in_text) values ('x', -1)",
        "price_rates_not_negative",
    )
    .await;
    breaks(
        &client,
        "insert into turnpike.price (pattern) values ('x')",
        "price_rates_not_all_null",
    )
    .await;
    assert_eq!(
        text(&client, "select count(*)::text from turnpike.price").await,
        "0"
    );
}

#[tokio::test]
async fn upstreams_and_routes_are_set_and_refused() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute(
            "select turnpike.set_upstream('a', 'https://a.example/v1///', key => 'env:A')",
        )
        .await
        .unwrap();
    client.batch_execute("select turnpike.set_upstream('a', 'https://b.example', proxy => 'http://user:pw@proxy:3128')").await.unwrap();
    assert_eq!(text(&client, "select base_url || ' ' || proxy || ' ' || secret from turnpike.upstream as u join turnpike.upstream_key as k on k.upstream_id = u.id").await, "https://b.example http://user:pw@proxy:3128 env:A");
    client
        .batch_execute("select turnpike.set_upstream('a', 'https://b.example', key => 'env:B')")
        .await
        .unwrap();
    assert_eq!(text(&client, "select string_agg(secret, ',') || count(proxy) from turnpike.upstream as u join turnpike.upstream_key as k on k.upstream_id = u.id").await, "env:B0");
    for url in [
        "ftp://x",
        "https://",
        "x",
        "https://user:pw@x",
        "https://x/?q",
        "https://x#f",
        "https://x y",
    ] {
        fails(
            &client,
            &format!("select turnpike.set_upstream('a', '{url}')"),
            "22023",
            "the base URL",
        )
        .await;
    }
    fails(
        &client,
        "select turnpike.set_upstream('a', 'https://x', proxy => 'x:1')",
        "22023",
        "the proxy",
    )
    .await;
    fails(
        &client,
        "select turnpike.set_upstream('a', 'https://x', dialect => 'cobol')",
        "22023",
        "no dialect 'cobol'",
    )
    .await;
    breaks(
        &client,
        "select turnpike.set_upstream('', 'https://x')",
        "upstream_name_is_word",
    )
    .await;
    breaks(
        &client,
        "select turnpike.set_upstream('a', 'https://x', key => '')",
        "upstream_key_secret_not_empty",
    )
    .await;
    client.batch_execute("select turnpike.set_route('gpt*', 'a'); select turnpike.set_route('gpt*', 'a', 'deployment')").await.unwrap();
    assert_eq!(
        text(
            &client,
            "select string_agg(upstream_model, ',') from turnpike.route"
        )
        .await,
        "deployment"
    );
    fails(
        &client,
        "select turnpike.set_route('gpt', 'b')",
        "P0002",
        "there is no upstream b",
    )
    .await;
    fails(
        &client,
        "select turnpike.set_route('*t', 'a')",
        "22023",
        "no name",
    )
    .await;
}

#[tokio::test]
async fn partitions_are_made_ahead_once() {
    let db = TestDb::new().await;
    let client = db.client().await;
    assert_eq!(
        text(&client, "select turnpike.ensure_charge_partitions()::text").await,
        "0"
    );
    assert_eq!(
        text(
            &client,
            "select turnpike.ensure_charge_partitions(14)::text"
        )
        .await,
        "12"
    );
    // They lie side by side: each month's first id is in its own.
    assert_eq!(
        text(
            &client,
            "select count(*)::text from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
              where i.inhparent = 'turnpike.charge'::regclass
                and case when c.relname <> 'charge_default' then pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES FROM (%L) TO (%L)',
                    turnpike.first_id(to_timestamp(substr(c.relname, 8), 'YYYY_MM')), turnpike.first_id(to_timestamp(substr(c.relname, 8), 'YYYY_MM') + interval '1 month')) end",
        )
        .await,
        "15"
    );
    assert_eq!(
        text(
            &client,
            "select turnpike.first_id('2026-11-21 01:02:03.456Z')::text"
        )
        .await,
        "019aa3b0-2b00-0000-0000-000000000000".replace("019aa3b0-2b00", &v7_prefix())
    );
}

fn v7_prefix() -> String {
    let at = uuid::Timestamp::from_unix(uuid::NoContext, 1_795_222_923, 456_000_000);
    uuid::Uuid::new_v7(at).to_string()[..13].to_owned()
}
