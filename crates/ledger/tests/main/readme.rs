//! README.md's SQL, run as an operator would run it: what is printed there works.

use testkit::postgres::TestDb;
use tokio_postgres::SimpleQueryMessage;

const README: &str = include_str!("../../../../README.md");

/// The statements of the section, in order, without their comments.
fn statements() -> Vec<String> {
    let section = README
        .split("\n## ")
        .find(|section| section.starts_with("Tokens and prices by SQL\n"))
        .expect("the section is there");
    let code: String = section
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| line.split(" --").next().unwrap_or_default())
        .fold(String::new(), |code, line| code + line + "\n");
    let statements = code.split(';').map(str::trim);
    statements
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_statement_runs_in_its_order_on_a_fresh_database() {
    let statements = statements();
    assert!(statements.len() > 7, "{statements:#?}");
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute("set role turnpike_admin")
        .await
        .unwrap();
    let mut prefix: Option<String> = None;
    for statement in statements {
        let placed = match &prefix {
            Some(prefix) => statement.replace("tp-abcd", prefix),
            None => statement.clone(),
        };
        let messages = client
            .simple_query(&placed)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        let rows: Vec<_> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        if statement.contains("issue_token(") {
            prefix = rows[0].get("prefix").map(str::to_owned);
            assert!(prefix.is_some(), "{statement}");
        }
        if statement.ends_with("turnpike.audit") {
            assert!(rows.is_empty(), "the audit is empty");
        } else {
            assert!(!rows.is_empty(), "{statement} shows something");
        }
    }
    // What the section is about did happen.
    let done: bool = client
        .query_one(
            "select (select balance_usd from turnpike.balances where account = 'alice') = 20
                and (select bool_and(revoked_at is not null) from turnpike.access_token)
                and (select count(*) from turnpike.price where pattern in ('gpt-4o', 'dall-e-3', 'whisper-1')) = 3
                and (select count(*) from turnpike.upstream as u join turnpike.upstream_key as k on k.upstream_id = u.id) = 3",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(done);
}

/// The views it names in a comment are there too.
#[tokio::test]
async fn every_view_it_names_can_be_read() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for view in ["usage_daily", "usage_by_model", "open_holds", "estimates"] {
        assert!(README.contains(view), "{view}");
        client
            .batch_execute(&format!(
                "set role turnpike_admin; select * from turnpike.{view}"
            ))
            .await
            .unwrap_or_else(|error| panic!("{view}: {error:?}"));
    }
}
