//! The operator's side: SQL that takes effect at once, commands, health, metrics, logs without secrets, exit codes.

use std::time::Instant;

use testkit::{
    postgres::TestDb,
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, command, eventually};

const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"prompt-canary"}]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[{"message":{"content":"answer-canary"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[tokio::test]
async fn a_revoked_token_is_refused_by_every_running_gateway() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gateways = [
        Turnpike::start(&bank.db, &upstream.url(), &[]),
        Turnpike::start(&bank.db, &upstream.url(), &[]),
    ];
    let token = bank.token("").await;
    for gateway in &gateways {
        assert_eq!(
            gateway
                .post("/v1/chat/completions", &token, CHAT)
                .await
                .0
                .status(),
            200
        );
    }
    bank.sql
        .execute("select turnpike.revoke_token($1)", &[&token])
        .await
        .unwrap();
    let revoked = Instant::now();
    for gateway in &gateways {
        eventually("the token is refused", async || {
            (gateway
                .post("/v1/chat/completions", &token, CHAT)
                .await
                .0
                .status()
                == 401)
                .then_some(())
        })
        .await;
    }
    println!(
        "revocation reached both gateways after {:?}",
        revoked.elapsed()
    );
}

#[tokio::test]
async fn a_new_price_and_a_new_upstream_hold_without_a_restart() {
    let bank = Bank::open().await;
    let first = Upstream::answering(json(ANSWER)).await;
    let second = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &first.url(), &[]);
    let token = bank.token("").await;
    let priced = CHAT.replace("gpt-4o", "new-model");
    assert_eq!(
        turnpike
            .post("/v1/chat/completions", &token, &priced)
            .await
            .0
            .status(),
        404
    );
    bank.sql
        .batch_execute(
            "select turnpike.set_price('new-model', input => 1, output => 2, output_max => 100)",
        )
        .await
        .unwrap();
    eventually("the price holds", async || {
        (turnpike
            .post("/v1/chat/completions", &token, &priced)
            .await
            .0
            .status()
            == 200)
            .then_some(())
    })
    .await;
    assert_eq!(second.connections(), 0);
    bank.sql
        .execute(
            "select turnpike.set_upstream('second', $1, key => 'sk-second')",
            &[&format!("{}/base", second.url())],
        )
        .await
        .unwrap();
    eventually("the upstream holds", async || {
        turnpike.post("/v1/chat/completions", &token, CHAT).await;
        (second.connections() > 0).then_some(())
    })
    .await;
    let got = second.received()[0].text();
    assert!(
        got.starts_with("POST /base/chat/completions HTTP/1.1\r\n")
            && got.contains("Bearer sk-second"),
        "{got}"
    );
}

#[tokio::test]
async fn the_models_a_token_may_use_are_listed() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token(", models => '{gpt-4o*}'").await;
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let (head, body) = turnpike.call(get("/v1/models")).await;
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let names: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!((head.status(), names), (200, vec!["gpt-4o", "gpt-4o-mini"]));
    assert_eq!(
        turnpike.call(get("/v1/models/gpt-4o")).await.0.status(),
        200
    );
    assert_eq!(
        turnpike
            .call(get("/v1/models/gpt-3.5-turbo"))
            .await
            .0
            .status(),
        404
    );
    // Only the first `models/` is the path's; a name may begin so as well.
    assert_eq!(
        turnpike
            .call(get("/v1/models/models/gpt-4o"))
            .await
            .0
            .status(),
        404
    );
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn health_readiness_and_metrics_are_on_the_admin_address() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    assert_eq!(turnpike.admin("/healthz").await.0.status(), 200);
    assert_eq!(turnpike.admin("/readyz").await.0.status(), 200);
    turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    turnpike
        .post("/v1/chat/completions", "tp-wrong", CHAT)
        .await;
    let metrics = eventually("the exchange is counted", async || {
        let text = turnpike.admin("/metrics").await.1;
        text.contains(r#"turnpike_exchanges_total{endpoint="chat/completions",end="complete"} 1"#)
            .then_some(text)
    })
    .await;
    for line in [
        r#"turnpike_refusals_total{code="invalid_api_key"} 1"#,
        r#"turnpike_charges_total{mark="measured"} 1"#,
        r#"turnpike_charged_nano_usd_total{model="gpt-4o"} 12500"#,
        r#"turnpike_tokens_total{model="gpt-4o",side="output"} 1"#,
        "turnpike_second_gate_seconds_count 1",
        "turnpike_database_connected 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn no_secret_and_no_prompt_is_in_logs_metrics_or_database() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    for format in ["text", "json"] {
        let turnpike = Turnpike::start(
            &bank.db,
            &upstream.url(),
            &[("LOG_FORMAT", format), ("LOG_LEVEL", "trace")],
        );
        let token = bank.token("").await;
        turnpike
            .post("/v1/chat/completions?query-canary=1", &token, CHAT)
            .await;
        turnpike
            .post("/v1/chat/completions", "tp-token-canary", CHAT)
            .await;
        turnpike
            .post(
                "/v1/chat/completions",
                &token,
                &CHAT.replace("\"max", "\"model\":\"x\",\"max"),
            )
            .await;
        eventually("the exchange is logged", async || {
            turnpike.log().contains("chat/completions").then_some(())
        })
        .await;
        let seen = turnpike.log() + &turnpike.admin("/metrics").await.1;
        for canary in [
            token.as_str(),
            "prompt-canary",
            "answer-canary",
            "query-canary",
            "tp-token-canary",
            "sk-upstream-canary",
        ] {
            assert!(!seen.contains(canary), "{canary} was logged");
        }
    }
    let tables = bank.sql.query("select format('select count(*) from turnpike.%I t where t::text like $1', tablename) from pg_tables where schemaname = 'turnpike'", &[]).await.unwrap();
    assert!(tables.len() > 9);
    for canary in ["%-canary%", "%tp-________________________________%"] {
        for statement in &tables {
            let count: i64 = bank
                .sql
                .query_one(statement.get::<_, &str>(0), &[&canary])
                .await
                .unwrap()
                .get(0);
            assert_eq!(count, 0, "{canary}: {}", statement.get::<_, &str>(0));
        }
    }
}

/// Runs a command on this database; its exit code, and what it printed.
fn run(settings: &[(&str, String)], arguments: &[&str]) -> (i32, String, String) {
    let output = command(settings).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn commands_do_what_they_say() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let ok = |arguments: &[&str]| {
        let (code, stdout, stderr) = run(&settings, arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        stdout
    };
    assert!(ok(&["migrate"]).ends_with(": nothing was missing\n"));
    assert!(
        ok(&[
            "account", "top-up", "bob", "1.5", "--note", "cash", "--create"
        ])
        .contains("1.50 USD")
    );
    assert!(ok(&["account", "list"]).contains("bob"));
    let token = ok(&[
        "token", "issue", "bob", "--budget", "1", "--models", "gpt-4o*", "--label", "laptop",
    ]);
    let token = token.trim();
    assert!(token.starts_with("tp-"));
    assert!(ok(&["token", "list", "--account", "bob"]).contains("laptop"));
    let prefix = &token[..10];
    let rotated = ok(&["token", "rotate", prefix]);
    assert_ne!(rotated.trim(), token);
    ok(&["token", "revoke", &rotated.trim()[..10]]);
    assert!(ok(&["token", "list"]).contains("revoked"));
    ok(&[
        "price",
        "set",
        "m",
        "--input",
        "1",
        "--cached-input",
        "0.5",
        "--output",
        "2",
    ]);
    assert!(ok(&["price", "list", "m"]).contains("0.50"));
    assert!(ok(&["usage", "--by", "model"]).contains("total"));
}

#[tokio::test]
async fn every_figure_of_a_price_can_be_given() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let figures = "--input 1 --cached-input 2 --cache-write 3 --cache-write-1h 4 --output 5 --reasoning 6 --input-audio 7 \
        --input-image 8 --cached-input-audio 9 --cached-input-image 10 --output-audio 11 --output-image 12 --input-audio-minute 13 \
        --output-audio-minute 14 --video-minute 15 --characters 16 --page 17 --query 18 --request 19 --image 1024x1024/hd=0.08 \
        --image *=0.1 --tool web_search_high=0.05 --tool web_search=0.03 --region us=1.1 --speed fast=6 --tier flex --min-context 20 \
        --context-inclusive --context-window 21 --output-max 22 --disconnect void --source list";
    let mut arguments = vec!["price", "set", "m"];
    arguments.extend(figures.split_whitespace());
    let (code, _, stderr) = run(&settings, &arguments);
    assert_eq!(code, 0, "{stderr}");
    let row: String = bank
        .sql
        .query_one(
            "select format('%s %s %s %s %s %s %s %s %s', array[in_text, cr_text, cw_5m, cw_1h, out_text, out_reasoning, in_audio, in_image,
                    cr_audio, cr_image, out_audio, out_image, audio_in_minute, audio_out_minute, video_minute, characters, page, query,
                    request], images, tools, regions_bps, speeds_bps, tier, array[min_context, context_window, output_max],
                    context_inclusive, disconnect || ' ' || source)
               from turnpike.price where pattern = 'm'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let all: Vec<_> = (1..20)
        .map(|usd| (usd * 1_000_000_000_i64).to_string())
        .collect();
    let wanted = format!(
        "{{{}}} {{\"*\": 100000000, \"1024x1024/hd\": 80000000}} {{\"web_search\": 30000000, \"web_search_high\": 50000000}} \
         {{\"us\": 11000}} {{\"fast\": 60000}} flex {{20,21,22}} t void list",
        all.join(",")
    );
    assert_eq!(row, wanted);
    let (code, _, stderr) = run(&settings, &["price", "set", "m"]);
    assert!(code == 65 && stderr.contains("no figures"), "{stderr}");
    let (code, _, stderr) = run(&settings, &["price", "set", "m", "--tool", "golf=1"]);
    assert!(
        code == 64 && stderr.contains("there is no tool golf"),
        "{stderr}"
    );
}

