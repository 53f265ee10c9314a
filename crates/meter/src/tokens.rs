//! Estimates tokens with the tokenizer of the model's family.
//!
//! An estimate, never a measure: images, hidden system tokens and reasoning are not in the text. Work
//! is linear and bounded, whatever the text: see [`PIECE_BYTES_MAX`] and [`SAMPLE_BYTES_MAX`].

mod family;
mod request;

use self::family::Family;

pub use request::request_text_tokens;

/// Text goes to the tokenizer in pieces of at most this size, cut before white space where there is
/// some: its word splitter backtracks over long runs.
const PIECE_BYTES_MAX: usize = 512;
/// Text of a request that is tokenised; the rest is taken to be at least as dense. About 15 ms of work.
const SAMPLE_BYTES_MAX: usize = 256 * 1024;

/// Loads the vocabularies, which takes a few hundred milliseconds once. Call it off the data plane.
pub fn warm_tokenizer() {
    for model in ["gpt-4", "gpt-4o"] {
        let _ = text_tokens(model, "warm");
    }
}

/// Estimated tokens of a text, all of it.
#[must_use]
pub fn text_tokens(model: &str, text: &str) -> u64 {
    let family = Family::of(model);
    let encoder = family.vocabulary.encoder();
    let mut tokens: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_len(rest));
        tokens = tokens.saturating_add(encoder.count_ordinary(piece) as u64);
        rest = after;
    }
    family.tokens(tokens)
}

/// What frames so many calls of tools, beside their names and arguments, to this model: an estimate.
pub(crate) fn call_tokens(model: &str, calls: u64) -> u64 {
    calls.saturating_mul(Family::of(model).per_call)
}

/// The name of the family by which a model's tokens are estimated.
#[must_use]
pub fn family(model: &str) -> &'static str {
    Family::of(model).name
}

/// Length of the next piece: at most [`PIECE_BYTES_MAX`], at least one character. A word takes the
/// space before it into its token, so the cut is best before a space that follows a word.
fn piece_len(text: &str) -> usize {
    if text.len() <= PIECE_BYTES_MAX {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE_BYTES_MAX);
    let window = text.as_bytes().get(..end).unwrap_or_default();
    let space = window
        .windows(2)
        .rposition(|pair| matches!(pair, [before, b' ' | b'\n'] if !before.is_ascii_whitespace()));
    match space {
        Some(before) => before.saturating_add(1),
        None => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_into_pieces_hardly_changes_the_count() {
        let text = "The quick brown fox jumps over the lazy dog, again and again.\n".repeat(200);
        let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(&text) as u64;
        let pieces = text_tokens("gpt-4o", &text);
        assert!(
            pieces.abs_diff(whole) <= whole / 100,
            "{pieces} against {whole}"
        );
    }

    #[test]
    fn runs_without_spaces_take_linear_time() {
        // Quadratic work on any of these takes minutes.
        for text in [
            "a".repeat(1 << 20),
            " ".repeat(1 << 20),
            "\u{4e2d}".repeat(1 << 18),
            "\n".repeat(1 << 20),
            "!".repeat(1 << 20),
        ] {
            assert!(text_tokens("gpt-4o", &text) > 0);
        }
    }
}
