//! What was spent over time, and on what: all accounts together, for operators.

use serde::Serialize;
use tariff::Amount;
use tokio_postgres::{Row, types::Type};

use crate::{Ledger, LedgerError};

/// Seconds of an hour.
const HOUR_S: i64 = 60 * 60;
/// The most hours told one by one. They come from the charges themselves; days come from the daily sums.
pub const HOURS_MAX: i64 = 48;

/// What spending is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendBy {
    /// The model that answered, else the one asked for.
    Model,
    /// The access token.
    Token,
    /// The account.
    Account,
}

/// From when until when, in which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second, since the epoch: a whole hour, or a midnight (UTC).
    pub since_s: i64,
    /// The second after its last, likewise.
    pub until_s: i64,
    /// Whether it is told by the hour.
    pub is_hourly: bool,
}

/// Sums of charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Charges.
    pub exchanges: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Of these, read from a cache.
    pub cached_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Charged.
    #[serde(serialize_with = "super::nano")]
    pub amount: Amount,
    /// Of this, where the figure is not the provider's own.
    #[serde(serialize_with = "super::nano")]
    pub estimated: Amount,
}

/// One step of time, and one of those that cost most in the span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpendRow {
    /// The step's first second, since the epoch.
    pub at_s: i64,
    /// Its place among the dearest, from 1. `None`: all the others together.
    pub place: Option<i64>,
    /// The model, the token's prefix and label, or the account's name.
    pub name: Option<String>,
    /// What was charged.
    #[serde(flatten)]
    pub sums: Sums,
}

/// An access token and what it spent in a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopToken {
    /// The beginning of the token.
    pub prefix: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// Who pays.
    pub account: String,
    /// What was charged in the span.
    #[serde(flatten)]
    pub sums: Sums,
    /// The most it may spend in its life.
    #[serde(serialize_with = "super::nano_or_null")]
    pub budget: Option<Amount>,
    /// What it has spent in its life.
    #[serde(serialize_with = "super::nano")]
    pub spent: Amount,
    /// Whether it can still be used.
    pub is_valid: bool,
}

impl Span {
    /// The span of the same length right before.
    #[must_use]
    pub const fn before(self) -> Self {
        Self {
            since_s: self
                .since_s
                .saturating_sub(self.until_s.saturating_sub(self.since_s)),
            until_s: self.since_s,
            is_hourly: self.is_hourly,
        }
    }

    /// Hours beyond [`HOURS_MAX`] are told as days.
    fn source(self) -> &'static str {
        let hours_s = HOURS_MAX.saturating_mul(HOUR_S);
        if self.is_hourly && self.until_s.saturating_sub(self.since_s) <= hours_s {
            OF_CHARGES
        } else {
            OF_DAYS
        }
    }
}

impl Ledger {
    /// What was charged in each step of a span, by the `most` models, tokens or accounts that cost most in it, and all others together.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn spend(
        &self,
        by: SpendBy,
        span: Span,
        most: i64,
    ) -> Result<Vec<SpendRow>, LedgerError> {
        let rows = self.query(&spend(by, span), &params(&span, &most)).await?;
        rows.iter()
            .map(|row| {
                Ok(SpendRow {
                    at_s: row.try_get(0)?,
                    place: row.try_get(1)?,
                    name: row.try_get(2)?,
                    sums: sums(row, 3)?,
                })
            })
            .collect()
    }

    /// What was charged in a span, all together.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn spend_total(&self, span: Span) -> Result<Sums, LedgerError> {
        let params = [
            (&span.since_s as _, Type::INT8),
            (&span.until_s as _, Type::INT8),
        ];
        let rows = self
            .query(&TOTAL.replace("{source}", span.source()), &params)
            .await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        sums(row, 0)
    }

    /// The access tokens that spent most in a span, the dearest first.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn top_tokens(&self, span: Span, most: i64) -> Result<Vec<TopToken>, LedgerError> {
        let rows = self
            .query(
                &TOP_TOKENS.replace("{source}", span.source()),
                &params(&span, &most),
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(TopToken {
                    prefix: row.try_get(0)?,
                    label: row.try_get(1)?,
                    account: row.try_get(2)?,
                    sums: sums(row, 3)?,
                    budget: row.try_get::<_, Option<i64>>(9)?.map(Amount::from_nano),
                    spent: Amount::from_nano(row.try_get(10)?),
                    is_valid: row.try_get(11)?,
                })
            })
            .collect()
    }
}

type Param<'a> = (&'a (dyn tokio_postgres::types::ToSql + Sync), Type);

fn params<'a>(span: &'a Span, most: &'a i64) -> [Param<'a>; 3] {
    [
        (&span.since_s, Type::INT8),
        (&span.until_s, Type::INT8),
        (most, Type::INT8),
    ]
}

