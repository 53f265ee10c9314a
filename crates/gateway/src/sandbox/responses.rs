//! Answers of `/responses`.

use serde_json::{Value, json};

use super::{ask::Ask, fault::Fault, id, now, script::Script, words::Answer};

pub(super) fn answer(ask: &Ask) -> Result<Script, Fault> {
    for (name, why) in [
        (
            "background",
            "The sandbox answers at once; it has no background mode.",
        ),
        ("conversation", "The sandbox keeps no conversations."),
        ("prompt", "The sandbox has no stored prompts."),
    ] {
        if ask
            .body
            .get(name)
            .is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
        {
            return Err(Fault::field(name, Some("unsupported_value"), why));
        }
    }
    if let Some(Value::String(id)) = ask.body.get("previous_response_id") {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(Fault::field(
            "previous_response_id",
            Some("previous_response_not_found"),
            message,
        ));
    }
    let answer = Answer::new(ask.limit(&["max_output_tokens"])?);
    let response = Response {
        id: id("resp_"),
        item: id("msg_"),
        created: now(),
        ask,
        answer: &answer,
    };
    Ok(if ask.stream {
        Script::events(response.events())
    } else {
        Script::json(&response.document(Stage::Ended))
    })
}

struct Response<'a> {
    id: String,
    item: String,
    created: i64,
    ask: &'a Ask,
    answer: &'a Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    Ended,
}

impl Response<'_> {
    fn document(&self, stage: Stage) -> Value {
        let Self { ask, answer, .. } = self;
        let given = |name: &str, default: Value| match ask.body.get(name) {
            None | Some(Value::Null) => default,
            Some(value) => value.clone(),
        };
        let (input, output) = (ask.input_tokens, answer.count());
        let (status, items, usage) = match stage {
            Stage::Begun => ("in_progress", json!([]), Value::Null),
            Stage::Ended => (
                self.end_status(),
                json!([self.message(Stage::Ended)]),
                json!({
                    "input_tokens": input,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens": output,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": input + output,
                }),
            ),
        };
        let is_cut = stage == Stage::Ended && answer.is_cut;
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": is_cut.then(|| json!({"reason": "max_output_tokens"})),
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null),
            "metadata": given("metadata", json!({})),
            "model": ask.model,
            "output": items,
            "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "service_tier": ask.service_tier,
            "store": false,
            "temperature": given("temperature", json!(1.0)),
            "text": given("text", json!({"format": {"type": "text"}})),
            "tool_choice": given("tool_choice", json!("auto")),
            "tools": given("tools", json!([])),
            "top_p": given("top_p", json!(1.0)),
            "truncation": given("truncation", json!("disabled")),
            "usage": usage,
            "user": given("user", Value::Null),
        })
    }

    fn end_status(&self) -> &'static str {
        if self.answer.is_cut {
            "incomplete"
        } else {
            "completed"
        }
    }

    fn message(&self, stage: Stage) -> Value {
        let (status, content) = match stage {
            Stage::Begun => ("in_progress", json!([])),
            Stage::Ended => (self.end_status(), json!([part(&self.answer.text())])),
        };
        json!({"id": self.item, "type": "message", "status": status, "role": "assistant", "content": content})
    }

    fn events(&self) -> Vec<(&'static str, Value)> {
        let whole = |stage| json!({"response": self.document(stage)});
        let item = |stage| json!({"output_index": 0, "item": self.message(stage)});
        let within = |name: &str, value: Value| {
            let mut event = json!({"item_id": self.item, "output_index": 0, "content_index": 0});
            event[name] = value;
            event
        };
        let text = |name: &str, text: &str| {
            let mut event = within(name, text.into());
            event["logprobs"] = json!([]);
            event
        };
        let mut events = vec![
            ("response.created", whole(Stage::Begun)),
            ("response.in_progress", whole(Stage::Begun)),
            ("response.output_item.added", item(Stage::Begun)),
            ("response.content_part.added", within("part", part(""))),
        ];
        let deltas = self.answer.tokens.iter();
        events.extend(deltas.map(|token| ("response.output_text.delta", text("delta", token))));
        let end = if self.answer.is_cut {
            "response.incomplete"
        } else {
            "response.completed"
        };
        events.extend([
            (
                "response.output_text.done",
                text("text", &self.answer.text()),
            ),
            (
                "response.content_part.done",
                within("part", part(&self.answer.text())),
            ),
            ("response.output_item.done", item(Stage::Ended)),
            (end, whole(Stage::Ended)),
        ]);
        events
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
