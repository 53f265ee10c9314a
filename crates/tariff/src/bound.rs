//! The most an exchange can cost: what a hold is taken for.

use crate::{Amount, Quote};

/// What is known of a request when its hold is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Bytes of the request body. A token is at least one byte.
    pub body_bytes: u64,
    /// The body names things outside itself (images, files, earlier answers) or hosted tools, so its
    /// length does not bound its tokens: the context window does.
    pub refers_outside: bool,
    /// What limits the output.
    pub output: OutputLimit,
    /// How many answers (`n`, `best_of`); at least 1.
    pub choices: u64,
    /// The tier the request names.
    pub service_tier: Option<&'a str>,
}

/// What limits an answer's output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputLimit {
    /// The model's own maximum.
    #[default]
    Model,
    /// The request's own limit, in tokens. The smaller of it and the model's maximum counts.
    Tokens(u64),
    /// The endpoint gives no output tokens (embeddings).
    NoOutput,
}

/// An upper bound of what an exchange can cost and use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Money.
    pub amount: Amount,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens, all choices together.
    pub output_tokens: u64,
}

/// Why a request cannot be bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// No limit in the request and no `output_max` in the price row.
    #[error("the output of this model has no known maximum")]
    OutputUnknown,
    /// The body refers outside itself and the price row has no `context_window`.
    #[error("the input of this model has no known maximum")]
    InputUnknown,
    /// The product does not fit an amount.
    #[error("the bound is larger than any amount")]
    Range,
}

impl Quote {
    /// The most this request can cost, over every tier that may serve it, every context size it may
    /// reach and every kind of token it may be billed in.
    ///
    /// # Errors
    /// [`BoundError`] when a fact the bound needs is missing.
    pub fn bound(&self, ask: &Ask<'_>) -> Result<Bound, BoundError> {
        let _ = ask;
        todo!()
    }

    /// The most output tokens per choice with which the request costs at most `available`:
    /// the limit that would fit, for the refusal's sentence. `None` when no limit would.
    #[must_use]
    pub fn output_limit_within(&self, ask: &Ask<'_>, available: Amount) -> Option<u64> {
        let _ = (ask, available);
        todo!()
    }
}