#[tokio::test]
async fn every_limit_can_be_given_and_is_listed() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let limits = "--budget 9 --budget-day 1 --budget-month 2.5 --prompt-tokens 3 --prompt-tokens-day 4 --prompt-tokens-month 5 \
        --completion-tokens 6 --completion-tokens-day 7 --completion-tokens-month 8 --requests-per-second 10 \
        --requests-per-minute 11 --requests-per-hour 12 --tokens-per-minute 13 --concurrent-exchanges 14";
    let mut arguments = vec!["token", "issue", "alice"];
    arguments.extend(limits.split_whitespace());
    let (code, token, stderr) = run(&settings, &arguments);
    assert_eq!(code, 0, "{stderr}");
    let (_, listed, _) = run(&settings, &["token", "list"]);
    let line = listed
        .lines()
        .find(|line| line.starts_with(&token[..10]))
        .unwrap();
    let shown = "day 0.00/1.00 USD, month 0.00/2.50 USD, in/life 0/3, in/day 0/4, in/month 0/5, out/life 0/6, out/day 0/7, \
        out/month 0/8, 10/s, 11/min, 12/h, 13 tokens/min, 14 at once";
    assert!(line.contains("9.00") && line.contains(shown), "{line}");
    let (code, _, stderr) = run(
        &settings,
        &["token", "issue", "alice", "--requests-per-hour", "0"],
    );
    assert!(
        code == 65 && stderr.contains("a limit must be at least 1"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_price_list_is_imported_once_and_says_what_it_left_out() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let list = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../config/model_prices.json"
    );
    let (code, stdout, stderr) = run(&settings, &["price", "import", list]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("price rows set") && stderr.contains("left out"),
        "{stdout} {stderr}"
    );
    let (_, stdout, _) = run(&settings, &["price", "import", list]);
    assert!(stdout.starts_with("0 price rows set"), "{stdout}");
    assert_eq!(bank.one::<i64>("select out_text from turnpike.price where pattern = 'gpt-5-2025-08-07' and tier = 'priority' and valid_to is null").await, 20_000_000_000);
}

