//! What was charged, as a provider's export tells it: by day, upstream key and model.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{LedgerError, UpstreamKeyId};

use super::Admin;

/// Which charges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// Of exchanges that started at this instant or later, milliseconds since the epoch.
    pub from_ms: i64,
    /// And before this one.
    pub to_ms: i64,
    /// Answered by this upstream; `None` for all.
    pub upstream: Option<String>,
    /// Of these endpoints, by short name; `None` for all.
    pub endpoints: Option<Vec<String>>,
}

/// The charges of one day, upstream key and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargedRow {
    /// The day the exchanges started, UTC: `2026-11-21`.
    pub day: String,
    /// The upstream's name. `None`: the settings' upstream or the sandbox model, or one that was deleted.
    pub upstream: Option<String>,
    /// The upstream's key; `None` where the upstream has no row.
    pub key: Option<UpstreamKeyId>,
    /// The model that answered, else the one asked for.
    pub model: String,
    /// Charges.
    pub exchanges: i64,
    /// Input tokens, those read from and written to a cache included.
    pub input_tokens: i64,
    /// Of these, read from a cache.
    pub cached_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Charged.
    pub amount: Amount,
    /// Charges whose figure is not the provider's own.
    pub estimates: i64,
}

impl Admin {
    /// What was charged, by day, upstream key and model.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn charged(&self, which: &Charged) -> Result<Vec<ChargedRow>, LedgerError> {
        let rows = self
            .session
            .query(
                CHARGED,
                &[
                    (&which.from_ms, Type::INT8),
                    (&which.to_ms, Type::INT8),
                    (&which.upstream, Type::TEXT),
                    (&which.endpoints, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ChargedRow {
                    day: row.try_get(0)?,
                    upstream: row.try_get(1)?,
                    key: row.try_get::<_, Option<i64>>(2)?.map(UpstreamKeyId),
                    model: row.try_get(3)?,
                    exchanges: row.try_get(4)?,
                    input_tokens: row.try_get(5)?,
                    cached_tokens: row.try_get(6)?,
                    output_tokens: row.try_get(7)?,
                    amount: Amount::from_nano(row.try_get(8)?),
                    estimates: row.try_get(9)?,
                })
            })
            .collect()
    }
}

// An exchange's id is made within moments of its start: a day's margin lets whole partitions be left out.
const CHARGED: &str = "
    select (c.started_at at time zone 'UTC')::date::text, u.name, c.upstream_key_id, coalesce(c.model_answered, c.model_requested),
           count(*),
           sum(c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h)::bigint,
           sum(c.cr_text + c.cr_audio + c.cr_image)::bigint,
           sum(c.out_text + c.out_reasoning + c.out_audio + c.out_image)::bigint,
           sum(c.amount)::bigint,
           count(*) filter (where c.mark not in ('measured', 'provider_cost'))
      from turnpike.charge as c
      left join turnpike.upstream as u on u.id = c.upstream_id
     where c.id >= turnpike.first_id(to_timestamp(greatest($1 * 0.001 - 86400, 0)))
       and c.id < turnpike.first_id(to_timestamp($2 * 0.001 + 86400))
       and c.started_at >= to_timestamp($1 * 0.001) and c.started_at < to_timestamp($2 * 0.001)
       and ($3 is null or u.name = $3)
       and ($4::text[] is null or c.endpoint = any ($4))
     group by 1, 2, 3, 4 order by 1, 2, 3, 4";
