//! Reading exports, the real forms and the broken ones, and comparing them.

use std::path::Path;

use ledger::{UpstreamKeyId, admin::ChargedRow};
use tariff::Amount;

use super::{
    compare::{self, Cell, Comparison, How, Row},
    export::{self, Export},
    figures::{Figure, to_nano},
    print, up_to,
};
use crate::{
    cli::{KeyOf, Percent},
    fatal::Code,
};

const USAGE: &str = include_str!("../../../testdata/reconcile/usage.json");
const USAGE_PAGES: &str = include_str!("../../../testdata/reconcile/usage_pages.json");
const USAGE_LINES: &str = include_str!("../../../testdata/reconcile/usage_lines.jsonl");
const EMBEDDINGS: &str = include_str!("../../../testdata/reconcile/embeddings.json");
const COSTS: &str = include_str!("../../../testdata/reconcile/costs.json");
const DASHBOARD_USAGE: &str = include_str!("../../../testdata/reconcile/dashboard_usage.csv");
const DASHBOARD_COSTS: &str = include_str!("../../../testdata/reconcile/dashboard_costs.csv");
const GENERAL: &str = include_str!("../../../testdata/reconcile/general.csv");

fn read(text: &str) -> Export {
    export::read(text.as_bytes(), Path::new("export")).unwrap_or_else(|fatal| panic!("{fatal}"))
}

/// A record in one line: day, key, model, requests, input, cached, output, nano-USD.
fn lines(export: &Export) -> Vec<String> {
    let records = export.records.iter().map(|record| {
        let figures = Figure::ALL.map(|figure| {
            let value = record.figures.get(figure);
            let value = value.map(|value| match figure {
                Figure::Usd => to_nano(value),
                _ => value,
            });
            value.map_or_else(|| "-".to_owned(), |value| value.to_string())
        });
        format!(
            "{} {} {} {}",
            record.day,
            record.key.as_deref().unwrap_or("-"),
            record.model.as_deref().unwrap_or("-"),
            figures.join(" ")
        )
    });
    records.collect()
}

fn days(export: &Export) -> i64 {
    export.span.map_or(0, |(from, to)| (to - from) / 86_400)
}

const USAGE_RECORDS: [&str; 4] = [
    "2026-11-20 key_one gpt-4o-2024-08-06 3 3000 1024 300 -",
    "2026-11-20 key_one gpt-4o-mini-2024-07-18 2 200 0 20 -",
    "2026-11-21 key_two gpt-4o-2024-08-06 1 500 0 50 -",
    "2026-11-21 key_other gpt-4o-2024-08-06 7 7 0 7 -",
];

#[test]
fn usage_is_read_from_a_page_an_array_of_pages_and_pages_line_by_line() {
    let page = read(USAGE);
    assert_eq!(
        (lines(&page), days(&page)),
        (USAGE_RECORDS.map(String::from).into(), 2)
    );
    assert_eq!(page.notes.len(), 1, "{:?}", page.notes);
    assert!(page.notes[0].contains("has_more"), "{:?}", page.notes);
    for text in [USAGE_PAGES, USAGE_LINES] {
        let pages = read(text);
        assert_eq!(
            (lines(&pages), days(&pages)),
            (USAGE_RECORDS.map(String::from).into(), 3)
        );
        assert!(pages.notes.is_empty(), "{:?}", pages.notes);
    }
}

#[test]
fn a_bucket_that_stands_alone_is_read() {
    let bucket = r#"{"object":"bucket","start_time":1795132800,"end_time":1795136400,"results":[{"num_model_requests":1,"model":null}]}"#;
    assert_eq!(lines(&read(bucket)), ["2026-11-20 - - 1 - - - -"]);
}

#[test]
fn an_export_is_about_the_endpoints_it_counts() {
    let about = |text: &str| {
        read(text)
            .endpoints
            .map(|endpoints| Vec::from_iter(endpoints).join(" "))
    };
    assert_eq!(
        about(USAGE).as_deref(),
        Some("chat/completions completions responses")
    );
    assert_eq!(about(EMBEDDINGS).as_deref(), Some("embeddings"));
    let both = format!("{USAGE}{EMBEDDINGS}");
    assert_eq!(
        about(&both).as_deref(),
        Some("chat/completions completions embeddings responses")
    );
    for whole in [COSTS, GENERAL, DASHBOARD_USAGE] {
        assert_eq!(about(whole), None);
    }
    assert_eq!(
        lines(&read(EMBEDDINGS)),
        ["2026-11-20 - text-embedding-3-small 2 16 - - -"]
    );
}

