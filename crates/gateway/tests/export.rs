//! Charges for other programs: all of them once, exactly, in order, and on from where one stopped.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Output,
};

use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, RowAccessor as _},
};
use serde_json::Value;
use tempfile::TempDir;
use testkit::upstream::{Upstream, json};

use crate::support::{Bank, Turnpike, command};

/// So many charges of alice and one of bob, as gateways leave them.
async fn filled(charges: i64) -> Bank {
    let bank = Bank::open().await;
    bank.token(", label => 'a, \"b\" = 1'").await;
    bank.sql
        .batch_execute(&format!(
            "select turnpike.create_account('bob');
             select turnpike.issue_token('bob');
             insert into turnpike.charge (id, account_id, token_id, price_id, instance_id, amount, held, in_text, cr_text, out_text, out_reasoning, started_at,
                ended_after_ms, status, stream, mark, ending, endpoint, model_requested, model_answered, provider_cost)
             select (lpad(to_hex(1790000000000 + at), 12, '0') || '7000800000000000000' || (at % 10))::uuid, 1, 1, 1, 1, 9007199254740993 + at, 9107199254740993, at, 2, 3, 4,
                to_timestamp(1790000000 + at * 0.001), 900, 200, true, 'measured', 'complete', 'chat/completions', E'gpt-4o,\"\\n''', 'gpt-4o-2024', nullif(at, 1)
               from generate_series(1, {charges}) as at;
             insert into turnpike.charge (id, account_id, token_id, price_id, instance_id, amount, held, started_at, ended_after_ms, status, stream, mark, ending,
                endpoint, model_requested)
             select turnpike.first_id(to_timestamp(1790000000) + interval '1 day'), 2, 2, 1, 1, 5, 6, to_timestamp(1790000000) + interval '1 day', 1, 200, false,
                'estimated', 'failed', 'embeddings', 'text-embedding-3-small';
             insert into turnpike.charge_unnumbered (charge_ids) select array_agg(id order by id) from turnpike.charge group by account_id order by account_id"
        ))
        .await
        .unwrap();
    bank
}

