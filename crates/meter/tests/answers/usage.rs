//! From each provider's usage object to buckets.

use meter::Api;
use tariff::{Amount, Buckets, Flag, Usage};

use super::read;

#[track_caller]
fn usage(object: &str) -> Usage {
    read(Api::ChatCompletions, format!(r#"{{"usage":{object}}}"#))
        .usage
        .expect(object)
}

#[track_caller]
fn reads(object: &str, want: Buckets, flags: &[Flag]) {
    let usage = usage(object);
    assert_eq!(usage.total(), want, "{object}");
    let bits = flags.iter().fold(0, |bits, flag| bits | *flag as u16);
    assert_eq!(usage.flags.bits(), bits, "{object}");
}

#[test]
fn openai_and_its_details() {
    reads(
        r#"{"prompt_tokens":4020,"completion_tokens":741,"total_tokens":4761,
            "prompt_tokens_details":{"cached_tokens":2560,"cache_write_tokens":400,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":640,"accepted_prediction_tokens":5,"rejected_prediction_tokens":6}}"#,
        Buckets {
            in_text: 1060,
            cr_text: 2560,
            cw_5m: 400,
            out_text: 101,
            out_reasoning: 640,
            ..Buckets::default()
        },
        &[],
    );
    reads(
        r#"{"prompt_tokens":59,"completion_tokens":123,"total_tokens":182,"prompt_tokens_details":{"audio_tokens":43,"text_tokens":16},
            "completion_tokens_details":{"audio_tokens":100,"text_tokens":23}}"#,
        Buckets {
            in_text: 16,
            in_audio: 43,
            out_text: 23,
            out_audio: 100,
            ..Buckets::default()
        },
        &[],
    );
    reads(
        r#"{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"audio_tokens":40,"image_tokens":30,"cached_tokens":50,
            "cached_tokens_details":{"audio_tokens":20,"image_tokens":10,"text_tokens":20}},"completion_tokens_details":{"image_tokens":4}}"#,
        Buckets {
            in_text: 10,
            in_audio: 20,
            in_image: 20,
            cr_text: 20,
            cr_audio: 20,
            cr_image: 10,
            out_text: 6,
            out_image: 4,
            ..Buckets::default()
        },
        &[],
    );
}

#[test]
fn singular_details_and_other_names_of_cached_tokens() {
    let want = Buckets {
        in_text: 6,
        cr_text: 4,
        out_text: 2,
        ..Buckets::default()
    };
    for cached in [
        r#""prompt_tokens_details":{"cached_tokens":4}"#,
        r#""prompt_token_details":{"cached_tokens":4}"#,
        r#""prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6"#,
        r#""prompt_cache_hit_tokens":4,"prompt_tokens_details":{"cached_tokens":0}"#,
        r#""cached_tokens":4"#,
        r#""num_cached_tokens":4"#,
    ] {
        reads(
            &format!(r#"{{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,{cached}}}"#),
            want,
            &[],
        );
    }
    reads(
        r#"{"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6,"completion_tokens":2}"#,
        want,
        &[],
    );
}

#[test]
fn the_gap_belongs_to_reasoning_or_to_audio() {
    // xAI's chat: reasoning stands outside the completion.
    reads(
        r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":241,"prompt_tokens_details":{"cached_tokens":2,"text_tokens":12},
            "completion_tokens_details":{"reasoning_tokens":228}}"#,
        Buckets {
            in_text: 10,
            cr_text: 2,
            out_text: 1,
            out_reasoning: 228,
            ..Buckets::default()
        },
        &[Flag::TotalAboveParts],
    );
    // Gemini's compatible endpoint: reasoning shows in the total only.
    reads(
        r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#,
        Buckets {
            in_text: 35,
            out_text: 12,
            out_reasoning: 62,
            ..Buckets::default()
        },
        &[Flag::TotalAboveParts],
    );
    // Mistral: audio stands outside the prompt.
    reads(
        r#"{"prompt_tokens":9,"completion_tokens":248,"total_tokens":632,"prompt_tokens_details":{"audio_tokens":375}}"#,
        Buckets {
            in_text: 9,
            in_audio: 375,
            out_text: 248,
            ..Buckets::default()
        },
        &[Flag::TotalAboveParts],
    );
    reads(
        r#"{"prompt_tokens":9,"completion_tokens":248,"total_tokens":200}"#,
        Buckets {
            in_text: 9,
            out_text: 248,
            ..Buckets::default()
        },
        &[Flag::TotalBelowParts],
    );
}