#[test]
fn costs_are_read_to_the_nano_usd_and_fold_into_models() {
    let export = read(COSTS);
    assert_eq!(
        lines(&export),
        [
            "2026-11-20 - gpt-4o-2024-08-06 - - - - 4940000",
            "2026-11-20 - gpt-4o-2024-08-06 - - - - 1280000",
            "2026-11-20 - gpt-4o-2024-08-06 - - - - 3000000",
            "2026-11-20 - gpt-4o-mini-2024-07-18 - - - - 42000",
            "2026-11-20 - web search tool calls - - - - 10000000",
        ]
    );
    assert_eq!(
        (days(&export), export.notes.len()),
        (2, 0),
        "an empty day is one, too"
    );
}

#[test]
fn the_dashboard_s_tables_are_read() {
    let usage = read(DASHBOARD_USAGE);
    assert_eq!(
        lines(&usage),
        [
            "2026-11-20 key_one gpt-4o-2024-08-06 3 3000 1024 300 -",
            "2026-11-21 key_two gpt-4o-2024-08-06 1 500 0 50 -",
        ]
    );
    assert_eq!((days(&usage), usage.tells_empty_spans), (3, true));
    assert_eq!(usage.records[0].project.as_deref(), Some("proj_gateway"));
    let costs = read(DASHBOARD_COSTS);
    assert_eq!(
        lines(&costs),
        [
            "2026-11-20 - gpt-4o-2024-08-06 - - - - 4940000",
            "2026-11-20 - gpt-4o-2024-08-06 - - - - 3000000",
        ]
    );
    assert_eq!((days(&costs), costs.tells_empty_spans), (2, true));
}

#[test]
fn the_general_form_takes_columns_in_any_order() {
    let records = [
        "2026-11-20 key_one gpt-4o-2024-08-06 3 3000 1024 300 9220000",
        "2026-11-21 key_two gpt-4o-2024-08-06 1 500 - 50 1750000",
    ];
    let export = read(GENERAL);
    assert_eq!(
        (lines(&export), days(&export)),
        (records.map(String::from).into(), 2)
    );
    assert!(!export.tells_empty_spans);
    // With other separators, a byte order mark, CRLF, and times instead of days.
    for text in [
        GENERAL.replace(';', "\t"),
        GENERAL.replace(';', ","),
        format!("\u{feff}{}", GENERAL.replace('\n', "\r\n")),
        GENERAL
            .replace("2026-11-20", "2026-11-20T23:59:59Z")
            .replace("2026-11-21", "2026-11-21 00:00:00"),
        GENERAL
            .replace("2026-11-20", "2026-11-21T00:59:59+01:00")
            .replace("2026-11-21;", "1795219200;"),
        GENERAL
            .replace("2026-11-20", "1795132800999")
            .replace("2026-11-21", "1795219200.0"),
        GENERAL
            .replace("Output tokens", "completion_tokens")
            .replace("USD", "cost_usd")
            .replace("Key", "API key ID"),
    ] {
        assert_eq!(lines(&read(&text)), records, "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_field() {
    let good = COSTS;
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), &["export: is empty"]),
        (" \n".into(), &["is empty"]),
        (
            "%PDF-1.7 nonsense".into(),
            &["the header (%PDF-1.7 nonsense) has no column for the day"],
        ),
        (
            good.replace("0.00494", "\"much\""),
            &[
                "data[0].results[0].amount.value: ",
                "\"much\" is no amount of USD",
                "line 9 column",
            ],
        ),
        (
            good.replace("3e-3", "1e30"),
            &["data[0].results[2].amount.value", "line 11"],
        ),
        (
            good.replacen("\"usd\"", "\"eur\"", 1),
            &[
                "data[0].results[0].amount.currency: eur is not compared",
                "line 9",
            ],
        ),
        (
            USAGE.replace("3000", "-3000"),
            &[
                "data[0].results[0].input_tokens: -3000 is no count",
                "line 11",
            ],
        ),
        (
            USAGE.replacen("\"start_time\"", "\"start\"", 1),
            &["missing field `start_time`"],
        ),
        (
            USAGE.replacen("1795132800", "\"x\"", 1),
            &["data[0].start_time", "line 6"],
        ),
        (
            USAGE.replacen("1795219200", "1795222800", 1),
            &[
                "the bucket with start_time 1795132800 reaches from 2026-11-20 into another day (UTC)",
            ],
        ),
        (
            USAGE.replacen("1795219200", "1795132800", 1),
            &["ends before it starts"],
        ),
        (
            USAGE.replacen(
                "\"end_time\": 1795219200",
                "\"end_time\": 9223372036854775807",
                1,
            ),
            &["is no time"],
        ),
        (USAGE[..400].into(), &["EOF", "line"]),
        (
            r#"{"error":{"message":"no"}}"#.into(),
            &["is an error of the provider's"],
        ),
        (
            r#"{"object":"list"}"#.into(),
            &["is no page of usage or costs"],
        ),
        (r#"{"data":[]}"#.into(), &["says nothing of any day"]),
        ("[1]".into(), &["invalid type: integer `1`"]),
        (
            "day,model\n2026-11-20,x\n".into(),
            &["has none of requests, input_tokens"],
        ),
        (
            "usd,model\n1,x\n".into(),
            &["has no column for the day: day, date or start_time"],
        ),
        (
            "day,usd,USD\n2026-11-20,1,1\n".into(),
            &["the header names usd twice"],
        ),
        (
            "day,usd\n2026-11-20,1\n2026-11-21,1.2.3\n".into(),
            &["line 3: usd: \"1.2.3\" is no amount"],
        ),
        (
            "day,requests\n2026-11-20,1.5\n".into(),
            &["line 2: requests: \"1.5\" is no count"],
        ),
        (
            "day,usd\nyesterday,1\n".into(),
            &["line 2: day: \"yesterday\" is neither a day nor a time"],
        ),
        ("day,usd\n,1\n".into(), &["line 2: the day is missing"]),
        ("day,usd\n2026-11-20,1,2\n".into(), &["line: 2"]),
        (
            "day,usd,currency\n2026-11-20,1,EUR\n".into(),
            &["line 2: currency: EUR is not compared"],
        ),
        ("day,usd\n".into(), &["says nothing of any day"]),
        (
            "start_time,end_time,usd\n2026-11-20,2026-11-22,1\n".into(),
            &["line 2: the row reaches from 2026-11-20 into another day"],
        ),
    ];
    for (text, words) in cases {
        let fatal = export::read(text.as_bytes(), Path::new("export"))
            .map(|_| ())
            .expect_err(&text);
        let said = fatal.to_string();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    }
    let fatal = export::read(b"day,usd\n\xff", Path::new("x"))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(fatal.to_string(), "x: is not UTF-8 text");
    assert_eq!(
        fatal.exit_code(),
        std::process::ExitCode::from(Code::Data as u8)
    );
}

