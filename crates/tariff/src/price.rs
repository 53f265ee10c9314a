//! Price rows as they stand in Postgres.

use std::fmt;

use crate::Fees;

/// The price row's primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub i64);

/// Which model names a row prices: an exact name, or a prefix (`gpt-4o*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This name only.
    Exact(Box<str>),
    /// Every name that starts so.
    Prefix(Box<str>),
}

impl Pattern {
    /// Reads a pattern: a trailing `*` makes a prefix.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether the pattern covers this model name. Case counts.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == model,
            Self::Prefix(prefix) => model.starts_with(&**prefix),
        }
    }
}

/// The notation [`Pattern::new`] reads.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A service tier by name: `default`, `flex`, `priority`, `ultrafast`, `batch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier(Box<str>);

impl Tier {
    /// The tier that serves where no other is named, and the one whose rates others fall back to.
    pub(crate) const DEFAULT: &str = "default";
    /// The tier of requests that come in a file and are answered when there is time.
    pub const BATCH: &str = "batch";

    /// The tier's name as priced. `auto`, `standard`, `scale` and the empty name are `default`;
    /// `fast` is `priority` (spec of the OpenAI API, `service_tier`).
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(match name {
            "" | "auto" | "standard" | "scale" => Self::DEFAULT.into(),
            "fast" => "priority".into(),
            name => name.into(),
        })
    }

    /// The name as it stands in the price table.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Nano-USD per 1,000,000 tokens, by bucket. `None` falls back: audio and image inputs to text,
/// cache reads by modality to `cr_text` to `in_text` (never 0), `cw_1h` to `cw_5m` to `in_text`, outputs to `out_text`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are the buckets' own, documented in Buckets"
)]
pub struct Rates {
    pub in_text: Option<i64>,
    pub in_audio: Option<i64>,
    pub in_image: Option<i64>,
    pub cr_text: Option<i64>,
    pub cr_audio: Option<i64>,
    pub cr_image: Option<i64>,
    pub cw_5m: Option<i64>,
    pub cw_1h: Option<i64>,
    pub out_text: Option<i64>,
    pub out_reasoning: Option<i64>,
    pub out_audio: Option<i64>,
    pub out_image: Option<i64>,
}

impl Rates {
    /// Whether no token has a price.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The rates with the fallbacks filled in; `None` is left where there is none.
    #[must_use]
    pub fn with_fallbacks(self) -> Self {
        let cr_text = self.cr_text.or(self.in_text);
        let cw_5m = self.cw_5m.or(self.in_text);
        Self {
            in_text: self.in_text,
            in_audio: self.in_audio.or(self.in_text),
            in_image: self.in_image.or(self.in_text),
            cr_text,
            cr_audio: self.cr_audio.or(cr_text),
            cr_image: self.cr_image.or(cr_text),
            cw_5m,
            cw_1h: self.cw_1h.or(cw_5m),
            out_text: self.out_text,
            out_reasoning: self.out_reasoning.or(self.out_text),
            out_audio: self.out_audio.or(self.out_text),
            out_image: self.out_image.or(self.out_text),
        }
    }

    /// The dearest rate an input token may have.
    pub(crate) fn dearest_input(&self) -> Option<i64> {
        let Self {
            in_text,
            in_audio,
            in_image,
            cr_text,
            cr_audio,
            cr_image,
            cw_5m,
            cw_1h,
            ..
        } = *self;
        [
            in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h,
        ]
        .into_iter()
        .max()?
    }

    /// The dearest rate an output token may have.
    pub(crate) fn dearest_output(&self) -> Option<i64> {
        [
            self.out_text,
            self.out_reasoning,
            self.out_audio,
            self.out_image,
        ]
        .into_iter()
        .max()?
    }
}

/// One version of a model's price for one tier from one context size up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The row.
    pub id: PriceId,
    /// Which models.
    pub pattern: Pattern,
    /// Which tier.
    pub tier: Tier,
    /// The row prices the whole exchange once its input tokens exceed this.
    pub min_context: u64,
    /// Whether an input of exactly `min_context` already counts (xAI) or not (the others).
    pub context_inclusive: bool,
    /// In force from this instant, milliseconds since the epoch.
    pub valid_from_ms: i64,
    /// In force until just before this instant; `None` while current.
    pub valid_to_ms: Option<i64>,
    /// The figures for tokens.
    pub rates: Rates,
    /// The figures for everything else.
    pub fees: Fees,
    /// Most input tokens the model takes, for bounds.
    pub context_window: Option<u64>,
    /// Most output tokens the model gives, for bounds.
    pub output_max: Option<u64>,
}

impl Price {
    /// Whether a line with so many input tokens is large enough for this row.
    #[must_use]
    pub fn reached_by(&self, input: u64) -> bool {
        input > self.min_context
            || self.min_context == 0
            || (self.context_inclusive && input == self.min_context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_an_exact_name_or_a_prefix() {
        assert!(Pattern::new("gpt-4o*").matches("gpt-4o-mini"));
        assert!(!Pattern::new("gpt-4o").matches("gpt-4o-mini"));
        assert!(Pattern::new("*").matches(""));
        for text in ["gpt-4o", "gpt-4o*", "*"] {
            assert_eq!(Pattern::new(text).to_string(), text);
        }
    }
}
