//! What an exchange is charged, as it will stand in `turnpike.charge`.

use std::borrow::Cow;

use tariff::{Amount, Buckets, Flags, PriceId};

use crate::{NewObject, UpstreamId, UpstreamKeyId};

/// How the figure of a charge came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// From the usage the provider reported.
    Measured,
    /// From the cost the provider reported.
    ProviderCost,
    /// From what passed: the answer had no usage.
    Estimated,
    /// The provider claimed more than the proven bound; charged at the bound, kept for review.
    Bounded,
    /// The exchange did not come to its end under our eyes.
    Interrupted,
}

impl Mark {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::ProviderCost => "provider_cost",
            Self::Estimated => "estimated",
            Self::Bounded => "bounded",
            Self::Interrupted => "interrupted",
        }
    }

    /// The mark of a word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        [
            Self::Measured,
            Self::ProviderCost,
            Self::Estimated,
            Self::Bounded,
            Self::Interrupted,
        ]
        .into_iter()
        .find(|mark| mark.as_str() == word)
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The answer came to its end.
    Complete,
    /// The upstream broke off.
    Failed,
    /// The client left first.
    Abandoned,
}

impl End {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    /// The ending of a word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        [Self::Complete, Self::Failed, Self::Abandoned]
            .into_iter()
            .find(|end| end.as_str() == word)
    }
}

/// What one exchange is charged and why. Exchange, account, access token and hold come from the [`crate::Hold`].
///
/// Texts may hold anything a peer sent: NUL bytes are dropped and lengths cut before they reach Postgres.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The price row that gave the figures.
    pub price: PriceId,
    /// The charge; not negative. What is above the hold is charged at the hold, marked [`Mark::Bounded`].
    pub amount: Amount,
    /// How the figure came about.
    pub mark: Mark,
    /// The model the client named.
    pub model_requested: String,
    /// The model the answer named.
    pub model_answered: Option<String>,
    /// The endpoint's short name (`chat/completions`).
    pub endpoint: Cow<'static, str>,
    /// The tier that served, as the answer says it.
    pub service_tier: Option<String>,
    /// Whether the answer was a stream of events.
    pub stream: bool,
    /// What was used, by kind of price.
    pub buckets: Buckets,
    /// The provider's own usage object, JSON text. What is no JSON is kept as a JSON string.
    pub usage_raw: Option<String>,
    /// Anomalies that reading survived.
    pub flags: Flags,
    /// What the provider itself says the answer cost.
    pub provider_cost: Option<Amount>,
    /// The status the client saw.
    pub status: u16,
    /// How the exchange ended.
    pub end: End,
    /// Which upstream answered; `None` for the built-in sandbox model.
    pub upstream: Option<UpstreamId>,
    /// With which of its keys.
    pub upstream_key: Option<UpstreamKeyId>,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// What is charged once however often its usage is told (a background response, a batch): kind, upstream and the
    /// provider's id. `None`: the exchange's own id is enough.
    pub key: Option<String>,
    /// What the provider keeps of it, noted with the charge.
    pub object: Option<Box<NewObject>>,
    /// When the request's head came, milliseconds since the epoch. Prices are those in force then.
    pub started_at_ms: i64,
    /// From then to the answer's head, milliseconds.
    pub head_after_ms: Option<u32>,
    /// From then to the first byte of the answer's body, milliseconds.
    pub first_byte_after_ms: Option<u32>,
    /// From then to the terminal event (or the break), milliseconds.
    pub ended_after_ms: u32,
}
