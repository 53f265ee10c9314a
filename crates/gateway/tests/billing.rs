//! What client tools ask about money, and what they get: the books' own figures, of nobody else's account.

use serde_json::{Value, json as value};
use testkit::upstream::{Upstream, json};

use crate::support::{Bank, Turnpike};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens":15,"total_tokens":68}}"#;
/// 50 x 2.50 + 3 x 1.25 + 15 x 10, in nano-USD.
const COST: i64 = 278_750;

/// Asserts what the answer's text has, digit by digit.
async fn has(gateway: &Turnpike, token: &str, target: &str, parts: &[&str]) {
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let (head, body) = gateway.call(request).await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(head.status(), 200, "{body}");
    for part in parts {
        assert!(body.contains(part), "{part}: {body}");
    }
}

async fn get(gateway: &Turnpike, token: &str, target: &str) -> (u16, Value) {
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let (head, body) = gateway.call(request).await;
    let body = serde_json::from_slice(&body)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&body)));
    (head.status(), body)
}

/// Alice's budgeted token with one call, her other with two, and bob's with one.
async fn called(bank: &Bank, gateway: &Turnpike) -> [String; 3] {
    bank.sql
        .batch_execute(
            "select turnpike.create_account('bob'); select turnpike.top_up('bob', 1, '')",
        )
        .await
        .unwrap();
    let budgeted = bank
        .token(", budget_usd => 5, expires => '2027-01-01T00:00:00Z'")
        .await;
    let other = bank.token("").await;
    let bob: String = bank
        .one("select token from turnpike.issue_token(account => 'bob')")
        .await;
    for (token, calls) in [(&budgeted, 1), (&other, 2), (&bob, 1)] {
        for _ in 0..calls {
            let (head, _) = gateway.post("/v1/chat/completions", token, CHAT).await;
            assert_eq!(head.status(), 200);
        }
    }
    [budgeted, other, bob]
}

#[tokio::test]
async fn a_tool_is_told_the_token_s_own_budget_and_usage() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let [budgeted, other, bob] = called(&bank, &gateway).await;
    for base in ["/v1", ""] {
        let path = format!("{base}/dashboard/billing/subscription");
        let parts = [r#""hard_limit_usd":5.00,"#, r#""access_until":1798761600}"#];
        has(&gateway, &budgeted, &path, &parts).await;
    }
    // No budget of its own: what it has spent and what its account has left.
    let path = "/v1/dashboard/billing/subscription";
    has(
        &gateway,
        &other,
        path,
        &[r#""hard_limit_usd":19.99972125,"#],
    )
    .await;
    let parts = [
        r#""total_granted":1.00,"#,
        r#""total_used":0.00027875,"#,
        r#""total_available":0.99972125}"#,
    ];
    has(
        &gateway,
        &bob,
        "/v1/dashboard/billing/credit_grants",
        &parts,
    )
    .await;
    let parts = [
        r#""line_items":[{"name":"gpt-4o","cost":0.05575}]"#,
        r#""total_usage":0.05575}"#,
    ];
    has(&gateway, &other, "/v1/dashboard/billing/usage", &parts).await;
    let (_, said) = get(
        &gateway,
        &other,
        "/v1/dashboard/billing/usage?start_date=2025-01-01&end_date=2025-02-01",
    )
    .await;
    assert_eq!(
        (&said["total_usage"], &said["daily_costs"]),
        (&value!(0), &value!([]))
    );
    let charged: i64 = bank
        .one("select sum(amount)::bigint from turnpike.charge")
        .await;
    assert_eq!(charged, 4 * COST, "asking costs nothing");
    bank.audited().await;
}

#[tokio::test]
async fn usage_and_costs_are_those_of_the_token_s_account_alone() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let [budgeted, ..] = called(&bank, &gateway).await;
    let today: i64 = bank
        .one("select extract(epoch from (now() at time zone 'UTC')::date)::bigint")
        .await;
    let yesterday = today - 86_400;
    let (status, said) = get(
        &gateway,
        &budgeted,
        &format!("/v1/organization/usage/completions?start_time={yesterday}&group_by[]=model&bucket_width=1d"),
    )
    .await;
    assert_eq!(
        (status, &said["object"], &said["has_more"]),
        (200, &value!("page"), &value!(false))
    );
    assert_eq!(said["data"].as_array().unwrap().len(), 2);
    assert_eq!(said["data"][0]["results"], value!([]));
    let result = &said["data"][1]["results"][0];
    assert_eq!(
        [
            &result["input_tokens"],
            &result["input_cached_tokens"],
            &result["output_tokens"],
            &result["num_model_requests"]
        ],
        [3 * 53, 9, 45, 3]
    );
    assert_eq!(
        (&result["model"], &result["api_key_id"]),
        (&value!("gpt-4o"), &Value::Null)
    );

    let (_, said) = get(
        &gateway,
        &budgeted,
        &format!("/v1/organization/costs?start_time={yesterday}&limit=1"),
    )
    .await;
    assert_eq!(
        (&said["has_more"], &said["data"][0]["results"]),
        (&value!(true), &value!([]))
    );
    let next = said["next_page"].as_str().unwrap();
    let target = format!(
        "/v1/organization/costs?start_time={yesterday}&limit=1&page={next}&group_by=api_key_id"
    );
    let parts = [
        r#""amount":{"value":0.00027875,"currency":"usd"}"#,
        r#""amount":{"value":0.0005575,"currency":"usd"}"#,
        r#""has_more":false"#,
    ];
    has(&gateway, &budgeted, &target, &parts).await;
    let (status, said) = get(&gateway, &budgeted, "/v1/organization/costs").await;
    assert_eq!(
        (status, &said["error"]["param"]),
        (400, &value!("start_time"))
    );
    let (status, said) = get(
        &gateway,
        &budgeted,
        &format!("/v1/organization/costs?start_time={yesterday}&group_by=project_id"),
    )
    .await;
    assert_eq!(status, 400);
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line_item, api_key_id")
    );
    let unknown = "GET /v1/dashboard/billing/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tp-nobody\r\n\r\n";
    assert_eq!(gateway.call(unknown).await.0.status(), 401);
}
