//! Every recorded answer in `testdata/` is read as its sidecar expects, however it is cut or coded.

use std::{collections::BTreeMap, fs, path::PathBuf};

use meter::{AnswerMeter, Api, Reading};
use proptest::{prelude::*, test_runner::TestRunner};
use serde::Deserialize;
use serde_json::Value;

use super::{encode, show};

#[derive(Deserialize)]
struct Meta {
    file: String,
    endpoint: String,
    status: u16,
    content_encoding_of_file: String,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    billable: Option<bool>,
    model: Option<String>,
    usage_raw: Option<Value>,
    normalised: BTreeMap<String, u64>,
    flags: Vec<String>,
    service_tier: Option<String>,
    response_id: Option<String>,
    provider_cost_nano_usd: Option<i64>,
}

type Encode = fn(&[u8]) -> Vec<u8>;

struct Recorded {
    meta: Meta,
    api: Api,
    body: Vec<u8>,
}

fn recorded() -> Vec<Recorded> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".meta.json") {
            continue;
        }
        let meta: Meta = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let endpoint = meta.endpoint.split('?').next().unwrap();
        let api = match endpoint {
            path if path.ends_with("/chat/completions") => Api::ChatCompletions,
            path if path.ends_with("/completions") => Api::Completions,
            path if path.ends_with("/embeddings") => Api::Embeddings,
            path if path.contains("/responses") => Api::Responses,
            path => panic!("{path}: no such endpoint here"),
        };
        let mut body = fs::read(folder.join(&meta.file)).unwrap();
        if meta.file.ends_with(".payloads.jsonl") {
            let text = String::from_utf8(body).unwrap();
            body = text
                .lines()
                .map(|line| format!("data: {line}\n\n"))
                .collect::<String>()
                .into_bytes();
        }
        all.push(Recorded { meta, api, body });
    }
    assert!(
        all.len() >= 26,
        "recorded answers are missing: {}",
        all.len()
    );
    all.sort_by(|a, b| a.meta.file.cmp(&b.meta.file));
    all
}

impl Recorded {
    fn meter(&self, coding: Option<&str>) -> AnswerMeter {
        AnswerMeter::new(self.api, self.meta.status, None, coding)
    }

    fn coding(&self) -> Option<&str> {
        Some(self.meta.content_encoding_of_file.as_str())
    }

    #[track_caller]
    fn check(&self, reading: &Reading, how: &str) {
        let Meta { file, expected, .. } = &self.meta;
        let what = format!("{file}, {how}");
        assert_eq!(reading.model, expected.model, "{what}");
        let raw = reading
            .usage_raw
            .as_ref()
            .map(|raw| serde_json::from_str::<Value>(raw).unwrap());
        assert_eq!(raw, expected.usage_raw, "{what}");
        assert_eq!(
            reading.usage.is_some(),
            expected.billable == Some(true),
            "{what}"
        );
        if let Some(usage) = &reading.usage {
            let buckets: BTreeMap<String, u64> =
                serde_json::from_value(serde_json::to_value(usage.total()).unwrap()).unwrap();
            let buckets: BTreeMap<String, u64> = buckets
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect();
            assert_eq!(buckets, expected.normalised, "{what}");
            if let Some(total) = raw.as_ref().and_then(|raw| raw["total_tokens"].as_u64()) {
                assert_eq!(usage.total().total(), total, "{what}");
            }
            assert_eq!(
                usage.flags.bits() != 0,
                !expected.flags.is_empty(),
                "{what}: {:?}",
                usage.flags
            );
            if expected.service_tier.is_some() {
                assert_eq!(usage.service_tier, expected.service_tier, "{what}");
            }
            if let Some(cost) = expected.provider_cost_nano_usd {
                assert_eq!(
                    usage.provider_cost,
                    Some(tariff::Amount::from_nano(cost)),
                    "{what}"
                );
            }
        }
        if expected.response_id.is_some() {
            assert_eq!(reading.response_id, expected.response_id, "{what}");
        }
        let is_error =
            expected.flags.iter().any(|flag| flag == "error") || file.contains("error-then-failed");
        assert_eq!(reading.is_error, is_error, "{what}");
        assert!(!reading.lost, "{what}");
    }
}

#[test]
fn recorded_answers_are_read_whole_and_byte_by_byte() {
    for recorded in recorded() {
        let whole = show(recorded.meter(recorded.coding()), [&recorded.body[..]]);
        recorded.check(&whole.reading, "whole");
        let single = show(recorded.meter(recorded.coding()), recorded.body.chunks(1));
        assert_eq!(single.reading, whole.reading, "{}", recorded.meta.file);
        assert_eq!(
            single.tail.is_some(),
            whole.tail.is_some(),
            "{}",
            recorded.meta.file
        );
    }
}

#[test]
fn recorded_answers_are_read_at_random_splits() {
    for recorded in recorded() {
        let len = recorded.body.len();
        let splits = proptest::collection::vec(0..=len, 0..20);
        TestRunner::new(ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        })
        .run(&splits, |mut splits| {
            splits.extend([0, len]);
            splits.sort_unstable();
            let pieces = splits
                .windows(2)
                .map(|pair| &recorded.body[pair[0]..pair[1]]);
            recorded.check(
                &show(recorded.meter(recorded.coding()), pieces).reading,
                "split",
            );
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn recorded_answers_are_read_in_every_coding() {
    let codings: [(&str, &str, Encode); 6] = [
        ("gzip", "gzip", encode::gzip),
        ("members", "gzip", encode::gzip_members),
        ("zlib", "deflate", encode::zlib),
        ("raw", "deflate", encode::raw_deflate),
        ("brotli", "br", encode::brotli),
        ("zstd", "zstd", encode::zstd),
    ];
    for recorded in recorded() {
        if recorded.meta.content_encoding_of_file != "identity" {
            continue;
        }
        let plain = show(recorded.meter(None), [&recorded.body[..]]);
        for (name, coding, encode) in codings {
            let body = encode(&recorded.body);
            for size in [1, 100, body.len()] {
                let shown = show(recorded.meter(Some(coding)), body.chunks(size));
                recorded.check(&shown.reading, name);
                assert_eq!(
                    shown.reading, plain.reading,
                    "{} in {name}",
                    recorded.meta.file
                );
                assert_eq!(shown.tail.is_some(), plain.tail.is_some());
            }
        }
    }
}

#[test]
fn no_client_completes_a_recorded_stream_without_its_tail() {
    for recorded in recorded() {
        for size in [1, 3, 17, 200, recorded.body.len()] {
            let shown = show(
                recorded.meter(recorded.coding()),
                recorded.body.chunks(size),
            );
            let Some(tail) = shown.tail else { continue };
            // What went out before the tail does not hold the terminal event.
            let before = show(recorded.meter(recorded.coding()), [&recorded.body[..tail]]);
            assert!(
                !before.reading.complete,
                "{} in pieces of {size}",
                recorded.meta.file
            );
            assert!(tail <= shown.shown);
        }
    }
}
