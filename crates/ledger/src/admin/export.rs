//! Charges by their numbers, page by page: no transaction lasts longer than a page, however much there is.

use tariff::Amount;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{AccountId, LedgerError, TokenId};

use super::Admin;

/// How many numbers the first page goes over.
const WINDOW: i64 = 2_000;
/// How many a page goes over at most, where few of them are wanted.
const WINDOW_MAX: i64 = 20_000;

/// The names of the twelve counts, in their order.
pub const BUCKETS: [&str; 12] = [
    "in_text",
    "in_audio",
    "in_image",
    "cr_text",
    "cr_audio",
    "cr_image",
    "cw_5m",
    "cw_1h",
    "out_text",
    "out_reasoning",
    "out_audio",
    "out_image",
];

/// A charge with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedCharge {
    /// Its number.
    pub seq: i64,
    /// The exchange.
    pub id: Uuid,
    /// Who paid.
    pub account_id: AccountId,
    /// Its name.
    pub account: String,
    /// With which access token.
    pub token_id: TokenId,
    /// Its prefix.
    pub token: String,
    /// Its label.
    pub token_label: Option<String>,
    /// When the request's head came, milliseconds since the epoch.
    pub started_at_ms: i64,
    /// When it was settled, likewise.
    pub settled_at_ms: i64,
    /// The endpoint by short name.
    pub endpoint: String,
    /// The model the client named.
    pub model_requested: String,
    /// The model the answer named.
    pub model_answered: Option<String>,
    /// The tier that served.
    pub service_tier: Option<String>,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The HTTP status the client saw.
    pub status: i16,
    /// How the figure came about.
    pub mark: String,
    /// How the exchange ended.
    pub ending: String,
    /// Bits of `tariff::Flag`.
    pub flags: i32,
    /// What was charged.
    pub amount: Amount,
    /// What had been held for it.
    pub held: Amount,
    /// What the provider says it cost.
    pub provider_cost: Option<Amount>,
    /// The price version it was computed from.
    pub price_id: i64,
    /// The twelve counts, in the order of [`BUCKETS`].
    pub buckets: [i64; 12],
    /// From the start to the answer's head, milliseconds.
    pub head_after_ms: Option<i32>,
    /// From the start to the first byte of the answer's body, milliseconds.
    pub first_byte_after_ms: Option<i32>,
    /// From the start to the end, milliseconds.
    pub ended_after_ms: i32,
    /// Who answered.
    pub upstream: Option<String>,
    /// With which key.
    pub upstream_key_id: Option<i64>,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
}

/// Which charges are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those that started at this instant or later, milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// And before this one.
    pub until_ms: Option<i64>,
    /// Of this account.
    pub account: Option<String>,
}

/// Where an export is: numbers behind `after` up to `last` are still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last number that was read.
    pub after: i64,
    /// The last number there is to read.
    pub last: i64,
    window: i64,
}

impl Position {
    /// Whether everything was read.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.after >= self.last
    }
}

impl Admin {
    /// Sees to it that every charge has its number, should no gateway be running. Says how many got theirs.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn number_charges(&self) -> Result<i64, LedgerError> {
        let mut numbered = 0_i64;
        loop {
            match self.row(NUMBER, &[]).await?.try_get::<_, i32>(0)? {
                0 => return Ok(numbered),
                some => numbered = numbered.saturating_add(some.into()),
            }
        }
    }

    /// Where to begin and to end with what is wanted: the numbers between which it lies, those up to `after` left out.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn export_span(&self, wanted: &Wanted, after: i64) -> Result<Position, LedgerError> {
        let row = if wanted.since_ms.is_none() && wanted.until_ms.is_none() {
            self.row(ALL, &[]).await?
        } else {
            let params = &[
                (&wanted.since_ms as _, Type::INT8),
                (&wanted.until_ms as _, Type::INT8),
            ];
            self.row(SPAN, params).await?
        };
        let first: i64 = row.try_get(0)?;
        Ok(Position {
            after: after.max(first.saturating_sub(1)),
            last: row.try_get(1)?,
            window: WINDOW,
        })
    }

    /// The next page of what is wanted, in order; moves the position. It may be empty long before the end.
    ///
    /// # Errors
    /// When Postgres does not answer; then the position has not moved.
    pub async fn export_page(
        &self,
        wanted: &Wanted,
        position: &mut Position,
    ) -> Result<Vec<NumberedCharge>, LedgerError> {
        let until = position
            .after
            .saturating_add(position.window)
            .min(position.last);
        let params = &[
            (&position.after as _, Type::INT8),
            (&until as _, Type::INT8),
            (&wanted.since_ms as _, Type::INT8),
            (&wanted.until_ms as _, Type::INT8),
            (&wanted.account as _, Type::TEXT),
        ];
        let rows = self.session.query(PAGE, params).await?;
        let page: Vec<_> = rows.iter().map(charge).collect::<Result<_, _>>()?;
        position.after = until;
        // Where few are wanted, more is gone over at a time; the first full page ends that.
        let got = i64::try_from(page.len()).unwrap_or(i64::MAX);
        position.window = if got >= WINDOW {
            WINDOW
        } else if got < WINDOW / 4 {
            position.window.saturating_mul(2).min(WINDOW_MAX)
        } else {
            position.window
        };
        Ok(page)
    }

    /// Which books these are.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn books(&self) -> Result<Uuid, LedgerError> {
        Ok(self.row(BOOKS, &[]).await?.try_get(0)?)
    }

    /// Whether there is an account of that name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn has_account(&self, name: &str) -> Result<bool, LedgerError> {
        Ok(self
            .row(ACCOUNT, &[(&name, Type::TEXT)])
            .await?
            .try_get(0)?)
    }
}

