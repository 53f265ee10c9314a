//! The operator's console and the page `/usage`: in a real Chromium, and over raw sockets who is let in.

use std::path::PathBuf;

use serde_json::{Map, Value, json as value};
use testkit::{
    raw::{Head, Wire, patiently},
    upstream::Upstream,
};
use tokio::process::Command;

use crate::{
    sdk::root,
    support::{Bank, Turnpike, eventually, paused_stream, post},
};

const SEED: &str = include_str!("console/seed.sql");
const ADMIN_TOKEN: &str = "console-canary";
const CHAT: &str =
    r#"{"model":"gpt-4o","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
const USAGE: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;

/// What SQL says of the charges themselves, summed without the daily sums.
const EXPECTED: &str = r"
    select jsonb_build_object(
      'days', (select jsonb_object_agg(day, models) from (
         select day, jsonb_object_agg(model, jsonb_build_object('amount', amount::text, 'exchanges', exchanges, 'input', input, 'cached', cached, 'output', output)) as models
           from (select (started_at at time zone 'UTC')::date::text as day, model_answered as model, sum(amount) as amount, count(*) as exchanges,
                        sum(in_text + cr_text) as input, sum(cr_text) as cached, sum(out_text) as output
                   from turnpike.charge group by 1, 2) as x group by day) as y),
      'hours', (select jsonb_object_agg(hour, amount) from (
         select to_char(started_at at time zone 'UTC', 'Mon FMDD, HH24:00 UTC') as hour, sum(amount)::text as amount
           from turnpike.charge where started_at > now() - interval '3 days' group by 1) as x),
      'balances', (select jsonb_object_agg(name, balance::text) from turnpike.account),
      'hold', (select sum(amount)::text from turnpike.hold),
      'latest', (select jsonb_agg(id order by id desc) from (
         select id from turnpike.charge where mark not in ('measured', 'provider_cost') and started_at >= date_trunc('day', now(), 'UTC') - interval '29 days'
          order by id desc limit 50) as x),
      'doubtful', (select jsonb_object_agg(mark, jsonb_build_object('count', count, 'sum', sum::text)) from (
         select mark, count(*), sum(amount) from turnpike.charge where mark not in ('measured', 'provider_cost')
            and started_at >= date_trunc('day', now(), 'UTC') - interval '29 days' group by 1) as x),
      'holder', jsonb_build_object(
         'spent', (select sum(amount)::text from turnpike.charge as c join turnpike.access_token as t on t.id = c.token_id where t.label = 'search'),
         'days', (select jsonb_object_agg(day, models) from (
            select day, jsonb_object_agg(model, amount) as models
              from (select (started_at at time zone 'UTC')::date::text as day, model_answered as model, sum(amount)::text as amount
                      from turnpike.charge as c join turnpike.access_token as t on t.id = c.token_id where t.label = 'search' group by 1, 2) as x
             group by day) as y))
    )::text";

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser"];
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|program| program.exists())
        .expect("Chromium is not installed: run ./test once, it installs it")
}

