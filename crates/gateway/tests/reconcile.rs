//! The books checked from outside: `turnpike audit`, and `turnpike reconcile` against exports of what a provider was really asked.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::upstream::{Upstream, json as answer};

use crate::support::{Bank, Turnpike, command};

const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":100,"messages":[]}"#;
const EMBED: &str = r#"{"model":"text-embedding-3-small","input":"text"}"#;
/// What each answer tells, and what it costs in nano-USD at 2.50, 1.25 and 10 USD: 60 fresh tokens, 40 cached, 7 output.
const ANSWER: &str = r#"{"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":40}}}"#;
const COST: i64 = 60 * 2_500 + 40 * 1_250 + 7 * 10_000;
const EMBEDDED: &str =
    r#"{"model":"text-embedding-3-small","data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;

/// What ran: a gateway's calls by two keys, and one to embeddings.
struct Ran {
    bank: Bank,
    dir: TempDir,
    /// Ids in `turnpike.upstream_key`.
    keys: [i64; 2],
    /// The days of the calls (seconds since the epoch) and how many each key made. One, unless the calls saw midnight.
    buckets: Vec<(i64, [i64; 2])>,
}

const DAY: i64 = 24 * 60 * 60;

impl Ran {
    async fn new() -> Self {
        let bank = Bank::open().await;
        let chat = Upstream::answering(answer(ANSWER)).await;
        let embeddings = Upstream::answering(answer(EMBEDDED)).await;
        for (name, upstream) in [("openai", &chat), ("other", &embeddings)] {
            let set = "select turnpike.set_upstream($1, $2, key => 'sk-one')";
            bank.sql
                .execute(set, &[&name, &upstream.url()])
                .await
                .unwrap();
        }
        bank.sql
            .batch_execute(
                "insert into turnpike.upstream_key (upstream_id, secret) select id, 'sk-two' from turnpike.upstream where name = 'openai';
                 select turnpike.set_route('gpt*', 'openai'), turnpike.set_route('text*', 'other')",
            )
            .await
            .unwrap();
        let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
        let token = bank.token("").await;
        // Keys take turns, but where they begin is each worker's affair.
        for _ in 0..12 {
            let (head, _) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
            assert_eq!(head.status(), 200);
        }
        let (head, _) = turnpike.post("/v1/embeddings", &token, EMBED).await;
        assert_eq!(head.status(), 200);
        bank.audited().await;
        let keys = bank
            .sql
            .query("select k.id from turnpike.upstream_key as k join turnpike.upstream as u on u.id = k.upstream_id where u.name = 'openai' order by 1", &[])
            .await
            .unwrap();
        let keys = [keys[0].get(0), keys[1].get(0)];
        let days = bank
            .sql
            .query(
                "select extract(epoch from date_trunc('day', started_at, 'UTC'))::bigint,
                   count(*) filter (where upstream_key_id = $1), count(*) filter (where upstream_key_id = $2)
                 from turnpike.charge group by 1 order by 1",
                &[&keys[0], &keys[1]],
            )
            .await
            .unwrap();
        let buckets: Vec<_> = days
            .iter()
            .map(|row| (row.get(0), [row.get(1), row.get(2)]))
            .collect();
        let called = |key: usize| buckets.iter().map(|(_, calls)| calls[key]).sum::<i64>();
        assert!(
            called(0) > 0 && called(1) > 0 && called(0) + called(1) == 12,
            "{buckets:?}"
        );
        Self {
            bank,
            dir: tempfile::tempdir().unwrap(),
            keys,
            buckets,
        }
    }

    /// What OpenAI's usage endpoint says of these calls, by key and model.
    fn usage(&self) -> Value {
        let result = |key: &str, calls: i64| {
            json!({
                "object": "organization.usage.completions.result", "model": "gpt-4o-2024-08-06", "api_key_id": key,
                "num_model_requests": calls, "input_tokens": 100 * calls, "input_cached_tokens": 40 * calls,
                "output_tokens": 7 * calls, "project_id": "proj_1", "batch": false,
            })
        };
        let bucket = |(start, calls): &(i64, [i64; 2])| {
            json!({
                "object": "bucket", "start_time": start, "end_time": start + DAY,
                "results": [result("key_one", calls[0]), result("key_two", calls[1])],
            })
        };
        let buckets: Vec<Value> = self.buckets.iter().map(bucket).collect();
        json!({ "object": "page", "data": buckets, "has_more": false, "next_page": null })
    }

