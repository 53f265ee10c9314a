//! Commands about access tokens.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{LedgerError, Limit, Period, Secret, TokenId};

use super::Admin;

/// What a new access token may do. `None` sets no limit.
#[derive(Clone, Debug, Default)]
pub struct IssueToken {
    /// The account's name; it must exist.
    pub account: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// The most it may spend in its life.
    pub budget: Option<Amount>,
    /// Not valid from this instant, milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// Model patterns.
    pub models: Option<Vec<String>>,
    /// Endpoints by short name.
    pub endpoints: Option<Vec<String>>,
    /// Networks (`10.0.0.0/8`).
    pub addresses: Option<Vec<String>>,
    /// Its caps besides the budget of its life.
    pub caps: Caps,
    /// Requests in any second.
    pub requests_per_second: Option<i32>,
    /// Requests in any minute.
    pub requests_per_minute: Option<i32>,
    /// Requests in any hour.
    pub requests_per_hour: Option<i32>,
    /// Input and output tokens in any minute.
    pub tokens_per_minute: Option<i64>,
    /// Exchanges open at once.
    pub concurrent_exchanges: Option<i32>,
    /// The key its requests carry upstream: literal, `env:NAME` or `file:PATH`.
    pub upstream_key: Option<String>,
}

/// What a token may use: per day and month (UTC), money and tokens. `None` sets no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps {
    /// Money in a day.
    pub budget_day: Option<Amount>,
    /// Money in a month.
    pub budget_month: Option<Amount>,
    /// Input tokens in its life.
    pub prompt_tokens: Option<i64>,
    /// Input tokens in a day.
    pub prompt_tokens_day: Option<i64>,
    /// Input tokens in a month.
    pub prompt_tokens_month: Option<i64>,
    /// Output tokens in its life.
    pub completion_tokens: Option<i64>,
    /// Output tokens in a day.
    pub completion_tokens_day: Option<i64>,
    /// Output tokens in a month.
    pub completion_tokens_month: Option<i64>,
}

/// A cap that is set, and what is used of it. Nano-USD for a budget, tokens for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapRow {
    /// Which cap.
    pub cap: Limit,
    /// What was charged against it, in the period that is under way.
    pub used: i64,
    /// The most it allows.
    pub most: i64,
}

/// A token just made. The only time its secret is seen.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The secret.
    pub token: Secret,
    /// Its beginning, for display and for `rotate` and `revoke`.
    pub prefix: String,
    /// The row.
    pub id: TokenId,
}

/// A token as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The row.
    pub id: TokenId,
    /// Its beginning.
    pub prefix: String,
    /// The account's name.
    pub account: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// Its budget.
    pub budget: Option<Amount>,
    /// What it has been charged.
    pub spent: Amount,
    /// What is held for its open exchanges, as far as their evidence is written.
    pub held: Amount,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// Milliseconds since the epoch.
    pub revoked_at_ms: Option<i64>,
    /// Model patterns.
    pub models: Option<Vec<String>>,
    /// Its caps besides the budget of its life, those that are set.
    pub caps: Vec<CapRow>,
    /// Requests in any second.
    pub requests_per_second: Option<i32>,
    /// Requests in any minute.
    pub requests_per_minute: Option<i32>,
    /// Requests in any hour.
    pub requests_per_hour: Option<i32>,
    /// Input and output tokens in any minute.
    pub tokens_per_minute: Option<i64>,
    /// Exchanges open at once.
    pub concurrent_exchanges: Option<i32>,
}

impl Admin {
    /// Makes an access token.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`], with a hint, for an unknown account or a limit that makes no sense.
    pub async fn issue_token(&self, wanted: &IssueToken) -> Result<IssuedToken, LedgerError> {
        let budget = wanted.budget.map(Amount::nano);
        let caps = &wanted.caps;
        let (day, month) = (
            caps.budget_day.map(Amount::nano),
            caps.budget_month.map(Amount::nano),
        );
        let row = self
            .row(
                ISSUE,
                &[
                    (&wanted.account, Type::TEXT),
                    (&budget, Type::INT8),
                    (&wanted.expires_at_ms, Type::INT8),
                    (&wanted.models, Type::TEXT_ARRAY),
                    (&wanted.requests_per_minute, Type::INT4),
                    (&wanted.concurrent_exchanges, Type::INT4),
                    (&wanted.endpoints, Type::TEXT_ARRAY),
                    (&wanted.addresses, Type::TEXT_ARRAY),
                    (&wanted.label, Type::TEXT),
                    (&wanted.upstream_key, Type::TEXT),
                    (&day, Type::INT8),
                    (&month, Type::INT8),
                    (&caps.prompt_tokens, Type::INT8),
                    (&caps.prompt_tokens_day, Type::INT8),
                    (&caps.prompt_tokens_month, Type::INT8),
                    (&caps.completion_tokens, Type::INT8),
                    (&caps.completion_tokens_day, Type::INT8),
                    (&caps.completion_tokens_month, Type::INT8),
                    (&wanted.requests_per_second, Type::INT4),
                    (&wanted.requests_per_hour, Type::INT4),
                    (&wanted.tokens_per_minute, Type::INT8),
                ],
            )
            .await?;
        issued(&row)
    }

