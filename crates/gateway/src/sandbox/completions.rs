//! Answers of the legacy `/completions`.

use serde_json::{Value, json};

use super::{ask::Ask, chat::usage, fault::Fault, id, now, script::Script, words::Answer};

/// What OpenAI gives when no `max_tokens` says otherwise.
const DEFAULT_LIMIT: u64 = 16;

pub(super) fn answer(ask: &Ask) -> Result<Script, Fault> {
    let limit = ask.limit(&["max_tokens"])?.unwrap_or(DEFAULT_LIMIT);
    let answer = Answer::new(Some(limit));
    let choices = ask.choices.saturating_mul(prompts(ask.body.get("prompt"))?);
    let usage = usage(ask.input_tokens, answer.count() * choices);
    let mut frame = json!({
        "id": id("cmpl-"),
        "object": "text_completion",
        "created": now(),
        "model": ask.model,
        "choices": [],
        "system_fingerprint": "fp_sandbox",
    });
    let choice = |index: u64, text: &str, reason: Option<&str>| json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason});
    if !ask.stream {
        let all =
            (0..choices).map(|index| choice(index, &answer.text(), Some(answer.finish_reason())));
        frame["choices"] = all.collect();
        frame["usage"] = usage;
        return Ok(Script::json(&frame));
    }
    if ask.include_usage {
        frame["usage"] = Value::Null;
    }
    let tokens = answer.tokens.iter().map(|token| (*token, None));
    let mut chunks = Vec::new();
    for (text, reason) in tokens.chain([("", Some(answer.finish_reason()))]) {
        for index in 0..choices {
            frame["choices"] = json!([choice(index, text, reason)]);
            chunks.push(frame.clone());
        }
    }
    if ask.include_usage {
        frame["choices"] = json!([]);
        frame["usage"] = usage;
        chunks.push(frame);
    }
    Ok(Script::chunks(chunks))
}

/// A prompt is a text or a list of token ids; a list of either is several.
fn prompts(prompt: Option<&Value>) -> Result<u64, Fault> {
    match prompt {
        None | Some(Value::Null | Value::String(_)) => Ok(1),
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => Ok(1),
        Some(Value::Array(list)) => Ok(u64::try_from(list.len()).unwrap_or(u64::MAX)),
        Some(_) => Err(Fault::wrong_type("prompt", "a string or an array")),
    }
}
