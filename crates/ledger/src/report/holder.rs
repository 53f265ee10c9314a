//! How an access token stands in every cap it has, for its holder.

use serde::Serialize;
use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{Ledger, LedgerError, TokenId};

/// A cap and what is used of it. Money in nano-USD, else tokens; as texts, since JavaScript's numbers are too small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// `money`, `input` or `output`.
    pub of: &'static str,
    /// `life`, `month` or `day` (UTC).
    pub period: &'static str,
    /// Used so far.
    pub used: String,
    /// The most; `None` where there is no cap.
    pub most: Option<String>,
}

/// An access token's standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The beginning of the token.
    pub prefix: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// When it ends, seconds since the epoch.
    pub expires_s: Option<i64>,
    /// The account's credits less its charges.
    #[serde(serialize_with = "super::nano")]
    pub balance: Amount,
    /// How far below zero the balance may go; `None` for as far as it likes.
    #[serde(serialize_with = "super::nano_or_null")]
    pub credit_limit: Option<Amount>,
    /// Money, input and output tokens: for life, per month and per day.
    pub caps: Vec<Cap>,
}

impl Ledger {
    /// How a token stands in its caps and its account in its balance. `None`: it was deleted meanwhile.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn holder(&self, token: TokenId) -> Result<Option<Holder>, LedgerError> {
        let rows = self.query(HOLDER, &[(&token.0, Type::INT8)]).await?;
        rows.first()
            .map(|row| {
                let mut caps = Vec::new();
                for (place, (of, period)) in CAPS.iter().enumerate() {
                    let at = 5_usize.saturating_add(place.saturating_mul(2));
                    caps.push(Cap {
                        of,
                        period,
                        used: row.try_get::<_, i64>(at)?.to_string(),
                        most: row
                            .try_get::<_, Option<i64>>(at.saturating_add(1))?
                            .map(|most| most.to_string()),
                    });
                }
                Ok(Holder {
                    prefix: row.try_get(0)?,
                    label: row.try_get(1)?,
                    expires_s: row.try_get(2)?,
                    balance: Amount::from_nano(row.try_get(3)?),
                    credit_limit: row.try_get::<_, Option<i64>>(4)?.map(Amount::from_nano),
                    caps,
                })
            })
            .transpose()
    }
}

/// In the order of the statement's columns.
const CAPS: [(&str, &str); 9] = [
    ("money", "life"),
    ("money", "month"),
    ("money", "day"),
    ("input", "life"),
    ("input", "month"),
    ("input", "day"),
    ("output", "life"),
    ("output", "month"),
    ("output", "day"),
];

// What an earlier day or month counted is zero now.
const HOLDER: &str = "
    select t.prefix, t.label, floor(extract(epoch from t.expires_at))::bigint, a.balance, a.credit_limit,
           coalesce(c.spent, 0), t.budget, coalesce(m.spent, 0), t.budget_month, coalesce(d.spent, 0), t.budget_day,
           coalesce(c.prompt, 0), t.prompt_tokens, coalesce(m.prompt, 0), t.prompt_tokens_month, coalesce(d.prompt, 0), t.prompt_tokens_day,
           coalesce(c.completion, 0), t.completion_tokens, coalesce(m.completion, 0), t.completion_tokens_month,
           coalesce(d.completion, 0), t.completion_tokens_day
      from turnpike.access_token as t
      join turnpike.account as a on a.id = t.account_id
      left join turnpike.access_token_counter as c on c.token_id = t.id
      left join lateral (select c.spent_month as spent, c.prompt_month as prompt, c.completion_month as completion
                          where c.month = date_trunc('month', now() at time zone 'UTC')::date) as m on true
      left join lateral (select c.spent_day as spent, c.prompt_day as prompt, c.completion_day as completion
                          where c.day = (now() at time zone 'UTC')::date) as d on true
     where t.id = $1";
