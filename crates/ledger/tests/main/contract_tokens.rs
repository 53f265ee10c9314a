//! The contract about access tokens.

use crate::{
    contract::{breaks, error, fails, text},
    support::{Books, take},
};

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
