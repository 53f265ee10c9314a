//! The text of a request, for an estimate of its input tokens.

use std::convert::Infallible;

use bytes::Bytes;

use super::{SAMPLE_BYTES_MAX, text_tokens};
use crate::{
    Api,
    lexer::{Here, Kind, Lexer, Scrap, Visitor},
};

/// What a chat message costs beside its text: two markers, the role, and a line end.
const TOKENS_PER_MESSAGE: u64 = 4;
/// A message's `name` costs a separator.
const TOKENS_PER_NAME: u64 = 1;
/// The answer is primed with the start of the assistant's message.
const TOKENS_PER_ANSWER: u64 = 3;
/// Keys of text are shorter.
const KEY_BYTES_MAX: usize = 32;

/// Estimated input tokens of a request, for an answer that reported no usage.
///
/// Counts what the model reads as text: strings under `messages`, `input`, `prompt`, `instructions`,
/// `suffix`, and keys and strings of `tools`, `functions` and schemas; a token id in a prompt is a
/// token. Chat adds 4 tokens per message, 1 per name and 3 for the start of the answer. Images,
/// files and audio are not counted. At most 256 KiB of text is tokenised; the rest is taken to be as dense.
#[must_use]
pub fn request_text_tokens(api: Api, model: &str, frames: &[Bytes]) -> u64 {
    let mut reader = TextReader {
        scope: Scope::Nothing,
        takes: false,
        is_key: false,
        is_string: false,
        key: Scrap::new(KEY_BYTES_MAX),
        text: Scrap::new(SAMPLE_BYTES_MAX),
        text_bytes: 0,
        ids: 0,
        messages: 0,
        names: 0,
    };
    let mut lexer = Lexer::<false>::default();
    for frame in frames {
        // A body that is no JSON was refused before anyone asks; what was read counts.
        if lexer.push(frame, &mut reader).is_err() {
            break;
        }
    }
    let text = String::from_utf8_lossy(reader.text.bytes());
    let sampled = reader.text.bytes().len() as u64;
    let mut tokens = text_tokens(model, &text);
    if reader.text_bytes > sampled {
        let scaled = u128::from(tokens)
            .saturating_mul(u128::from(reader.text_bytes))
            .checked_div(u128::from(sampled.max(1)));
        tokens = scaled
            .and_then(|scaled| u64::try_from(scaled).ok())
            .unwrap_or(u64::MAX);
    }
    tokens = tokens.saturating_add(reader.ids);
    if api == Api::ChatCompletions || api == Api::Responses {
        tokens = tokens
            .saturating_add(reader.messages.saturating_mul(TOKENS_PER_MESSAGE))
            .saturating_add(reader.names.saturating_mul(TOKENS_PER_NAME))
            .saturating_add(TOKENS_PER_ANSWER);
    }
    tokens
}

/// Where the strings now passing stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Nothing,
    /// `prompt`, `instructions`: every string and token id.
    Plain,
    /// `messages`, `input`: strings under the keys of text.
    Messages,
    /// `tools`, schemas: every key and string.
    Schema,
}

struct TextReader {
    scope: Scope,
    /// Whether strings under the current key are text.
    takes: bool,
    is_key: bool,
    is_string: bool,
    key: Scrap,
    text: Scrap,
    /// All text, also what no longer fits the sample.
    text_bytes: u64,
    ids: u64,
    messages: u64,
    names: u64,
}

impl TextReader {
    fn scope_of(key: &[u8]) -> Scope {
        match key {
            b"prompt" | b"instructions" | b"suffix" | b"system" => Scope::Plain,
            b"messages" | b"input" => Scope::Messages,
            b"tools" | b"functions" | b"response_format" | b"text" => Scope::Schema,
            _ => Scope::Nothing,
        }
    }

    fn is_text_key(key: &[u8]) -> bool {
        matches!(
            key,
            b"content"
                | b"text"
                | b"name"
                | b"arguments"
                | b"output"
                | b"refusal"
                | b"reasoning_content"
                | b"input"
                | b"code"
                | b"thinking"
        )
    }
}

