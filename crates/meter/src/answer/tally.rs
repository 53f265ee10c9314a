//! The text of an answer, kept only until it is known whether an estimate is needed.

use crate::{lexer::Scrap, tokens::text_tokens};

/// Text kept before it is tokenised. Answers below this that report their usage never pay for the
/// tokenizer.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Collects text and estimates its tokens, late.
#[derive(Debug)]
pub(super) struct Tally {
    text: Scrap,
    tokens: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            text: Scrap::new(TEXT_BYTES_MAX),
            tokens: 0,
        }
    }
}

impl Tally {
    pub(super) fn text(&mut self, piece: &[u8], model: &str) {
        for piece in piece.chunks(TEXT_BYTES_MAX) {
            self.make_room(piece.len(), model);
            self.text.text(piece);
        }
    }

    pub(super) fn unit(&mut self, unit: u16, model: &str) {
        self.make_room(4, model);
        self.text.unit(unit);
    }

    fn make_room(&mut self, bytes: usize, model: &str) {
        if self.text.bytes().len().saturating_add(bytes) > TEXT_BYTES_MAX {
            self.count(model);
        }
    }

    /// Tokenises what is kept and lets it go.
    fn count(&mut self, model: &str) {
        let text = String::from_utf8_lossy(self.text.bytes());
        self.tokens = self.tokens.saturating_add(text_tokens(model, &text));
        self.text.clear();
    }

    /// A rough figure for everything so far, for the price of a division: English comes to four bytes a token.
    pub(super) fn tokens_roughly(&self) -> u64 {
        let bytes = u64::try_from(self.text.bytes().len()).unwrap_or(u64::MAX);
        self.tokens.saturating_add(bytes.div_ceil(4))
    }

    /// The estimate for everything so far.
    pub(super) fn tokens(&mut self, model: &str) -> u64 {
        self.count(model);
        self.tokens
    }
}
