//! What a request for a job asks for: bodies that are small, or held whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BatchAsks, BatchReader, members::Members};

/// What a request for a batch (OpenAI's) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// The file with its requests.
    pub input_file: String,
    /// The endpoint they are for.
    pub endpoint: String,
}

/// What a request for fine-tuning says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningRequest {
    /// The model that is trained on.
    pub model: String,
    /// The file it is trained with.
    pub training_file: String,
    /// The file it is tried with.
    pub validation_file: Option<String>,
    /// How often it goes through that file; `None` where the provider decides.
    pub epochs: Option<u64>,
}

/// Why such a request is refused: the parameter at fault, and a sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFault {
    /// The parameter.
    pub param: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

fn fault(param: &'static str, message: impl Into<String>) -> JobFault {
    JobFault {
        param,
        message: message.into(),
    }
}

impl BatchRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// When a field is missing, stands there twice or is no text.
    pub fn read(body: &[u8]) -> Result<Self, JobFault> {
        let members = Members::read(body, "input_file_id")?;
        Ok(Self {
            input_file: needed(&members, "input_file_id")?,
            endpoint: needed(&members, "endpoint")?,
        })
    }
}

impl TuningRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// When a field is missing, stands there twice or has the wrong type, and for methods whose cost nobody can count.
    pub fn read(body: &[u8]) -> Result<Self, JobFault> {
        let members = Members::read(body, "model")?;
        let mut epochs = None;
        if let Some(old) = inner(&members, "hyperparameters")? {
            epochs = epochs_of(&old)?;
        }
        if let Some(method) = inner(&members, "method")? {
            let kind = text(&method, "type")?.unwrap_or_default();
            if !matches!(&*kind, "supervised" | "dpo") {
                return Err(fault(
                    "method",
                    "This gateway offers the methods \"supervised\" and \"dpo\": what others use beside training, graders above all, it cannot count.",
                ));
            }
            if let Some(own) = inner(&method, if kind == "dpo" { "dpo" } else { "supervised" })?
                && let Some(own) = inner(&own, "hyperparameters")?
            {
                epochs = epochs_of(&own)?.max(epochs);
            }
        }
        Ok(Self {
            model: needed(&members, "model")?,
            training_file: needed(&members, "training_file")?,
            validation_file: text(&members, "validation_file")?,
            epochs,
        })
    }
}

/// Reads the requests inside a batch of messages (Anthropic).
///
/// # Errors
/// When the body has no list of requests, or one of them cannot be read in one way or has no bound.
pub fn message_batch(body: &[u8]) -> Result<BatchAsks, JobFault> {
    let members = Members::read(body, "requests")?;
    let list = members.get("requests")?;
    let list = list.ok_or_else(|| fault("requests", "You must provide a requests parameter."))?;
    let list: Vec<&RawValue> = serde_json::from_str(list.get())
        .map_err(|_| fault("requests", "'requests' must be an array of objects."))?;
    let mut reader = BatchReader::default();
    for request in list {
        let request = Members::read(request.get().as_bytes(), "requests")?;
        let params = request.get("params")?;
        let params =
            params.ok_or_else(|| fault("requests", "Each of 'requests' must have 'params'."))?;
        reader.message(params.get().as_bytes());
    }
    Ok(reader.finish())
}

/// How often a video's parent, or a video itself, is asked for: a text that is a whole number of seconds.
#[must_use]
pub fn seconds_ms(text: &str) -> Option<u64> {
    let is_plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse::<u64>().ok().filter(|_| is_plain)?;
    seconds.checked_mul(1_000).filter(|ms| *ms > 0)
}

fn needed(members: &Members<'_>, name: &'static str) -> Result<String, JobFault> {
    let text = text(members, name)?;
    text.ok_or_else(|| fault(name, format!("You must provide a {name} parameter.")))
}

fn text(members: &Members<'_>, name: &'static str) -> Result<Option<String>, JobFault> {
    let Some(value) = members.get(name)? else {
        return Ok(None);
    };
    let text: Cow<'_, str> = serde_json::from_str(value.get())
        .map_err(|_| fault(name, format!("'{name}' must be a string.")))?;
    if text.is_empty() || text.len() > 512 {
        return Err(fault(name, format!("'{name}' must name something.")));
    }
    Ok(Some(text.into_owned()))
}

