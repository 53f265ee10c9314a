//! Tables of what was used.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::LedgerError;

use super::Admin;

/// Whom a table of usage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// One row per day (UTC), the latest first.
    Day,
    /// One row per model, the dearest first.
    Model,
    /// One row per access token, the dearest first.
    Token,
    /// One row per account, the dearest first.
    Account,
}

/// One row of a table of usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The day (`2026-11-21`), the model, or the token's prefix and label.
    pub key: String,
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
    /// Of this, where the figure is not the provider's own.
    pub estimated: Amount,
}

impl Admin {
    /// What was used from an instant to before another (milliseconds since the epoch), of one account if named. Whole days (UTC) come
    /// from the daily sums, and so are told for months whose charges were dropped as well.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn usage(
        &self,
        by: UsageBy,
        since_ms: i64,
        until_ms: Option<i64>,
        account: Option<&str>,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let is_midnight = |ms: i64| ms.checked_rem(DAY_MS) == Some(0);
        let are_days = is_midnight(since_ms) && until_ms.is_none_or(is_midnight);
        let (day, model, usage) = if are_days {
            ("u.day", "u.model", OF_DAYS)
        } else {
            (
                "(c.started_at at time zone 'UTC')::date",
                "coalesce(c.model_answered, c.model_requested)",
                OF_CHARGES,
            )
        };
        let (key, order) = match by {
            UsageBy::Day => (format!("{day}::text"), "1 desc"),
            UsageBy::Model => (model.to_owned(), "6 desc, 1"),
            UsageBy::Token => ("concat_ws(' ', t.prefix, t.label)".to_owned(), "6 desc, 1"),
            UsageBy::Account => ("a.name".to_owned(), "6 desc, 1"),
        };
        let statement = usage.replace("{key}", &key).replace("{order}", order);
        let rows = self
            .session
            .query(
                &statement,
                &[
                    (&since_ms, Type::INT8),
                    (&until_ms, Type::INT8),
                    (&account, Type::TEXT),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(UsageRow {
                    key: row.try_get(0)?,
                    exchanges: row.try_get(1)?,
                    input_tokens: row.try_get(2)?,
                    cached_tokens: row.try_get(3)?,
                    output_tokens: row.try_get(4)?,
                    amount: Amount::from_nano(row.try_get(5)?),
                    estimated: Amount::from_nano(row.try_get(6)?),
                })
            })
            .collect()
    }
}

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

// An exchange's id is made within moments of its start: a day's margin lets whole partitions be left out.
const OF_CHARGES: &str = "
    select {key}, count(*),
           sum(c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h)::bigint,
           sum(c.cr_text + c.cr_audio + c.cr_image)::bigint,
           sum(c.out_text + c.out_reasoning + c.out_audio + c.out_image)::bigint,
           sum(c.amount)::bigint,
           coalesce(sum(c.amount) filter (where c.mark not in ('measured', 'provider_cost')), 0)::bigint
      from turnpike.charge as c
      join turnpike.access_token as t on t.id = c.token_id
      join turnpike.account as a on a.id = c.account_id
     where c.id >= turnpike.first_id(to_timestamp(greatest($1 * 0.001 - 86400, 0)))
       and ($2 is null or c.id < turnpike.first_id(to_timestamp(greatest($2 * 0.001 + 86400, 0))))
       and c.started_at >= to_timestamp($1 * 0.001) and ($2 is null or c.started_at < to_timestamp($2 * 0.001))
       and ($3 is null or a.name = $3)
     group by 1 order by {order}";

const OF_DAYS: &str = "
    select {key}, sum(u.exchanges)::bigint, sum(u.input_tokens)::bigint, sum(u.cached_tokens)::bigint, sum(u.output_tokens)::bigint,
           sum(u.amount)::bigint, sum(u.estimated)::bigint
      from turnpike.usage_day as u
      join turnpike.access_token as t on t.id = u.token_id
      join turnpike.account as a on a.id = u.account_id
     where u.day >= (to_timestamp($1 * 0.001) at time zone 'UTC')::date
       and ($2 is null or u.day < (to_timestamp($2 * 0.001) at time zone 'UTC')::date)
       and ($3 is null or a.name = $3)
     group by 1 order by {order}";
