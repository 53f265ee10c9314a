//! What streams and bodies look like in the wild, case by case.

use meter::{AnswerMeter, Api, Reading};

use super::{encode, read, show};

const CHUNK: &str =
    r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#;
const USAGE: &str = r#"{"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

fn chat(body: impl AsRef<[u8]>) -> Reading {
    read(Api::ChatCompletions, body)
}

#[track_caller]
fn reads_seven(body: impl AsRef<[u8]>) -> Reading {
    let reading = chat(body);
    assert_eq!(
        reading.usage.as_ref().map(|usage| usage.total().total()),
        Some(7)
    );
    assert!(!reading.lost);
    reading
}

#[test]
fn line_ends_may_be_lf_crlf_cr_or_mixed() {
    let stream = format!("data: {CHUNK}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n");
    for end in ["\n", "\r\n", "\r"] {
        assert!(reads_seven(stream.replace('\n', end)).complete);
    }
    assert!(
        reads_seven(format!(
            "data: {CHUNK}\r\n\ndata: {USAGE}\r\rdata: [DONE]\n\r\n"
        ))
        .complete
    );
}

#[test]
fn comments_event_id_and_retry_lines_are_passed_over() {
    let comments = ": OPENROUTER PROCESSING\n\n".repeat(17);
    let stream = format!(
        "{comments}:\n\n: keep-alive\nevent: x\nid: 1\nretry: 100\nfoo: bar\nfoo\ndata:{CHUNK}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n"
    );
    assert!(reads_seven(stream).complete);
}

#[test]
fn a_value_over_several_lines_is_joined() {
    let broken = USAGE.replace(",", ",\ndata: ");
    assert!(
        reads_seven(format!(
            "data: {CHUNK}\n\ndata: {broken}\n\ndata: [DONE]\n\n"
        ))
        .complete
    );
}

