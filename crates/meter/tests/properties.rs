//! What holds for every document, however it is cut.

use bytes::Bytes;
use meter::{
    AnswerMeter, Api, BodyError, BodyErrorKind as K, RequestFacts, RequestScanner, Splice,
    UsageFrameFilter,
};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<RequestFacts, BodyError> {
    let mut scanner = RequestScanner::new(Api::ChatCompletions);
    for piece in pieces {
        scanner.push(piece)?;
    }
    scanner.finish()
}

fn cut<'a>(bytes: &'a [u8], splits: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = splits
        .iter()
        .map(|split| split.index(bytes.len() + 1))
        .collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    ends.windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

/// Keys we read and keys we do not, plain and escaped.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "model",
            "stream",
            "stream_options",
            "include_usage",
            "max_tokens",
            "max_completion_tokens",
            "n",
            "best_of",
            "service_tier",
            "background",
            "messages",
            "tools",
            "type",
            "image_url",
            "input",
            "prompt",
            "modalities",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..2000).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((key(), value()), 0..8).prop_map(|members| members.into_iter().collect())
}

/// A request that is right in the fields we read.
fn request() -> impl Strategy<Value = Map<String, Value>> {
    let options = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        (
            prop::collection::vec(("[a-d]{1,3}", value()), 0..3),
            prop::option::of(prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::from)
            ])
        )
            .prop_map(|(others, include_usage)| {
                let mut options: Map<String, Value> = others.into_iter().collect();
                if let Some(include_usage) = include_usage {
                    options.insert("include_usage".into(), include_usage);
                }
                Some(Value::Object(options))
            }),
    ];
    (
        prop::collection::vec(("x[a-z]{0,5}", value()), 0..5),
        options,
        "[a-z]{1,8}",
        prop::option::of(0_u64..100_000),
    )
        .prop_map(|(others, options, model, limit)| {
            let mut request: Map<String, Value> = others.into_iter().collect();
            if let Some(options) = options {
                request.insert("stream_options".into(), options);
            }
            request.insert("model".into(), model.into());
            request.insert("max_tokens".into(), json!(limit));
            request
        })
}

fn is_grammar(kind: K) -> bool {
    matches!(
        kind,
        K::Syntax
            | K::ControlCharacter
            | K::NotUtf8
            | K::ByteOrderMark
            | K::TrailingBytes
            | K::Unfinished
            | K::Empty
    )
}