    /// All access tokens, newest first; of one account if named.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn tokens(&self, account: Option<&str>) -> Result<Vec<TokenRow>, LedgerError> {
        let rows = self.session.query(LIST, &[(&account, Type::TEXT)]).await?;
        rows.iter()
            .map(|row| {
                Ok(TokenRow {
                    id: TokenId(row.try_get(0)?),
                    prefix: row.try_get(1)?,
                    account: row.try_get(2)?,
                    label: row.try_get(3)?,
                    budget: row.try_get::<_, Option<i64>>(4)?.map(Amount::from_nano),
                    spent: Amount::from_nano(row.try_get(5)?),
                    held: Amount::from_nano(row.try_get(6)?),
                    created_at_ms: row.try_get(7)?,
                    expires_at_ms: row.try_get(8)?,
                    revoked_at_ms: row.try_get(9)?,
                    models: row.try_get(10)?,
                    requests_per_second: row.try_get(11)?,
                    requests_per_minute: row.try_get(12)?,
                    requests_per_hour: row.try_get(13)?,
                    tokens_per_minute: row.try_get(14)?,
                    concurrent_exchanges: row.try_get(15)?,
                    caps: caps(row.try_get(16)?, &row.try_get::<_, Vec<i64>>(17)?),
                })
            })
            .collect()
    }

    /// Gives a token a new secret; the old one is refused from now on. Named by secret or by (part of) its prefix.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when none or several fit, or it is revoked.
    pub async fn rotate_token(&self, token: &str) -> Result<IssuedToken, LedgerError> {
        issued(&self.row(ROTATE, &[(&token, Type::TEXT)]).await?)
    }

    /// Revokes a token, named by secret or by (part of) its prefix; returns the prefix.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when none or several fit.
    pub async fn revoke_token(&self, token: &str) -> Result<String, LedgerError> {
        Ok(self
            .row(REVOKE, &[(&token, Type::TEXT)])
            .await?
            .try_get(0)?)
    }
}

/// Those that are set.
fn caps(most: Vec<Option<i64>>, used: &[i64]) -> Vec<CapRow> {
    CAPS.into_iter()
        .zip(most)
        .zip(used)
        .filter_map(|((cap, most), &used)| most.map(|most| CapRow { cap, used, most }))
        .collect()
}

fn issued(row: &tokio_postgres::Row) -> Result<IssuedToken, LedgerError> {
    Ok(IssuedToken {
        token: Secret::new(row.try_get::<_, String>(0)?),
        prefix: row.try_get(1)?,
        id: TokenId(row.try_get(2)?),
    })
}

const ISSUE: &str = "
    select token, prefix, token_id
      from turnpike.issue_token($1, turnpike.usd($2), to_timestamp($3 * 0.001), $4, $5, $6, $7, $8::cidr[], $9, $10,
             budget_day_usd => turnpike.usd($11), budget_month_usd => turnpike.usd($12),
             prompt_tokens => $13, prompt_tokens_day => $14, prompt_tokens_month => $15,
             completion_tokens => $16, completion_tokens_day => $17, completion_tokens_month => $18,
             requests_per_second => $19, requests_per_hour => $20, tokens_per_minute => $21)";

// The id is found before the secret changes: the statement's snapshot is from before the function ran.
const ROTATE: &str = "
    with target as materialized (select turnpike.find_token($1) as id),
         rotated as materialized (select id, turnpike.rotate_token($1) as token from target)
    select token, left(token, 11), id from rotated";

const REVOKE: &str = "select turnpike.revoke_token($1)";

/// In the order of [`LIST`].
const CAPS: [Limit; 8] = [
    Limit::Budget(Period::Day),
    Limit::Budget(Period::Month),
    Limit::PromptTokens(Period::Life),
    Limit::PromptTokens(Period::Day),
    Limit::PromptTokens(Period::Month),
    Limit::CompletionTokens(Period::Life),
    Limit::CompletionTokens(Period::Day),
    Limit::CompletionTokens(Period::Month),
];

// A counter of an earlier day or month counts as zero.
const LIST: &str = "
    select t.id, t.prefix, a.name, t.label, t.budget, c.spent,
           (select coalesce(sum(h.amount), 0)::bigint from turnpike.hold as h where h.token_id = t.id),
           floor(extract(epoch from t.created_at) * 1000)::bigint,
           case when isfinite(t.expires_at) then floor(extract(epoch from t.expires_at) * 1000)::bigint end,
           floor(extract(epoch from t.revoked_at) * 1000)::bigint,
           t.models, t.requests_per_second, t.requests_per_minute, t.requests_per_hour, t.tokens_per_minute, t.concurrent_exchanges,
           array[t.budget_day, t.budget_month, t.prompt_tokens, t.prompt_tokens_day, t.prompt_tokens_month,
                 t.completion_tokens, t.completion_tokens_day, t.completion_tokens_month],
           array[c.spent_day * u.day, c.spent_month * u.month, c.prompt, c.prompt_day * u.day, c.prompt_month * u.month,
                 c.completion, c.completion_day * u.day, c.completion_month * u.month]
      from turnpike.access_token as t
      join turnpike.access_token_counter as c on c.token_id = t.id
      join turnpike.account as a on a.id = t.account_id
     cross join (select (now() at time zone 'UTC')::date as today) as n
     cross join lateral (select (c.day = n.today)::integer as day, (c.month = date_trunc('month', n.today)::date)::integer as month) as u
     where $1 is null or a.name = $1
     order by t.id desc";
