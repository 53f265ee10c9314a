//! What an answer used, read as its bytes pass.
//!
//! ```text
//! bytes as relayed ─► Coding ─► Body ─┬─► one JSON value ────────► Lexer ─► Harvest ─► Reading
//!                     (gzip …)        └─► Splitter ─► data values ───┘
//! ```

mod assemble;
mod audio;
mod body;
mod coding;
mod decimal;
mod document;
mod event;
mod figures;
mod harvest;
mod key;
mod normalise;
mod places;
mod tally;
mod tools;
mod used;

use tariff::Usage;

use self::{body::Body, coding::Coding};
pub(crate) use self::{decimal::millis, document::DocumentMeter};
use crate::Api;

/// A whole body without its content coding. `None` where the coding is unknown, the body corrupt, or longer than `bytes_max`.
#[must_use]
pub fn plain(content_encoding: Option<&str>, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    coding::plain(content_encoding, bytes, bytes_max)
}

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
    /// The provider's own usage object, as JSON text. `None` when it was larger than 64 KiB.
    pub usage_raw: Option<String>,
    /// The first non-empty model named.
    pub model: Option<String>,
    /// The first non-empty id of the answer.
    pub response_id: Option<String>,
    /// Ids under which the provider keeps parts of it: items of a response, containers, recordings of a chat.
    pub parts: Vec<String>,
    /// A status of 400 or more, a top-level `error`, or an error event.
    pub is_error: bool,
    /// The terminal event was seen. Some providers send none (no `[DONE]`): see `finished`.
    pub complete: bool,
    /// Some `finish_reason`, or a final `status`, was seen.
    pub finished: bool,
    /// Estimate, by tokenizer, of the answer's text that passed. 0 when the answer came to its end
    /// and reported its usage: the tokenizer is not run then.
    pub output_tokens_seen: u64,
    /// Calls of the client's tools that the answer makes.
    pub tool_calls: u64,
    /// Images that the answer holds or names.
    pub images: u64,
    /// How long the audio was that a transcript is of, by the transcript itself, in milliseconds. The
    /// usage, where there is one, has it as well.
    pub audio_in_ms: Option<u64>,
    /// How long the audio plays that the answer is, in milliseconds.
    pub audio_out_ms: Option<u64>,
    /// Reading stopped before the end: corrupt or unknown content coding, a decompression bomb, or
    /// broken JSON. What is known may not be all.
    pub lost: bool,
}

/// Watches an answer and reads what it used. Never fails and never delays.
///
/// Its memory is a few kilobytes, plus what a content coding needs for its window.
#[derive(Debug)]
pub struct AnswerMeter {
    api: Api,
    coding: Coding,
    body: Body,
    is_refusal: bool,
}

impl AnswerMeter {
    /// A meter at the start of an answer's body. The content type decides only what is sound; else
    /// the content does.
    #[must_use]
    pub fn new(
        api: Api,
        status: u16,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
    ) -> Self {
        Self {
            api,
            coding: Coding::named(content_encoding),
            body: Body::new(api, content_type.unwrap_or_default()),
            is_refusal: status >= 400,
        }
    }

    /// Shows the next bytes exactly as relayed, compressed ones too.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let terminal = if self.coding.is_identity() {
            self.body.push(bytes)
        } else {
            let mut terminal = None;
            let body = &mut self.body;
            self.coding.push(bytes, &mut |piece| {
                if body.push(piece).is_some() {
                    terminal = Some(0);
                }
            });
            terminal
        };
        terminal.map_or(Progress::Open, |tail| Progress::Terminal { tail })
    }

    /// The answer's id, once it has passed.
    #[must_use]
    pub fn response_id(&self) -> Option<&str> {
        self.body.harvest.id.as_deref()
    }

    /// A rough count of the output tokens that have passed, without the tokenizer: for whoever must know in the middle.
    #[must_use]
    pub fn output_tokens_roughly(&self) -> u64 {
        self.body.harvest.text_tokens_roughly()
    }

    /// The body has ended or was cut: what is known of it. Call once.
    pub fn finish(&mut self) -> Reading {
        self.body.finish();
        let audio_out_ms = self.body.audio_ms();
        let body = &mut self.body;
        let reading = document::reading(self.api, &mut body.harvest, body.is_complete);
        Reading {
            audio_out_ms,
            is_error: self.is_refusal || reading.is_error,
            lost: body.is_lost || self.coding.is_lost(),
            ..reading
        }
    }
}

/// What a content coding opens to, and whether the decoder let go: for fuzzing alone.
#[cfg(fuzzing)]
pub fn opened<'a>(coding: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut coding = Coding::named(Some(coding));
    let mut opened = Vec::new();
    for piece in pieces {
        coding.push(piece, &mut |bytes| opened.extend_from_slice(bytes));
    }
    (opened, coding.is_lost())
}