#[tokio::test]
async fn a_gateway_that_may_not_migrate_says_who_must() {
    let db = TestDb::empty().await;
    let settings = [("DATABASE_URL", db.url()), ("MIGRATE", "false".to_owned())];
    let (code, _, stderr) = run(&settings, &[]);
    assert_eq!(code, 78, "{stderr}");
    assert!(
        stderr.contains("0001_add_money.sql") && stderr.contains("`turnpike migrate`"),
        "{stderr}"
    );
    let bare: bool = db
        .client()
        .await
        .query_one("select to_regnamespace('turnpike') is null", &[])
        .await
        .unwrap()
        .get(0);
    assert!(bare, "nothing was changed");

    let (code, stdout, _) = run(&settings, &["migrate"]);
    assert_eq!(code, 0);
    assert!(
        stdout.starts_with("applied 0001_add_money.sql\n")
            && stdout.contains("is at version")
            && stdout.ends_with(" migrations applied\n"),
        "{stdout}"
    );
    let turnpike = Turnpike::start_with(&settings);
    assert_eq!(turnpike.admin("/readyz").await.0.status(), 200);
}

/// Settings, arguments, the exit code, and a word of the line.
type Case = (
    Vec<(&'static str, String)>,
    &'static [&'static str],
    i32,
    &'static str,
);

