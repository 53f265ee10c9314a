//! A call as it was meant, whichever spelling of its fields it uses.

use serde_json::{Map, Value, json};

/// The output limit where a caller gives none, as its README promises.
const MAX_TOKENS: u64 = 100;

/// A call as it was meant.
pub(super) struct Asked {
    pub(super) api_key: Option<String>,
    pub(super) model: String,
    pub(super) max_tokens: u64,
    /// What goes up, this turn included, and comes back with the answer behind it.
    pub(super) dialogue: Vec<Value>,
}

impl Asked {
    /// Reads it, or says what is wrong.
    pub(super) fn read(body: &[u8], model: &str) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(mut body) = body else {
            return Err("the body is no object".to_owned());
        };
        let Some(user) = text(&mut body, "user_content")? else {
            return Err("user_content is needed".to_owned());
        };
        let system = match text(&mut body, "system_content")? {
            Some(text) if !text.is_empty() => Some(text),
            _ => text(&mut body, "sys_content")?,
        };
        let mut dialogue = dialogue(&mut body, "continuous_dialogue")?;
        if dialogue.is_empty() {
            dialogue = self::dialogue(&mut body, "continuous")?;
        }
        // A dialogue that goes on has its system message already; a new one is for this caller to change.
        if let Some(system) = system.filter(|system| !system.is_empty()) {
            let message = json!({ "role": "system", "content": system });
            match dialogue.first_mut() {
                Some(first) if first["role"] == "system" => *first = message,
                _ => dialogue.insert(0, message),
            }
        }
        dialogue.push(json!({ "role": "user", "content": user }));
        let max_tokens = match body.remove("max_tokens") {
            None | Some(Value::Null) => MAX_TOKENS,
            Some(tokens) => tokens
                .as_u64()
                .filter(|tokens| *tokens > 0)
                .ok_or("max_tokens is no positive integer")?,
        };
        Ok(Self {
            api_key: text(&mut body, "api_key")?.filter(|key| !key.is_empty()),
            model: text(&mut body, "model")?
                .filter(|model| !model.is_empty())
                .unwrap_or_else(|| model.to_owned()),
            max_tokens,
            dialogue,
        })
    }

    /// The call as it goes up.
    pub(super) fn upstream_body(&self) -> Vec<u8> {
        json!({
            "model": self.model,
            "messages": self.dialogue,
            "max_tokens": self.max_tokens,
        })
        .to_string()
        .into_bytes()
    }
}

/// A text member, taken out; absent and null are the same.
fn text(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is no string")),
    }
}

/// A dialogue, taken out; absent and null are an empty one.
fn dialogue(body: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, String> {
    let turns = match body.remove(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(turns)) => turns,
        Some(_) => return Err(format!("{name} is no array")),
    };
    let is_message = |turn: &Value| turn["role"].is_string() && turn.get("content").is_some();
    if turns.iter().all(is_message) {
        Ok(turns)
    } else {
        Err(format!("{name} holds something without role and content"))
    }
}
