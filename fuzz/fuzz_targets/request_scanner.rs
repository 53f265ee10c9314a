//! The scanner judges grammar as serde_json does, and the same however the body is cut; an edited
//! body is the same document but for one key.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meter::{Api, BodyError, BodyErrorKind as K, RequestFacts, RequestScanner, Splice};
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
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else { return };
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
    let Some(splice) = Splice::include_usage(&facts) else { return };
    let edited = splice.apply(0, [Bytes::copy_from_slice(body)]).concat();
    if document["stream_options"].is_null() {
        document["stream_options"] = serde_json::json!({});
    }
    document["stream_options"]["include_usage"] = true.into();
    assert_eq!(serde_json::from_slice::<Value>(&edited).ok(), Some(document));
});
