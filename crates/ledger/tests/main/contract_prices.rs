//! The contract about prices, upstreams and routes.

use testkit::postgres::TestDb;

use crate::{
    contract::{breaks, fails, text},
    support::Books,
};

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
async fn a_new_price_keeps_what_is_known_of_the_model() {
    let books = Books::with(0).await;
    let facts = async |arguments: &str| {
        let set = format!("select turnpike.set_price('o3', {arguments})");
        let id = books.number(&set).await;
        assert_eq!(
            books.number(&set).await,
            id,
            "the same again is no new version"
        );
        let facts = format!(
            "select concat_ws(' ', coalesce(context_window::text, '-'), coalesce(output_max::text, '-')) from turnpike.price where id = {id}"
        );
        text(&books.client, &facts).await
    };
    assert_eq!(facts("input => 1").await, "- -");
    assert_eq!(
        facts("input => 1, context_window => 200000").await,
        "200000 -"
    );
    assert_eq!(
        facts("input => 2, output_max => 100000").await,
        "200000 100000"
    );
    assert_eq!(facts("input => 3").await, "200000 100000");
    assert_eq!(
        facts("input => 3, output_max => 50000").await,
        "200000 50000"
    );
    assert_eq!(
        facts("input => 4, valid_from => '2999-01-01Z'").await,
        "200000 50000"
    );
    // Another tier and another context size are other rows, about which nothing is known.
    assert_eq!(facts("input => 5, tier => 'flex'").await, "- -");
    assert_eq!(facts("input => 6, min_context => 200000").await, "- -");
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
    for (arguments, constraint) in [
        ("tools => '{\"telepathy\": 1}'", "price_tools_known"),
        ("images => '{\"*\": -1}'", "price_images_are_fees"),
        ("tools => '{\"maps\": -1}'", "price_tools_are_fees"),
        ("regions => '{\"us\": -1}'", "price_regions_are_multipliers"),
        ("speeds => '{\"fast\": -1}'", "price_speeds_are_multipliers"),
    ] {
        breaks(
            &client,
            &format!("select turnpike.set_price('x', input => 1, {arguments})"),
            constraint,
        )
        .await;
    }
    breaks(
        &client,
        "insert into turnpike.price (pattern, page) values ('x', -1)",
        "price_fees_not_negative",
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
    client.batch_execute("select turnpike.set_route('gpt*', 'a'); select turnpike.set_route('gpt*', 'a', priority => 7)").await.unwrap();
    assert_eq!(
        text(
            &client,
            "select string_agg(pattern || ' ' || priority, ',') from turnpike.route"
        )
        .await,
        "gpt* 7"
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
