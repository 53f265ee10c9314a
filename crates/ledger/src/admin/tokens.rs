//! Commands about access tokens.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{LedgerError, Secret, TokenId};

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
    /// Requests in any minute.
    pub requests_per_minute: Option<i32>,
    /// Exchanges open at once.
    pub concurrent_exchanges: Option<i32>,
    /// The key its requests carry upstream: literal, `env:NAME` or `file:PATH`.
    pub upstream_key: Option<String>,
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
    /// Requests in any minute.
    pub requests_per_minute: Option<i32>,
}

impl Admin {
    /// Makes an access token.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`], with a hint, for an unknown account or a limit that makes no sense.
    pub async fn issue_token(&self, wanted: &IssueToken) -> Result<IssuedToken, LedgerError> {
        let budget = wanted.budget.map(Amount::nano);
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
                    requests_per_minute: row.try_get(11)?,
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

fn issued(row: &tokio_postgres::Row) -> Result<IssuedToken, LedgerError> {
    Ok(IssuedToken {
        token: Secret::new(row.try_get::<_, String>(0)?),
        prefix: row.try_get(1)?,
        id: TokenId(row.try_get(2)?),
    })
}

const ISSUE: &str = "
    select token, prefix, token_id
      from turnpike.issue_token($1, turnpike.usd($2), to_timestamp($3 * 0.001), $4, $5, $6, $7, $8::cidr[], $9, $10)";

// The id is found before the secret changes: the statement's snapshot is from before the function ran.
const ROTATE: &str = "
    with target as materialized (select turnpike.find_token($1) as id),
         rotated as materialized (select id, turnpike.rotate_token($1) as token from target)
    select token, left(token, 11), id from rotated";

const REVOKE: &str = "select turnpike.revoke_token($1)";

const LIST: &str = "
    select t.id, t.prefix, a.name, t.label, t.budget, c.spent,
           (select coalesce(sum(h.amount), 0)::bigint from turnpike.hold as h where h.token_id = t.id),
           floor(extract(epoch from t.created_at) * 1000)::bigint,
           case when isfinite(t.expires_at) then floor(extract(epoch from t.expires_at) * 1000)::bigint end,
           floor(extract(epoch from t.revoked_at) * 1000)::bigint,
           t.models, t.requests_per_minute
      from turnpike.access_token as t
      join turnpike.access_token_counter as c on c.token_id = t.id
      join turnpike.account as a on a.id = t.account_id
     where $1 is null or a.name = $1
     order by t.id desc";
