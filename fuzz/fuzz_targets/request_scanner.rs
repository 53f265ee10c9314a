//! The scanner judges grammar as serde_json does, and the same however the body is cut; what decides money in a body
//! that it accepts is what serde_json reads there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meter::{Api, BodyError, BodyErrorKind as K, RequestFacts, RequestScanner};
use serde_json::Value;

fn scan<'a>(api: Api, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<RequestFacts, BodyError> {
    let mut scanner = RequestScanner::new(api);
    for piece in pieces {
        scanner.push(piece)?;
    }
    scanner.finish()
}

fn is_grammar(kind: K) -> bool {
    matches!(
        kind,
        K::Syntax | K::ControlCharacter | K::NotUtf8 | K::ByteOrderMark | K::TrailingBytes | K::Unfinished | K::Empty
    )
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (family, size, body) = input;
    let api = Api::ALL[usize::from(family) % Api::ALL.len()];
    let whole = scan(api, [body]);
    assert_eq!(whole, scan(api, body.chunks(usize::from(size).max(1))));
    let is_json = std::str::from_utf8(body).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    match &whole {
        Ok(_) => assert!(is_json),
        Err(error) if is_grammar(error.kind()) => assert!(!is_json),
        Err(_) => {}
    }
    let Ok(facts) = whole else { return };
    // serde_json refuses a lone surrogate in any string; RFC 8259 does not.
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return };
    assert_eq!(facts.model.as_deref(), document["model"].as_str());
    match api {
        // Streams unless told otherwise.
        Api::Generate => assert_eq!(facts.stream, document["stream"] != false),
        Api::Speech => {
            assert_eq!(facts.stream, document["stream"] == true || document["stream_format"] == "sse");
            let characters = document["input"].as_str().unwrap_or_default().chars().count();
            assert_eq!(facts.characters, characters as u64);
        }
        _ => assert_eq!(facts.stream, document["stream"] == true),
    }
    assert_eq!(facts.include_usage, document["stream_options"]["include_usage"].as_bool());
    assert_eq!(facts.service_tier.as_deref(), document["service_tier"].as_str());
    assert_eq!(facts.background, document["background"] == true);
    let count = |name: &str| count(&document[name]);
    assert_eq!(facts.choices, count("n").max(count("best_of")).max(Some(1)).unwrap());
    let limits: Vec<u64> = limits_of(api).iter().filter_map(|name| count(name)).collect();
    let is_unlimited = limits.contains(&0);
    assert_eq!(facts.output_limit, limits.into_iter().max().filter(|_| !is_unlimited));
});

/// A count as `n` has it: the scanner refuses what is neither that nor null, and takes `2.0` for 2.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
}

fn limits_of(api: Api) -> &'static [&'static str] {
    match api {
        Api::ChatCompletions => &["max_tokens", "max_completion_tokens"],
        Api::Completions | Api::Messages => &["max_tokens"],
        Api::Responses => &["max_output_tokens"],
        _ => &[],
    }
}