#[test]
fn parts_larger_than_their_whole_are_clamped() {
    reads(
        r#"{"prompt_tokens":208,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":314}}"#,
        Buckets {
            cr_text: 208,
            out_text: 1,
            ..Buckets::default()
        },
        &[Flag::CachedAbovePrompt],
    );
    reads(
        r#"{"prompt_tokens":10,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":8,"cache_write_tokens":5},
            "completion_tokens_details":{"reasoning_tokens":11}}"#,
        Buckets {
            cr_text: 8,
            cw_5m: 2,
            out_reasoning: 10,
            ..Buckets::default()
        },
        &[Flag::WrittenAbovePrompt, Flag::ReasoningAboveCompletion],
    );
    reads(
        r#"{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"audio_tokens":11},"completion_tokens_details":{"image_tokens":4}}"#,
        Buckets {
            in_audio: 10,
            out_image: 3,
            ..Buckets::default()
        },
        &[Flag::ModalityAboveSide],
    );
}

#[test]
fn numbers_are_read_as_providers_write_them() {
    let want = Buckets {
        in_text: 5,
        out_text: 2,
        ..Buckets::default()
    };
    for object in [
        r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":null,"prompt_tokens_details":null,"x":[{"y":1}]}"#,
        r#"{"prompt_tokens":5.0,"completion_tokens":2.000,"total_tokens":7e0}"#,
        r#"{"prompt_tokens":"5","completion_tokens":"2","total_tokens":"7.0"}"#,
        r#"{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null}}"#,
        r#"{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{}}"#,
        r#"{"input_tokens":5,"output_tokens":2,"total_tokens":7}"#,
    ] {
        reads(object, want, &[]);
    }
    for bad in [
        "-3",
        "2.5",
        "9007199254740993",
        "\"x\"",
        "true",
        "{}",
        "[1]",
        "1e99",
        "\"\"",
    ] {
        reads(
            &format!(
                r#"{{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{{"cached_tokens":{bad}}}}}"#
            ),
            want,
            &[Flag::BadNumber],
        );
    }
}

