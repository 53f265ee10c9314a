//! Answers of endpoints and providers of which no recording is at hand, written by their documents.

use meter::{AnswerMeter, Api};
use tariff::{Buckets, Tool, Units};

use super::{read, show};

#[track_caller]
fn buckets(api: Api, body: &str) -> Buckets {
    read(api, body).usage.expect("usage").total()
}

fn events(events: &[(&str, &str)]) -> String {
    let lines = events
        .iter()
        .map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"));
    lines.collect()
}

#[test]
fn a_message_stream_overlays_its_last_usage_on_its_first() {
    let body = events(&[
        (
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":40,"ephemeral_1h_input_tokens":60},"output_tokens":1,"service_tier":"priority","inference_geo":"us"}}}"#,
        ),
        ("ping", r#"{"type":"ping"}"#),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"}}"#,
        ),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12,"input_tokens":null}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ]);
    let reading = read(Api::Messages, &body);
    let usage = reading.usage.unwrap();
    assert_eq!(
        usage.total(),
        Buckets {
            in_text: 5,
            cw_5m: 40,
            cw_1h: 60,
            out_text: 12,
            ..Buckets::default()
        }
    );
    assert_eq!(
        (usage.service_tier.as_deref(), usage.region.as_deref()),
        (Some("priority"), Some("us"))
    );
    assert_eq!(
        (reading.model.as_deref(), reading.response_id.as_deref()),
        (Some("claude-x"), Some("msg_1"))
    );
    assert!(reading.complete && reading.finished && !reading.is_error);
    let raw: serde_json::Value = serde_json::from_str(&reading.usage_raw.unwrap()).unwrap();
    assert_eq!(raw["input_tokens"], 5);
    assert_eq!(raw["output_tokens"], 12);
}