fn charge(row: &Row) -> Result<NumberedCharge, LedgerError> {
    let mut buckets = [0_i64; 12];
    for (at, bucket) in (22..).zip(&mut buckets) {
        *bucket = row.try_get(at)?;
    }
    let amount = |at| -> Result<Amount, LedgerError> { Ok(Amount::from_nano(row.try_get(at)?)) };
    Ok(NumberedCharge {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        account_id: AccountId(row.try_get(2)?),
        account: row.try_get(3)?,
        token_id: TokenId(row.try_get(4)?),
        token: row.try_get(5)?,
        token_label: row.try_get(6)?,
        started_at_ms: row.try_get(7)?,
        settled_at_ms: row.try_get(8)?,
        endpoint: row.try_get(9)?,
        model_requested: row.try_get(10)?,
        model_answered: row.try_get(11)?,
        service_tier: row.try_get(12)?,
        stream: row.try_get(13)?,
        status: row.try_get(14)?,
        mark: row.try_get(15)?,
        ending: row.try_get(16)?,
        flags: row.try_get(17)?,
        amount: amount(18)?,
        held: amount(19)?,
        provider_cost: row.try_get::<_, Option<i64>>(20)?.map(Amount::from_nano),
        price_id: row.try_get(21)?,
        buckets,
        head_after_ms: row.try_get(34)?,
        first_byte_after_ms: row.try_get(35)?,
        ended_after_ms: row.try_get(36)?,
        upstream: row.try_get(37)?,
        upstream_key_id: row.try_get(38)?,
        response_id: row.try_get(39)?,
    })
}

const NUMBER: &str = "select turnpike.number_charges()";
const ALL: &str = "
    select coalesce((select min(seq) from turnpike.charge_seq), 1), coalesce((select max(seq) from turnpike.charge_seq), 0)";
// An exchange's id is made within moments of its start; a day's margin covers jobs' and clocks.
const SPAN: &str = "
    select coalesce(min(seq), 1), coalesce(max(seq), 0) from turnpike.charge_seq
     where ($1::bigint is null or charge_id >= turnpike.first_id(to_timestamp(greatest($1 * 0.001 - 86400, 0))))
       and ($2::bigint is null or charge_id < turnpike.first_id(to_timestamp(greatest($2 * 0.001 + 86400, 0))))";
const PAGE: &str = "
    select charge_seq, id, account_id, account, token_id, token, token_label,
           floor(extract(epoch from started_at) * 1000)::bigint, floor(extract(epoch from settled_at) * 1000)::bigint,
           endpoint, model_requested, model_answered, service_tier, stream, status, mark, ending, flags,
           nano_usd, held_nano_usd, provider_cost_nano_usd, price_id,
           in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text, out_reasoning, out_audio, out_image,
           head_after_ms, first_byte_after_ms, ended_after_ms, upstream, upstream_key_id, response_id
      from turnpike.numbered_charges
     where charge_seq > $1 and charge_seq <= $2
       and ($3::bigint is null or started_at >= to_timestamp($3 * 0.001)) and ($4::bigint is null or started_at < to_timestamp($4 * 0.001))
       and ($5::text is null or account = $5)
     order by charge_seq";
const BOOKS: &str = "select id from turnpike.identity";
const ACCOUNT: &str = "select exists (select from turnpike.account where name = $1)";
