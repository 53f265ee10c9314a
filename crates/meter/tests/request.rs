//! What the request scanner accepts, refuses and reports.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use meter::{Api, BodyError, BodyErrorKind as K, RequestFacts, RequestScanner, StreamOptionsAt};

fn scan_in(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<RequestFacts, BodyError> {
    let mut scanner = RequestScanner::new(Api::ChatCompletions);
    for piece in pieces {
        scanner.push(piece.as_ref())?;
    }
    scanner.finish()
}

/// Scans whole and byte by byte; both must agree.
#[track_caller]
fn scan(body: impl AsRef<[u8]>) -> Result<RequestFacts, BodyError> {
    let body = body.as_ref();
    let whole = scan_in([body]);
    let single = scan_in(body.chunks(1));
    match (&whole, &single) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a, b),
        _ => panic!("whole {whole:?}, byte by byte {single:?}"),
    }
    whole
}

#[track_caller]
fn facts(body: &str) -> RequestFacts {
    scan(body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, kind: K, param: Option<&str>) {
    let body = body.as_ref();
    let error = scan(body).expect_err(&String::from_utf8_lossy(body));
    assert_eq!(
        (error.kind(), error.param()),
        (kind, param),
        "{} — {error}",
        String::from_utf8_lossy(body)
    );
    assert!(!error.code().is_empty() && error.to_string().ends_with('.'));
}

#[test]
fn every_field_is_read_wherever_it_stands() {
    let body = r#" {"messages":[{"role":"user","content":"\"model\": \\"}],"max_tokens":5,
        "max_completion_tokens":70,"n":3,"best_of":4,"stream":true,"background":true,
        "stream_options":{"include_usage":true},"service_tier":"flex","model":"gpt-4o"}
"#;
    let facts = facts(body);
    assert_eq!(facts.model.as_deref(), Some("gpt-4o"));
    assert_eq!(facts.output_limit, Some(70));
    assert_eq!(facts.choices, 4);
    assert_eq!(facts.service_tier.as_deref(), Some("flex"));
    assert_eq!(facts.include_usage, Some(true));
    assert!(facts.stream && facts.background && !facts.refers_outside);
    assert_eq!(facts.body_bytes, body.len() as u64);
    assert_eq!(facts.closed_at, body.rfind('}').unwrap() as u64);
}

