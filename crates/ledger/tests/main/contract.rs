//! The contract for people: each function as an operator calls it in psql, and the errors it gives.

use crate::support::{Books, take};
use testkit::postgres::TestDb;
use tokio_postgres::Client;

/// SQLSTATE, message and hint of what must fail.
pub(crate) async fn error(client: &Client, statement: &str) -> (String, String, String) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let refused = error.as_db_error().expect("an error of Postgres");
    (
        refused.code().code().into(),
        refused.message().into(),
        refused.hint().unwrap_or_default().into(),
    )
}

pub(crate) async fn fails(client: &Client, statement: &str, sqlstate: &str, message: &str) {
    let (code, said, _) = error(client, statement).await;
    assert!(
        code == sqlstate && said.contains(message),
        "{statement}\n  gives {code}: {said}\n  not  {sqlstate}: {message}"
    );
}

pub(crate) async fn breaks(client: &Client, statement: &str, constraint: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    assert_eq!(
        error.as_db_error().and_then(|refused| refused.constraint()),
        Some(constraint),
        "{statement}: {error}"
    );
}

pub(crate) async fn text(client: &Client, statement: &str) -> String {
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
        "update turnpike.account set leased = -1",
        "account_leased_not_negative",
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
