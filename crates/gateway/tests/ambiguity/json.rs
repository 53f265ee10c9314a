//! JSON that two parsers could read differently.

use super::{Case, Court, FLOWS, JSON, case};

/// Keys that decide what an exchange costs, each with two values that are fine by themselves.
const DECIDING: &[(&str, &str, &str)] = &[
    ("model", r#""gpt-4o-mini""#, r#""gpt-4o""#),
    ("stream", "false", "true"),
    ("n", "1", "128"),
    ("best_of", "1", "20"),
    ("max_tokens", "1", "16000"),
    ("max_completion_tokens", "1", "16000"),
    ("max_output_tokens", "1", "16000"),
    ("service_tier", r#""flex""#, r#""priority""#),
    ("stream_options", "{}", r#"{"include_usage":true}"#),
    ("background", "false", "true"),
];

/// The first letter as an escape, the last, and all of them.
fn escaped(key: &str) -> [String; 3] {
    let escape = |byte: u8| format!("\\u{byte:04x}");
    let all: String = key.bytes().map(escape).collect();
    let bytes = key.as_bytes();
    [
        format!("{}{}", escape(bytes[0]), &key[1..]),
        format!(
            "{}{}",
            &key[..key.len() - 1],
            escape(bytes[bytes.len() - 1])
                .to_uppercase()
                .replace("\\U", "\\u")
        ),
        all,
    ]
}

fn capital(key: &str) -> String {
    format!("{}{}", key[..1].to_uppercase(), &key[1..])
}

/// A body with these members beside what a request needs, which comes first or last.
fn body(key: &str, members: &str, padding: &str) -> [String; 2] {
    let model = if key == "model" {
        ""
    } else {
        r#""model":"gpt-4o","#
    };
    [
        format!(r#"{{{model}"messages":["{padding}"],{members}}}"#),
        format!(r#"{{{members},{model}"messages":["{padding}"]}}"#),
    ]
}

fn doubles(padding: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, first, second) in DECIDING {
        let mut add = |members: String, code| {
            for body in body(key, &members, padding) {
                cases.push(case(JSON, body, code));
            }
        };
        add(
            format!(r#""{key}":{first},"{key}":{second}"#),
            "duplicate_key",
        );
        add(
            format!(r#""{key}":{second},"{key}":{first}"#),
            "duplicate_key",
        );
        add(
            format!(r#""{key}":{first},"{key}":{first}"#),
            "duplicate_key",
        );
        add(
            format!(r#""{key}":null,"x":1,"{key}":{first}"#),
            "duplicate_key",
        );
        for escaped in escaped(key) {
            add(
                format!(r#""{key}":{first},"{escaped}":{second}"#),
                "duplicate_key",
            );
            add(
                format!(r#""{escaped}":{second},"{key}":{first}"#),
                "duplicate_key",
            );
        }
        for lookalike in [key.to_uppercase(), capital(key)] {
            add(
                format!(r#""{key}":{first},"{lookalike}":{second}"#),
                "lookalike_key",
            );
            add(format!(r#""{lookalike}":{second}"#), "lookalike_key");
        }
        // Go folds these two to `s` and `k`.
        for (letter, folded) in [('s', "\u{17f}"), ('k', "\u{212a}")] {
            if key.contains(letter) {
                let lookalike = key.replacen(letter, folded, 1);
                add(
                    format!(r#""{key}":{first},"{lookalike}":{second}"#),
                    "lookalike_key",
                );
            }
        }
    }
    for (inside, code) in [
        (
            r#"{"include_usage":true,"include_usage":false}"#,
            "duplicate_key",
        ),
        (
            r#"{"include_usage":true,"include\u005fusage":false}"#,
            "duplicate_key",
        ),
        (
            r#"{"include_usage":true,"Include_usage":false}"#,
            "lookalike_key",
        ),
    ] {
        for body in body(
            "stream_options",
            &format!(r#""stream_options":{inside}"#),
            padding,
        ) {
            cases.push(case(JSON, body, code));
        }
    }
    cases
}

fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for key in [
        "n",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
    ] {
        for (value, code) in [
            ("1.0", "invalid_type"),
            ("1e3", "invalid_type"),
            ("1E+3", "invalid_type"),
            ("0.1e4", "invalid_type"),
            ("-1", "invalid_type"),
            ("-0", "invalid_type"),
            (r#""1""#, "invalid_type"),
            ("true", "invalid_type"),
            ("[1]", "invalid_type"),
            (r#"{"$numberLong":"1"}"#, "invalid_type"),
            ("18446744073709551617", "integer_too_large"),
            (
                "4294967297000000000000000000000000000001",
                "integer_too_large",
            ),
            ("01", "invalid_json"),
            ("+1", "invalid_json"),
            ("0x10", "invalid_json"),
            ("1_000", "invalid_json"),
            (".5", "invalid_json"),
            ("1.", "invalid_json"),
            ("1e", "invalid_json"),
            ("NaN", "invalid_json"),
            ("Infinity", "invalid_json"),
            ("-Infinity", "invalid_json"),
            ("\u{0661}", "invalid_json"),
        ] {
            cases.push(case(
                JSON,
                format!(r#"{{"model":"gpt-4o","{key}":{value},"messages":[]}}"#),
                code,
            ));
        }
    }
    cases
}

fn syntax() -> Vec<Case> {
    let mut cases = Vec::new();
    for (body, code) in [
        ("\u{feff}{\"model\":\"gpt-4o\"}", "byte_order_mark"),
        (r#"{"model":"gpt-4o",}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","messages":[1,]}"#, "invalid_json"),
        (r#"{"model":"gpt-4o"/*,"model":"x"*/}"#, "invalid_json"),
        ("{\"model\":\"gpt-4o\"// x\n}", "invalid_json"),
        ("{\"model\":\"gpt-4o\"# x\n}", "invalid_json"),
        (r#"{'model':'gpt-4o'}"#, "invalid_json"),
        (r#"{model:"gpt-4o"}"#, "invalid_json"),
        (r#"{"model":"gpt-4o" "n":2}"#, "invalid_json"),
        (r#"{"model":"gpt-4o";"n":2}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","stream":True}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","x":undefined}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","x":"\x41"}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","x":"\u{41}"}"#, "invalid_json"),
        (r#"{"model":"gpt-4o","x":"\'"}"#, "invalid_json"),
        (
            "{\"model\":\"gpt-4o\",\"x\":\"a\nb\"}",
            "invalid_json_control_character",
        ),
        (
            "{\"model\":\"gpt-4o\",\"x\":\"a\0b\"}",
            "invalid_json_control_character",
        ),
        ("{\"model\":\"gpt-4o\"\u{a0}}", "invalid_json"),
        ("{\"model\":\"gpt-4o\"\x0b}", "invalid_json"),
        ("{\"model\":\"gpt-4o\"\0}", "invalid_json"),
        ("{\"model\":\"gpt-4o\"}\0", "trailing_bytes"),
        (
            r#"{"model":"gpt-4o"}{"model":"gpt-4o-mini"}"#,
            "trailing_bytes",
        ),
        (
            "{\"model\":\"gpt-4o\"}\n{\"model\":\"gpt-4o-mini\"}",
            "trailing_bytes",
        ),
        (r#"{"model":"gpt-4o"},"#, "trailing_bytes"),
        (r#"{"model":"gpt-4o"}}"#, "trailing_bytes"),
        ("\u{1e}{\"model\":\"gpt-4o\"}", "invalid_json"),
        (")]}'\n{\"model\":\"gpt-4o\"}", "invalid_json"),
        (r#"[{"model":"gpt-4o"}]"#, "not_an_object"),
        (r#""{\"model\":\"gpt-4o\"}""#, "not_an_object"),
        ("null", "not_an_object"),
        ("model=gpt-4o", "invalid_json"),
        ("", "empty_body"),
        (" \r\n", "empty_body"),
        (r#"{"model":"gpt-4o","messages":["#, "incomplete_json"),
        (r#"{"model":"gpt-4o"#, "incomplete_json"),
        (r#"{"messages":[]}"#, "missing_model"),
        (r#"{"model":null,"messages":[]}"#, "missing_model"),
        (r#"{"model":["gpt-4o"]}"#, "invalid_type"),
        (r#"{"model":{"id":"gpt-4o"}}"#, "invalid_type"),
        (r#"{"model":4}"#, "invalid_type"),
        (r#"{"model":""}"#, "empty_string"),
        (r#"{"model":"gpt-4o","stream":"true"}"#, "invalid_type"),
        (r#"{"model":"gpt-4o","stream":1}"#, "invalid_type"),
        (r#"{"model":"gpt-4o","stream_options":[]}"#, "invalid_type"),
        (
            r#"{"model":"gpt-4o","service_tier":["flex"]}"#,
            "invalid_type",
        ),
        (
            r#"{"model":"gpt-4o","background":true}"#,
            "unsupported_parameter",
        ),
        (
            r#"{"model":"gpt-4o","models":["gpt-4o-mini"]}"#,
            "unsupported_parameter",
        ),
        (
            r#"{"model":"gpt-4o","Models":["gpt-4o-mini"]}"#,
            "unsupported_parameter",
        ),
        (
            r#"{"model":"gpt-4o","route":"fallback"}"#,
            "unsupported_parameter",
        ),
        (r#"{"model":"gpt-4o\ud800"}"#, "lone_surrogate"),
        (r#"{"model":"\udc00\ud800"}"#, "lone_surrogate"),
    ] {
        cases.push(case(JSON, body, code));
    }
    for bytes in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xc1\xa2",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xe2\x82",
    ] {
        for (before, after) in [
            (&b"{\"model\":\"gpt-4o\",\"x\":\""[..], &b"\"}"[..]),
            (b"{\"model\":\"gpt-4o", b"\"}"),
            (b"{\"model\":\"gpt-4o\",\"", b"\":1}"),
        ] {
            cases.push(case(JSON, [before, bytes, after].concat(), "invalid_utf8"));
        }
    }
    // UTF-16 with and without its mark, and UTF-32.
    let wide: Vec<u8> = r#"{"model":"gpt-4o"}"#.bytes().flat_map(|byte| [byte, 0]).collect();
    cases.push(case(JSON, wide.clone(), "invalid_json"));
    cases.push(case(
        JSON,
        [&[0xff, 0xfe], &wide[..]].concat(),
        "invalid_json",
    ));
    for open in ["[", "{\"a\":"] {
        let body = format!(r#"{{"model":"gpt-4o","x":{}"#, open.repeat(100_000));
        cases.push(case(JSON, body, "json_too_deep"));
    }
    cases
}

async fn refuse(group: &str, cases: Vec<Case>) {
    let mut court = Court::open("").await;
    for case in &cases {
        court.refuses("/v1/chat/completions", case).await;
    }
    court.close(group, cases.len()).await;
}

#[tokio::test]
async fn keys_that_decide_the_cost_stand_there_once() {
    refuse("doubled keys", doubles("")).await;
}

#[tokio::test]
async fn keys_doubled_in_a_body_that_flows_are_found_before_its_last_byte() {
    let mut cases = doubles(&"x".repeat(FLOWS));
    // The ends of each key's list: the classes are those of the short bodies.
    let mut at = 0;
    cases.retain(|_| {
        at += 1;
        at % 7 == 0
    });
    refuse("doubled keys, flowing", cases).await;
}

#[tokio::test]
async fn numbers_have_one_form() {
    refuse("numbers", numbers()).await;
}

#[tokio::test]
async fn what_is_no_json_by_rfc_8259_is_refused() {
    refuse("syntax", syntax()).await;
}