    /// What OpenAI's costs endpoint says of them.
    fn costs(&self) -> Value {
        let bucket = |(start, calls): &(i64, [i64; 2])| {
            let calls = calls[0] + calls[1];
            let items = [
                ("input", 60 * 2_500),
                ("cached input", 40 * 1_250),
                ("output", 7 * 10_000),
            ];
            let results: Vec<Value> = items
                .into_iter()
                .map(|(kind, nano)| {
                    // As OpenAI writes them: a string with many decimals.
                    let value = format!("0.{:09}000000000000000", nano * calls);
                    json!({
                        "object": "organization.costs.result", "line_item": format!("gpt-4o-2024-08-06, {kind}"),
                        "amount": { "value": value, "currency": "usd" }, "project_id": "proj_1",
                    })
                })
                .collect();
            json!({ "object": "bucket", "start_time": start, "end_time": start + DAY, "results": results })
        };
        let buckets: Vec<Value> = self.buckets.iter().map(bucket).collect();
        json!({ "object": "page", "data": buckets, "has_more": false })
    }

    fn file(&self, name: &str, text: impl ToString) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// Runs `turnpike reconcile FILE …`: exit code, standard output, standard error.
    fn reconcile(&self, file: &Path, arguments: &[&str]) -> (i32, String, String) {
        let settings = [("DATABASE_URL", self.bank.db.url())];
        let mut command = command(&settings);
        command.arg("reconcile").arg(file).args(arguments);
        ended(&command.output().unwrap())
    }
}

