//! Price rows as they stand in Postgres.

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

/// A service tier by name: `default`, `flex`, `priority`, `ultrafast`, `batch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier(Box<str>);

impl Tier {
    /// The tier's name as priced. `auto`, `standard`, `scale` and the empty name are `default`;
    /// `fast` is `priority` (spec of the OpenAI API, `service_tier`).
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(match name {
            "" | "auto" | "standard" | "scale" | "default" => "default".into(),
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
#[expect(missing_docs, reason = "the names are the buckets' own, documented in Buckets")]
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
    /// The figures.
    pub rates: Rates,
    /// Most input tokens the model takes, for bounds.
    pub context_window: Option<u64>,
    /// Most output tokens the model gives, for bounds.
    pub output_max: Option<u64>,
}
