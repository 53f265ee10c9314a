//! Charges by day, upstream key and model, as reconciling with a provider asks for them.

use std::slice;

use ledger::{
    UpstreamKeyId,
    admin::{Admin, Charged, ChargedRow},
};
use tariff::Amount;

use crate::support::Books;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// 2026-11-20, midnight UTC.
const FRIDAY_MS: i64 = 1_795_132_800_000;

/// Charges of one nano-USD more each, at these instants, and by these upstreams, keys, endpoints and models.
async fn books() -> Books {
    let books = Books::with(0).await;
    books
        .client
        .batch_execute("select turnpike.set_upstream('one', 'http://one'); select turnpike.set_upstream('two', 'http://two')")
        .await
        .unwrap();
    let charges = [
        (
            FRIDAY_MS - 1,
            Some("one"),
            Some(7_i64),
            "chat/completions",
            "m",
        ),
        (FRIDAY_MS, Some("one"), Some(7), "chat/completions", "m"),
        (
            FRIDAY_MS + DAY_MS - 1,
            Some("one"),
            Some(7),
            "responses",
            "m",
        ),
        (FRIDAY_MS + 1, Some("two"), Some(8), "embeddings", "e"),
        (FRIDAY_MS + 2, None, None, "chat/completions", "m"),
        (
            FRIDAY_MS + DAY_MS,
            Some("one"),
            Some(7),
            "chat/completions",
            "m",
        ),
    ];
    for (at, (started, upstream, key, endpoint, model)) in charges.into_iter().enumerate() {
        books
            .client
            .execute(
                "insert into turnpike.charge (id, account_id, token_id, price_id, instance_id, upstream_id, upstream_key_id, amount, held,
                   in_text, cr_text, cw_5m, out_text, out_reasoning, started_at, ended_after_ms, status, stream, mark, ending, endpoint,
                   model_requested, model_answered)
                 select overlay(turnpike.first_id(to_timestamp($1::bigint * 0.001))::text placing lpad($2::bigint::text, 4, '0') from 33)::uuid,
                   $3, $4, $5, 1, (select u.id from turnpike.upstream as u where u.name = $6), $7, 1 + $2, 1000,
                   100, 20, 3, 40, 5, to_timestamp($1 * 0.001), 1, 200, false, case $2 when 1 then 'estimated' else 'measured' end, 'complete',
                   $8, 'asked', $9",
                &[
                    &started,
                    &i64::try_from(at).unwrap(),
                    &books.account.0,
                    &books.token.0,
                    &books.price.0,
                    &upstream,
                    &key,
                    &endpoint,
                    &model,
                ],
            )
            .await
            .unwrap();
    }
    books
}

fn row(
    upstream: Option<&str>,
    key: Option<i64>,
    model: &str,
    exchanges: i64,
    nano: i64,
) -> ChargedRow {
    ChargedRow {
        day: "2026-11-20".into(),
        upstream: upstream.map(str::to_owned),
        key: key.map(UpstreamKeyId),
        model: model.into(),
        exchanges,
        input_tokens: 123 * exchanges,
        cached_tokens: 20 * exchanges,
        output_tokens: 45 * exchanges,
        amount: Amount::from_nano(nano),
        estimates: 0,
    }
}

#[tokio::test]
async fn a_day_is_that_of_utc_and_its_end_is_not_in_it() {
    let books = books().await;
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    let friday = Charged {
        from_ms: FRIDAY_MS,
        to_ms: FRIDAY_MS + DAY_MS,
        ..Charged::default()
    };
    let of_one = ChargedRow {
        estimates: 1,
        ..row(Some("one"), Some(7), "m", 2, 2 + 3)
    };
    let of_two = row(Some("two"), Some(8), "e", 1, 4);
    let of_none = row(None, None, "m", 1, 5);
    assert_eq!(
        admin.charged(&friday).await.unwrap(),
        [of_one, of_two.clone(), of_none]
    );
    let two = Charged {
        upstream: Some("two".into()),
        ..friday.clone()
    };
    assert_eq!(admin.charged(&two).await.unwrap(), slice::from_ref(&of_two));
    let embeddings = Charged {
        endpoints: Some(vec!["embeddings".into(), "moderations".into()]),
        ..friday.clone()
    };
    assert_eq!(admin.charged(&embeddings).await.unwrap(), [of_two]);
    let ever = Charged {
        to_ms: FRIDAY_MS * 2,
        ..Charged::default()
    };
    let days: Vec<String> = admin
        .charged(&ever)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.day)
        .collect();
    assert_eq!(
        days,
        [
            "2026-11-19",
            "2026-11-20",
            "2026-11-20",
            "2026-11-20",
            "2026-11-21"
        ]
    );
}
