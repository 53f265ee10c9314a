//! The operator's commands, as the program calls them.

use ledger::{
    Disconnect, Limit, Period, UpstreamId,
    admin::{Admin, CapRow, Caps, IssueToken, NewPrice, UsageBy},
};
use tariff::{Amount, Fees, Pattern, PerTool, Price, PriceId, Rates, Tier, Tool};

use crate::support::{Books, digest, now_ms, take};

fn usd(text: &str) -> Amount {
    text.parse().unwrap()
}

/// Every figure other than tokens', each another one.
fn fees() -> Fees {
    let mut tools = PerTool::default();
    for (tool, fee) in Tool::ALL.into_iter().zip(31..) {
        tools.set(tool, Some(fee));
    }
    let table = |members: &[(&str, i64)]| {
        members
            .iter()
            .map(|(name, fee)| ((*name).into(), *fee))
            .collect()
    };
    Fees {
        audio_in_minute: Some(21),
        audio_out_minute: Some(22),
        video_minute: Some(23),
        videos: table(&[("1280x720", 61), ("1792x1024", 62)]),
        training: Some(63),
        characters: Some(24),
        page: Some(25),
        query: Some(26),
        request: Some(27),
        images: table(&[("*", 28), ("1024x1024/hd", 29)]),
        tools,
        regions_bps: table(&[("us", 11_000)]),
        speeds_bps: table(&[("fast", 60_001)]),
    }
}

fn price(pattern: &str, in_text: i64) -> NewPrice {
    NewPrice {
        price: Price {
            id: PriceId(0),
            pattern: Pattern::new(pattern),
            tier: Tier::new("default"),
            min_context: 0,
            context_inclusive: false,
            valid_from_ms: 0,
            valid_to_ms: None,
            rates: Rates {
                in_text: Some(in_text),
                cr_text: Some(1),
                cw_5m: Some(2),
                cw_1h: Some(3),
                out_text: Some(4),
                out_reasoning: Some(5),
                in_audio: Some(6),
                in_image: Some(7),
                cr_audio: Some(8),
                cr_image: Some(9),
                out_audio: Some(10),
                out_image: Some(11),
            },
            fees: fees(),
            context_window: Some(128_000),
            output_max: Some(16_384),
        },
        disconnect: Some(Disconnect::Estimate),
        source: Some("a list".into()),
    }
}

#[tokio::test]
async fn every_limit_of_a_token_is_set_and_listed_with_what_is_used_of_it() {
    let books = Books::with(0).await;
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    let wanted = IssueToken {
        account: "alice".into(),
        caps: Caps {
            budget_day: Some(usd("1")),
            budget_month: Some(usd("2")),
            prompt_tokens: Some(3),
            prompt_tokens_day: Some(4),
            prompt_tokens_month: Some(5),
            completion_tokens: Some(6),
            completion_tokens_day: Some(7),
            completion_tokens_month: Some(8),
        },
        requests_per_second: Some(9),
        requests_per_minute: Some(10),
        requests_per_hour: Some(11),
        tokens_per_minute: Some(12),
        concurrent_exchanges: Some(13),
        ..IssueToken::default()
    };
    let issued = admin.issue_token(&wanted).await.unwrap();
    let count = "
        update turnpike.access_token_counter
           set prompt = 30, completion = 60,
               day = $2::date, spent_day = 100, prompt_day = 40, completion_day = 70,
               month = date_trunc('month', $2::date), spent_month = 200, prompt_month = 50, completion_month = 80
         where token_id = $1";
    let today = books
        .client
        .query_one("select ((now() at time zone 'UTC')::date)::text", &[])
        .await
        .unwrap();
    let now: &str = today.get(0);
    let listed = async |day: &str, used: [i64; 8]| {
        let count = count.replace("$2", &format!("'{day}'"));
        books.client.execute(&count, &[&issued.id.0]).await.unwrap();
        let rows = admin.tokens(Some("alice")).await.unwrap();
        let row = rows.iter().find(|row| row.id == issued.id).unwrap();
        let (money, prompt, completion) =
            (Limit::Budget, Limit::PromptTokens, Limit::CompletionTokens);
        let caps = [
            (money(Period::Day), 1_000_000_000),
            (money(Period::Month), 2_000_000_000),
            (prompt(Period::Life), 3),
            (prompt(Period::Day), 4),
            (prompt(Period::Month), 5),
            (completion(Period::Life), 6),
            (completion(Period::Day), 7),
            (completion(Period::Month), 8),
        ];
        let expected: Vec<CapRow> = caps
            .into_iter()
            .zip(used)
            .map(|((cap, most), used)| CapRow { cap, used, most })
            .collect();
        assert_eq!(row.caps, expected);
        assert_eq!(
            (
                row.requests_per_second,
                row.requests_per_minute,
                row.requests_per_hour,
                row.tokens_per_minute,
                row.concurrent_exchanges,
            ),
            (Some(9), Some(10), Some(11), Some(12), Some(13))
        );
    };
    listed(now, [100, 200, 30, 40, 50, 60, 70, 80]).await;
    // What was used on an earlier day, in an earlier month, is not of this one.
    listed("2026-01-31", [0, 0, 30, 0, 0, 60, 0, 0]).await;
    assert_eq!(
        admin
            .tokens(None)
            .await
            .unwrap()
            .iter()
            .filter(|row| row.caps.is_empty())
            .count(),
        1,
        "a token without caps lists none"
    );
}

