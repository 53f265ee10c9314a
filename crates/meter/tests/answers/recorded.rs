//! Every recorded answer in `testdata/` is read as its sidecar expects, however it is cut or coded.

use std::{collections::BTreeMap, fs, path::PathBuf};

use meter::{AnswerMeter, Api, Reading};
use proptest::{prelude::*, test_runner::TestRunner};
use serde::Deserialize;
use serde_json::Value;
use tariff::{Buckets, Tool};

use super::{encode, show};

#[derive(Deserialize)]
struct Meta {
    file: String,
    endpoint: String,
    status: u16,
    content_encoding_of_file: String,
    response_headers: BTreeMap<String, Value>,
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
    /// Calls of paid tools, by names that differ from provider to provider.
    #[serde(default)]
    tool_calls: BTreeMap<String, u64>,
    /// Where several models answered, or one in several passes: these are charged, not the top level.
    #[serde(default)]
    lines: Vec<ExpectedLine>,
    audio_in_ms: Option<u64>,
    images: Option<u64>,
}

#[derive(Deserialize)]
struct ExpectedLine {
    model: String,
    normalised: BTreeMap<String, u64>,
}

/// The endpoint's family, by the suffix of its path.
fn family(path: &str) -> Api {
    const SUFFIXES: [(&str, Api); 14] = [
        ("/chat/completions", Api::ChatCompletions),
        ("/completions", Api::Completions),
        ("/embeddings", Api::Embeddings),
        ("/messages", Api::Messages),
        ("/images/generations", Api::Images),
        ("/images/edits", Api::Images),
        ("/images/variations", Api::Images),
        ("/audio/speech", Api::Speech),
        ("/audio/transcriptions", Api::Transcriptions),
        ("/audio/translations", Api::Transcriptions),
        ("/rerank", Api::Rerank),
        ("/api/chat", Api::Generate),
        ("/api/generate", Api::Generate),
        ("/completion", Api::Generate),
    ];
    const PARTS: [(&str, Api); 5] = [
        ("/responses", Api::Responses),
        ("/batches", Api::Batches),
        ("/runs", Api::Runs),
        // Read as nothing by every family: they have no usage.
        ("/moderations", Api::Embeddings),
        ("/messages", Api::Messages),
    ];
    let found = SUFFIXES.iter().find(|(suffix, _)| path.ends_with(suffix));
    found
        .or_else(|| PARTS.iter().find(|(part, _)| path.contains(part)))
        .unwrap_or_else(|| panic!("{path}: no such endpoint here"))
        .1
}

/// The buckets that hold something, by name.
fn counts(buckets: Buckets) -> BTreeMap<String, u64> {
    let all: BTreeMap<String, u64> =
        serde_json::from_value(serde_json::to_value(buckets).unwrap()).unwrap();
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The tool that a sidecar names, by one of its names.
fn tool(name: &str) -> Tool {
    match name {
        "web_search" | "web_search_requests" | "web_search_calls" => Tool::WebSearch,
        "web_search_preview" => Tool::WebSearchPreview,
        "x_search" | "x_search_calls" => Tool::XSearch,
        "file_search" | "file_search_calls" => Tool::FileSearch,
        "code_interpreter_containers" | "code_interpreter_calls" => Tool::Container,
        "web_search_low" => Tool::WebSearchLow,
        name => panic!("no such tool: {name}"),
    }
}

/// Bodies above this are shown in fewer ways.
const LARGE_BYTES: usize = 200_000;

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
        let api = family(endpoint);
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
        all.len() >= 40,
        "recorded answers are missing: {}",
        all.len()
    );
    all.sort_by(|a, b| a.meta.file.cmp(&b.meta.file));
    all
}

/// A recorded answer of text that reports its usage.
pub(super) struct Text {
    pub(super) file: String,
    pub(super) model: String,
    pub(super) api: Api,
    /// All that came before the usage.
    pub(super) body: Vec<u8>,
    /// Output tokens that were certainly shown, and all of them: some providers show the reasoning too.
    pub(super) shown: u64,
    pub(super) all: u64,
}