#[test]
fn results_without_figures_are_left_out_and_told() {
    let text = r#"{"data":[{"start_time":1795132800,"end_time":1795219200,"results":[{"object":"organization.usage.vector_stores.result","usage_bytes":10}]}]}"#;
    let export = read(text);
    assert!(export.records.is_empty());
    assert!(
        export.notes[0].contains("1 results of organization.usage.vector_stores.result"),
        "{:?}",
        export.notes
    );
}

#[test]
fn a_file_past_the_limit_is_refused() {
    assert_eq!(up_to(3, &b"123"[..]).unwrap(), b"123");
    let error = up_to(2, &b"123"[..]).unwrap_err();
    assert!(error.to_string().contains("more than 2 bytes"), "{error}");
}

fn ours(day: &str, key: i64, model: &str, exchanges: i64, nano: i64) -> ChargedRow {
    ChargedRow {
        day: day.into(),
        upstream: Some("openai".into()),
        key: Some(UpstreamKeyId(key)),
        model: model.into(),
        exchanges,
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
        amount: Amount::from_nano(nano),
        estimates: 1,
    }
}

fn compared(
    text: &str,
    charged: &[ChargedRow],
    keys: &[&str],
    tolerance: &str,
    ignore_dates: bool,
) -> Comparison {
    let keys: Vec<KeyOf> = keys.iter().map(|key| key.parse().unwrap()).collect();
    compare::compare(
        &read(text),
        charged,
        &How {
            keys: &keys,
            tolerance: tolerance.parse::<Percent>().unwrap(),
            ignore_dates,
        },
    )
}