#[tokio::test]
async fn accounts_and_tokens_from_the_first_to_the_last() {
    let books = Books::with(0).await;
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    admin.create_account("bob", Some(usd("5"))).await.unwrap();
    assert_eq!(
        admin
            .create_account("bob", None)
            .await
            .unwrap_err()
            .constraint(),
        Some("account_name_unique")
    );
    assert_eq!(
        admin
            .top_up("bob", usd("0.000000001"), "a nano")
            .await
            .unwrap(),
        Amount::from_nano(1)
    );
    let error = admin.top_up("carol", usd("1"), "").await.unwrap_err();
    assert!(
        error.is_refused()
            && error.sqlstate() == Some("P0002")
            && error.hint().unwrap().contains("create_account")
    );
    assert_eq!(error.to_string(), "there is no account carol");
    let accounts = admin.accounts().await.unwrap();
    assert_eq!(
        accounts
            .iter()
            .map(|it| (it.name.as_str(), it.credit_limit))
            .collect::<Vec<_>>(),
        [("alice", Some(Amount::ZERO)), ("bob", Some(usd("5")))]
    );

    let wanted = IssueToken {
        account: "bob".into(),
        label: Some("laptop".into()),
        budget: Some(usd("20")),
        expires_at_ms: Some(4_070_908_800_000),
        models: Some(vec!["gpt-4o*".into()]),
        addresses: Some(vec!["10.0.0.0/8".into()]),
        requests_per_minute: Some(60),
        ..IssueToken::default()
    };
    let issued = admin.issue_token(&wanted).await.unwrap();
    assert!(!format!("{issued:?}").contains(issued.token.expose()));
    let ledger = books.ledger().await;
    assert_eq!(
        ledger
            .access_token(digest(issued.token.expose()))
            .await
            .unwrap()
            .unwrap()
            .id,
        issued.id
    );
    let listed = admin.tokens(Some("bob")).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (
            listed[0].prefix.as_str(),
            listed[0].budget,
            listed[0].expires_at_ms
        ),
        (
            issued.prefix.as_str(),
            Some(usd("20")),
            Some(4_070_908_800_000)
        )
    );
    assert_eq!(admin.tokens(None).await.unwrap().len(), 2);

    let rotated = admin.rotate_token(&issued.prefix).await.unwrap();
    assert_eq!(rotated.id, issued.id);
    assert!(rotated.token != issued.token && rotated.token.expose().starts_with(&rotated.prefix));
    assert_eq!(
        admin.revoke_token(rotated.token.expose()).await.unwrap(),
        rotated.prefix
    );
    assert!(
        admin.tokens(Some("bob")).await.unwrap()[0]
            .revoked_at_ms
            .is_some()
    );
    assert!(
        admin
            .rotate_token(&rotated.prefix)
            .await
            .unwrap_err()
            .is_refused()
    );

    let bad = IssueToken {
        addresses: Some(vec!["nonsense".into()]),
        ..wanted
    };
    assert_eq!(
        admin.issue_token(&bad).await.unwrap_err().sqlstate(),
        Some("22P02")
    );
}

#[tokio::test]
async fn importing_the_same_list_again_changes_nothing() {
    let books = Books::with(0).await;
    let mut admin = Admin::connect(&books.db.config()).await.unwrap();
    let list: Vec<_> = (0..500)
        .map(|n| price(&format!("model-{n}"), n + 1))
        .collect();
    let first = admin.import_prices(&list).await.unwrap();
    assert_eq!((first.set, first.unchanged), (500, 0));
    let again = admin.import_prices(&list).await.unwrap();
    assert_eq!((again.set, again.unchanged), (0, 500));
    let mut changed = list.clone();
    changed[7].price.rates.in_text = Some(99);
    let third = admin.import_prices(&changed).await.unwrap();
    assert_eq!((third.set, third.unchanged), (1, 499));

    let prices = admin.prices().await.unwrap();
    let read = prices
        .iter()
        .find(|it| it.pattern.matches("model-8"))
        .unwrap();
    let expected = Price {
        id: read.id,
        valid_from_ms: read.valid_from_ms,
        ..list[8].price.clone()
    };
    assert_eq!(*read, expected);
    assert_eq!(
        books.ledger().await.catalog().disconnect(read.id),
        Some(Disconnect::Estimate)
    );
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let books = Books::with(0).await;
    let mut admin = Admin::connect(&books.db.config()).await.unwrap();
    let error = admin
        .import_prices(&[price("good", 1), price("bad", -1)])
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the price of bad is negative");
    assert_eq!(books.number("select count(*) from turnpike.price").await, 1);
    let error = admin
        .import_prices(&[price("twice", 1), price("twice", 2)])
        .await
        .unwrap_err();
    assert!(
        error.is_config()
            && error
                .to_string()
                .contains("prices twice (tier default, from 0 tokens) twice"),
        "{error}"
    );
    let set = admin.set_price(&price("gpt*", 5)).await.unwrap();
    assert_eq!(admin.set_price(&price("gpt*", 5)).await.unwrap(), set);
}