/// The scanner's verdict on grammar is that of serde_json.
fn agrees(bytes: &[u8]) {
    let is_json =
        std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    match scan([bytes]) {
        Ok(_) => assert!(is_json, "accepted: {}", String::from_utf8_lossy(bytes)),
        Err(error) if is_grammar(error.kind()) => {
            assert!(!is_json, "{error}: {}", String::from_utf8_lossy(bytes))
        }
        Err(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_document_scans_the_same_however_it_is_cut(
        object in object(), pretty in any::<bool>(), splits in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = if pretty { serde_json::to_vec_pretty(&object).unwrap() } else { serde_json::to_vec(&object).unwrap() };
        let whole = scan([&bytes[..]]);
        let kinds = |result: &Result<RequestFacts, BodyError>| result.clone().map_err(|error| (error.kind(), error.param(), error.at()));
        prop_assert_eq!(kinds(&scan(cut(&bytes, &splits))), kinds(&whole));
        prop_assert_eq!(kinds(&scan(bytes.chunks(1))), kinds(&whole));
        agrees(&bytes);
    }

    #[test]
    fn a_broken_document_is_refused_as_serde_json_does(
        object in object(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3,
    ) {
        let mut bytes = serde_json::to_vec(&object).unwrap();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => { bytes.remove(at); }
        }
        agrees(&bytes);
        prop_assert_eq!(scan(bytes.chunks(1)), scan([&bytes[..]]));
    }

    #[test]
    fn noise_is_refused_as_serde_json_does(text in "[\\[\\]{}:,\"\\\\truefalsn0-9eE.+u\\- \\n]{0,24}") {
        agrees(text.as_bytes());
        agrees(format!("{{\"a\":{text}}}").as_bytes());
    }

    #[test]
    fn facts_are_those_of_the_document(request in request()) {
        let facts = scan([&serde_json::to_vec(&request).unwrap()[..]]).unwrap();
        prop_assert_eq!(facts.model.as_deref(), request["model"].as_str());
        prop_assert_eq!(facts.output_limit, request["max_tokens"].as_u64());
        let include_usage = request.get("stream_options").and_then(|options| options.get("include_usage"));
        prop_assert_eq!(facts.include_usage, include_usage.and_then(Value::as_bool));
    }

    #[test]
    fn an_edited_body_is_the_same_document_but_for_one_key(
        request in request(), pretty in any::<bool>(), size in 1_usize..40,
    ) {
        let bytes = if pretty { serde_json::to_vec_pretty(&request).unwrap() } else { serde_json::to_vec(&request).unwrap() };
        let facts = scan([&bytes[..]]).unwrap();
        let edited = match Splice::include_usage(&facts) {
            Some(splice) => splice.apply(0, bytes.chunks(size).map(Bytes::copy_from_slice)).concat(),
            None => bytes.clone(),
        };
        // Read back, since serde_json does not read every float it writes to the last digit.
        let mut want: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
        let options = want.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
        prop_assert_eq!(serde_json::from_slice::<Value>(&edited).unwrap(), Value::Object(want));
        // Byte-exact elsewhere: what came before the edit and after it is untouched.
        if let Some(splice) = Splice::include_usage(&facts) {
            prop_assert!(edited.starts_with(&bytes[..splice.start as usize]));
            prop_assert!(edited.ends_with(&bytes[splice.end as usize..]));
        }
    }

    #[test]
    fn a_meter_reads_any_bytes_the_same_however_they_are_cut(
        events in prop::collection::vec(prop_oneof![
            object().prop_map(|object| format!("data: {}\n\n", serde_json::to_string(&object).unwrap())),
            Just("data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\r\n\r\n".to_owned()),
            Just("data: [DONE]\n\n".to_owned()),
            "[ -~\\r\\n]{0,30}",
            any::<String>(),
        ], 0..8),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        api in prop::sample::select(vec![Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses]),
    ) {
        let bytes = events.concat().into_bytes();
        let read = |pieces: Vec<&[u8]>| {
            let mut meter = AnswerMeter::new(api, 200, None, None);
            for piece in pieces {
                meter.push(piece);
            }
            meter.finish()
        };
        let whole = read(vec![&bytes]);
        prop_assert_eq!(&read(cut(&bytes, &splits)), &whole);
        prop_assert_eq!(&read(bytes.chunks(1).collect()), &whole);
    }

    #[test]
    fn a_filter_only_drops_and_gives_the_same_however_bytes_are_cut(
        events in prop::collection::vec(prop_oneof![
            Just("data: {\"choices\":[],\"usage\":{}}\n\n".to_owned()),
            Just("data: {\"choices\":[{}],\"usage\":{}}\r\n\r\n".to_owned()),
            Just("data: [DONE]\r\r".to_owned()),
            "[ -~\\r\\n]{0,30}",
        ], 0..8),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = events.concat().into_bytes();
        let filter = |pieces: Vec<&[u8]>| {
            let mut filter = UsageFrameFilter::new();
            let mut out: Vec<u8> = pieces.into_iter().flat_map(|piece| filter.push(Bytes::copy_from_slice(piece)).to_vec()).collect();
            out.extend_from_slice(&filter.finish());
            out
        };
        let whole = filter(vec![&bytes]);
        prop_assert_eq!(&filter(cut(&bytes, &splits)), &whole);
        prop_assert_eq!(&filter(bytes.chunks(1).collect()), &whole);
        // A subsequence of what came in.
        let mut rest = bytes.iter();
        prop_assert!(whole.iter().all(|byte| rest.any(|other| other == byte)));
    }
}