fn ended(output: &std::process::Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn an_export_that_agrees_has_no_differences() {
    let ran = Ran::new().await;
    let before = ran.books().await;
    let usage = ran.file("usage.json", ran.usage());
    let (code, stdout, stderr) = ran.reconcile(&usage, &[]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.starts_with("no differences in ")
            && stdout.ends_with("; ours 12 requests, theirs 12\n"),
        "{stdout}"
    );

    let [one, two] = ran.keys.map(|key| key.to_string());
    let keys = [format!("key_one={one}"), format!("key_two={two}")];
    let (code, stdout, _) = ran.reconcile(&usage, &["--key", &keys[0], "--key", &keys[1], "--all"]);
    assert_eq!(code, 0, "{stdout}");
    assert!(
        stdout.contains("  key_one  gpt-4o-2024-08-06  requests "),
        "{stdout}"
    );

    // Costs are of every endpoint: the embeddings went elsewhere.
    let costs = ran.file("costs.json", ran.costs());
    let (code, stdout, _) = ran.reconcile(&costs, &[]);
    assert_eq!(code, 1);
    assert!(stdout.contains("text-embedding-3-small"), "{stdout}");
    let (code, stdout, _) = ran.reconcile(&costs, &["--upstream", "openai"]);
    assert_eq!(code, 0, "{stdout}");
    let usd = tariff::Amount::from_nano(12 * COST);
    assert!(
        stdout.ends_with(&format!("; ours {usd} USD, theirs {usd}\n")),
        "{stdout}"
    );
    assert_eq!(ran.books().await, before, "nothing was changed");
}

impl Ran {
    /// A digest of everything in the database.
    async fn books(&self) -> String {
        self.bank
            .one("select md5(database_to_xml(true, false, '')::text)")
            .await
    }
}

#[tokio::test]
async fn what_differs_is_shown_by_day_key_and_model() {
    let ran = Ran::new().await;
    let mut usage = ran.usage();
    // They counted two more requests by the second key, and fewer output tokens.
    let mut buckets = ran.buckets.iter();
    let at = buckets.position(|(_, calls)| calls[1] > 0).unwrap();
    let (start, [_, calls]) = ran.buckets[at];
    let result = &mut usage["data"][at]["results"][1];
    result["num_model_requests"] = json!(calls + 2);
    result["output_tokens"] = json!(calls * 7 - 3);
    let file = ran.file("usage.json", &usage);
    let key = format!("key_two={}", ran.keys[1]);
    let (code, stdout, stderr) = ran.reconcile(&file, &["--key", &key]);
    assert_eq!((code, stderr.as_str()), (1, ""), "{stdout}");
    let day: String = ran
        .bank
        .one(&format!(
            "select (to_timestamp({start}) at time zone 'UTC')::date::text"
        ))
        .await;
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let lines: Vec<String> = stdout.lines().map(words).collect();
    assert_eq!(lines[0], "day key model figure ours theirs difference %");
    assert!(
        lines[1].starts_with(&format!(
            "{day} key_two gpt-4o-2024-08-06 requests {calls} {} -2 -",
            calls + 2
        )),
        "{stdout}"
    );
    assert!(
        lines[2].starts_with(&format!(
            "{day} key_two gpt-4o-2024-08-06 output_tokens {} {} 3 ",
            calls * 7,
            calls * 7 - 3
        )),
        "{stdout}"
    );
    assert!(lines[3].starts_with("total requests 12 14 -2 "), "{stdout}");
    assert!(lines.last().unwrap().starts_with("1 of "), "{stdout}");

    let (code, stdout, _) = ran.reconcile(&file, &["--key", &key, "--json"]);
    assert_eq!(code, 1);
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(printed["rows"][0]["key"], "key_two");
    assert_eq!(
        printed["rows"][0]["figures"]["requests"],
        json!({"ours": calls, "theirs": calls + 2, "difference": -2, "differs": true})
    );
    assert_eq!(printed["rows"][0]["figures"]["usd"]["theirs"], Value::Null);
    assert_eq!(printed["rows"][0]["day"], json!(day));

    let (code, stdout, stderr) = ran.reconcile(&file, &["--key", &key, "--csv"]);
    assert_eq!(code, 1);
    assert!(
        stdout.lines().nth(1).unwrap().starts_with(&format!(
            "{day},key_two,gpt-4o-2024-08-06,{calls},{},-2,",
            calls + 2
        )),
        "{stdout}"
    );
    assert!(stderr.starts_with("1 of "), "{stderr}");

    // A wide tolerance takes it all; another project has none of it.
    assert_eq!(ran.reconcile(&file, &["--tolerance", "400"]).0, 0);
    let (code, stdout, _) = ran.reconcile(&file, &["--project", "proj_2"]);
    assert_eq!(code, 1);
    assert!(
        stdout.ends_with("; ours 12 requests, theirs 0\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn a_table_of_days_is_read_from_standard_input() {
    let ran = Ran::new().await;
    let usd = |calls: i64| tariff::Amount::from_nano(COST * calls);
    let rows: String = ran
        .buckets
        .iter()
        .map(|(start, calls)| {
            format!(
                "{start},gpt-4o,{},{}\n",
                calls[0] + calls[1],
                usd(calls[0] + calls[1])
            )
        })
        .collect();
    let table = format!("start_time,model,requests,cost_usd\n{rows}");
    let settings = [("DATABASE_URL", ran.bank.db.url())];
    let run = |arguments: &[&str]| {
        let mut child = command(&settings)
            .args(["reconcile", "-", "--endpoints", "chat/completions"])
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
            .write_all(table.as_bytes())
            .unwrap();
        ended(&child.wait_with_output().unwrap())
    };
    let (code, stdout, stderr) = run(&[]);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stderr.contains("note: our gpt-4o-2024-08-06 and their gpt-4o differ only by the date in the name: --ignore-dates"),
        "{stderr}"
    );
    let (code, stdout, stderr) = run(&["--ignore-dates"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[tokio::test]
async fn what_cannot_be_reconciled_ends_with_its_own_code() {
    let bank = Bank::open().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.csv", "day,usd\n2026-11-20,1\n");
    let bad = file("bad.csv", "day,usd\n2026-11-20,much\n");
    let database = bank.db.url();
    let nowhere = "postgres://nobody@127.0.0.1:1/x".to_owned();
    let cases: [(&str, &[&str], i32, &str); 9] = [
        (&database, &[], 64, "<FILE>"),
        (&database, &[&good, "--tolerance", "some"], 64, "per cent"),
        (
            &database,
            &[&good, "--json", "--csv"],
            64,
            "cannot be used with",
        ),
        (&database, &[&good, "--key", "key_abc"], 64, "key_abc=7"),
        (
            &database,
            &[&good, "--since", "2026-11-22", "--until", "2026-11-21"],
            64,
            "nothing of the days",
        ),
        (
            &database,
            &[&bad],
            65,
            "bad.csv: line 2: usd: \"much\" is no amount of USD",
        ),
        (
            &database,
            &[&good, "--key", "key_abc=1"],
            65,
            "names no keys",
        ),
        (
            &database,
            &["/nowhere/usage.json"],
            66,
            "/nowhere/usage.json cannot be read",
        ),
        (&nowhere, &[&good], 69, "cannot connect to Postgres"),
    ];
    for (database, arguments, code, word) in cases {
        let settings = [("DATABASE_URL", database.to_owned())];
        let mut command = command(&settings);
        let (given, _, stderr) = ended(&command.arg("reconcile").args(arguments).output().unwrap());
        assert_eq!(given, code, "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{word} is not in {stderr:?}");
    }
}

#[tokio::test]
async fn the_audit_says_nothing_or_what_is_wrong() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let audit = |arguments: &[&str]| {
        ended(
            &command(&settings)
                .arg("audit")
                .args(arguments)
                .output()
                .unwrap(),
        )
    };
    assert_eq!(
        audit(&[]),
        (0, "the books are right\n".into(), String::new())
    );
    assert_eq!(audit(&["--json"]), (0, "[]\n".into(), String::new()));
    bank.sql
        .batch_execute("update turnpike.account set balance = balance + 1")
        .await
        .unwrap();
    let (code, stdout, _) = audit(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        stdout,
        "\
rule                         subject           expected        found
balance = credits - charges  account alice  20000000000  20000000001
"
    );
    let (code, stdout, _) = audit(&["--json"]);
    assert_eq!(code, 1);
    let rows: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        rows,
        json!([{ "rule": "balance = credits - charges", "subject": "account alice", "expected": "20000000000", "found": "20000000001" }])
    );
}