impl Visitor for TextReader {
    type Stop = Infallible;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        self.is_key = kind == Kind::Key;
        self.is_string = kind == Kind::String;
        match kind {
            Kind::Key if here.depth == 1 || self.scope != Scope::Nothing => self.key.clear(),
            Kind::Object if self.scope == Scope::Messages && here.depth == 2 => {
                self.messages = self.messages.saturating_add(1);
            }
            Kind::String if self.scope == Scope::Messages && here.depth == 1 => {
                self.takes = true;
                self.messages = 1;
            }
            Kind::String if here.depth == 1 => self.takes = self.scope != Scope::Nothing,
            // Elements of an embeddings `input` or a `prompt`.
            Kind::String if self.scope == Scope::Messages && here.depth == 2 => self.takes = true,
            Kind::Number
                if matches!(self.scope, Scope::Plain | Scope::Messages)
                    && matches!(here.depth, 2 | 3) =>
            {
                self.ids = self.ids.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) {
        if self.is_key {
            self.key.text(piece);
        } else if self.takes && self.is_string {
            self.text.text(piece);
            self.text_bytes = self.text_bytes.saturating_add(piece.len() as u64);
        }
    }

    fn unit(&mut self, unit: u16) {
        if self.is_key {
            self.key.unit(unit);
        } else if self.takes && self.is_string {
            self.text.unit(unit);
            self.text_bytes = self.text_bytes.saturating_add(1);
        }
    }

    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        if kind != Kind::Key {
            if kind == Kind::String && self.takes {
                self.text.text(b"\n");
                self.text_bytes = self.text_bytes.saturating_add(1);
            }
            return Ok(());
        }
        self.is_key = false;
        let key = self.key.bytes();
        if here.depth == 1 {
            self.scope = Self::scope_of(key);
        }
        self.takes = match self.scope {
            Scope::Nothing => false,
            Scope::Plain => true,
            Scope::Messages => Self::is_text_key(key),
            Scope::Schema => {
                let (key, text) = (&self.key, &mut self.text);
                text.text(key.bytes());
                self.text_bytes = self.text_bytes.saturating_add(key.bytes().len() as u64);
                true
            }
        };
        if self.scope == Scope::Messages && here.depth == 3 && self.key.bytes() == b"name" {
            self.names = self.names.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn counts(api: Api, body: &str, want: u64) {
        for size in [1, 7, body.len()] {
            let frames: Vec<Bytes> = body
                .as_bytes()
                .chunks(size)
                .map(Bytes::copy_from_slice)
                .collect();
            assert_eq!(request_text_tokens(api, "gpt-4o", &frames), want, "{body}");
        }
    }

    #[test]
    fn a_chat_is_its_text_and_its_frame() {
        // "Hello" and the line end between strings are one token each.
        counts(
            Api::ChatCompletions,
            r#"{"messages":[{"role":"user","content":"Hello"}],"user":"nobody counts this"}"#,
            2 + 4 + 3,
        );
        counts(
            Api::ChatCompletions,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hello"},{"type":"image_url","image_url":{"url":"data:long long"}}]}]}"#,
            2 + 4 + 3,
        );
    }

    #[test]
    fn a_token_id_is_a_token() {
        counts(
            Api::Embeddings,
            r#"{"input":[[1,2,3],[4,5]],"dimensions":7}"#,
            5,
        );
        counts(Api::Completions, r#"{"prompt":[1,2,3],"max_tokens":9}"#, 3);
        counts(Api::Embeddings, r#"{"input":["Hello","Hello"]}"#, 4);
    }

    #[test]
    fn text_past_the_sample_is_taken_to_be_as_dense() {
        let text = "word ".repeat(300_000);
        let body = format!(r#"{{"prompt":"{text}"}}"#);
        let tokens = request_text_tokens(Api::Completions, "gpt-4o", &[Bytes::from(body)]);
        assert!((290_000..310_000).contains(&tokens), "{tokens}");
    }
}