#[tokio::test]
async fn usage_adds_up_by_day_model_and_token() {
    let books = Books::with(1_000).await;
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    let ledger = books.ledger().await;
    let mut mini = books.charge(7);
    mini.model_answered = None;
    mini.model_requested = "mini".into();
    mini.mark = ledger::Mark::Estimated;
    mini.buckets.cr_text = 100;
    mini.upstream = Some(UpstreamId(1));
    for charge in [books.charge(10), books.charge(20), mini] {
        take(&ledger, books.want(50))
            .await
            .settle(charge)
            .await
            .unwrap();
    }
    let since = now_ms() - 60_000;
    let days = admin.usage(UsageBy::Day, since, None, None).await.unwrap();
    assert_eq!(days.len(), 1);
    assert_eq!(
        (
            days[0].exchanges,
            days[0].input_tokens,
            days[0].cached_tokens,
            days[0].output_tokens
        ),
        (3, 3 * 53 + 100, 100, 45)
    );
    assert_eq!(
        (days[0].amount, days[0].estimated),
        (Amount::from_nano(37), Amount::from_nano(7))
    );
    let models = admin
        .usage(UsageBy::Model, since, None, Some("alice"))
        .await
        .unwrap();
    assert_eq!(
        models
            .iter()
            .map(|it| (it.key.as_str(), it.amount.nano()))
            .collect::<Vec<_>>(),
        [("gpt-4o-2024-08-06", 30), ("mini", 7)]
    );
    let tokens = admin
        .usage(UsageBy::Token, since, None, None)
        .await
        .unwrap();
    assert!(books.secret.starts_with(&tokens[0].key));
    assert!(
        admin
            .usage(UsageBy::Day, since, None, Some("bob"))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        admin
            .usage(UsageBy::Day, now_ms() + 60_000, None, None)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        admin
            .usage(UsageBy::Day, 0, None, None)
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        admin
            .usage(UsageBy::Day, since, Some(since + 1), None)
            .await
            .unwrap()
            .is_empty()
    );
    // From midnight on, the daily sums tell the same as the charges.
    let midnight = since - since.rem_euclid(24 * 60 * 60 * 1000);
    for by in [
        UsageBy::Day,
        UsageBy::Model,
        UsageBy::Token,
        UsageBy::Account,
    ] {
        let of_days = admin.usage(by, midnight, None, None).await.unwrap();
        let of_charges = admin.usage(by, midnight + 1, None, None).await.unwrap();
        assert!(!of_days.is_empty());
        assert_eq!(of_days, of_charges, "{by:?}");
    }
    assert!(admin.audit().await.unwrap().is_empty());
    books
        .client
        .batch_execute("update turnpike.account set balance = balance + 1")
        .await
        .unwrap();
    let complaints = admin.audit().await.unwrap();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert_eq!(
        complaints[0].to_string(),
        "balance = credits - charges: account alice should be 963 and is 964"
    );
}

#[tokio::test]
async fn a_wrong_address_password_or_database_is_told_apart() {
    let nowhere = ledger::Config::from_url("postgres://u@127.0.0.1:1/x").unwrap();
    let error = Admin::connect(&nowhere).await.unwrap_err();
    assert!(error.is_unavailable() && !error.is_login(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "cannot connect to Postgres at 127.0.0.1:1 (database x): Connection refused (os error 111)"
    );
    assert!(std::error::Error::source(&error).is_none(), "all is said");
    let books = Books::with(0).await;
    let url = books.db.url();
    let other = format!("{}/no_such_database", &url[..url.rfind('/').unwrap()]);
    let error = Admin::connect(&ledger::Config::from_url(&other).unwrap())
        .await
        .unwrap_err();
    assert!(error.is_login() && !error.is_unavailable(), "{error:?}");
    let line = error.to_string();
    assert!(
        line.starts_with("cannot connect to Postgres at /")
            && line.ends_with(
                "(database no_such_database): database \"no_such_database\" does not exist"
            ),
        "{line}"
    );
    // And one that was never migrated.
    let empty = testkit::postgres::TestDb::empty().await;
    let error = ledger::Ledger::connect(empty.config()).await.unwrap_err();
    assert!(
        error.is_migration() && error.to_string().ends_with("run `turnpike migrate`"),
        "{error:?}"
    );
    let error = Admin::connect(&empty.config()).await.unwrap_err();
    let line = error.to_string();
    assert!(
        error.is_migration() && line.ends_with("was never migrated: run `turnpike migrate` first"),
        "{line}"
    );
    // And one that was migrated by an older program.
    books
        .client
        .batch_execute("delete from turnpike.migration where version = 11")
        .await
        .unwrap();
    let error = Admin::connect(&books.db.config()).await.unwrap_err();
    let line = error.to_string();
    assert!(
        error.is_migration() && line.contains("lacks migration 0011_add_roles.sql: run"),
        "{line}"
    );
}
