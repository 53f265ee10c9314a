//! The operator's commands, run as he runs them: what they print, what they change, how they end.

use std::{io::Write as _, process::Stdio};

use serde_json::Value;
use testkit::{
    postgres::TestDb,
    upstream::{Upstream, answer, json},
};

use crate::support::{Bank, Turnpike, command};

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run_with(db: &TestDb, settings: &[(&str, &str)], arguments: &[&str], input: &str) -> Ran {
    let mut all = vec![("DATABASE_URL", db.url())];
    all.extend(
        settings
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let mut child = command(&all)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(db: &TestDb, arguments: &[&str]) -> Ran {
    run_with(db, &[], arguments, "")
}

#[track_caller]
fn ok(db: &TestDb, arguments: &[&str]) -> String {
    let ran = run(db, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
    ran.out
}

/// Serves a list of models to the key `good` and to no other.
async fn models() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        let (head, _) = wire.read_message().await;
        let status = match head.header("authorization") {
            Some("Bearer good") => "200 OK",
            _ => "401 Unauthorized",
        };
        wire.send(answer(status, &[], "{}")).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_two_keys_is_added_listed_tried_and_taken_out() {
    let db = TestDb::new().await;
    let models = models().await;
    let url = format!("{}/v1", models.url());
    let added = ok(
        &db,
        &[
            "upstream",
            "add",
            "main",
            &url,
            "--key",
            "env:KEY_A",
            "--key",
            "env:KEY_B",
            "--weights",
            "3,1",
        ],
    );
    assert!(added.contains("2 keys"), "{added}");
    ok(&db, &["route", "add", "gpt*", "main"]);
    let listed = ok(&db, &["upstream", "list"]);
    assert!(
        listed.contains("2 by 3:1") && listed.contains("gpt*"),
        "{listed}"
    );

    let keys = [("KEY_A", "good"), ("KEY_B", "old")];
    let tried = run_with(&db, &keys, &["upstream", "test", "main"], "");
    assert_eq!(tried.code, 1, "{}{}", tried.out, tried.err);
    let lines: Vec<_> = tried.out.lines().collect();
    assert!(lines[1].ends_with("works (200)"), "{}", tried.out);
    assert!(lines[2].ends_with("refuses the key (401)"), "{}", tried.out);
    let keys = [("KEY_A", "good"), ("KEY_B", "good")];
    assert_eq!(run_with(&db, &keys, &["upstream", "test"], "").code, 0);
    // A key that is nowhere is told by its name.
    let tried = run_with(&db, &keys[..1], &["upstream", "test"], "");
    assert!(
        tried.out.contains("environment variable KEY_B is not set"),
        "{}",
        tried.out
    );

    // Added again without keys it keeps them; with others it has those.
    ok(&db, &["upstream", "add", "main", &url]);
    assert!(ok(&db, &["upstream", "list"]).contains("2 by 3:1"));
    let typed = run_with(
        &db,
        &[],
        &["upstream", "add", "main", &url, "--key", "-"],
        "good\n",
    );
    assert_eq!(typed.code, 0, "{}", typed.err);
    assert!(ok(&db, &["upstream", "test"]).contains("works (200)"));

    ok(&db, &["upstream", "disable", "main"]);
    assert!(ok(&db, &["upstream", "list"]).contains("disabled"));
    ok(&db, &["upstream", "enable", "main"]);
    ok(&db, &["route", "remove", "gpt*"]);
    assert_eq!(ok(&db, &["route", "list"]).lines().count(), 1);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_could() {
    let db = TestDb::new().await;
    for (arguments, code, says) in [
        (
            &[
                "upstream",
                "add",
                "a",
                "https://a.example/v1",
                "--key",
                "sk-secret",
            ][..],
            64,
            "give env:NAME",
        ),
        (
            &[
                "upstream",
                "add",
                "a",
                "https://a.example/v1",
                "--key",
                "env:A",
                "--weights",
                "0",
            ],
            64,
            "--weights",
        ),
        (
            &[
                "upstream",
                "add",
                "a",
                "https://a.example/v1",
                "--key",
                "env:A",
                "--weights",
                "1,2",
            ],
            65,
            "1 keys and 2 weights",
        ),
        (
            &[
                "upstream",
                "add",
                "a",
                "https://a.example/v1",
                "--key",
                "env:A",
                "--key",
                "env:A",
            ],
            65,
            "a key is given twice",
        ),
        (
            &["upstream", "add", "a", "ftp://a.example"],
            65,
            "https://host/path",
        ),
        (
            &["upstream", "test", "nobody"],
            65,
            "no upstream \"nobody\"",
        ),
        (
            &["upstream", "disable", "nobody"],
            65,
            "no upstream \"nobody\"",
        ),
        (
            &["upstream", "add", "a", "https://a.example/v1", "--key", "-"],
            66,
            "standard input",
        ),
        (
            &["route", "add", "gpt*", "nobody"],
            65,
            "there is no upstream nobody",
        ),
        (&["route", "remove", "gpt*"], 65, "turnpike route list"),
        (&["account", "show", "nobody"], 65, "turnpike account list"),
        (
            &["usage", "--since", "2026-02-02", "--until", "2026-02-01"],
            64,
            "--until is not after --since",
        ),
    ] {
        let ran = run(&db, arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{arguments:?}: {}", ran.err);
    }
    // Nothing came of any of them, the half of it neither.
    let upstreams = db.client().await;
    let count = upstreams
        .query_one("select count(*) from turnpike.upstream", &[])
        .await
        .unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn usage_agrees_with_the_charges_in_every_form() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#,
    ))
    .await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token(", label => 'a, b'").await;
    for _ in 0..2 {
        let body = r#"{"model":"gpt-4o","messages":[]}"#;
        assert_eq!(
            gateway
                .post("/v1/chat/completions", &token, body)
                .await
                .0
                .status(),
            200
        );
    }
    // 2 x (53 x 2.50 + 15 x 10)
    let charged: i64 = bank
        .one("select sum(amount)::bigint from turnpike.charge")
        .await;
    assert_eq!(charged, 565_000);
    for by in ["day", "model", "token", "account"] {
        let rows: Value =
            serde_json::from_str(&ok(&bank.db, &["usage", "--by", by, "--json"])).unwrap();
        let [row] = &rows.as_array().unwrap()[..] else {
            panic!("{rows}")
        };
        assert_eq!(row["usd"], "0.000565", "{by}");
        assert_eq!(
            (&row["exchanges"], &row["input_tokens"]),
            (&2.into(), &106.into())
        );
        let key = row[by].as_str().unwrap();
        match by {
            "model" => assert_eq!(key, "gpt-4o"),
            "account" => assert_eq!(key, "alice"),
            "token" => assert!(key.ends_with(" a, b"), "{key}"),
            _ => assert_eq!(key.len(), "2026-11-21".len()),
        }
        let csv = ok(&bank.db, &["usage", "--by", by, "--csv"]);
        assert!(
            csv.starts_with(&format!("{by},exchanges,input_tokens,")),
            "{csv}"
        );
        assert!(
            csv.lines()
                .nth(1)
                .unwrap()
                .ends_with(",2,106,0,30,0.000565,0.00"),
            "{csv}"
        );
        let table = ok(&bank.db, &["usage", "--by", by]);
        assert!(
            table.lines().last().unwrap().starts_with("total"),
            "{table}"
        );
        assert!(!table.contains('█'), "bars are for terminals: {table}");
    }
    let nothing = ok(&bank.db, &["usage", "--account", "bob", "--json"]);
    assert_eq!(nothing.trim(), "[]");

    let shown = ok(&bank.db, &["account", "show", "alice"]);
    for part in [
        "alice: balance 19.999435 USD",
        "a, b",
        "20.00  test",
        "gpt-4o",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn completions_and_the_manual_want_no_database() {
    let nowhere = [("DATABASE_URL", "postgres://127.0.0.1:1/x".to_owned())];
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&nowhere)
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("top-up"));
    }
    let dir = tempfile::TempDir::new().unwrap();
    let output = command(&nowhere)
        .arg("man")
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let page = std::fs::read_to_string(dir.path().join("turnpike-upstream-add.1")).unwrap();
    assert!(page.contains("env:NAME"), "{page}");
    let output = command(&nowhere).args(["man"]).output().unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains(".SH NAME")
    );
}
