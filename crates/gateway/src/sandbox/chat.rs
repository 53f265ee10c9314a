//! Answers of `/chat/completions`.

use serde_json::{Value, json};

use super::{ask::Ask, fault::Fault, id, now, script::Script, words::Answer};

pub(super) fn answer(ask: &Ask) -> Result<Script, Fault> {
    match ask.body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => {}
        _ => {
            return Err(Fault::field(
                "messages",
                None,
                "Missing or empty required parameter: 'messages'.",
            ));
        }
    }
    let answer = Answer::new(ask.limit(&["max_tokens", "max_completion_tokens"])?);
    Ok(if ask.stream {
        Script::chunks(chunks(ask, &answer))
    } else {
        Script::json(&document(ask, &answer))
    })
}

fn document(ask: &Ask, answer: &Answer) -> Value {
    let choice = |index| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": answer.text(), "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": answer.finish_reason(),
        })
    };
    json!({
        "id": id("chatcmpl-"),
        "object": "chat.completion",
        "created": now(),
        "model": ask.model,
        "choices": (0..ask.choices).map(choice).collect::<Vec<_>>(),
        "usage": usage(ask.input_tokens, answer.count() * ask.choices),
        "service_tier": ask.service_tier,
        "system_fingerprint": "fp_sandbox",
    })
}

/// The role, then a token at a time, then the reason for the end; the choices in turn. With
/// `include_usage` each has `usage: null`, and one more has the usage and no choice.
fn chunks(ask: &Ask, answer: &Answer) -> Vec<Value> {
    let mut frame = json!({
        "id": id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": now(),
        "model": ask.model,
        "choices": [],
        "service_tier": ask.service_tier,
        "system_fingerprint": "fp_sandbox",
    });
    if ask.include_usage {
        frame["usage"] = Value::Null;
    }
    let chunk = |choices: Value| {
        let mut chunk = frame.clone();
        chunk["choices"] = choices;
        chunk
    };
    let starts = [(
        json!({"role": "assistant", "content": "", "refusal": null}),
        None,
    )];
    let tokens = answer
        .tokens
        .iter()
        .map(|token| (json!({"content": token}), None));
    let ends = [(json!({}), Some(answer.finish_reason()))];
    let mut chunks = Vec::new();
    for (delta, finish_reason) in starts.into_iter().chain(tokens).chain(ends) {
        for index in 0..ask.choices {
            let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
            chunks.push(chunk(json!([choice])));
        }
    }
    if ask.include_usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage(ask.input_tokens, answer.count() * ask.choices);
        chunks.push(last);
    }
    chunks
}

/// The usage object of chat and legacy completions.
pub(super) fn usage(input: u64, output: u64) -> Value {
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