#[test]
fn a_last_event_without_a_blank_line_counts() {
    reads_seven(format!("data: {CHUNK}\n\ndata: {USAGE}\n"));
    reads_seven(format!("data: {CHUNK}\n\ndata: {USAGE}"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    reads_seven(format!("\u{feff}data: {USAGE}\n\n"));
    reads_seven(format!("\u{feff}{USAGE}"));
}

#[test]
fn done_may_be_followed_by_spaces_or_more_or_be_missing() {
    for done in [
        "data: [DONE]",
        "data:[DONE]",
        "data: [DONE]   \n\n",
        "data: [DONE] bye\n\n",
    ] {
        assert!(
            reads_seven(format!("data: {USAGE}\n\n{done}")).complete,
            "{done}"
        );
    }
    let reading = reads_seven(format!("data: {USAGE}\n\n"));
    assert!(!reading.complete);
}

#[test]
fn pings_and_doubled_framing_of_other_gateways_are_survived() {
    let stream = format!(
        ": PING\n\ndata: : PING\n\ndata: data: {CHUNK}\n\ndata: ok\n\ndata:\n\ndata: data: {USAGE}\n\ndata: [DONE]\n\n"
    );
    assert!(reads_seven(stream).complete);
}

#[test]
fn events_that_no_blank_line_separates_are_read() {
    assert!(reads_seven(format!("data: {CHUNK}\ndata: {USAGE}\ndata: [DONE]\n")).complete);
}

#[test]
fn json_after_blank_lines_is_json() {
    let reading = reads_seven(format!("{}{USAGE}\n", "\n".repeat(500)));
    assert!(reading.complete);
}

#[test]
fn the_content_type_decides_nothing() {
    for content_type in [
        "application/json",
        "application/octet-stream",
        "text/event-stream",
        "text/html",
        "",
    ] {
        for body in [
            USAGE.to_owned(),
            format!("data: {USAGE}\n\ndata: [DONE]\n\n"),
        ] {
            let meter = AnswerMeter::new(Api::ChatCompletions, 200, Some(content_type), None);
            let reading = show(meter, [body.as_bytes()]).reading;
            assert!(
                reading.usage.is_some() && reading.complete,
                "{content_type}"
            );
        }
    }
}

#[test]
fn an_error_with_status_200_is_an_error() {
    for body in [
        r#"{"error":{"message":"no"}}"#,
        r#"{"code":"x","error":"no"}"#,
        r#"[{"error":{"code":429}}]"#,
        "data: {\"error\":{\"message\":\"no\"}}\n\n",
        "event: error\ndata: {\"message\":\"no\"}\n\n",
        "event: error\ndata: no\n\n",
        "data: {\"choices\":[{\"error\":{\"code\":502},\"delta\":{}}]}\n\n",
    ] {
        let reading = chat(body);
        assert!(reading.is_error && reading.usage.is_none(), "{body}");
    }
    for body in [
        r#"{"error":null}"#,
        r#"{"error":""}"#,
        "data: {\"error\":null}\n\n",
        r#"{"x":{"error":{}}}"#,
    ] {
        assert!(!chat(body).is_error, "{body}");
    }
}

#[test]
fn an_error_beside_choices_keeps_its_usage() {
    let stream = r#"data: {"error":{"code":502},"choices":[{"delta":{}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    assert!(reads_seven(stream).is_error);
}

#[test]
fn a_status_of_400_or_more_is_an_error() {
    let mut meter = AnswerMeter::new(Api::ChatCompletions, 422, None, None);
    meter.push(br#"{"detail":"no"}"#);
    assert!(meter.finish().is_error);
}

#[test]
fn html_and_other_bytes_give_an_empty_reading() {
    for body in [
        &b"<!doctype html>\n<p>data: none</p>"[..],
        b"upstream connect error",
        b"\x1f\x8b\x08\0\0\0",
        b"",
        b"\n\n",
    ] {
        assert_eq!(chat(body), Reading::default());
    }
}

#[test]
fn text_that_speaks_of_usage_is_text() {
    let delta =
        r#"{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":9},\"model\":\"x\""}}]}"#;
    let reading = chat(format!("data: {delta}\n\n"));
    assert_eq!((reading.usage, reading.model), (None, None));
    let nested = r#"{"choices":[{"delta":{"usage":{"prompt_tokens":9}}}],"metadata":{"usage":{"prompt_tokens":9}}}"#;
    assert_eq!(chat(nested).usage, None);
}

#[test]
fn an_event_of_many_megabytes_is_read_to_its_end() {
    let image = "A".repeat(8 << 20);
    let event = format!(
        r#"{{"type":"response.completed","response":{{"id":"r","model":"m","output":[{{"type":"image_generation_call","result":"{image}"}}],"usage":{{"input_tokens":5,"output_tokens":2,"total_tokens":7}}}}}}"#
    );
    let stream = format!("event: response.completed\ndata: {event}\n\n");
    let meter = AnswerMeter::new(Api::Responses, 200, None, None);
    let shown = show(meter, stream.as_bytes().chunks(16 << 10));
    assert_eq!(shown.reading.usage.unwrap().total().total(), 7);
    assert_eq!(shown.reading.response_id.as_deref(), Some("r"));
    assert!(shown.reading.complete);
}

#[test]
fn the_tail_starts_at_the_terminal_event() {
    let head = format!("data: {CHUNK}\n\ndata: {USAGE}\n\n");
    let stream = format!("{head}data: [DONE]\n\n");
    let meter = || AnswerMeter::new(Api::ChatCompletions, 200, None, None);
    assert_eq!(show(meter(), [stream.as_bytes()]).tail, Some(head.len()));
    // Its start has gone out already: all of the chunk that ends it.
    let cut = head.len() + 9;
    assert_eq!(
        show(
            meter(),
            [&stream.as_bytes()[..cut], &stream.as_bytes()[cut..]]
        )
        .tail,
        Some(cut)
    );
    // A JSON answer: the whole last chunk.
    assert_eq!(
        show(meter(), [&USAGE.as_bytes()[..40], &USAGE.as_bytes()[40..]]).tail,
        Some(40)
    );
}

#[test]
fn responses_end_with_their_terminal_event() {
    let head = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null}}\n\n";
    for kind in ["completed", "incomplete", "failed"] {
        let last = format!(
            "event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",\"response\":{{\"id\":\"r\",\"usage\":{{\"total_tokens\":7}}}}}}\n\n"
        );
        let stream = format!("{head}{last}data: [DONE]\n\n");
        let shown = show(
            AnswerMeter::new(Api::Responses, 200, None, None),
            [stream.as_bytes()],
        );
        assert_eq!(shown.tail, Some(head.len()), "{kind}");
        assert!(shown.reading.usage.is_some());
        // Also where the type stands in one place only.
        for stream in [
            stream.replace(&format!("event: response.{kind}\n"), ""),
            stream.replace(&format!("\"type\":\"response.{kind}\","), ""),
        ] {
            assert!(read(Api::Responses, stream).complete);
        }
    }
}

#[test]
fn an_error_event_is_not_the_end_of_responses() {
    // An upstream reported an error, recovered and went on to a `response.completed` with its usage. The error
    // was taken for the end: nothing was charged, unless the rest happened to come in the same packet.
    let error = r#"{"type":"error","code":"x","message":"no","param":null}"#;
    let text = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n\n";
    let last = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2,\"total_tokens\":7}}}\n\n";
    for error in [
        format!("event: error\ndata: {error}\n\n"),
        format!("data: {error}\n\n"),
        "event: error\ndata: no\n\n".to_owned(),
        "event: error\ndata: {\"error\":{\"code\":\"x\"}}\n\n".to_owned(),
    ] {
        let meter = || AnswerMeter::new(Api::Responses, 200, None, None);
        let whole = format!("{error}{text}{last}");
        let shown = show(meter(), [whole.as_bytes()]);
        assert_eq!(shown.tail, Some(error.len() + text.len()), "{error}");
        let frames = show(
            meter(),
            [error.as_bytes(), text.as_bytes(), last.as_bytes()],
        );
        assert_eq!(frames.tail, Some(error.len() + text.len()), "{error}");
        assert_eq!(frames.reading, shown.reading);
        assert_eq!(frames.reading.usage.unwrap().total().total(), 7);
        // What was written after it counts, too, where the stream breaks off.
        let cut = read(Api::Responses, format!("{error}{text}"));
        assert!(!cut.complete && cut.is_error && cut.output_tokens_seen > 0);
        // Alone it is an error that used nothing, and the end of the body is the end.
        let shown = show(meter(), [error.as_bytes()]);
        assert_eq!(shown.tail, None, "{error}");
        let reading = shown.reading;
        assert!(reading.is_error && reading.usage.is_none() && reading.output_tokens_seen == 0);
    }
}

#[test]
fn broken_json_in_one_event_loses_only_that_event() {
    let reading = chat(format!(
        "data: {{\"choices\":]}}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n"
    ));
    assert!(reading.lost && reading.complete);
    assert_eq!(reading.usage.unwrap().total().total(), 7);
}

#[test]
fn numbers_that_json_does_not_know_are_survived() {
    reads_seven(USAGE.replace("[]", r#"[{"logprobs":[NaN,-Infinity,nan],"x":.5}]"#));
}

#[test]
fn a_cut_stream_is_estimated_from_its_text() {
    let stream = format!(
        "data: {}\n\n",
        CHUNK.replace("hi", "Hello, world. How are you?")
    )
    .repeat(10);
    let reading = chat(&stream);
    assert!(!reading.complete && reading.usage.is_none());
    assert!(
        (70..=90).contains(&reading.output_tokens_seen),
        "{}",
        reading.output_tokens_seen
    );
    // With usage and an end, the tokenizer is not asked.
    assert_eq!(
        reads_seven(format!("{stream}data: {USAGE}\n\ndata: [DONE]\n\n")).output_tokens_seen,
        0
    );
}

#[test]
fn every_kind_of_text_is_estimated_once() {
    let tokens = |api, body: &str| read(api, body).output_tokens_seen;
    let chat = |delta: &str| {
        tokens(
            Api::ChatCompletions,
            &format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n"),
        )
    };
    for delta in [
        r#"{"content":"Hello"}"#,
        r#"{"reasoning_content":"Hello"}"#,
        r#"{"reasoning":"Hello"}"#,
        r#"{"reasoning_content":"Hello","reasoning":"Hello"}"#,
        r#"{"refusal":"Hello"}"#,
        r#"{"content":[{"type":"text","text":"Hello"}]}"#,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hello"}]}]}"#,
        r#"{"tool_calls":[{"function":{"arguments":"Hello"}}]}"#,
        r#"{"function_call":{"arguments":"Hello"}}"#,
        r#"{"content":"Hel\u006co","role":"assistant","audio":{"data":"AAAAAAAA"}}"#,
    ] {
        assert_eq!(chat(delta), 1, "{delta}");
    }
    // What frames a call is 7 tokens.
    let call = r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"Hello"}}]}"#;
    assert_eq!(chat(call), 8);
    let input = r#"{"content":[{"type":"tool_use","name":"Hello","input":{"a":["Hello",{"b":"Hello"}],"c":7}}]}"#;
    assert_eq!(tokens(Api::Messages, input), 10);
    assert_eq!(
        tokens(
            Api::ChatCompletions,
            r#"{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}"#
        ),
        1
    );
    assert_eq!(
        tokens(
            Api::Completions,
            "data: {\"choices\":[{\"text\":\"Hello\"}]}\n\n"
        ),
        1
    );
    assert_eq!(
        tokens(
            Api::Responses,
            r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}"#
        ),
        1
    );
    let events = concat!(
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n\n",
        "data: {\"type\":\"response.output_text.done\",\"text\":\"Hello\"}\n\n",
        "data: {\"type\":\"response.content_part.done\",\"part\":{\"text\":\"Hello\"}}\n\n",
        "data: {\"type\":\"response.output_item.done\",\"item\":{\"name\":\"x\",\"content\":[{\"text\":\"Hello\"}]}}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"content\":[{\"text\":\"Hello\"}]}]}}\n\n",
    );
    assert_eq!(tokens(Api::Responses, events), 1);
    assert_eq!(
        tokens(
            Api::Responses,
            "data: {\"type\":\"response.audio.delta\",\"delta\":\"AAAAAAAAAAAA\"}\n\n"
        ),
        0
    );
}