/// All of them, but for those in which several models wrote, tools ran at the provider, or the text stands after the usage.
pub(super) fn texts_with_usage() -> Vec<Text> {
    let is_text = |it: &Recorded| {
        let apis = [Api::ChatCompletions, Api::Messages, Api::Responses];
        let expected = &it.meta.expected;
        let is_one = expected.lines.is_empty() && expected.tool_calls.is_empty();
        // A compaction is sealed.
        is_one && apis.contains(&it.api) && !it.meta.endpoint.ends_with("/compact")
    };
    recorded()
        .into_iter()
        .filter(|it| it.meta.expected.billable == Some(true) && is_text(it))
        .filter_map(|it| {
            let count = |bucket| {
                let counts = &it.meta.expected.normalised;
                counts.get(bucket).copied().unwrap_or(0)
            };
            let shown = count("out_text");
            let all = shown + count("out_reasoning");
            let mut text = it.body.clone();
            if it.meta.content_encoding_of_file == "gzip" {
                text = encode::gunzip(&text);
            }
            let usage = last(&text, b"\"usage\":{").or(last(&text, b"\"usage\": {"))?;
            // Of a stream, whole events.
            let cut = last(&text[..usage], b"\n\n").unwrap_or(usage);
            text.truncate(cut);
            Some(Text {
                shown,
                all,
                model: it.meta.expected.model.unwrap_or_default(),
                file: it.meta.file,
                api: it.api,
                body: text,
            })
        })
        .collect()
}

fn last(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

impl Recorded {
    fn meter(&self, coding: Option<&str>) -> AnswerMeter {
        let content_type = self.meta.response_headers.get("content-type");
        let content_type = content_type.and_then(Value::as_str);
        AnswerMeter::new(self.api, self.meta.status, content_type, coding)
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
            if expected.lines.is_empty() {
                assert_eq!(counts(usage.total()), expected.normalised, "{what}");
            }
            for (at, line) in expected.lines.iter().enumerate() {
                let read = &usage.lines[at];
                assert_eq!(read.model.as_ref(), Some(&line.model), "{what}");
                assert_eq!(counts(read.buckets), line.normalised, "{what}");
            }
            assert_eq!(usage.lines.len(), expected.lines.len().max(1), "{what}");
            let units = &usage.lines[0].units;
            let calls: BTreeMap<&str, u64> = units
                .tools
                .iter()
                .filter(|(_, calls)| *calls > 0)
                .map(|(tool, calls)| (tool.name(), calls))
                .collect();
            let expected_calls = expected.tool_calls.iter();
            let expected_calls: BTreeMap<&str, u64> = expected_calls
                .map(|(name, calls)| (tool(name).name(), *calls))
                .collect();
            assert_eq!(calls, expected_calls, "{what}");
            assert_eq!(
                units.audio_in_ms,
                expected.audio_in_ms.unwrap_or(0),
                "{what}"
            );
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
                    usage.provider_cost.and_then(tariff::ProviderCost::amount),
                    Some(tariff::Amount::from_nano(cost)),
                    "{what}"
                );
            }
        }
        if let Some(images) = expected.images {
            assert_eq!(reading.images, images, "{what}");
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
            cases: if len > LARGE_BYTES { 4 } else { 40 },
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
            // A megabyte byte by byte in six codings would show nothing new.
            let smallest = if recorded.body.len() > LARGE_BYTES {
                4_099
            } else {
                1
            };
            for size in [smallest, 100.max(smallest), body.len()] {
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
        let sizes = [1, 3, 17, 200, recorded.body.len()];
        let is_large = recorded.body.len() > LARGE_BYTES;
        for size in sizes.into_iter().skip(if is_large { 3 } else { 0 }) {
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