fn inner<'a>(members: &Members<'a>, name: &'static str) -> Result<Option<Members<'a>>, JobFault> {
    let Some(value) = members.get(name)? else {
        return Ok(None);
    };
    Members::read(value.get().as_bytes(), name).map(Some)
}

fn epochs_of(members: &Members<'_>) -> Result<Option<u64>, JobFault> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Epochs {
        Count(u64),
        Word(String),
    }
    const NAME: &str = "n_epochs";
    let wrong = || {
        fault(
            NAME,
            "'n_epochs' must be \"auto\" or a whole number above 0.",
        )
    };
    let Some(value) = members.get(NAME)? else {
        return Ok(None);
    };
    match serde_json::from_str(value.get()).map_err(|_| wrong())? {
        Epochs::Count(count) if count > 0 => Ok(Some(count)),
        Epochs::Word(word) if word == "auto" => Ok(None),
        Epochs::Count(_) | Epochs::Word(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_names_its_file_once() {
        let body = br#"{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h","metadata":{"input_file_id":"x"}}"#;
        let asked = BatchRequest::read(body).unwrap();
        assert_eq!(
            (&*asked.input_file, &*asked.endpoint),
            ("file-1", "/v1/responses")
        );
        for (body, param) in [
            (r#"{"endpoint":"/v1/responses"}"#, "input_file_id"),
            (
                r#"{"input_file_id":"a","input_file_id":"b","endpoint":"c"}"#,
                "input_file_id",
            ),
            (
                r#"{"input_file_id":"a","Input_File_Id":"b","endpoint":"c"}"#,
                "input_file_id",
            ),
            (r#"{"input_file_id":"a","endpoint":["c"]}"#, "endpoint"),
        ] {
            assert_eq!(
                BatchRequest::read(body.as_bytes()).unwrap_err().param,
                param,
                "{body}"
            );
        }
    }

    #[test]
    fn epochs_are_read_wherever_they_stand() {
        let read = |more: &str| {
            let body = format!(r#"{{"model":"gpt-4o-mini","training_file":"file-1"{more}}}"#);
            TuningRequest::read(body.as_bytes())
        };
        let epochs = |more| read(more).unwrap().epochs;
        assert_eq!(epochs(""), None);
        assert_eq!(epochs(r#","hyperparameters":{"n_epochs":3}"#), Some(3));
        assert_eq!(
            epochs(
                r#","method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":"auto"}}}"#
            ),
            None
        );
        assert_eq!(
            epochs(
                r#","method":{"type":"dpo","dpo":{"hyperparameters":{"n_epochs":4,"beta":0.1}}}"#
            ),
            Some(4)
        );
        for more in [
            r#","hyperparameters":{"n_epochs":0}"#,
            r#","hyperparameters":{"n_epochs":1.5}"#,
            r#","method":{"type":"reinforcement"}"#,
            r#","method":[]"#,
        ] {
            assert!(read(more).is_err(), "{more}");
        }
    }

    #[test]
    fn messages_of_a_batch_are_added_up() {
        let body = br#"{"requests":[{"custom_id":"a","params":{"model":"claude-sonnet-5","max_tokens":100,"messages":[]}},{"custom_id":"b","params":{"model":"claude-sonnet-5","max_tokens":50,"messages":[]}}]}"#;
        let asks = message_batch(body).unwrap();
        let [group] = &asks.groups[..] else {
            panic!("one group")
        };
        assert_eq!((group.lines, group.output_tokens), (2, 150));
        let twice = br#"{"requests":[{"params":{"model":"a","max_tokens":1,"max_tokens":2}}]}"#;
        let fault = message_batch(twice).unwrap().fault.unwrap();
        assert!(
            fault.to_string().contains("'max_tokens' more than once"),
            "{fault}"
        );
        assert!(message_batch(b"{}").is_err());
    }

    #[test]
    fn seconds_are_whole() {
        assert_eq!(seconds_ms("8"), Some(8_000));
        for text in ["", "0", "-1", "1.5", "99999", "x"] {
            assert_eq!(seconds_ms(text), None, "{text}");
        }
    }
}
