//! What the sandbox says, and how it counts tokens.

use super::OUTPUT_TOKENS_MAX;

/// The answer of the sandbox to everything.
const ANSWER: &str = "Hello! This is the sandbox model that comes with Turnpike. No provider was asked, \
and whatever is charged for this answer is play money. Your request came through the gateway, was measured and \
charged on the way, and would have gone to a real model in just the same way. To talk to one, set OPENAI_URL \
(for example https://api.openai.com/v1) and OPENAI_API_KEY before you start Turnpike, or run this in psql: \
select turnpike.set_upstream('openai', 'https://api.openai.com/v1', key => 'env:OPENAI_API_KEY'); \
Then name that provider's models instead of this one.";

/// A text cut into tokens: each is a word with the white space before it.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(|c: char| !c.is_whitespace())?;
        let end = rest[word..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |length| word + length);
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// How many tokens a text has.
pub(super) fn count(text: &str) -> u64 {
    u64::try_from(tokens(text).count()).unwrap_or(u64::MAX)
}

/// An answer of at most so many tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) tokens: Vec<&'static str>,
    /// The limit cut it short.
    pub(super) is_cut: bool,
}

impl Answer {
    pub(super) fn new(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(OUTPUT_TOKENS_MAX).min(OUTPUT_TOKENS_MAX);
        let tokens: Vec<_> = tokens(ANSWER)
            .zip(0..limit)
            .map(|(token, _)| token)
            .collect();
        Self {
            is_cut: tokens.len() < self::tokens(ANSWER).count(),
            tokens,
        }
    }

    pub(super) fn text(&self) -> String {
        self.tokens.concat()
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.tokens.len()).unwrap_or(u64::MAX)
    }

    /// As chat and legacy completions name the reason for the end.
    pub(super) fn finish_reason(&self) -> &'static str {
        if self.is_cut { "length" } else { "stop" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_word_with_the_white_space_before_it() {
        assert_eq!(
            tokens("a bc\n\n d").collect::<Vec<_>>(),
            ["a", " bc", "\n\n d"]
        );
        assert_eq!(tokens("").count() + tokens(" \n").count(), 0);
        assert_eq!(count("été à Paris "), 3);
    }

    #[test]
    fn the_answer_stays_within_its_limit_and_its_maximum() {
        let whole = Answer::new(None);
        assert_eq!((whole.text().as_str(), whole.is_cut), (ANSWER, false));
        assert!(whole.count() <= OUTPUT_TOKENS_MAX);
        let short = Answer::new(Some(2));
        assert_eq!(
            (short.text().as_str(), short.finish_reason()),
            ("Hello! This", "length")
        );
        assert!(!Answer::new(Some(whole.count())).is_cut);
    }
}
