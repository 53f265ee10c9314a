//! How far a job is, by the object that its provider tells of it.

use serde::Deserialize;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on.
    Open,
    /// It came to its end.
    Done,
    /// It failed, was cancelled or ran out of time. What it had done by then may cost.
    Stopped,
}

/// Tokens of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelTokens {
    /// The model.
    pub model: String,
    /// All input.
    pub input: u64,
    /// What of it was read from a cache.
    pub cached: u64,
    /// All output.
    pub output: u64,
}

/// What a job's object says: a batch (of OpenAI or Anthropic), a fine-tuning job, a video, a run of an eval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub state: JobState,
    /// The model it names.
    pub model: Option<String>,
    /// The endpoint of a batch.
    pub endpoint: Option<String>,
    /// The files with the answers of a batch: those that came, then those that failed.
    pub output_files: Vec<String>,
    /// Whether the results of a batch are under its own path (Anthropic).
    pub has_results: bool,
    /// Tokens that a fine-tuning job was trained on.
    pub trained_tokens: Option<u64>,
    /// How long a video plays, in milliseconds.
    pub video_ms: Option<u64>,
    /// How large a video is: `1280x720`.
    pub size: Option<String>,
    /// What the runs of an eval used.
    pub models: Vec<ModelTokens>,
}

impl JobReport {
    /// Reads a job's object; `None` if these bytes are none.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        let object: Object = serde_json::from_slice(json).ok()?;
        let word = object.status.or(object.processing_status)?;
        let state = match &*word {
            "completed" | "succeeded" | "ended" | "incomplete" => JobState::Done,
            "failed" | "cancelled" | "canceled" | "expired" => JobState::Stopped,
            _ => JobState::Open,
        };
        let output_files = [object.output_file_id, object.error_file_id];
        Some(Self {
            id: object.id,
            state,
            model: object.model.filter(|model| !model.is_empty()),
            endpoint: object.endpoint,
            output_files: output_files.into_iter().flatten().collect(),
            has_results: object.results_url.is_some(),
            trained_tokens: object.trained_tokens,
            video_ms: object.seconds.and_then(Seconds::millis),
            size: object.size,
            models: object
                .per_model_usage
                .unwrap_or_default()
                .into_iter()
                .map(Into::into)
                .collect(),
        })
    }
}

#[derive(Deserialize)]
struct Object {
    id: String,
    status: Option<String>,
    /// Anthropic's word for it.
    processing_status: Option<String>,
    model: Option<String>,
    endpoint: Option<String>,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    results_url: Option<String>,
    trained_tokens: Option<u64>,
    seconds: Option<Seconds>,
    size: Option<String>,
    per_model_usage: Option<Vec<PerModel>>,
}

/// OpenAI writes them as a string, others as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Text(String),
    Number(serde_json::Number),
}

impl Seconds {
    fn millis(self) -> Option<u64> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        crate::answer::millis(text.as_bytes())
    }
}

#[derive(Deserialize)]
struct PerModel {
    model_name: String,
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    cached_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl From<PerModel> for ModelTokens {
    fn from(used: PerModel) -> Self {
        Self {
            model: used.model_name,
            input: used.prompt_tokens,
            cached: used.cached_tokens.min(used.prompt_tokens),
            output: used.completion_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_tells_its_length_as_a_text() {
        let video = br#"{"id":"video_1","object":"video","model":"sora-2","status":"completed","seconds":"8","size":"720x1280"}"#;
        let report = JobReport::read(video).unwrap();
        assert_eq!(report.video_ms, Some(8_000));
        assert_eq!(report.state, JobState::Done);
        assert_eq!(report.size.as_deref(), Some("720x1280"));
    }

    #[test]
    fn every_word_for_an_end_is_known() {
        let state = |word: &str| {
            let json = format!(r#"{{"id":"x","status":"{word}"}}"#);
            JobReport::read(json.as_bytes()).unwrap().state
        };
        for word in [
            "validating",
            "validating_files",
            "queued",
            "running",
            "in_progress",
            "finalizing",
            "cancelling",
            "paused",
        ] {
            assert_eq!(state(word), JobState::Open, "{word}");
        }
        for word in ["completed", "succeeded", "ended"] {
            assert_eq!(state(word), JobState::Done, "{word}");
        }
        for word in ["failed", "cancelled", "canceled", "expired"] {
            assert_eq!(state(word), JobState::Stopped, "{word}");
        }
        let anthropic = JobReport::read(
            br#"{"id":"msgbatch_1","processing_status":"ended","results_url":"https://x"}"#,
        )
        .unwrap();
        assert!(anthropic.state == JobState::Done && anthropic.has_results);
        assert_eq!(JobReport::read(br#"{"error":{"message":"no"}}"#), None);
    }

    #[test]
    fn a_recorded_batch_names_its_file() {
        let json = br#"{"id":"batch_1","object":"batch","endpoint":"/v1/responses","model":"gpt-5-nano-2025-08-07","status":"completed","output_file_id":"file-4","error_file_id":null,"usage":{"input_tokens":36}}"#;
        let report = JobReport::read(json).unwrap();
        assert_eq!(report.output_files, ["file-4"]);
        assert_eq!(report.endpoint.as_deref(), Some("/v1/responses"));
    }
}
