//! The edit that asks a stream for its usage.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::Bytes;
use meter::{Api, RequestScanner, Splice};

fn facts(body: &str) -> meter::RequestFacts {
    let mut scanner = RequestScanner::new(Api::ChatCompletions);
    scanner.push(body.as_bytes()).unwrap();
    scanner.finish().unwrap()
}

fn edited(body: &str) -> String {
    let facts = facts(body);
    let Some(splice) = Splice::include_usage(&facts) else {
        return body.to_owned();
    };
    let mut answers = Vec::new();
    for size in [1, 2, 3, 7, body.len()] {
        let frames = body.as_bytes().chunks(size).map(Bytes::copy_from_slice);
        answers.push(String::from_utf8(splice.apply(0, frames).concat()).unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the edit depends on how the body is cut");
    let edited = answers.remove(0);
    assert_eq!(edited.len() as i64, body.len() as i64 + splice.growth());
    assert_eq!(facts_of(&edited), Some(true));
    edited
}

fn facts_of(body: &str) -> Option<bool> {
    facts(body).include_usage
}

#[test]
fn an_absent_key_goes_in_before_the_closing_brace() {
    assert_eq!(
        edited(r#"{"a":1}"#),
        r#"{"a":1,"stream_options":{"include_usage":true}}"#
    );
    assert_eq!(
        edited("{ \"a\": 1\n}\r\n"),
        "{ \"a\": 1\n,\"stream_options\":{\"include_usage\":true}}\r\n"
    );
    assert_eq!(edited("{}"), r#"{"stream_options":{"include_usage":true}}"#);
    assert_eq!(
        edited(" { } "),
        r#" { "stream_options":{"include_usage":true}} "#
    );
}

#[test]
fn other_options_stay() {
    assert_eq!(
        edited(r#"{"stream_options":null,"a":1}"#),
        r#"{"stream_options":{"include_usage":true},"a":1}"#
    );
    assert_eq!(
        edited(r#"{"stream_options": {} }"#),
        r#"{"stream_options": {"include_usage":true} }"#
    );
    assert_eq!(
        edited(r#"{"stream_options":{ }}"#),
        r#"{"stream_options":{"include_usage":true }}"#
    );
    assert_eq!(
        edited(r#"{"stream_options":{"include_obfuscation":false},"a":1.0}"#),
        r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"a":1.0}"#
    );
    assert_eq!(
        edited(r#"{"stream_options":{"x":{},"include_usage" : false,"y":1e5}}"#),
        r#"{"stream_options":{"x":{},"include_usage" : true,"y":1e5}}"#
    );
    assert_eq!(
        edited(r#"{"stream_options":{"include_usage":null}}"#),
        r#"{"stream_options":{"include_usage":true}}"#
    );
}

#[test]
fn what_asks_already_is_left_alone() {
    assert_eq!(
        Splice::include_usage(&facts(r#"{"stream_options":{"include_usage":true}}"#)),
        None
    );
}

#[test]
fn the_withheld_end_can_be_edited_alone() {
    let body = r#"{"model":"m","stream":true}"#;
    let splice = Splice::include_usage(&facts(body)).unwrap();
    let (gone, held) = body.split_at(20);
    let held = splice
        .apply(20, [Bytes::from_static(held.as_bytes())])
        .concat();
    assert_eq!(
        format!("{gone}{}", String::from_utf8(held).unwrap()),
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#
    );
}
