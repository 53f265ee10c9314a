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
    /// What was used since an instant (milliseconds since the epoch), of one account if named.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn usage(
        &self,
        by: UsageBy,
        since_ms: i64,
        account: Option<&str>,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let (key, order) = match by {
            UsageBy::Day => ("(c.started_at at time zone 'UTC')::date::text", "1 desc"),
            UsageBy::Model => ("coalesce(c.model_answered, c.model_requested)", "6 desc, 1"),
            UsageBy::Token => ("concat_ws(' ', t.prefix, t.label)", "6 desc, 1"),
        };
        let statement = USAGE.replace("{key}", key).replace("{order}", order);
        let rows = self
            .session
            .query(
                &statement,
                &[(&since_ms, Type::INT8), (&account, Type::TEXT)],
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

// An exchange's id is made within moments of its start: a day's margin lets whole partitions be left out.
const USAGE: &str = "
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
       and c.started_at >= to_timestamp($1 * 0.001)
       and ($2 is null or a.name = $2)
     group by 1 order by {order}";
