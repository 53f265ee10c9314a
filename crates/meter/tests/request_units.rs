//! What a JSON request says about anything but tokens: tools that cost a fee, images, text to read out.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use meter::{Api, BodyErrorKind as K, RequestFacts, RequestScanner};

/// The facts of a body, the same however it is cut.
#[track_caller]
fn scan(api: Api, body: &str) -> Result<RequestFacts, K> {
    let run = |size: usize| {
        let mut scanner = RequestScanner::new(api);
        for piece in body.as_bytes().chunks(size) {
            scanner.push(piece)?;
        }
        scanner.finish()
    };
    let whole = run(body.len());
    for size in [1, 3, 10] {
        assert_eq!(run(size), whole, "pieces of {size}: {body}");
    }
    whole.map_err(|error| error.kind())
}

#[track_caller]
fn facts(api: Api, body: &str) -> RequestFacts {
    scan(api, body).unwrap()
}

#[test]
fn the_context_size_of_searches_is_the_largest_that_may_be_meant() {
    use tariff::SearchSize::{High, Low, Medium};
    for (body, want) in [
        (r#"{"web_search_options":{}}"#, None),
        (
            r#"{"web_search_options":{"search_context_size":"low"}}"#,
            Some(Low),
        ),
        (
            r#"{"web_search_options":{"Search_Context_Size":"low","search_context_size":"medium"}}"#,
            Some(Medium),
        ),
        (
            r#"{"web_search_options":{"search_context_size":"odd"}}"#,
            Some(High),
        ),
        (
            r#"{"web_search_options":{"user_location":{"search_context_size":"high"}}}"#,
            None,
        ),
        // Of two, the upstream may read either.
        (
            r#"{"web_search_options":{"search_context_size":"low"},"web_search_options":{}}"#,
            Some(High),
        ),
        (
            r#"{"tools":[{"type":"web_search","search_context_size":"low"}]}"#,
            Some(Low),
        ),
        (
            r#"{"tools":[{"search_context_size":"high","type":"web_search_preview"}]}"#,
            Some(High),
        ),
        // One without is of medium size.
        (
            r#"{"tools":[{"type":"web_search","search_context_size":"low"},{"type":"web_search"}]}"#,
            Some(Medium),
        ),
        (
            r#"{"tools":[{"type":"function","name":"f","parameters":{"search_context_size":"high"}}]}"#,
            None,
        ),
        (r#"{"metadata":{"search_context_size":"high"}}"#, None),
    ] {
        assert_eq!(facts(Api::Responses, body).search_size, want, "{body}");
    }
}

#[test]
fn the_pages_of_a_document_that_are_picked_are_counted() {
    for (body, want) in [
        (r#"{"model":"m","pages":[0,3,7]}"#, Some(3)),
        (r#"{"model":"m"}"#, None),
        // All, or nobody knows how many.
        (r#"{"pages":[]}"#, None),
        (r#"{"pages":null}"#, None),
        (r#"{"pages":"0-5"}"#, None),
        (r#"{"pages":[1,"2-900"]}"#, None),
    ] {
        assert_eq!(facts(Api::Ocr, body).pages, want, "{body}");
    }
    assert_eq!(
        scan(Api::Ocr, r#"{"pages":[1],"pages":null}"#),
        Err(K::DuplicateKey)
    );
    assert!(facts(Api::Ocr, r#"{"document_annotation_format":{}}"#).annotates);
    assert!(!facts(Api::Ocr, r#"{"bbox_annotation_format":null}"#).annotates);
}

#[test]
fn tools_that_run_at_the_provider_are_told_from_the_clients_own() {
    for (api, body, want) in [
        (Api::Responses, r#"{"tools":[{"type":"web_search"}]}"#, true),
        (
            Api::Responses,
            r#"{"tools":[{"type":"function","name":"web_search"}]}"#,
            false,
        ),
        (Api::Responses, r#"{"tools":[{}]}"#, true),
        (Api::ChatCompletions, r#"{"web_search_options":{}}"#, true),
        (
            Api::ChatCompletions,
            r#"{"web_search_options":null}"#,
            false,
        ),
        (Api::ChatCompletions, r#"{"plugins":[{"id":"web"}]}"#, true),
        (
            Api::Messages,
            r#"{"tools":[{"name":"f","input_schema":{"type":"object"}}]}"#,
            false,
        ),
        (
            Api::Messages,
            r#"{"tools":[{"type":"custom","name":"f"}]}"#,
            false,
        ),
        (
            Api::Messages,
            r#"{"tools":[{"name":"web_search","type":"web_search_20250305"}]}"#,
            true,
        ),
    ] {
        let facts = facts(api, body);
        assert_eq!(
            (facts.hosted_tools, facts.refers_outside),
            (want, want),
            "{body}"
        );
    }
}

#[test]
fn calls_of_tools_are_limited_by_the_request_where_it_says_so() {
    let calls = |api, body| facts(api, body).tool_calls_max;
    let search = r#"{"type":"web_search_20250305","max_uses":3}"#;
    let fetch = r#"{"max_uses":4,"type":"web_fetch_20250910"}"#;
    let two = format!(r#"{{"tools":[{search},{fetch},{{"name":"f"}}]}}"#);
    assert_eq!(calls(Api::Messages, &two), Some(7));
    // One without a limit has none.
    let open = format!(r#"{{"tools":[{search},{{"type":"web_search_20250305"}}]}}"#);
    assert_eq!(calls(Api::Messages, &open), None);
    let odd = r#"{"tools":[{"type":"web_search_20250305","max_uses":1e2}]}"#;
    assert_eq!(calls(Api::Messages, odd), None);
    assert_eq!(calls(Api::Responses, r#"{"max_tool_calls":5}"#), Some(5));
    // Of two the larger counts, and what is no count limits nothing.
    let twice = r#"{"max_tool_calls":5,"max_tool_calls":2}"#;
    assert_eq!(calls(Api::Responses, twice), Some(5));
    let huge = r#"{"max_tool_calls":1e9}"#;
    assert_eq!(calls(Api::Responses, huge), Some(u64::MAX));
}

#[test]
fn a_message_is_limited_by_its_max_tokens() {
    let facts = facts(
        Api::Messages,
        r#"{"model":"claude-x","max_tokens":9,"stream":true,"speed":"fast","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]}]}"#,
    );
    assert_eq!((facts.output_limit, facts.stream), (Some(9), true));
    assert_eq!(facts.speed.as_deref(), Some("fast"));
    assert!(!facts.refers_outside);
}

#[test]
fn characters_are_counted_and_not_bytes() {
    for (text, count) in [
        ("", 0),
        ("Hello", 5),
        ("wörld", 5),
        ("\u{1f600}", 1),
        (r"\ud83d\ude00\u00e9\n", 3),
    ] {
        let body = format!(r#"{{"model":"tts-1","input":"{text}"}}"#);
        assert_eq!(facts(Api::Speech, &body).characters, count, "{text}");
    }
    // Elsewhere an input is no text to read out.
    assert_eq!(facts(Api::Embeddings, r#"{"input":"Hello"}"#).characters, 0);
}

#[test]
fn speech_is_a_stream_where_it_asks_for_events() {
    assert!(facts(Api::Speech, r#"{"stream_format":"sse"}"#).stream);
    assert!(!facts(Api::Speech, r#"{"stream_format":"audio"}"#).stream);
}

#[test]
fn ollama_streams_unless_told_otherwise() {
    assert!(facts(Api::Generate, r#"{"model":"m"}"#).stream);
    assert!(!facts(Api::Generate, r#"{"stream":false}"#).stream);
}

#[test]
fn what_an_image_costs_stands_there_once() {
    let body = r#"{"model":"dall-e-3","n":2,"size":"1024x1024","quality":"hd"}"#;
    let facts = facts(Api::Images, body);
    assert_eq!(facts.choices, 2);
    assert_eq!(
        (facts.size.as_deref(), facts.quality.as_deref()),
        (Some("1024x1024"), Some("hd"))
    );
    for (api, body, kind) in [
        (Api::Images, r#"{"size":"1","size":"2"}"#, K::DuplicateKey),
        (Api::Images, r#"{"Quality":"hd"}"#, K::LookalikeKey),
        (Api::Images, r#"{"size":1024}"#, K::ExpectedString),
        (Api::Speech, r#"{"input":"a","input":"b"}"#, K::DuplicateKey),
        (Api::Speech, r#"{"input":["a"]}"#, K::ExpectedString),
        (
            Api::Messages,
            r#"{"speed":"fast","speed":"slow"}"#,
            K::DuplicateKey,
        ),
    ] {
        assert_eq!(scan(api, body).unwrap_err(), kind, "{body}");
    }
    // Other endpoints have other keys of these names.
    assert!(scan(Api::ChatCompletions, r#"{"size":1,"size":2,"input":1}"#).is_ok());
}
