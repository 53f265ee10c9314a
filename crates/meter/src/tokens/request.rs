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
/// Text that is not tokenised counts at least one token for so many bytes, however thin the sample was.
const BYTES_PER_TOKEN_MAX: u64 = 4;
/// Keys of text are shorter.
const KEY_BYTES_MAX: usize = 32;

/// Estimated input tokens of a request, for an answer that reported no usage.
///
/// Counts what the model reads as text: strings under `messages`, `input`, `prompt`, `instructions`,
/// `suffix`, and keys and strings of `tools`, `functions` and schemas; a token id in a prompt is a
/// token. Chat adds 4 tokens per message, 1 per name and 3 for the start of the answer. Images,
/// files and audio are not counted. At most 256 KiB of text is tokenised. The rest of the text is taken to
/// be as dense as that, and of a body of `body_bytes`, what follows the `frames` as dense as they are; but
/// neither to have fewer tokens than one for four bytes.
#[must_use]
pub fn request_text_tokens(api: Api, model: &str, frames: &[Bytes], body_bytes: u64) -> u64 {
    let mut reader = TextReader {
        scope: Scope::Nothing,
        takes: false,
        is_key: false,
        is_text: false,
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
    let mut tokens = extrapolate(text_tokens(model, &text), sampled, reader.text_bytes);
    tokens = tokens.saturating_add(reader.ids);
    let seen = frames.iter().map(|frame| frame.len() as u64).sum();
    tokens = extrapolate(tokens, seen, body_bytes);
    if api == Api::ChatCompletions || api == Api::Responses {
        tokens = tokens
            .saturating_add(reader.messages.saturating_mul(TOKENS_PER_MESSAGE))
            .saturating_add(reader.names.saturating_mul(TOKENS_PER_NAME))
            .saturating_add(TOKENS_PER_ANSWER);
    }
    tokens
}

/// Tokens of `all` bytes, the first `seen` of which have so many. A thin start says nothing of the rest:
/// whoever writes the text chooses it.
fn extrapolate(tokens: u64, seen: u64, all: u64) -> u64 {
    let rest = all.saturating_sub(seen);
    let as_dense = u128::from(tokens)
        .saturating_mul(u128::from(rest))
        .checked_div(u128::from(seen))
        .map_or(0, |dense| u64::try_from(dense).unwrap_or(u64::MAX));
    tokens.saturating_add(as_dense.max(rest.div_ceil(BYTES_PER_TOKEN_MAX)))
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
    /// Whether what now passes is text.
    is_text: bool,
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
        match kind {
            Kind::Key if here.depth == 1 || self.scope != Scope::Nothing => self.key.clear(),
            Kind::Object if self.scope == Scope::Messages && here.depth == 2 => {
                self.messages = self.messages.saturating_add(1);
            }
            Kind::String if self.scope == Scope::Messages && here.depth == 1 => {
                self.takes = true;
                self.messages = 1;
            }
            // A word in a schema's place (`response_format: "mp3"`) is no text.
            Kind::String if here.depth == 1 => self.takes = self.scope == Scope::Plain,
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
        self.is_text = match kind {
            Kind::Key => self.scope == Scope::Schema && here.depth > 1,
            Kind::String => self.takes,
            _ => false,
        };
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) {
        if self.is_key {
            self.key.text(piece);
        }
        if self.is_text {
            self.text.text(piece);
            self.text_bytes = self.text_bytes.saturating_add(piece.len() as u64);
        }
    }

    fn unit(&mut self, unit: u16) {
        if self.is_key {
            self.key.unit(unit);
        }
        if self.is_text {
            self.text.unit(unit);
            // Half a surrogate pair is half of four bytes.
            let bytes = match unit {
                0..0x80 => 1,
                0x80..0x800 | 0xd800..0xe000 => 2,
                _ => 3,
            };
            self.text_bytes = self.text_bytes.saturating_add(bytes);
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
            Scope::Plain | Scope::Schema => true,
            Scope::Messages => Self::is_text_key(key),
        };
        if self.scope == Scope::Messages && here.depth == 3 && key == b"name" {
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
            let tokens = request_text_tokens(api, "gpt-4o", &frames, body.len() as u64);
            assert_eq!(tokens, want, "{body}");
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

    fn whole(body: String) -> u64 {
        let body_bytes = body.len() as u64;
        request_text_tokens(Api::Completions, "gpt-4o", &[Bytes::from(body)], body_bytes)
    }

    #[test]
    fn text_past_the_sample_is_taken_to_be_as_dense() {
        let tokens = whole(format!(r#"{{"prompt":"{}"}}"#, "a b ".repeat(300_000)));
        assert!((590_000..610_000).contains(&tokens), "{tokens}");
    }

    #[test]
    fn a_thin_sample_does_not_make_the_rest_thin() {
        // A prompt of 256 KiB of spaces and 400,000 hex digits was sampled where the spaces are. The digits,
        // taken to be as thin, counted as next to nothing, and the exchange was charged so.
        let text = " ".repeat(SAMPLE_BYTES_MAX) + &"3f9a0c7e".repeat(50_000);
        let tokens = whole(format!(r#"{{"prompt":"{text}"}}"#));
        assert!(tokens >= 100_000, "{tokens}");
    }

    #[test]
    fn white_space_between_values_is_no_part_of_the_sample() {
        let blank = " \n".repeat(SAMPLE_BYTES_MAX);
        let prompt = "a b ".repeat(1000);
        assert_eq!(
            whole(format!(
                r#"{{{blank}"prompt"{blank}:{blank}"{prompt}"{blank}}}"#
            )),
            whole(format!(r#"{{"prompt":"{prompt}"}}"#))
        );
    }

    #[test]
    fn what_follows_the_frames_counts() {
        // Of a body that flows up only the first MiB is kept. With that much white space at its start, the
        // estimate saw no text at all, however much of it followed.
        let frames = [Bytes::from(format!("{{{}", " ".repeat(1 << 20)))];
        let tokens = |api, body_bytes| request_text_tokens(api, "gpt-4o", &frames, body_bytes);
        let seen = frames[0].len() as u64;
        assert_eq!(tokens(Api::Completions, seen), 0);
        assert_eq!(tokens(Api::Completions, seen + 400_001), 100_001);
        assert_eq!(tokens(Api::ChatCompletions, seen + 400_001), 100_004);
        // As dense as the frames, where they are denser than that.
        let dense = format!(r#"{{"prompt":"{}"#, "a b ".repeat(10_000));
        let frames = [Bytes::from(dense)];
        let seen = frames[0].len() as u64;
        let tokens = request_text_tokens(Api::Completions, "gpt-4o", &frames, 10 * seen);
        assert!((190_000..210_000).contains(&tokens), "{tokens}");
        // Nothing overflows, whatever is said.
        let tokens = request_text_tokens(Api::Completions, "gpt-4o", &frames, u64::MAX);
        assert!(tokens > u64::MAX / 4);
        assert_eq!(request_text_tokens(Api::Completions, "gpt-4o", &[], 0), 0);
    }

    #[test]
    fn escaped_text_past_the_sample_counts_as_what_it_says() {
        // An escape counted as one byte beside a sample in which its character has three, so that a long prompt
        // in escapes came to a third of the same prompt without.
        let plain = whole(format!(r#"{{"prompt":"{}"}}"#, "\u{4e2d}".repeat(200_000)));
        let escaped = whole(format!(r#"{{"prompt":"{}"}}"#, r"\u4e2d".repeat(200_000)));
        assert!(escaped >= plain, "{escaped} against {plain}");
    }

    #[test]
    fn a_long_key_of_a_schema_counts_whole() {
        // Only the first 32 bytes of a key did, and a tool may name its properties as it likes.
        let tokens = whole(format!(r#"{{"tools":[{{"{}":1}}]}}"#, "a b ".repeat(1000)));
        assert!(tokens > 1900, "{tokens}");
    }
}