fn spend(by: SpendBy, span: Span) -> String {
    let (id, name) = match by {
        SpendBy::Model => ("model", "r.id"),
        SpendBy::Token => (
            "token_id",
            "(select concat_ws(' ', t.prefix, t.label) from turnpike.access_token as t where t.id = r.id)",
        ),
        SpendBy::Account => (
            "account_id",
            "(select a.name from turnpike.account as a where a.id = r.id)",
        ),
    };
    SPEND
        .replace("{source}", span.source())
        .replace("{id}", id)
        .replace("{name}", name)
}

fn sums(row: &Row, first: usize) -> Result<Sums, LedgerError> {
    let at = |offset: usize| row.try_get::<_, i64>(first.saturating_add(offset));
    Ok(Sums {
        exchanges: at(0)?,
        input_tokens: at(1)?,
        cached_tokens: at(2)?,
        output_tokens: at(3)?,
        amount: Amount::from_nano(at(4)?),
        estimated: Amount::from_nano(at(5)?),
    })
}

const OF_DAYS: &str = "
    select extract(epoch from u.day)::bigint as at_s, u.model, u.token_id, u.account_id,
           u.exchanges, u.input_tokens, u.cached_tokens, u.output_tokens, u.amount, u.estimated
      from turnpike.usage_day as u
     where u.day >= (to_timestamp($1) at time zone 'UTC')::date and u.day < (to_timestamp($2) at time zone 'UTC')::date";

// An exchange's id is made within moments of its start: an hour's margin leaves all but its range of the primary key out.
const OF_CHARGES: &str = "
    select (floor(extract(epoch from c.started_at) / 3600) * 3600)::bigint as at_s, coalesce(c.model_answered, c.model_requested) as model,
           c.token_id, c.account_id, 1::bigint as exchanges,
           c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h as input_tokens,
           c.cr_text + c.cr_audio + c.cr_image as cached_tokens,
           c.out_text + c.out_reasoning + c.out_audio + c.out_image as output_tokens, c.amount,
           case when c.mark in ('measured', 'provider_cost') then 0::bigint else c.amount end as estimated
      from turnpike.charge as c
     where c.id >= turnpike.first_id(to_timestamp(greatest($1 - 3600, 0))) and c.id < turnpike.first_id(to_timestamp($2 + 3600))
       and c.started_at >= to_timestamp($1) and c.started_at < to_timestamp($2)";

const SPEND: &str = "
    with sums as (
      select s.at_s, s.{id} as id, sum(s.exchanges)::bigint as exchanges, sum(s.input_tokens)::bigint as input_tokens,
             sum(s.cached_tokens)::bigint as cached_tokens, sum(s.output_tokens)::bigint as output_tokens,
             sum(s.amount)::bigint as amount, sum(s.estimated)::bigint as estimated
        from ({source}) as s group by 1, 2
    ), ranked as (
      select x.id, row_number() over (order by sum(x.amount) desc, x.id) as place from sums as x group by x.id
    ), top as (
      select r.id, r.place, {name} as name from ranked as r where r.place <= $3
    )
    select x.at_s, t.place, t.name, sum(x.exchanges)::bigint, sum(x.input_tokens)::bigint, sum(x.cached_tokens)::bigint,
           sum(x.output_tokens)::bigint, sum(x.amount)::bigint, sum(x.estimated)::bigint
      from sums as x left join top as t on t.id = x.id
     group by 1, 2, 3 order by 1, 2 nulls last";

const TOTAL: &str = "
    select coalesce(sum(s.exchanges), 0)::bigint, coalesce(sum(s.input_tokens), 0)::bigint, coalesce(sum(s.cached_tokens), 0)::bigint,
           coalesce(sum(s.output_tokens), 0)::bigint, coalesce(sum(s.amount), 0)::bigint, coalesce(sum(s.estimated), 0)::bigint
      from ({source}) as s";

const TOP_TOKENS: &str = "
    with sums as (
      select s.token_id, sum(s.exchanges)::bigint as exchanges, sum(s.input_tokens)::bigint as input_tokens,
             sum(s.cached_tokens)::bigint as cached_tokens, sum(s.output_tokens)::bigint as output_tokens,
             sum(s.amount)::bigint as amount, sum(s.estimated)::bigint as estimated
        from ({source}) as s group by 1 order by sum(s.amount) desc, 1 limit $3
    )
    select t.prefix, t.label, a.name, x.exchanges, x.input_tokens, x.cached_tokens, x.output_tokens, x.amount, x.estimated,
           t.budget, coalesce(c.spent, 0), t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
      from sums as x
      join turnpike.access_token as t on t.id = x.token_id
      join turnpike.account as a on a.id = t.account_id
      left join turnpike.access_token_counter as c on c.token_id = t.id
     order by x.amount desc, t.id";
