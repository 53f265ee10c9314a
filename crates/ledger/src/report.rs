//! What an access token and its account have used and may still use, for their holder to see; in the modules below, what operators see.

mod holder;
mod live;
mod spend;

use serde::Serializer;
use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{AccountId, Ledger, LedgerError, TokenId};

pub use self::{
    holder::{Cap, Holder},
    live::{AccountMeans, DoubtfulCharge, DoubtfulSum, EndingToken, Held, OpenHold, ProcessRow},
    spend::{HOURS_MAX, Span, SpendBy, SpendRow, Sums, TopToken},
};

/// How an access token stands in its budget, and its account in its balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Charged to the token in its life.
    pub spent: Amount,
    /// The most it may be charged; `None` for no budget of its own.
    pub budget: Option<Amount>,
    /// The account's credits less its charges.
    pub balance: Amount,
    /// How far below zero the balance may go; `None` for as far as it likes.
    pub credit_limit: Option<Amount>,
}

/// Whose usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An access token's own.
    Token(TokenId),
    /// All of its account's.
    Account(AccountId),
}

/// What was used of one model, with one access token, on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayRow {
    /// The day's midnight, UTC, in seconds since the epoch.
    pub day_s: i64,
    /// The model that answered, else the one asked for.
    pub model: String,
    /// The token's prefix.
    pub token: String,
    /// Charges.
    pub exchanges: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Of these, read from a cache.
    pub cached_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Charged.
    pub amount: Amount,
}

impl Ledger {
    /// How a token stands. `None`: it was deleted meanwhile.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn means_of(&self, token: TokenId) -> Result<Option<Means>, LedgerError> {
        let rows = self.query(MEANS, &[(&token.0, Type::INT8)]).await?;
        let limit = |nano: Option<i64>| nano.map(Amount::from_nano);
        rows.first()
            .map(|row| {
                Ok(Means {
                    spent: Amount::from_nano(row.try_get(0)?),
                    budget: limit(row.try_get(1)?),
                    balance: Amount::from_nano(row.try_get(2)?),
                    credit_limit: limit(row.try_get(3)?),
                })
            })
            .transpose()
    }

    /// What was used from a day to before another (UTC; any second of a day names it), by day, model and token. Comes from the daily sums.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn used_by_day(
        &self,
        of: Of,
        since_s: i64,
        until_s: i64,
    ) -> Result<Vec<DayRow>, LedgerError> {
        let (statement, id) = match of {
            Of::Token(token) => (DAYS.replace("{whose}", "u.token_id = $1"), token.0),
            Of::Account(account) => (DAYS.replace("{whose}", "u.account_id = $1"), account.0),
        };
        let rows = self
            .query(
                &statement,
                &[
                    (&id, Type::INT8),
                    (&since_s, Type::INT8),
                    (&until_s, Type::INT8),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(DayRow {
                    day_s: row.try_get(0)?,
                    model: row.try_get(1)?,
                    token: row.try_get(2)?,
                    exchanges: row.try_get(3)?,
                    input_tokens: row.try_get(4)?,
                    cached_tokens: row.try_get(5)?,
                    output_tokens: row.try_get(6)?,
                    amount: Amount::from_nano(row.try_get(7)?),
                })
            })
            .collect()
    }
}

/// Money as a text of nano-USD: JavaScript's numbers are too small for it.
fn nano<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&amount.nano())
}

#[expect(clippy::ref_option, reason = "serde gives it so")]
fn nano_or_null<S: Serializer>(amount: &Option<Amount>, serializer: S) -> Result<S::Ok, S::Error> {
    match amount {
        Some(amount) => nano(amount, serializer),
        None => serializer.serialize_none(),
    }
}

const MEANS: &str = "
    select coalesce(c.spent, 0), t.budget, a.balance, a.credit_limit
      from turnpike.access_token as t
      join turnpike.account as a on a.id = t.account_id
      left join turnpike.access_token_counter as c on c.token_id = t.id
     where t.id = $1";

const DAYS: &str = "
    select extract(epoch from u.day)::bigint, u.model, t.prefix, u.exchanges, u.input_tokens, u.cached_tokens, u.output_tokens, u.amount
      from turnpike.usage_day as u join turnpike.access_token as t on t.id = u.token_id
     where {whose}
       and u.day >= (to_timestamp($2) at time zone 'UTC')::date and u.day < (to_timestamp($3) at time zone 'UTC')::date
     order by u.day, u.model, u.token_id";