#[tokio::test]
async fn what_goes_wrong_is_one_line_and_an_exit_code() {
    let bank = Bank::open().await;
    let database = ("DATABASE_URL", bank.db.url());
    let empty = TestDb::empty().await;
    let user = format!("powerless_{}", std::process::id());
    bank.sql
        .batch_execute(&format!("create role {user} login"))
        .await
        .unwrap();
    let powerless = empty.url_as(&user);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: Vec<Case> = vec![
        (
            vec![database.clone()],
            &["tokens"],
            64,
            "unrecognized subcommand",
        ),
        (
            vec![database.clone(), ("PORT", "x".into())],
            &[],
            78,
            "PORT",
        ),
        (
            vec![("DATABASE_URL", "nonsense://".into())],
            &[],
            78,
            "DATABASE_URL",
        ),
        (
            vec![("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x".into())],
            &[],
            69,
            "cannot connect to Postgres at 127.0.0.1:1 (database x): Connection refused (os error 111)",
        ),
        (
            vec![("DATABASE_URL", empty.url())],
            &["account", "list"],
            78,
            "was never migrated: run `turnpike migrate` first",
        ),
        (
            vec![("DATABASE_URL", powerless)],
            &[],
            78,
            "run `turnpike migrate` as the database's owner",
        ),
        (vec![database.clone(), ("PORT", port)], &[], 71, "PORT"),
        (
            vec![
                database.clone(),
                ("TLS_CERT", "/nowhere/cert.pem".into()),
                ("TLS_KEY", "/nowhere/key.pem".into()),
            ],
            &[],
            66,
            "/nowhere/cert.pem",
        ),
        (
            vec![database.clone(), ("OPENAI_URL", "ftp://x".into())],
            &[],
            78,
            "OPENAI_URL",
        ),
        (
            vec![database.clone()],
            &["token", "issue", "nobody-here"],
            65,
            "create_account",
        ),
        (
            vec![database],
            &["price", "import", "/nowhere/list.json"],
            66,
            "/nowhere/list.json",
        ),
    ];
    for (settings, arguments, code, word) in &cases {
        let (given, _, stderr) = run(settings, arguments);
        let last = stderr
            .trim_end()
            .lines()
            .find(|line| line.starts_with("turnpike: "))
            .unwrap_or_default();
        assert_eq!(given, *code, "{settings:?} {arguments:?}: {stderr}");
        assert!(last.contains(word), "{word} is not in {stderr:?}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    bank.sql
        .batch_execute(&format!("drop role {user}"))
        .await
        .unwrap();
}