#[test]
fn a_total_alone_is_input() {
    for object in [
        r#"{"total_tokens":8}"#,
        r#"{"prompt_tokens":8,"total_tokens":8}"#,
    ] {
        let reading = read(
            Api::Embeddings,
            format!(r#"{{"data":[{{"embedding":[0.1,-2e-3]}}],"model":"e","usage":{object}}}"#),
        );
        assert_eq!(
            reading.usage.unwrap().total(),
            Buckets {
                in_text: 8,
                ..Buckets::default()
            }
        );
        assert_eq!(reading.output_tokens_seen, 0);
    }
}

#[test]
fn an_object_that_says_nothing_is_no_usage() {
    for object in [
        "{}",
        "null",
        "[]",
        "7",
        "\"7\"",
        r#"{"prompt_tokens":null}"#,
        r#"{"queue_time":0.1}"#,
    ] {
        let reading = read(Api::ChatCompletions, format!(r#"{{"usage":{object}}}"#));
        assert_eq!((reading.usage, reading.usage_raw), (None, None), "{object}");
    }
}

#[track_caller]
fn stream(events: &[&str]) -> meter::Reading {
    let body: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    read(Api::ChatCompletions, body + "data: [DONE]\n\n")
}

#[test]
fn the_last_usage_that_is_not_null_wins_and_nothing_adds_up() {
    let reading = stream(&[
        r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#,
        r#"{"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}"#,
        r#"{"usage":null}"#,
        r#"{"usage":{}}"#,
        r#"{"choices":[],"moderation":{}}"#,
    ]);
    assert_eq!(
        reading.usage.unwrap().total(),
        Buckets {
            in_text: 5,
            out_text: 9,
            ..Buckets::default()
        }
    );
    assert_eq!(
        reading.usage_raw.as_deref(),
        Some(r#"{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}"#)
    );
}

#[test]
fn the_last_wins_figure_by_figure() {
    let reading = stream(&[
        r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3}}}"#,
        r#"{"usage":{"prompt_tokens":null,"completion_tokens":9}}"#,
    ]);
    assert_eq!(
        reading.usage.unwrap().total(),
        Buckets {
            in_text: 2,
            cr_text: 3,
            out_text: 9,
            ..Buckets::default()
        }
    );
}

#[test]
fn groq_counts_once_wherever_it_puts_its_usage() {
    let object =
        r#"{"queue_time":0.005,"prompt_tokens":339,"completion_tokens":58,"total_tokens":397}"#;
    let both = format!(r#"{{"x_groq":{{"id":"r","usage":{object}}},"usage":{object}}}"#);
    let only = format!(r#"{{"x_groq":{{"id":"r","usage":{object}}}}}"#);
    let choice = format!(r#"{{"choices":[{{"delta":{{}},"usage":{object}}}]}}"#);
    for event in [both, only, choice] {
        let reading = stream(&[&event]);
        assert_eq!(reading.usage.unwrap().total().total(), 397, "{event}");
        assert_eq!(reading.usage_raw.as_deref(), Some(object));
    }
}

#[test]
fn several_models_have_a_line_each_where_nothing_is_left_out() {
    let usage = r#""usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42}"#;
    let one =
        r#"{"model":"a","usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
    let two =
        r#"{"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27},"model":"b"}"#;
    let split = format!(r#""usage_breakdown":{{"models":[{one},{two}]}}"#);
    for event in [
        format!(r#"{{"model":"groq/compound",{usage},{split}}}"#),
        format!(r#"{{"model":"groq/compound","x_groq":{{{usage},{split}}},{usage},{split}}}"#),
    ] {
        let usage = stream(&[&event]).usage.unwrap();
        let lines: Vec<_> = usage
            .lines
            .iter()
            .map(|line| (line.model.as_deref(), line.buckets.total()))
            .collect();
        assert_eq!(lines, [(Some("a"), 15), (Some("b"), 27)], "{event}");
    }
    let partial = format!(
        r#"{{"model":"groq/compound",{usage},"usage_breakdown":{{"models":[{one},{one}]}}}}"#
    );
    let usage = stream(&[&partial]).usage.unwrap();
    assert_eq!((usage.lines.len(), usage.total().total()), (1, 42));
}

#[test]
fn timings_count_where_nothing_else_does() {
    let timings =
        r#""timings":{"cache_n":30,"prompt_n":6,"prompt_ms":8.5,"predicted_n":12,"draft_n":3}"#;
    let want = Buckets {
        in_text: 6,
        cr_text: 30,
        out_text: 12,
        ..Buckets::default()
    };
    assert_eq!(
        stream(&[&format!("{{{timings}}}")]).usage.unwrap().total(),
        want
    );
    let beside = format!(
        r#"{{"usage":{{"prompt_tokens":36,"completion_tokens":13,"total_tokens":49}},{timings}}}"#
    );
    assert_eq!(
        stream(&[&beside]).usage.unwrap().total(),
        Buckets {
            in_text: 36,
            out_text: 13,
            ..Buckets::default()
        }
    );
}

#[test]
fn the_model_is_the_first_that_is_named_and_the_tier_the_last() {
    let reading = stream(&[
        r#"{"model":"","id":"","choices":[],"prompt_filter_results":[{"model":"x","id":"y"}]}"#,
        r#"{"model":"gpt-35-turbo","id":"chatcmpl-1","service_tier":"auto"}"#,
        r#"{"model":"other","id":"chatcmpl-2","service_tier":"flex","usage":{"total_tokens":1,"service_tier":"standard"}}"#,
        r#"{"service_tier":null}"#,
    ]);
    assert_eq!(reading.model.as_deref(), Some("gpt-35-turbo"));
    assert_eq!(reading.response_id.as_deref(), Some("chatcmpl-1"));
    let usage = reading.usage.unwrap();
    assert_eq!(usage.service_tier.as_deref(), Some("flex"));
    assert_eq!(usage.lines[0].model.as_deref(), Some("gpt-35-turbo"));
    let mistral = stream(&[r#"{"usage":{"total_tokens":1,"service_tier":"standard"}}"#]);
    assert_eq!(
        mistral.usage.unwrap().service_tier.as_deref(),
        Some("standard")
    );
}

#[test]
fn what_the_provider_says_it_cost_is_read_from_its_digits() {
    let cost = |object: &str| usage(object).provider_cost?.amount().map(Amount::nano);
    assert_eq!(
        cost(
            r#"{"total_tokens":1,"cost":1.13e-05,"is_byok":false,"cost_details":{"upstream_inference_cost":9}}"#
        ),
        Some(11_300)
    );
    assert_eq!(
        cost(r#"{"total_tokens":1,"cost":"0.0133176"}"#),
        Some(13_317_600)
    );
    assert_eq!(cost(r#"{"total_tokens":1,"cost":0,"is_byok":true}"#), None);
    assert_eq!(
        cost(r#"{"total_tokens":1,"cost_in_usd_ticks":1176500}"#),
        Some(117_650)
    );
    assert_eq!(cost(r#"{"cost_in_usd_ticks":200000000}"#), Some(20_000_000));
    let perplexity = r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"search_context_size":"low",
        "cost":{"input_tokens_cost":0.00001,"output_tokens_cost":0.0,"request_cost":0.005,"total_cost":0.00501}}"#;
    assert_eq!(cost(perplexity), Some(5_010_000));
    assert_eq!(cost(r#"{"total_tokens":1,"cost":null}"#), None);
    assert!(
        usage(r#"{"total_tokens":1,"cost":-1}"#)
            .flags
            .has(Flag::BadNumber)
    );
}

#[test]
fn a_huge_usage_object_is_read_and_not_kept() {
    let padding = "x".repeat(100_000);
    let reading = stream(&[&format!(
        r#"{{"usage":{{"prompt_tokens":5,"pad":"{padding}","completion_tokens":2}}}}"#
    )]);
    assert_eq!(reading.usage.unwrap().total().total(), 7);
    assert_eq!(reading.usage_raw, None);
}

#[test]
fn an_answer_in_pretty_printed_json_is_read() {
    let reading = read(
        Api::Responses,
        "{\n  \"id\" : \"resp_1\",\n  \"status\" : \"incomplete\",\n  \"usage\" : {\n    \"input_tokens\" : 5 ,\n    \"output_tokens\":\t2\n  }\n}\n",
    );
    assert_eq!(reading.usage.unwrap().total().total(), 7);
    assert_eq!(reading.response_id.as_deref(), Some("resp_1"));
    assert!(reading.finished && reading.complete);
}

#[test]
fn parts_that_are_kept_under_ids_of_their_own_are_told_once_each() {
    let parts = |api, body: &str| read(api, body).parts;
    let output = r#"[{"type":"reasoning","id":"rs_1","summary":[{"id":"no"}]},{"type":"code_interpreter_call","id":"ci_1","container_id":"cntr_1"},{"type":"message","id":"msg_1","content":[{"type":"output_text","id":"no"}]}]"#;
    let told = ["rs_1", "ci_1", "cntr_1", "msg_1"];
    assert_eq!(
        parts(
            Api::Responses,
            &format!(r#"{{"id":"resp_1","status":"completed","output":{output}}}"#)
        ),
        told
    );
    let events = format!(
        "event: response.output_item.added\ndata: {{\"type\":\"response.output_item.added\",\"item\":{{\"type\":\"reasoning\",\"id\":\"rs_1\"}}}}\n\nevent: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":{output}}}}}\n\n"
    );
    assert_eq!(parts(Api::Responses, &events), told);
    let chat = r#"{"id":"c","choices":[{"message":{"audio":{"id":"audio_1","transcript":"x"}}},{"message":{"audio":null}}]}"#;
    assert_eq!(parts(Api::ChatCompletions, chat), ["audio_1"]);
    let chunks = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"audio\":{\"id\":\"audio_1\"}}}]}\n\ndata: {\"id\":\"c\",\"choices\":[{\"delta\":{\"audio\":{\"id\":\"audio_1\",\"data\":\"AA==\"}}}]}\n\ndata: [DONE]\n\n";
    assert_eq!(parts(Api::ChatCompletions, chunks), ["audio_1"]);
    let message = r#"{"id":"msg_1","type":"message","container":{"id":"container_1","expires_at":"x"},"content":[{"type":"text","id":"no"}]}"#;
    assert_eq!(parts(Api::Messages, message), ["container_1"]);
    let many: Vec<_> = (0..300).map(|at| format!(r#"{{"id":"i{at}"}}"#)).collect();
    let many = format!(r#"{{"output":[{}]}}"#, many.join(","));
    assert_eq!(parts(Api::Responses, &many).len(), 256);
}