#[test]
fn a_message_stream_waits_with_its_last_event() {
    let body = events(&[
        (
            "message_delta",
            r#"{"type":"message_delta","usage":{"output_tokens":1}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ]);
    for size in [1, 7, body.len()] {
        let meter = AnswerMeter::new(Api::Messages, 200, None, None);
        let shown = show(meter, body.as_bytes().chunks(size));
        let stop = body.find("event: message_stop").unwrap();
        assert!(shown.tail.unwrap() >= stop);
        assert!(shown.tail.unwrap() < body.len());
    }
}

#[test]
fn a_cut_message_stream_counts_the_text_that_passed() {
    let body = events(&[
        (
            "message_start",
            r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"one two three four"}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":" five six"}}"#,
        ),
    ]);
    let reading = read(Api::Messages, body);
    assert!(!reading.complete && !reading.finished);
    assert_eq!(reading.output_tokens_seen, 6);
}

#[test]
fn an_error_event_of_messages_is_an_error() {
    let body = events(&[(
        "error",
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    )]);
    let reading = read(Api::Messages, body);
    assert!(reading.is_error && reading.usage.is_none());
}

fn iterations(list: &str) -> Vec<(String, Buckets)> {
    let body = format!(
        r#"{{"type":"message","model":"executor","stop_reason":"end_turn","usage":{{"input_tokens":181,"output_tokens":8,"iterations":[{list}]}}}}"#
    );
    let usage = read(Api::Messages, body).usage.unwrap();
    let lines = usage.lines.into_iter();
    lines
        .map(|line| (line.model.unwrap(), line.buckets))
        .collect()
}

fn spent(in_text: u64, out_text: u64) -> Buckets {
    Buckets {
        in_text,
        out_text,
        ..Buckets::default()
    }
}

#[test]
fn a_compaction_is_a_line_beside_the_message() {
    let lines = iterations(
        r#"{"type":"compaction","input_tokens":100,"cache_read_input_tokens":55096,"output_tokens":83},{"type":"message","input_tokens":181,"output_tokens":8}"#,
    );
    let compaction = Buckets {
        cr_text: 55096,
        ..spent(100, 83)
    };
    assert_eq!(
        lines,
        [
            ("executor".into(), compaction),
            ("executor".into(), spent(181, 8))
        ]
    );
}

#[test]
fn one_message_is_the_answer_and_a_declined_hop_costs_nothing() {
    let whole = iterations(r#"{"type":"message","input_tokens":181,"output_tokens":8}"#);
    assert_eq!(whole, [("executor".into(), spent(181, 8))]);
    let lines = iterations(
        r#"{"type":"message","model":"declined","input_tokens":90,"output_tokens":0},{"type":"fallback_message","model":"served","input_tokens":181,"output_tokens":8}"#,
    );
    assert_eq!(lines, [("served".into(), spent(181, 8))]);
}

#[test]
fn ollamas_lines_end_with_the_one_that_is_done() {
    let lines = [
        r#"{"model":"llama3","message":{"role":"assistant","content":"Hi"},"done":false}"#,
        r#"{"model":"llama3","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":26,"eval_count":259}"#,
    ];
    let body = format!("{}\n{}\n", lines[0], lines[1]);
    let reading = read(Api::Generate, &body);
    assert_eq!(reading.usage.unwrap().total(), spent(26, 259));
    assert_eq!(reading.model.as_deref(), Some("llama3"));
    assert!(reading.complete && reading.finished);
    assert_eq!(
        reading.usage_raw.as_deref(),
        Some(r#"{"prompt_tokens":26,"completion_tokens":259}"#)
    );
    for size in [1, 10, body.len()] {
        let meter = AnswerMeter::new(Api::Generate, 200, None, None);
        let shown = show(meter, body.as_bytes().chunks(size));
        assert!(shown.tail.unwrap() > lines[0].len(), "pieces of {size}");
    }
    // A cached prompt is not counted again.
    let cached = r#"{"model":"llama3","response":"Hi","done":true,"eval_count":3}"#;
    assert_eq!(buckets(Api::Generate, cached), spent(0, 3));
    let pretty = "{\n  \"model\": \"llama3\",\n  \"done\": true,\n  \"eval_count\": 3\n}\n";
    assert_eq!(buckets(Api::Generate, pretty), spent(0, 3));
}

#[test]
fn a_cut_line_stream_is_not_complete() {
    let body = "{\"response\":\"one two\",\"done\":false}\n{\"response\":\" three\",\"do";
    let reading = read(Api::Generate, body);
    assert!(!reading.complete && reading.usage.is_none());
    assert_eq!(reading.output_tokens_seen, 3);
}

#[test]
fn llama_cpp_counts_at_the_top_of_its_answer() {
    let body = r#"{"content":"Hi","stop":true,"tokens_evaluated":11,"tokens_predicted":4}"#;
    assert_eq!(buckets(Api::Generate, body), spent(11, 4));
}

#[test]
fn image_streams_count_images_and_all_output_is_image() {
    let usage = r#""usage":{"input_tokens":50,"output_tokens":196,"total_tokens":246,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}"#;
    let partial = r#"{"type":"image_generation.partial_image","b64_json":"AAAA"}"#;
    let done = format!(r#"{{"type":"image_generation.completed","b64_json":"AAAA",{usage}}}"#);
    let body = events(&[
        ("image_generation.partial_image", partial),
        ("image_generation.completed", &done),
    ]);
    let reading = read(Api::Images, body);
    assert_eq!(reading.images, 1);
    assert!(reading.finished);
    let expected = Buckets {
        in_text: 10,
        in_image: 40,
        out_image: 196,
        ..Buckets::default()
    };
    assert_eq!(reading.usage.unwrap().total(), expected);
}

#[test]
fn images_without_usage_are_counted() {
    let body = r#"{"created":1,"data":[{"url":"https://x/1"},{"url":"https://x/2"}]}"#;
    let reading = read(Api::Images, body);
    assert_eq!((reading.images, reading.usage), (2, None));
}

#[test]
fn speech_events_report_audio_and_speech_files_their_length() {
    let body = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";
    let reading = read(Api::Speech, body);
    let expected = Buckets {
        in_text: 14,
        out_audio: 101,
        ..Buckets::default()
    };
    assert_eq!(reading.usage.unwrap().total(), expected);
    assert!(reading.complete);

    let meter = AnswerMeter::new(Api::Speech, 200, Some("audio/pcm"), None);
    let shown = show(meter, [&[b'{'; 24_000][..], &[0; 24_000]]);
    assert_eq!(shown.reading.audio_out_ms, Some(1_000));
    assert_eq!((shown.reading.usage, shown.reading.lost), (None, false));
}

#[test]
fn transcripts_say_how_long_they_listened() {
    let billed = r#"{"text":"Hi","usage":{"type":"duration","seconds":4}}"#;
    let usage = read(Api::Transcriptions, billed).usage.unwrap();
    let heard = Units {
        audio_in_ms: 4_000,
        ..Units::default()
    };
    assert_eq!(usage.lines[0].units, heard);
    let verbose = r#"{"task":"translate","duration":3.7000000477,"text":"Hi","segments":[]}"#;
    let reading = read(Api::Transcriptions, verbose);
    assert_eq!((reading.audio_in_ms, reading.usage), (Some(3_701), None));
    // Plain text has no figures, and is not mistaken for events.
    let plain = read(Api::Transcriptions, "Hello there.\nHow are you?\n");
    assert_eq!((plain.usage, plain.lost), (None, false));
}

#[test]
fn steps_of_a_run_are_not_counted_beside_the_run() {
    let step =
        r#"{"id":"step_1","usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#;
    let run = r#"{"id":"run_1","model":"gpt-4o","status":"completed","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
    let body = events(&[
        ("thread.run.completed", run),
        ("thread.run.step.completed", step),
        ("done", "[DONE]"),
    ]);
    let reading = read(Api::Runs, body);
    assert_eq!(reading.usage.unwrap().total(), spent(9, 2));
    assert_eq!(reading.response_id.as_deref(), Some("run_1"));
}

fn calls(api: Api, body: &str) -> Vec<(Tool, u64)> {
    let usage = read(api, body).usage.unwrap();
    let tools = usage.lines[0].units.tools;
    tools.iter().filter(|(_, calls)| *calls > 0).collect()
}

#[test]
fn tool_calls_are_counted_by_the_answer_or_by_its_items() {
    let usage = r#""usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}"#;
    let items = r#"[{"type":"web_search_call","action":{"type":"search"}},{"type":"web_search_call","action":{"type":"open_page"}},{"type":"file_search_call"},{"type":"code_interpreter_call","container_id":"a"},{"type":"code_interpreter_call","container_id":"a"},{"type":"code_interpreter_call","container_id":"b"}]"#;
    let by_items = [
        (Tool::WebSearch, 1),
        (Tool::FileSearch, 1),
        (Tool::Container, 2),
    ];
    let json = format!(r#"{{"output":{items},{usage}}}"#);
    assert_eq!(calls(Api::Responses, &json), by_items);
    // The last event of a stream repeats what events before it have shown.
    let stream = format!(
        "data: {{\"type\":\"response.output_item.done\",\"item\":{{\"type\":\"web_search_call\",\"action\":{{\"type\":\"search\"}}}}}}\n\ndata: {{\"type\":\"response.completed\",\"response\":{{\"output\":{items},{usage}}}}}\n\n"
    );
    assert_eq!(calls(Api::Responses, &stream), by_items);
    let reported = format!(
        r#"{{"tools":[{{"type":"web_search_preview"}}],"output":[],"tool_usage":{{"web_search":{{"num_requests":3}}}},{usage}}}"#
    );
    assert_eq!(
        calls(Api::Responses, &reported),
        [(Tool::WebSearchPreview, 3)]
    );
    let xai = r#"{"usage":{"input_tokens":1,"output_tokens":1,"server_side_tool_usage_details":{"web_search_calls":2,"x_search_calls":1,"code_interpreter_calls":4}}}"#;
    assert_eq!(
        calls(Api::Responses, xai),
        [
            (Tool::WebSearch, 2),
            (Tool::XSearch, 1),
            (Tool::Container, 4)
        ]
    );
}

#[test]
fn images_made_inside_a_response_are_a_line_of_their_own_model() {
    let body = r#"{"model":"gpt-5","tools":[{"type":"image_generation","model":"gpt-image-1.5"}],"output":[],"tool_usage":{"image_gen":{"input_tokens":9,"input_tokens_details":{"text_tokens":9,"image_tokens":0},"output_tokens":196,"output_tokens_details":{"image_tokens":196,"text_tokens":0},"total_tokens":205}},"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}"#;
    let usage = read(Api::Responses, body).usage.unwrap();
    assert_eq!(usage.lines.len(), 2);
    assert_eq!(usage.lines[1].model.as_deref(), Some("gpt-image-1.5"));
    let image = Buckets {
        in_text: 9,
        out_image: 196,
        ..Buckets::default()
    };
    assert_eq!(usage.lines[1].buckets, image);
}

#[test]
fn pages_that_were_read_are_counted() {
    let body = r#"{"pages":[{"index":0,"markdown":"usage_info","images":[]}],"model":"mistral-ocr-2505","usage_info":{"pages_processed":2,"doc_size_bytes":3002}}"#;
    let reading = read(Api::Ocr, body);
    assert_eq!(
        reading.usage_raw.as_deref(),
        Some(r#"{"pages_processed":2,"doc_size_bytes":3002}"#)
    );
    assert_eq!(reading.usage.unwrap().lines[0].units.pages, 2);
}

#[test]
fn a_search_of_perplexitys_is_told_by_its_size() {
    let body = |size| {
        format!(
            r#"{{"choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"search_context_size":"{size}"}}}}"#
        )
    };
    for (size, tool) in [
        ("low", Tool::WebSearchLow),
        ("medium", Tool::WebSearch),
        ("high", Tool::WebSearchHigh),
    ] {
        assert_eq!(calls(Api::ChatCompletions, &body(size)), [(tool, 1)]);
    }
}

#[test]
fn a_broken_line_is_passed_over_to_its_end() {
    // What was left of it, where it came in another piece, was read as a line of its own.
    let body =
        "{\"model\":\"m\",\"eval_count\":9x{\"eval_count\":1}\n{\"eval_count\":3,\"done\":true}\n";
    let usage = read(Api::Generate, body).usage.unwrap();
    assert_eq!(usage.total(), spent(0, 3));
}

#[test]
fn rerankers_are_read_by_tokens_or_by_search_units() {
    let tokens = r#"{"results":[],"usage":{"total_tokens":42}}"#;
    assert_eq!(buckets(Api::Rerank, tokens), spent(42, 0));
    let units = r#"{"results":[],"meta":{"billed_units":{"search_units":2}}}"#;
    let usage = read(Api::Rerank, units).usage.unwrap();
    assert_eq!(usage.lines[0].units.queries, 2);
}
