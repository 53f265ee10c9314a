//! What an answer used, read as its bytes pass.

use tariff::Usage;

use crate::Api;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The terminal event has not ended.
    Open,
    /// The terminal event ends in the bytes just pushed; reported once.
    ///
    /// `bytes[tail..]` must wait for the charge. A client cannot complete the terminal event
    /// without them. 0 for compressed answers and for JSON: the whole chunk.
    Terminal {
        /// Offset in the bytes just pushed.
        tail: usize,
    },
}

/// What is known of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What it used, normalised to disjoint buckets; `None` when no usage passed.
    pub usage: Option<Usage>,
    /// The provider's own usage object, as JSON text.
    pub usage_raw: Option<String>,
    /// The first non-empty model named.
    pub model: Option<String>,
    /// The first non-empty id of the answer.
    pub response_id: Option<String>,
    /// A status of 400 or more, a top-level `error`, or an error event.
    pub is_error: bool,
    /// The terminal event was seen.
    pub complete: bool,
    /// Some `finish_reason`, or a final `status`, was seen.
    pub finished: bool,
    /// Estimate, by tokenizer, of the answer's text that passed. 0 when the answer is complete and
    /// reported its usage: the tokenizer is not run then.
    pub output_tokens_seen: u64,
    /// Tool calls in the answer's text (function calls, not hosted tools).
    pub tool_calls: u64,
    /// Reading stopped before the end: corrupt or unknown content coding, a decompression bomb, or
    /// broken JSON. What is known may not be all.
    pub lost: bool,
}

/// Watches an answer and reads what it used. Never fails and never delays.
#[derive(Debug)]
pub struct AnswerMeter {}

impl AnswerMeter {
    /// A meter at the start of an answer's body. `content_type` is only a hint; the content decides.
    #[must_use]
    pub fn new(
        api: Api,
        status: u16,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
    ) -> Self {
        let _ = (api, status, content_type, content_encoding);
        Self {}
    }

    /// Shows the next bytes exactly as relayed, compressed ones too.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let _ = bytes;
        Progress::Open
    }

    /// The body has ended or was cut. Call once; a second call gives an empty reading.
    pub fn finish(&mut self) -> Reading {
        Reading::default()
    }
}