fn export(bank: &Bank, arguments: &[&str]) -> Output {
    command(&[("DATABASE_URL", bank.db.url())])
        .arg("export")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn text(bank: &Bank, arguments: &[&str]) -> String {
    let output = export(bank, arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(bank: &Bank, arguments: &[&str]) -> String {
    let output = export(bank, arguments);
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn csv_and_json_have_every_charge_once_and_to_the_nano_dollar() {
    let bank = filled(5_000).await;
    let csv = text(&bank, &[]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at = |name: &str| {
        csv.lines()
            .next()
            .unwrap()
            .split(',')
            .position(|it| it == name)
            .unwrap()
    };
    let (seq, nano, usd, model) = (
        at("charge_seq"),
        at("nano_usd"),
        at("usd"),
        at("model_requested"),
    );
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 5_001);
    assert_eq!(
        (&records[0][nano], &records[0][usd], &records[0][model]),
        ("9007199254740994", "9007199.254740994", "gpt-4o,\"\n'")
    );
    let numbers: Vec<i64> = records
        .iter()
        .map(|record| record[seq].parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    let sum: i128 = records
        .iter()
        .map(|record| record[nano].parse::<i128>().unwrap())
        .sum();
    let booked: String = bank
        .one("select sum(amount)::text from turnpike.charge")
        .await;
    assert_eq!(sum.to_string(), booked);

    let json = lines(&text(&bank, &["--format", "jsonl"]));
    assert_eq!(json.len(), 5_001);
    let last = &json[5_000];
    assert_eq!(
        (
            &last["account"],
            &last["nano_usd"],
            &last["usd"],
            &last["mark"],
            &last["ending"],
            &last["model_answered"]
        ),
        (
            &"bob".into(),
            &5.into(),
            &"0.000000005".into(),
            &"estimated".into(),
            &"failed".into(),
            &Value::Null
        )
    );
    assert_eq!(json[7]["started_at"], "2026-09-21T14:13:20.008Z");
    assert_eq!(json[7]["in_text"], 8);
    assert_eq!(json[0]["provider_cost_nano_usd"], Value::Null);
    // The same names as the view that others tail.
    let view: String = bank
        .one("select string_agg(attname, ',' order by attname) from pg_attribute where attrelid = 'turnpike.numbered_charges'::regclass and attnum > 0 and attname not in ('prompt', 'completion', 'upstream_id')")
        .await;
    let mut names: Vec<_> = last.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names.join(","), view);
}

#[tokio::test]
async fn an_export_keeps_to_its_range_and_account_and_goes_on_behind_a_number() {
    let bank = filled(3_000).await;
    let count = |arguments: &[&str]| {
        lines(&text(&bank, &[&["--format", "jsonl"], arguments].concat())).len()
    };
    assert_eq!(count(&["--account", "bob"]), 1);
    assert_eq!(count(&["--since", "2026-09-22"]), 1);
    assert_eq!(count(&["--until", "2026-09-22"]), 3_000);
    assert_eq!(
        count(&[
            "--since",
            "2026-09-21T14:13:21Z",
            "--until",
            "2026-09-21T14:13:22Z"
        ]),
        1_000
    );
    assert_eq!(count(&["--after", "2999"]), 2);
    assert_eq!(count(&["--after", "3001"]), 0);
    let told = String::from_utf8(export(&bank, &["--until", "2026-09-22"]).stderr).unwrap();
    assert_eq!(told, "3000 charges; --after 3000 goes on behind them\n");
    for (arguments, says) in [
        (
            &["--account", "carol'; drop table turnpike.charge; --"][..],
            "there is no account",
        ),
        (
            &["--since", "2026-09-22", "--until", "2026-09-22"],
            "--until is not after --since",
        ),
        (&["--since", "yesterday"], "2027-01-01"),
        (&["--after=-1"], "invalid value"),
        (&["--format", "xml"], "possible values"),
        (&["--resume"], "--out"),
    ] {
        let said = refused(&bank, arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_file_that_was_left_unfinished_is_gone_on_with() {
    let bank = filled(300).await;
    let dir = TempDir::new().unwrap();
    for format in ["csv", "jsonl", "cloudevents"] {
        let whole = text(&bank, &["--format", format]);
        let path = dir.path().join(format);
        let path = path.to_str().unwrap();
        // Torn in the middle of a charge, at its last byte, behind it, in the header, and before anything.
        for torn in [
            whole.len() / 2,
            whole.len() / 3 + 7,
            whole.len() - 1,
            whole.len() - 2,
            whole.len(),
            10,
            0,
        ] {
            File::create(path)
                .unwrap()
                .write_all(&whole.as_bytes()[..torn])
                .unwrap();
            let said = refused(&bank, &["--format", format, "--out", path]);
            assert!(said.contains("is there already"), "{said}");
            text(&bank, &["--format", format, "--out", path, "--resume"]);
            assert!(
                fs::read_to_string(path).unwrap() == whole,
                "{format} torn at {torn}"
            );
        }
    }
    // What is none of ours is left as it is.
    let path = dir.path().join("notes");
    fs::write(&path, "my notes\n").unwrap();
    let said = refused(
        &bank,
        &[
            "--format",
            "jsonl",
            "--out",
            path.to_str().unwrap(),
            "--resume",
        ],
    );
    assert!(
        said.contains("its last line is none of such an export"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "my notes\n");
}

fn rows(path: &Path) -> Vec<(i64, i64, String, Option<i64>, Field)> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema().clone();
    let at = |name: &str| {
        schema
            .get_fields()
            .iter()
            .position(|field| field.name() == name)
            .unwrap()
    };
    let (nano, usd, model, cost) = (
        at("nano_usd"),
        at("usd"),
        at("model_requested"),
        at("provider_cost_nano_usd"),
    );
    reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| {
            let row = row.unwrap();
            let usd = row.get_column_iter().nth(usd).unwrap().1.clone();
            (
                row.get_long(0).unwrap(),
                row.get_long(nano).unwrap(),
                row.get_string(model).unwrap().clone(),
                row.get_long(cost).ok(),
                usd,
            )
        })
        .collect()
}

#[tokio::test]
async fn parquet_is_read_back_as_it_was_and_appears_when_it_is_whole() {
    // More than a row group.
    let bank = filled(21_000).await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("charges.parquet");
    text(
        &bank,
        &["--format", "parquet", "--out", path.to_str().unwrap()],
    );
    let rows = rows(&path);
    assert_eq!(rows.len(), 21_001);
    let (seq, nano, model, cost, usd) = &rows[1];
    assert_eq!(
        (*seq, *nano, model.as_str(), *cost),
        (2, 9_007_199_254_740_995, "gpt-4o,\"\n'", Some(2))
    );
    let Field::Decimal(usd) = usd else {
        panic!("{usd:?}")
    };
    let digits = usd
        .data()
        .iter()
        .fold(0_i128, |sum, byte| sum * 256 + i128::from(*byte));
    assert_eq!((digits, usd.scale()), (9_007_199_254_740_995, 9));
    assert_eq!(rows[0].3, None);
    assert_eq!(rows[21_000].1, 5);
    let sum: i128 = rows.iter().map(|row| i128::from(row.1)).sum();
    let booked: String = bank
        .one("select sum(amount)::text from turnpike.charge")
        .await;
    assert_eq!(sum.to_string(), booked);
    assert!(
        refused(
            &bank,
            &["--format", "parquet", "--out", path.to_str().unwrap()]
        )
        .contains("is there already")
    );
    let said = refused(
        &bank,
        &[
            "--format",
            "parquet",
            "--out",
            path.to_str().unwrap(),
            "--resume",
        ],
    );
    assert!(said.contains("--resume goes on with lines"), "{said}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing partial is left"
    );
    // An empty one is a file, too.
    let empty = dir.path().join("empty.parquet");
    text(
        &bank,
        &[
            "--format",
            "parquet",
            "--after",
            "99999",
            "--out",
            empty.to_str().unwrap(),
        ],
    );
    assert_eq!(self::rows(&empty).len(), 0);
}

#[tokio::test]
async fn cloudevents_have_what_metering_systems_ask_for() {
    let bank = filled(1).await;
    let events = lines(&text(&bank, &["--format", "cloudevents"]));
    let books: String = bank.one("select id::text from turnpike.identity").await;
    let event = &events[0];
    let id: String = bank
        .one("select id::text from turnpike.charge where account_id = 1")
        .await;
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", &id),
        ("source", &format!("/turnpike/{books}")),
        ("type", "turnpike.charge"),
        ("subject", "alice"),
        ("time", "2026-09-21T14:13:20.001Z"),
        ("datacontenttype", "application/json"),
        ("sequence", "1"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    let data = &event["data"];
    assert_eq!(
        (&data["model"], &data["nano_usd"], &data["usd"]),
        (
            &"gpt-4o-2024".into(),
            &9_007_199_254_740_994_i64.into(),
            &"9007199.254740994".into()
        )
    );
    assert_eq!(
        (
            &data["input_tokens"],
            &data["output_tokens"],
            &data["cr_text"],
            &data["out_reasoning"]
        ),
        (&3.into(), &7.into(), &2.into(), &4.into())
    );
    // No answer named a model: the one that was asked for counts.
    assert_eq!(events[1]["data"]["model"], "text-embedding-3-small");
    let by_token = lines(&text(
        &bank,
        &["--format", "cloudevents", "--subject", "token"],
    ));
    let prefix: String = bank
        .one("select prefix from turnpike.access_token where account_id = 1")
        .await;
    assert_eq!(by_token[0]["subject"], prefix.as_str());
}

#[tokio::test]
async fn what_a_gateway_has_charged_is_exported_at_once() {
    const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let (head, _) = gateway
        .post(
            "/v1/chat/completions",
            &token,
            r#"{"model":"gpt-4o","messages":[]}"#,
        )
        .await;
    let exchange = head.header("x-turnpike-exchange").unwrap().to_owned();
    let charges = lines(&text(&bank, &["--format", "jsonl"]));
    assert_eq!(charges.len(), 1);
    assert_eq!(
        (charges[0]["id"].as_str(), &charges[0]["nano_usd"]),
        (Some(exchange.as_str()), &282_500.into())
    );
    // A reader that has enough is no failure.
    let path = command(&[]).get_program().to_owned();
    let piped = std::process::Command::new("sh")
        .args(["-c", "\"$0\" export --format jsonl | head -c 1 >&2"])
        .arg(path)
        .env("DATABASE_URL", bank.db.url())
        .output()
        .unwrap();
    assert!(
        piped.status.success() && piped.stderr.contains(&b'{'),
        "{piped:?}"
    );
}