/// Runs a file of `tests/console` in Node, which drives Chromium.
async fn passes(file: &str, gateway: &Turnpike, expected: &str) {
    let browser = root().join(".browser");
    assert!(
        browser.join("installed").exists(),
        "what drives the browser is not installed: run ./test once, it installs it into .browser"
    );
    // Node looks for packages beside the script, so it is run where they are.
    for name in ["browser.mjs", file] {
        std::fs::copy(root().join("tests/console").join(name), browser.join(name)).unwrap();
    }
    let output = Command::new("node")
        .args(["--test", file])
        .current_dir(browser)
        .env("CHROMIUM", chromium())
        .env("CONSOLE", format!("http://{}", gateway.admin))
        .env("CLIENTS", format!("http://{}", gateway.clients))
        .env("ADMIN_TOKEN", ADMIN_TOKEN)
        .env("EXPECTED", expected)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for line in said.lines().filter(|line| line.contains("first paint")) {
        println!("{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_what_the_charges_come_to() {
    let bank = Bank::open().await;
    bank.sql.batch_execute(SEED).await.unwrap();
    let (upstream, go_on) =
        paused_stream(&[r#"{"id":"c","model":"gpt-4o","choices":[]}"#], &[USAGE]).await;
    let refused =
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 600\r\ncontent-length: 2\r\n\r\n{}";
    let limited = Upstream::answering(refused.to_vec()).await;
    let upstreams = format!(
        "select turnpike.set_upstream('openai', '{}/v1', key => 'k'), turnpike.set_upstream('limited', '{}/v1', key => 'k', priority => 1),
                turnpike.set_route('gpt-3.5*', 'limited')",
        upstream.url(),
        limited.url()
    );
    bank.sql.batch_execute(&upstreams).await.unwrap();
    let token = bank.token("").await;
    let gateway = Turnpike::start_with(&[
        ("DATABASE_URL", bank.db.url()),
        ("ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
    ]);
    let limited = r#"{"model":"gpt-3.5-turbo","messages":[]}"#;
    let (head, _) = gateway.post("/v1/chat/completions", &token, limited).await;
    assert_eq!(head.status(), 429);
    let mut wire = Wire::connect(gateway.clients).await;
    wire.send(post("/v1/chat/completions", &token, CHAT)).await;
    assert_eq!(patiently("a head", wire.read_head()).await.status(), 200);
    eventually("its hold is written down", async || {
        (bank.one::<i64>("select count(*) from turnpike.hold").await == 1).then_some(())
    })
    .await;

    let expected: String = bank.one(EXPECTED).await;
    passes("seeded.test.mjs", &gateway, &expected).await;
    go_on.release();
    bank.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_without_charges_says_so() {
    let bank = Bank::open().await;
    let gateway = Turnpike::start_with(&[("DATABASE_URL", bank.db.url())]);
    passes("empty.test.mjs", &gateway, "{}").await;
}

/// One request to the admin address with these header lines.
async fn ask(gateway: &Turnpike, start: &str, lines: &str, body: &str) -> (Head, String) {
    let mut wire = Wire::connect(gateway.admin).await;
    let host = if lines.contains("Host:") {
        String::new()
    } else {
        format!("Host: {}\r\n", gateway.admin)
    };
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    wire.send(format!(
        "{start} HTTP/1.1\r\n{host}{length}{lines}\r\n{body}"
    ))
    .await;
    let (head, body) = patiently("an answer", wire.read_message()).await;
    (head, String::from_utf8(body).unwrap())
}

async fn with_token() -> (Bank, Turnpike) {
    let bank = Bank::open().await;
    let gateway = Turnpike::start_with(&[
        ("DATABASE_URL", bank.db.url()),
        ("ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
    ]);
    (bank, gateway)
}

#[tokio::test]
async fn figures_want_a_session_or_the_admin_token_and_the_files_do_not() {
    let (_bank, gateway) = with_token().await;
    for path in [
        "spend", "tokens", "doubtful", "accounts", "live", "here", "prices", "nothing",
    ] {
        let (head, body) = ask(&gateway, &format!("GET /api/{path}"), "", "").await;
        assert_eq!(head.status(), 401, "{path}: {body}");
        let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
        let (head, body) = ask(&gateway, &format!("GET /api/{path}"), &bearer, "").await;
        assert_eq!(
            head.status(),
            if path == "nothing" { 404 } else { 200 },
            "{path}: {body}"
        );
        assert_eq!(head.header("cache-control"), Some("no-store"));
    }
    let (head, _) = ask(&gateway, "GET /", "", "").await;
    assert_eq!(
        (head.status(), head.header("location")),
        (303, Some("login"))
    );
    for path in [
        "/login",
        "/assets/style.css",
        "/assets/uplot/uPlot.iife.min.js",
    ] {
        let (head, body) = ask(&gateway, &format!("GET {path}"), "", "").await;
        assert_eq!(head.status(), 200, "{path}");
        assert!(!body.contains(ADMIN_TOKEN));
        let policy = head.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(head.header("referrer-policy"), Some("no-referrer"));
    }
    for (start, status) in [
        ("DELETE /", 405),
        ("POST /api/here", 405),
        ("GET /assets/nothing", 404),
    ] {
        assert_eq!(
            ask(&gateway, start, "", "").await.0.status(),
            status,
            "{start}"
        );
    }
    assert!(!gateway.log().contains(ADMIN_TOKEN));
}

#[tokio::test]
async fn a_session_begins_with_the_token_outlives_a_restart_and_ends_when_told() {
    let (bank, gateway) = with_token().await;
    let form = format!("username=operator&token={ADMIN_TOKEN}");
    let (head, _) = ask(&gateway, "POST /login", "", &form).await;
    assert_eq!((head.status(), head.header("location")), (303, Some("./")));
    let cookie = head.header("set-cookie").unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let shows = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let again = Turnpike::start_with(&[
        ("DATABASE_URL", bank.db.url()),
        ("ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
    ]);
    let other = Turnpike::start_with(&[
        ("DATABASE_URL", bank.db.url()),
        ("ADMIN_TOKEN", "another".to_owned()),
    ]);
    for (gateway, status) in [(&gateway, 200), (&again, 200), (&other, 401)] {
        assert_eq!(
            ask(gateway, "GET /api/here", &shows, "").await.0.status(),
            status
        );
    }
    for page in ["GET /", "HEAD /"] {
        assert_eq!(
            ask(&gateway, "GET /", &shows, "").await.0.status(),
            200,
            "{page}"
        );
    }
    let (head, _) = ask(&gateway, "POST /logout", &shows, "x=").await;
    assert!(head.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(
        ask(&gateway, "GET /api/here", &shows, "").await.0.status(),
        401
    );
}

#[tokio::test]
async fn an_address_that_guesses_the_admin_token_must_wait() {
    let (_bank, gateway) = with_token().await;
    let wrong = "token=wrong";
    for _ in 0..5 {
        let (head, body) = ask(&gateway, "POST /login", "", wrong).await;
        assert_eq!(head.status(), 401);
        assert!(body.contains("That is not the admin token."), "{body}");
        assert_eq!(head.header("set-cookie"), None);
        let bearer = "Authorization: Bearer wrong\r\n";
        assert_eq!(
            ask(&gateway, "GET /metrics", bearer, "").await.0.status(),
            401
        );
    }
    // Ten wrong ones, whichever way they came: now not even the right one is looked at.
    let right = format!("token={ADMIN_TOKEN}");
    let (head, body) = ask(&gateway, "POST /login", "", &right).await;
    assert_eq!(head.status(), 429);
    assert!(head.header("retry-after").unwrap().parse::<u32>().unwrap() <= 60);
    assert!(body.contains("Too many wrong tokens"), "{body}");
    let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
    assert_eq!(
        ask(&gateway, "GET /api/here", &bearer, "").await.0.status(),
        429
    );
}

#[tokio::test]
async fn a_form_that_is_too_long_is_refused() {
    let (_bank, gateway) = with_token().await;
    let long = format!("token={}", "x".repeat(5_000));
    assert_eq!(
        ask(&gateway, "POST /login", "", &long).await.0.status(),
        400
    );
}

#[tokio::test]
async fn without_an_admin_token_no_other_name_and_no_other_site_gets_in() {
    let bank = Bank::open().await;
    let gateway = Turnpike::start_with(&[("DATABASE_URL", bank.db.url())]);
    for (start, lines, status) in [
        ("GET /", "", 200),
        ("GET /", "Host: localhost:8081\r\n", 200),
        ("GET /api/here", "Host: [::1]:8081\r\n", 200),
        // A page elsewhere whose own name points here now.
        ("GET /", "Host: rebound.example\r\n", 403),
        ("GET /api/here", "Host: rebound.example:8081\r\n", 403),
        (
            "GET /api/here",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
            403,
        ),
        ("POST /logout", "Origin: http://evil.example\r\n", 403),
        // Nobody has to log in.
        ("GET /login", "", 303),
    ] {
        let (head, body) = ask(&gateway, start, lines, "").await;
        assert_eq!(head.status(), status, "{start} {lines}: {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    let (_bank, gateway) = with_token().await;
    let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
    for (path, part) in [
        (
            "/api/spend?range=1d",
            "'range' can be 24h, 7d, 30d, 90d, 365d",
        ),
        ("/api/spend?by=user", "'by' can be model, token, account"),
        ("/api/tokens?range=", "'range' can be"),
    ] {
        let (head, body) = ask(&gateway, &format!("GET {path}"), &bearer, "").await;
        assert_eq!(head.status(), 400, "{path}");
        assert!(body.contains(part), "{path}: {body}");
    }
}

async fn usage(gateway: &Turnpike, method: &str, path: &str, lines: &str) -> (Head, Vec<u8>) {
    gateway
        .call(format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"
        ))
        .await
}

#[tokio::test]
async fn the_usage_page_is_for_all_and_its_figures_for_whoever_shows_a_token() {
    let bank = Bank::open().await;
    let gateway = Turnpike::start_with(&[("DATABASE_URL", bank.db.url())]);
    for path in ["/usage", "/usage/usage.js", "/usage/uplot/uPlot.min.css"] {
        let (head, body) = usage(&gateway, "GET", path, "").await;
        assert_eq!(head.status(), 200, "{path}");
        assert!(head.header("content-security-policy").is_some() && !body.is_empty());
        let mut wire = Wire::connect(gateway.clients).await;
        wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let head = wire.read_head().await;
        assert_eq!(
            head.header("content-length"),
            Some(body.len().to_string().as_str())
        );
    }
    // All others are as unknown as they were, and nothing is told without a token.
    let token = bank
        .token(", budget_usd => 5, budget_day_usd => 1, requests_per_minute => 60")
        .await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for (method, path, lines, status) in [
        ("GET", "/usage/nothing", &*bearer, 404),
        ("GET", "/v1/usage", &bearer, 404),
        ("GET", "/usage/", &bearer, 404),
        ("POST", "/usage", &bearer, 404),
        ("GET", "/usage.json", "", 401),
        (
            "GET",
            "/usage.json",
            "Authorization: Bearer tp-nobody\r\n",
            401,
        ),
        ("GET", "/usage.json?range=24h", &bearer, 400),
        ("GET", "/usage.json", &bearer, 200),
        ("GET", "/v1/usage.json?range=7d", &bearer, 200),
    ] {
        let (head, body) = usage(&gateway, method, path, lines).await;
        assert_eq!(
            head.status(),
            status,
            "{method} {path}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    let (_, body) = usage(&gateway, "GET", "/usage.json", &bearer).await;
    let answer: Map<String, Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["balance"], "20000000000");
    assert_eq!(
        answer["caps"][0],
        value!({"of": "money", "period": "life", "used": "0", "most": "5000000000"})
    );
    assert_eq!(
        answer["caps"][2],
        value!({"of": "money", "period": "day", "used": "0", "most": "1000000000"})
    );
    assert_eq!(
        answer["caps"][8],
        value!({"of": "output", "period": "day", "used": "0", "most": null})
    );
    assert_eq!(answer["rates"]["requests_per_minute"], 60);
    assert_eq!(answer["days"], value!([]));
}

#[tokio::test]
async fn the_usage_page_can_be_taken_away() {
    let bank = Bank::open().await;
    let gateway = Turnpike::start_with(&[
        ("DATABASE_URL", bank.db.url()),
        ("USAGE_PAGE", "off".to_owned()),
    ]);
    for path in ["/usage", "/usage/style.css"] {
        assert_eq!(
            usage(&gateway, "GET", path, "").await.0.status(),
            401,
            "{path}"
        );
    }
}