#[test]
fn text_longer_than_the_buffer_is_counted_as_it_comes() {
    let line = format!("data: {}\n\n", CHUNK.replace("hi", &"word ".repeat(100)));
    let mut meter = AnswerMeter::new(Api::ChatCompletions, 200, None, None);
    for _ in 0..200 {
        meter.push(line.as_bytes());
    }
    let tokens = meter.finish().output_tokens_seen;
    assert!((19_500..=20_500).contains(&tokens), "{tokens}");
}

#[test]
fn an_unknown_or_corrupt_coding_is_unknown_usage() {
    let stream = format!("data: {USAGE}\n\ndata: [DONE]\n\n");
    let coded = encode::gzip(stream.repeat(50).as_bytes());
    let mut corrupt = coded.clone();
    corrupt.truncate(30);
    corrupt.extend([0xaa; 100]);
    for (coding, body) in [
        ("gzip", &corrupt),
        ("br", &coded),
        ("zstd", &coded),
        ("deflate", &corrupt),
        ("compress", &coded),
        ("gzip, br", &coded),
    ] {
        for size in [1, body.len()] {
            let shown = show(
                AnswerMeter::new(Api::ChatCompletions, 200, None, Some(coding)),
                body.chunks(size),
            );
            assert!(
                shown.reading.lost && shown.reading.usage.is_none(),
                "{coding}"
            );
        }
    }
    // Cut, but not corrupt: what came is read.
    let shown = show(
        AnswerMeter::new(Api::ChatCompletions, 200, None, Some("gzip")),
        [&coded[..coded.len() - 8]],
    );
    assert!(shown.reading.usage.is_some());
}

#[test]
fn a_decompression_bomb_is_let_go() {
    let bomb = vec![b' '; 16 << 20];
    for (coding, body) in [
        ("gzip", encode::gzip(&bomb)),
        ("deflate", encode::zlib(&bomb)),
        ("zstd", encode::zstd(&bomb)),
        ("br", encode::brotli(&bomb)),
    ] {
        let shown = show(
            AnswerMeter::new(Api::ChatCompletions, 200, None, Some(coding)),
            [&body[..]],
        );
        assert!(shown.reading.lost, "{coding}");
    }
}

#[test]
fn a_compressed_stream_is_read_as_it_comes() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut meter = AnswerMeter::new(Api::ChatCompletions, 200, None, Some("gzip"));
    for (event, terminal) in [(CHUNK, false), (USAGE, false), ("[DONE]", true)] {
        write!(encoder, "data: {event}\n\n").unwrap();
        encoder.flush().unwrap();
        let progress = meter.push(&std::mem::take(encoder.get_mut()));
        assert_eq!(progress != meter::Progress::Open, terminal);
    }
}
