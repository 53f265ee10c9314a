//! What an access token has used of late, exchange by exchange.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{Ledger, LedgerError, TokenId};

/// One exchange of a token, charged here or booked by the system it moved from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRow {
    /// The provider's id of the answer.
    pub remote_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Input and output tokens.
    pub total_tokens: i64,
    /// What it cost.
    pub price: Amount,
    /// Seconds since the epoch.
    pub at_s: i64,
}

impl Ledger {
    /// A token's exchanges of the last `days` days, oldest first: at most the newest `rows_max` of them.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn used_of_late(
        &self,
        token: TokenId,
        days: i32,
        rows_max: i64,
    ) -> Result<Vec<UsedRow>, LedgerError> {
        let rows = self
            .query(
                OF_LATE,
                &[
                    (&token.0, Type::INT8),
                    (&days, Type::INT4),
                    (&rows_max, Type::INT8),
                ],
            )
            .await?;
        let rows = rows.iter().rev().map(|row| {
            Ok(UsedRow {
                remote_id: row.try_get(0)?,
                model: row.try_get(1)?,
                total_tokens: row.try_get(2)?,
                price: Amount::from_nano(row.try_get(3)?),
                at_s: row.try_get(4)?,
            })
        });
        rows.collect()
    }
}

const OF_LATE: &str = "
    select remote_id, model, total_tokens, price, floor(extract(epoch from at))::bigint
      from (
        select c.response_id as remote_id, coalesce(c.model_answered, c.model_requested) as model,
               c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h
                 + c.out_text + c.out_reasoning + c.out_audio + c.out_image as total_tokens,
               c.amount as price, c.started_at as at
          from turnpike.access_token as t
          join turnpike.charge as c on c.account_id = t.account_id and c.token_id = t.id
         where t.id = $1 and c.id >= turnpike.first_id(now() - $2 * interval '1 day')
        union all
        select remote_id, model, coalesce(total_tokens, 0), coalesce(price, 0), requested_at
          from turnpike.imported_usage
         where token_id = $1 and requested_at >= now() - $2 * interval '1 day'
      ) as used
     order by at desc
     limit $3";