/// Rows in one line each: day, key, model, then ours/theirs of what the export tells, `!` where they differ.
fn told(comparison: &Comparison) -> Vec<String> {
    let cell = |cell: &Cell| {
        cell.theirs.map(|theirs| {
            format!(
                " {}/{theirs}{}",
                cell.ours,
                if cell.differs { "!" } else { "" }
            )
        })
    };
    let line = |row: &Row| {
        let cells: String = row.cells.iter().filter_map(cell).collect();
        format!("{} {} {}{cells}", row.day, row.key, row.model)
    };
    comparison.rows.iter().map(line).collect()
}

const TWO_KEYS: &str = "day,model,key,requests,usd\n2026-11-20,m,key_a,1,0.1\n2026-11-20,m,key_b,2,0.2\n2026-11-20,m,key_c,3,0.3\n2026-11-20,m,,4,0.4\n";

#[test]
fn keys_that_are_not_mapped_are_compared_in_sum() {
    let charged = [
        ours("2026-11-20", 1, "m", 4, 400_000_000),
        ours("2026-11-20", 2, "m", 6, 600_000_000),
    ];
    assert_eq!(
        told(&compared(TWO_KEYS, &charged, &[], "0", false)),
        ["2026-11-20 * m 10/10 1000000000/1000000000"]
    );
}

#[test]
fn mapped_keys_are_compared_each_and_the_others_in_sum() {
    let charged = [
        ours("2026-11-20", 1, "m", 1, 100_000_000),
        ours("2026-11-20", 2, "m", 3, 300_000_000),
        ours("2026-11-20", 3, "m", 6, 600_000_000),
    ];
    assert_eq!(
        told(&compared(
            TWO_KEYS,
            &charged,
            &["key_a=1", "key_b=2"],
            "0",
            false
        )),
        [
            "2026-11-20 * m 6/7! 600000000/700000000!",
            "2026-11-20 key_a m 1/1 100000000/100000000",
            "2026-11-20 key_b m 3/2! 300000000/200000000!",
        ]
    );
    // A key of theirs that had two ids here, and one of ours that had two secrets: one group each, whatever the order.
    assert_eq!(
        told(&compared(
            TWO_KEYS,
            &charged,
            &["key_a=1", "key_b=2", "key_a=2"],
            "0",
            false
        )),
        [
            "2026-11-20 * m 6/7! 600000000/700000000!",
            "2026-11-20 key_a+key_b m 4/3! 400000000/300000000!",
        ]
    );
    // A whole upstream; a key that is named itself is not counted again.
    assert_eq!(
        told(&compared(
            TWO_KEYS,
            &charged,
            &["key_a=1", "key_b=openai"],
            "0",
            false
        )),
        [
            "2026-11-20 * m 0/7! 0/700000000!",
            "2026-11-20 key_a m 1/1 100000000/100000000",
            "2026-11-20 key_b m 9/2! 900000000/200000000!",
        ]
    );
}

#[test]
fn a_difference_within_the_tolerance_is_none() {
    let text = "day,model,usd\n2026-11-20,m,1\n";
    let differs = |nano, tolerance| {
        compared(
            text,
            &[ours("2026-11-20", 1, "m", 1, nano)],
            &[],
            tolerance,
            false,
        )
        .rows[0]
            .differs()
    };
    assert!(!differs(1_000_000_000, "0"));
    assert!(differs(1_000_000_001, "0"));
    assert!(!differs(1_010_000_000, "1"));
    assert!(!differs(990_000_000, "1"));
    assert!(differs(1_010_000_001, "1"));
    assert!(differs(989_999_999, "1%"));
    // Where they have nothing there is nothing to be a part of.
    let none = compared(
        "day,model,usd\n2026-11-20,m,0\n",
        &[ours("2026-11-20", 1, "m", 1, 1)],
        &[],
        "50",
        false,
    );
    assert!(none.rows[0].differs());
}

#[test]
fn names_that_differ_by_their_date_alone_are_explained() {
    let text = "day,model,requests\n2026-11-20,gpt-4o-2024-08-06,2\n2026-11-21,o3,1\n";
    let charged = [
        ours("2026-11-20", 1, "gpt-4o", 2, 1),
        ours("2026-11-21", 1, "o3", 1, 1),
    ];
    let apart = compared(text, &charged, &[], "0", false);
    assert_eq!(
        told(&apart),
        [
            "2026-11-20 * gpt-4o 2/0!",
            "2026-11-20 * gpt-4o-2024-08-06 0/2!",
            "2026-11-21 * o3 1/1",
        ]
    );
    assert!(
        apart.notes[0]
            .starts_with("our gpt-4o and their gpt-4o-2024-08-06 differ only by the date"),
        "{:?}",
        apart.notes
    );
    assert!(
        apart.notes[1].starts_with("1 of the charges in rows that differ are estimates"),
        "{:?}",
        apart.notes
    );
    let as_one = compared(text, &charged, &[], "0", true);
    assert_eq!(
        told(&as_one),
        ["2026-11-20 * gpt-4o 2/2", "2026-11-21 * o3 1/1"]
    );
    assert!(as_one.notes.is_empty(), "{:?}", as_one.notes);
}