#[test]
fn an_array_of_prompts_is_as_many_inputs() {
    let inputs = |api, body: &str| {
        let mut scanner = RequestScanner::new(api);
        scanner.push(body.as_bytes()).unwrap();
        scanner.finish().unwrap().inputs
    };
    for (prompt, count) in [
        (r#""a""#, 1),
        (r#"["a"]"#, 1),
        (r#"["a","b",["c"]]"#, 3),
        ("[1,2,3]", 1),
        ("[[1,2],[3]]", 2),
        ("[]", 1),
    ] {
        let body = format!(r#"{{"prompt":{prompt},"input":{prompt}}}"#);
        assert_eq!(inputs(Api::Completions, &body), count, "{prompt}");
        assert_eq!(inputs(Api::Embeddings, &body), count, "{prompt}");
        assert_eq!(inputs(Api::Responses, &body), 1, "{prompt}");
    }
}

#[test]
fn null_is_absent() {
    let facts = facts(
        r#"{"model":null,"stream":null,"stream_options":null,"max_tokens":null,"n":null,"service_tier":null,"background":null}"#,
    );
    assert_eq!(facts.model, None);
    assert_eq!(
        (facts.stream, facts.output_limit, facts.choices),
        (false, None, 1)
    );
    assert!(matches!(
        facts.stream_options,
        Some(StreamOptionsAt::Null(_))
    ));
}

#[test]
fn keys_inside_other_values_are_not_taken() {
    let facts = facts(
        r#"{"messages":[{"model":"x","stream":true,"n":9}],"tools":[{"type":"function","function":{"model":1}}]}"#,
    );
    assert_eq!(facts.model, None);
    assert!(!facts.stream && !facts.refers_outside);
    assert_eq!(facts.choices, 1);
}

#[test]
fn an_escaped_key_is_the_same_key() {
    assert_eq!(
        facts(r#"{"\u006dodel":"gp\u0074-4\u006f"}"#)
            .model
            .as_deref(),
        Some("gpt-4o")
    );
    refused(
        r#"{"model":"a","\u006dodel":"b"}"#,
        K::DuplicateKey,
        Some("model"),
    );
    refused(
        r#"{"model":"a","mod\u0065l":"b"}"#,
        K::DuplicateKey,
        Some("model"),
    );
}

#[test]
fn a_deciding_key_stands_there_once() {
    for key in [
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
        "service_tier",
        "background",
    ] {
        refused(
            format!(r#"{{"{key}":null,"x":1,"{key}":null}}"#),
            K::DuplicateKey,
            Some(key),
        );
        refused(
            format!(r#"{{"{key}":null,"{}":null}}"#, key.to_uppercase()),
            K::LookalikeKey,
            Some(key),
        );
        refused(
            format!(r#"{{"{}":null}}"#, key.to_uppercase()),
            K::LookalikeKey,
            Some(key),
        );
    }
    refused(
        "{\"max_to\u{212a}ens\":1}",
        K::LookalikeKey,
        Some("max_tokens"),
    );
    refused("{\"\\u017ftream\":true}", K::LookalikeKey, Some("stream"));
    let inside = Some("stream_options.include_usage");
    refused(
        r#"{"stream_options":{"include_usage":true,"include_usage":true}}"#,
        K::DuplicateKey,
        inside,
    );
    refused(
        r#"{"stream_options":{"include_usage":true,"include\u005fusage":false}}"#,
        K::DuplicateKey,
        inside,
    );
    refused(
        r#"{"stream_options":{"Include_Usage":true}}"#,
        K::LookalikeKey,
        inside,
    );
    // Other keys may repeat: their bytes are in the bound, whichever of them counts.
    facts(r#"{"messages":[],"messages":[1],"stream_options":{"a":1,"a":2}}"#);
}

#[test]
fn wrong_types_are_refused_with_the_parameter() {
    for value in ["1", "true", "{}", "[]"] {
        refused(
            format!(r#"{{"model":{value}}}"#),
            K::ExpectedString,
            Some("model"),
        );
        refused(
            format!(r#"{{"service_tier":{value}}}"#),
            K::ExpectedString,
            Some("service_tier"),
        );
    }
    for value in ["1", "\"true\"", "{}", "[]"] {
        refused(
            format!(r#"{{"stream":{value}}}"#),
            K::ExpectedBool,
            Some("stream"),
        );
        refused(
            format!(r#"{{"background":{value}}}"#),
            K::ExpectedBool,
            Some("background"),
        );
        refused(
            format!(r#"{{"stream_options":{{"include_usage":{value}}}}}"#),
            K::ExpectedBool,
            Some("stream_options.include_usage"),
        );
    }
    for value in ["1", "\"x\"", "true", "[]"] {
        refused(
            format!(r#"{{"stream_options":{value}}}"#),
            K::ExpectedObject,
            Some("stream_options"),
        );
    }
    for key in [
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
    ] {
        for value in ["-1", "1.0", "1e3", "0.5", "-0", "\"1\"", "true", "{}", "[]"] {
            refused(
                format!(r#"{{"{key}":{value}}}"#),
                K::ExpectedWholeNumber,
                Some(key),
            );
        }
        for value in [
            "9007199254740993",
            "99999999999999999999",
            &"9".repeat(2000),
        ] {
            refused(
                format!(r#"{{"{key}":{value}}}"#),
                K::NumberTooLarge,
                Some(key),
            );
        }
    }
    refused(r#"{"n":1025}"#, K::NumberTooLarge, Some("n"));
    assert_eq!(
        facts(r#"{"n":1024,"max_tokens":9007199254740992}"#).choices,
        1024
    );
}

#[test]
fn only_a_limit_that_the_endpoint_knows_is_one() {
    // A Responses request said `max_tokens: 1` and was held for one token of output. Its upstream passes that
    // key over, so the answer was as long as the model cared to make it, and the charge stopped at the hold.
    let limit = |api, body: &str| {
        let mut scanner = RequestScanner::new(api);
        scanner.push(body.as_bytes()).unwrap();
        scanner.finish().unwrap().output_limit
    };
    let (tokens, completion, output) = (
        r#"{"max_tokens":1}"#,
        r#"{"max_completion_tokens":2}"#,
        r#"{"max_output_tokens":3}"#,
    );
    let all = r#"{"max_output_tokens":3,"max_tokens":1,"max_completion_tokens":2}"#;
    for (api, limits) in [
        (Api::ChatCompletions, [Some(1), Some(2), None, Some(2)]),
        (Api::Completions, [Some(1), None, None, Some(1)]),
        (Api::Responses, [None, None, Some(3), Some(3)]),
        (Api::Embeddings, [None; 4]),
    ] {
        let read = [tokens, completion, output, all].map(|body| limit(api, body));
        assert_eq!(read, limits, "{api:?}");
    }
    // What limits nothing is still read by one rule: once, and a whole number.
    refused(
        r#"{"max_output_tokens":"3"}"#,
        K::ExpectedWholeNumber,
        Some("max_output_tokens"),
    );
}

#[test]
fn a_limit_of_0_is_none() {
    // Some upstreams take 0 for "no limit"; a hold for no output at all did not cover what they wrote.
    for body in [
        r#"{"max_tokens":0}"#,
        r#"{"max_tokens":0,"max_completion_tokens":5}"#,
        r#"{"max_tokens":5,"max_completion_tokens":0}"#,
    ] {
        assert_eq!(facts(body).output_limit, None, "{body}");
    }
    // An endpoint's foreign keys do not lift its limit either.
    let other = r#"{"max_tokens":5,"max_output_tokens":0}"#;
    assert_eq!(facts(other).output_limit, Some(5));
}

#[test]
fn a_model_is_a_decent_name() {
    refused(r#"{"model":""}"#, K::EmptyString, Some("model"));
    refused(r#"{"model":"a\u0000b"}"#, K::ControlInValue, Some("model"));
    refused(r#"{"model":"a\nb"}"#, K::ControlInValue, Some("model"));
    refused(r#"{"model":"a\ud800b"}"#, K::LoneSurrogate, Some("model"));
    refused(r#"{"model":"a\udc00"}"#, K::LoneSurrogate, Some("model"));
    refused(r#"{"model":"a\ud800"}"#, K::LoneSurrogate, Some("model"));
    refused(
        format!(r#"{{"model":"{}"}}"#, "m".repeat(513)),
        K::StringTooLong,
        Some("model"),
    );
    assert_eq!(
        facts(&format!(r#"{{"model":"{}"}}"#, "m".repeat(512)))
            .model
            .unwrap()
            .len(),
        512
    );
    assert_eq!(
        facts(r#"{"model":"\ud83d\ude00é"}"#).model.as_deref(),
        Some("😀é")
    );
}

#[test]
fn what_is_not_json_is_refused() {
    for body in [
        r#"{"a":1,}"#,
        r#"{"a":[1,]}"#,
        r#"{,}"#,
        r#"{"a"}"#,
        r#"{"a" 1}"#,
        r#"{a:1}"#,
        r#"{'a':1}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":5.}"#,
        r#"{"a":1e}"#,
        r#"{"a":1e+}"#,
        r#"{"a":0x1}"#,
        r#"{"a":NaN}"#,
        r#"{"a":Infinity}"#,
        r#"{"a":-Infinity}"#,
        r#"{"a":nul}"#,
        r#"{"a":nulll}"#,
        r#"{"a":TRUE}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":1]"#,
        r#"{"a":[1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a":1}/**/"#,
        "{/*x*/}",
        "{}//",
        "{\"a\":1\u{a0}}",
        r#"{"a":1,"b"}"#,
        r#"{"a":1:2}"#,
        r#"{"a":[,]}"#,
    ] {
        let error = scan(body).expect_err(body);
        assert!(
            matches!(error.kind(), K::Syntax | K::TrailingBytes),
            "{body}: {error:?}"
        );
    }
    refused("{\"a\":\"\n\"}", K::ControlCharacter, None);
    refused(b"{\"a\":\"\x00\"}", K::ControlCharacter, None);
    refused(b"{\"a\":\"\x1f\"}", K::ControlCharacter, None);
    refused(b"{\"a\":\"\xff\"}", K::NotUtf8, None);
    refused(b"{\"a\":\"\xe2\x82\"}", K::NotUtf8, None);
    refused(b"{\"a\":\"\xed\xa0\x80\"}", K::NotUtf8, None);
    refused(b"{\"\xc0\xaf\":1}", K::NotUtf8, None);
    refused("\u{feff}{}", K::ByteOrderMark, None);
    refused(b"\xff\xfe{\0}\0", K::Syntax, None);
    refused("", K::Empty, None);
    refused(" \r\n\t ", K::Empty, None);
    for body in [
        "{",
        r#"{"a"#,
        r#"{"a""#,
        r#"{"a":"#,
        r#"{"a":1"#,
        r#"{"a":"\u00"#,
        r#"{"a":["#,
        r#"{"a":tr"#,
    ] {
        refused(body, K::Unfinished, None);
    }
    for body in ["[]", "\"a\"", "1 ", "null", "true"] {
        refused(body, K::NotAnObject, None);
    }
    for body in ["{}x", "{}{}", "{} ,", "{}\0", "{}\u{feff}"] {
        refused(body, K::TrailingBytes, None);
    }
}

#[test]
fn the_first_fault_counts_however_the_body_is_cut() {
    // Found by fuzzing: a control character after bytes that are no UTF-8, in one string.
    refused(b"{\"a\x88\xa9\x01\":1}", K::NotUtf8, None);
    refused(b"{\"a\x01\x88\xa9\":1}", K::ControlCharacter, None);
    refused(b"{\"\xe2\x01\":1}", K::ControlCharacter, None);
    refused(b"{\"\xe2\xff\":1}", K::NotUtf8, None);
}

#[test]
fn nesting_has_a_limit_and_no_recursion() {
    let nested = |levels: usize| {
        format!(
            r#"{{"a":{}{}}}"#,
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    facts(&nested(128));
    refused(nested(129), K::TooDeep, None);
    refused(
        "{\"a\":".to_owned() + &"[".repeat(1_000_000),
        K::TooDeep,
        None,
    );
}

#[test]
fn an_error_is_stable() {
    let mut scanner = RequestScanner::new(Api::Responses);
    let first = scanner.push(b"{\"model\":1").unwrap_err();
    assert_eq!(scanner.push(b"}").unwrap_err(), first);
    assert_eq!(scanner.finish().unwrap_err(), first);
}

#[test]
fn model_and_closing_brace_are_known_as_soon_as_they_pass() {
    let mut scanner = RequestScanner::new(Api::ChatCompletions);
    scanner.push(br#"{"model":"gpt-4o"#).unwrap();
    assert_eq!(scanner.model(), None);
    scanner.push(b"\"").unwrap();
    assert_eq!(scanner.model(), Some("gpt-4o"));
    scanner.push(b",\"n\":1").unwrap();
    assert_eq!(scanner.closed_at(), None);
    scanner.push(b" }").unwrap();
    assert_eq!(scanner.closed_at(), Some(24));
    scanner.push(b"\r\n").unwrap();
    assert_eq!(scanner.closed_at(), Some(24));
}

fn refers_outside(api: Api, body: &str) -> bool {
    let mut scanner = RequestScanner::new(api);
    scanner.push(body.as_bytes()).unwrap();
    scanner.finish().unwrap().refers_outside
}

#[test]
fn what_the_length_does_not_bound_is_noticed() {
    for body in [
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#,
        r#"{"messages":[{"content":[{"image_url":{"url":"data:…"}}]}]}"#,
        r#"{"messages":[{"content":[{"\u0069mage_url":"x"}]}]}"#,
        r#"{"messages":[{"content":[{"type":"file","x":1}]}]}"#,
        r#"{"messages":[{"content":[{"file":{"file_id":"f"}}]}]}"#,
        r#"{"messages":[{"content":[{"input_audio":{"data":"…"}}]}]}"#,
        r#"{"messages":[{"content":[{"video_url":{}}]}]}"#,
        r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#,
        r#"{"input":[{"content":[{"type":"input_image"}]}]}"#,
        r#"{"input":[{"content":[{"type":"input_file"}]}]}"#,
        r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
        r#"{"input":[{"id":"msg_1"}]}"#,
        r#"{"input":[{"id":"msg_1","type":null}]}"#,
        r#"{"input":[{"type":"computer_call_output","output":{"type":"computer_screenshot"}}]}"#,
        r#"{"previous_response_id":"resp_1"}"#,
        r#"{"conversation":{"id":"conv_1"}}"#,
        r#"{"prompt":{"id":"pmpt_1"}}"#,
        r#"{"tools":[{"type":"function"},{"type":"web_search"}]}"#,
        r#"{"tools":[{"type":"function","type":"web_search"}]}"#,
        r#"{"tools":[{"google_search":{}}]}"#,
        r#"{"tools":["web_search"]}"#,
        r#"{"tools":{"type":"web_search"}}"#,
        r#"{"web_search_options":{}}"#,
        r#"{"search_parameters":{"mode":"auto"}}"#,
        r#"{"modalities":["text","audio"]}"#,
        r#"{"audio":{"voice":"alloy"}}"#,
    ] {
        assert!(refers_outside(Api::Responses, body), "{body}");
    }
    for body in [
        r#"{"messages":[{"role":"user","name":"file","content":"image_url"}]}"#,
        r#"{"messages":[{"content":[{"type":"text","text":"file_id"}]}]}"#,
        r#"{"prompt":"image_url","input":["a","b"]}"#,
        r#"{"prompt":[1,2,3],"input":[[1,2],[3]]}"#,
        r#"{"previous_response_id":null,"conversation":null,"prompt":null,"audio":null}"#,
        r#"{"modalities":["text"]}"#,
        r#"{"tools":[{"type":"function","function":{"parameters":{"properties":{"image_url":{"type":"file"}}}}}]}"#,
        r#"{"tools":[{"type":"custom","name":"file"}],"tool_choice":"auto"}"#,
        r#"{"response_format":{"json_schema":{"schema":{"properties":{"file":{},"image":{}}}}}}"#,
        r#"{"text":{"format":{"schema":{"properties":{"file":{}}}}}}"#,
        r#"{"input":[{"type":"message","id":"msg_1","content":"x"},{"role":"user","content":"y"}]}"#,
    ] {
        assert!(!refers_outside(Api::Responses, body), "{body}");
    }
}

#[test]
fn a_part_that_nobody_has_heard_of_refers_outside() {
    // Parts were compared with a list of those known to bring more than their bytes. `document_url` and
    // `audio_url` came later: a few bytes of address were held, whole documents were read.
    for part in [
        r#"{"type":"document_url","x":"https://x/y.pdf"}"#,
        r#"{"type":"audio_url"}"#,
        r#"{"type":"hologram","hologram":"x"}"#,
        r#"{"type":"TEXT","text":"x"}"#,
        r#"{"type":["text"]}"#,
        r#"{"Type":"hologram"}"#,
        r#"{"type":"text","type":"hologram"}"#,
        r#"{"type":"text","text":"x","nested":[{"type":"hologram"}]}"#,
        r#"{"document_url":"https://x/y.pdf"}"#,
        r#"{"audio_url":{"url":"https://x/y.mp3"}}"#,
        r#"{"DOCUMENT_URL":"x"}"#,
        "{\"image_url\u{17f}\":[\"x\"]}",
        r#"{"hologram_urls":["x"]}"#,
        r#"{"document":{"id":"x"}}"#,
        r#"{"video":"x"}"#,
        r#"{"media":["x"]}"#,
    ] {
        for body in [
            format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#),
            format!(r#"{{"input":[{{"role":"user","content":[{part}]}}]}}"#),
            format!(r#"{{"input":[{part}]}}"#),
            format!(r#"{{"prompt":[{part}]}}"#),
            format!(r#"{{"content":{part}}}"#),
            format!(r#"{{"instructions":[{part}]}}"#),
            format!(r#"{{"prediction":{{"type":"content","content":[{part}]}}}}"#),
        ] {
            assert!(facts(&body).refers_outside, "{body}");
        }
    }
    for body in [
        r#"{"document_url":"x"}"#,
        r#"{"image_urls":["x"]}"#,
        r#"{"video":"x"}"#,
        r#"{"media":["x"]}"#,
        r#"{"extra":{"document_url":"x"}}"#,
        r#"{"extra":{"type":"input_image"}}"#,
    ] {
        assert!(facts(body).refers_outside, "{body}");
    }
    // A key too long to be anyone's is nothing, however it is cut.
    let long = format!(r#"{{"messages":[{{"{}_url":"x"}}]}}"#, "x".repeat(100));
    assert!(!facts(&long).refers_outside);
}

#[test]
fn ordinary_traffic_does_not_refer_outside() {
    for (api, body) in [
        (
            Api::ChatCompletions,
            r#"{"model":"gpt-4o","messages":[
                {"role":"developer","content":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}]},
                {"role":"system","content":"x","name":"media"},
                {"role":"user","name":"document","content":"See image_url and {\"type\":\"image_url\"}."},
                {"role":"assistant","content":null,"refusal":null,"audio":null,"function_call":{"name":"f","arguments":"{}"},"tool_calls":[
                    {"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"type\":\"image\",\"image_url\":\"x\"}"}},
                    {"id":"call_2","type":"custom","custom":{"name":"run","input":"video"}}]},
                {"role":"tool","tool_call_id":"call_1","content":"{\"document_url\":\"x\"}"},
                {"role":"tool","tool_call_id":"call_2","content":[{"type":"text","text":"media"}]},
                {"role":"function","name":"f","content":"x"},
                {"role":"assistant","content":[{"type":"refusal","refusal":"No."}]},
                {"role":"assistant","refusal":"No.","reasoning_content":"Hm.","annotations":[{"type":"url_citation","url_citation":{"url":"x","title":"x","start_index":0,"end_index":1}}],
                    "reasoning_details":[{"type":"reasoning.text","text":"Hm."}]}],
              "prediction":{"type":"content","content":[{"type":"text","text":"x"}]},
              "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"document":{"type":"string"},"page_url":{"type":["string","null"]}}}}}],
              "tool_choice":{"type":"function","function":{"name":"look"}},
              "response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object","properties":{"media":{"type":"string"}}}}},
              "thinking":{"type":"enabled"},"metadata":{"source_url":"x"},"max_completion_tokens":5}"#,
        ),
        (
            Api::Responses,
            r#"{"model":"gpt-5","instructions":"x","input":[
                {"role":"developer","content":"x"},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"video"}]},
                {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"x"}],"content":[{"type":"reasoning_text","text":"x"}],"encrypted_content":"x"},
                {"type":"function_call","id":"fc_1","call_id":"call_1","name":"look","arguments":"{\"image_url\":\"x\"}","status":"completed"},
                {"type":"function_call_output","call_id":"call_1","output":"{\"document_url\":\"x\"}"},
                {"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"x"}]},
                {"type":"custom_tool_call","call_id":"call_2","name":"run","input":"media"},
                {"type":"custom_tool_call_output","call_id":"call_2","output":"x"},
                {"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[
                    {"type":"output_text","text":"x","logprobs":[],"annotations":[{"type":"url_citation","url":"x","title":"x"}]},
                    {"type":"refusal","refusal":"No."}]}],
              "tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{"video":{"type":"string"}}}},{"type":"custom","name":"run","format":{"type":"grammar"}}],
              "text":{"format":{"type":"json_schema","schema":{"properties":{"document_url":{"type":"string"}}}}},
              "reasoning":{"effort":"low","summary":"auto"},"tool_choice":{"type":"function","name":"look"},"max_output_tokens":5}"#,
        ),
        (
            Api::Completions,
            r#"{"model":"m","prompt":["a","b"],"suffix":"media"}"#,
        ),
        (
            Api::Embeddings,
            r#"{"model":"m","input":["document","video"],"encoding_format":"float"}"#,
        ),
    ] {
        assert!(!refers_outside(api, body), "{body}");
    }
}

#[test]
fn a_body_that_may_choose_another_model_says_so() {
    assert!(facts(r#"{"model":"a","models":["b"]}"#).may_reroute);
    assert!(!facts(r#"{"model":"a","models":null}"#).may_reroute);
}
