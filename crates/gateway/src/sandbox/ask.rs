//! A request to the sandbox, as far as the sandbox looks at it.

use serde_json::{Map, Value};

use super::{fault::Fault, words};

/// As many answers may be asked for at once as OpenAI allows.
const CHOICES_MAX: u64 = 128;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) body: Map<String, Value>,
    /// Echoed in the answer.
    pub(super) model: String,
    pub(super) stream: bool,
    /// `stream_options.include_usage`.
    pub(super) include_usage: bool,
    /// `n`.
    pub(super) choices: u64,
    /// The tier the answer names: what was asked for, `default` for `auto`.
    pub(super) service_tier: String,
    /// Tokens of all text in the prompt.
    pub(super) input_tokens: u64,
    /// What the user said last.
    pub(super) last_text: String,
}

impl Ask {
    pub(super) fn new(body: Value) -> Result<Self, Fault> {
        let Value::Object(body) = body else {
            return Err(Fault::no_json());
        };
        let model = match body.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            Some(Value::Null) | None | Some(Value::String(_)) => {
                return Err(Fault::field(
                    "model",
                    None,
                    "you must provide a model parameter",
                ));
            }
            Some(_) => return Err(Fault::wrong_type("model", "a string")),
        };
        let stream = flag(&body, "stream")?;
        let mut ask = Self {
            model,
            stream,
            choices: 1,
            ..Self::empty()
        };
        ask.choices = count(&body, "n")?.unwrap_or(1);
        if ask.choices > CHOICES_MAX {
            let message = format!(
                "Invalid 'n': integer above maximum value. Expected a value <= {CHOICES_MAX}."
            );
            return Err(Fault::field("n", Some("integer_above_max_value"), message));
        }
        match body.get("stream_options") {
            None | Some(Value::Null) => {}
            Some(Value::Object(_)) if !stream => {
                let message =
                    "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
                return Err(Fault::field("stream_options", None, message));
            }
            Some(Value::Object(options)) => ask.include_usage = flag(options, "include_usage")?,
            Some(_) => return Err(Fault::wrong_type("stream_options", "an object")),
        }
        ask.service_tier = match body.get("service_tier") {
            None | Some(Value::Null) => "default".to_owned(),
            Some(Value::String(tier)) if tier == "auto" => "default".to_owned(),
            Some(Value::String(tier)) => tier.clone(),
            Some(_) => return Err(Fault::wrong_type("service_tier", "a string")),
        };
        // A list of token ids has no text; each id is a token.
        for name in ["instructions", "messages", "prompt", "input"] {
            ask.read_text(body.get(name).unwrap_or(&Value::Null));
        }
        ask.body = body;
        Ok(ask)
    }

    fn empty() -> Self {
        Self {
            body: Map::new(),
            model: String::new(),
            stream: false,
            include_usage: false,
            choices: 1,
            service_tier: String::new(),
            input_tokens: 0,
            last_text: String::new(),
        }
    }

    /// Counts the text in a prompt of any shape: strings, token ids, messages, parts.
    fn read_text(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.input_tokens += words::count(text);
                self.last_text.clone_from(text);
            }
            Value::Number(_) => self.input_tokens += 1,
            Value::Array(parts) => parts.iter().for_each(|part| self.read_text(part)),
            Value::Object(part) => {
                let said_before = self.last_text.clone();
                self.read_text(
                    part.get("content")
                        .or_else(|| part.get("text"))
                        .unwrap_or(&Value::Null),
                );
                if part.get("role").is_some_and(|role| role != "user") {
                    self.last_text = said_before;
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The smallest of the limits named so.
    pub(super) fn limit(&self, names: &[&str]) -> Result<Option<u64>, Fault> {
        let mut limit = None;
        for name in names {
            limit = count(&self.body, name)?.into_iter().chain(limit).min();
        }
        Ok(limit)
    }
}

/// A positive whole number, if given.
pub(super) fn count(body: &Map<String, Value>, name: &str) -> Result<Option<u64>, Fault> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(count) if count < 1 => {
                let message = format!(
                    "Invalid '{name}': integer below minimum value. Expected a value >= 1."
                );
                Err(Fault::field(name, Some("integer_below_min_value"), message))
            }
            Some(count) => Ok(u64::try_from(count).ok()),
            None => Err(Fault::wrong_type(name, "an integer")),
        },
    }
}

fn flag(body: &Map<String, Value>, name: &str) -> Result<bool, Fault> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Fault::wrong_type(name, "a boolean")),
    }
}