#[test]
fn an_export_without_models_is_compared_over_all_of_them() {
    let text = "day,usd\n2026-11-20,3\n";
    let charged = [
        ours("2026-11-20", 1, "a", 1, 1_000_000_000),
        ours("2026-11-20", 1, "b", 1, 2_000_000_000),
    ];
    assert_eq!(
        told(&compared(text, &charged, &[], "0", false)),
        ["2026-11-20 * * 3000000000/3000000000"]
    );
    // One that names some keeps the rest apart.
    let text = "day,model,requests\n2026-11-20,a,1\n2026-11-20,,1\n";
    assert_eq!(
        told(&compared(text, &charged[..1], &[], "0", false)),
        ["2026-11-20 * - 0/1!", "2026-11-20 * a 1/1"]
    );
}

#[test]
fn days_are_those_of_the_export_within_those_asked_for() {
    let day = |text: &str| Some(text.parse().unwrap());
    let span = |text: &str, since, until| {
        compare::span(&read(text), since, until).map(|(from, to)| {
            (
                (from - 1_795_132_800) / 86_400,
                (to - 1_795_132_800) / 86_400,
            )
        })
    };
    assert_eq!(span(USAGE, None, None), Some((0, 2)));
    assert_eq!(span(USAGE, day("2026-11-21"), None), Some((1, 2)));
    assert_eq!(span(USAGE, None, day("2026-11-20")), Some((0, 1)));
    // It says nothing of the days around it ...
    assert_eq!(
        span(USAGE, day("2026-11-01"), day("2026-11-30")),
        Some((0, 2))
    );
    assert_eq!(span(USAGE, day("2026-12-01"), None), None);
    // ... where a table of days just has no row for a day without use.
    assert_eq!(
        span(GENERAL, day("2026-11-19"), day("2026-11-22")),
        Some((-1, 3))
    );
}

#[test]
fn a_comparison_is_printed_three_ways() {
    let text = "day,model,requests,usd\n2026-11-20,\"a, b\",2,0.5\n2026-11-20,c,1,0.25\n";
    let charged = [
        ours("2026-11-20", 1, "a, b", 3, 625_000_000),
        ours("2026-11-20", 1, "c", 1, 250_000_000),
    ];
    let comparison = compared(text, &charged, &[], "0", false);
    assert_eq!(
        print::table(&comparison, false),
        "\
day         key  model  figure     ours  theirs  difference      %
2026-11-20  *    a, b   requests      3       2           1  50.00
2026-11-20  *    a, b   usd       0.625    0.50       0.125  25.00
total                   requests      4       3           1  33.33
total                   usd       0.875    0.75       0.125  16.66
"
    );
    assert_eq!(print::table(&comparison, true).lines().count(), 7);
    assert_eq!(
        print::summary(&comparison),
        "1 of 2 rows of day, key and model differ; ours 4 requests, theirs 3; ours 0.875 USD, theirs 0.75"
    );
    let csv = print::csv(&comparison, true);
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with(
        "day,key,model,requests_ours,requests_theirs,requests_difference,input_tokens_ours"
    ));
    assert_eq!(
        lines.next(),
        Some("2026-11-20,*,\"a, b\",3,2,1,0,,,0,,,0,,,0.625,0.50,0.125")
    );
    assert_eq!(lines.count(), 1);
    let json = print::json(&comparison, ("a".into(), "b".into()), false, &["n".into()]);
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        json["rows"][0]["figures"]["usd"],
        serde_json::json!({"ours": "0.625", "theirs": "0.50", "difference": "0.125", "differs": true})
    );
    assert_eq!(
        json["rows"][0]["figures"]["input_tokens"]["theirs"],
        serde_json::Value::Null
    );
    assert_eq!(
        (
            &json["rows_compared"],
            &json["rows_differing"],
            &json["notes"][0]
        ),
        (&2.into(), &1.into(), &"n".into())
    );
}
