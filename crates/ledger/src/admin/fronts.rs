//! Commands about what the front doors need: tokens with budgets, and what earlier systems had.

use sha2::{Digest as _, Sha256};
use tariff::Amount;
use tokio_postgres::types::Type;

use super::Admin;
use crate::{DialogName, LedgerError, TokenId};

/// An access token of an earlier system, which its caller goes on showing.
#[derive(Clone, Debug, Default)]
pub struct ImportedToken {
    /// The account's name; it must exist.
    pub account: String,
    /// What its owner was called.
    pub label: Option<String>,
    /// Not valid from this instant, milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// The most prompt tokens it may use in its life.
    pub prompt_tokens: Option<i64>,
    /// The most completion tokens.
    pub completion_tokens: Option<i64>,
    /// The key its requests carry upstream.
    pub upstream_key: Option<String>,
}

/// Usage that an earlier system had booked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportedUsage {
    /// Its row there.
    pub source_id: i64,
    /// Input tokens.
    pub prompt_tokens: Option<i64>,
    /// Output tokens.
    pub completion_tokens: Option<i64>,
    /// Both.
    pub total_tokens: Option<i64>,
    /// What was reckoned.
    pub price: Option<Amount>,
    /// Milliseconds since the epoch.
    pub requested_at_ms: i64,
    /// The provider's id of the answer.
    pub remote_id: Option<String>,
    /// The model.
    pub model: Option<String>,
}

impl Admin {
    /// Makes an account that may spend as it likes, unless it is there.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the name is no name.
    pub async fn ensure_account(&self, name: &str) -> Result<(), LedgerError> {
        if self
            .accounts()
            .await?
            .iter()
            .all(|account| account.name != name)
        {
            self.create_account(name, None).await?;
        }
        Ok(())
    }

    /// Sets an access token's budgets in tokens.
    ///
    /// # Errors
    /// When Postgres refuses.
    pub async fn set_budgets(
        &self,
        token: TokenId,
        prompt: i64,
        completion: i64,
    ) -> Result<(), LedgerError> {
        let params = &[
            (&token.0 as _, Type::INT8),
            (&prompt as _, Type::INT8),
            (&completion as _, Type::INT8),
        ];
        self.session.query(SET_BUDGETS, params).await.map(drop)
    }

    /// Lets an access token speak for the users of its account at front door resale.
    ///
    /// # Errors
    /// When Postgres refuses.
    pub async fn make_resale_admin(&self, token: TokenId) -> Result<(), LedgerError> {
        self.session
            .query(MAKE_ADMIN, &[(&token.0, Type::INT8)])
            .await
            .map(drop)
    }

    /// Takes over an access token by its secret, unless it was taken over before; returns whether it was new.
    ///
    /// # Errors
    /// When Postgres refuses.
    pub async fn import_token(
        &self,
        secret: &str,
        token: &ImportedToken,
    ) -> Result<(TokenId, bool), LedgerError> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let row = self
            .row(
                IMPORT_TOKEN,
                &[
                    (&token.account, Type::TEXT),
                    (&digest.as_slice(), Type::BYTEA),
                    (&token.label, Type::TEXT),
                    (&token.expires_at_ms, Type::INT8),
                    (&token.upstream_key, Type::TEXT),
                    (&token.prompt_tokens, Type::INT8),
                    (&token.completion_tokens, Type::INT8),
                ],
            )
            .await?;
        Ok((TokenId(row.try_get(0)?), row.try_get(1)?))
    }

    /// The access token with this secret.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn token_of(&self, secret: &str) -> Result<Option<TokenId>, LedgerError> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let params = &[(&digest.as_slice() as _, Type::BYTEA)];
        let rows = self.session.query(TOKEN_OF, params).await?;
        match rows.first() {
            Some(row) => Ok(Some(TokenId(row.try_get(0)?))),
            None => Ok(None),
        }
    }

    /// Takes over usage of tokens; returns how much of it was new.
    ///
    /// # Errors
    /// When Postgres refuses.
    pub async fn import_usage(
        &self,
        used: &[(TokenId, ImportedUsage)],
    ) -> Result<usize, LedgerError> {
        let column = |of: fn(&ImportedUsage) -> Option<i64>| -> Vec<Option<i64>> {
            used.iter().map(|(_, usage)| of(usage)).collect()
        };
        let text = |of: fn(&ImportedUsage) -> &Option<String>| -> Vec<Option<&str>> {
            used.iter().map(|(_, usage)| of(usage).as_deref()).collect()
        };
        let tokens: Vec<i64> = used.iter().map(|(token, _)| token.0).collect();
        let rows = self
            .session
            .query(
                IMPORT_USAGE,
                &[
                    (&tokens, Type::INT8_ARRAY),
                    (&column(|usage| Some(usage.source_id)), Type::INT8_ARRAY),
                    (&column(|usage| usage.prompt_tokens), Type::INT8_ARRAY),
                    (&column(|usage| usage.completion_tokens), Type::INT8_ARRAY),
                    (&column(|usage| usage.total_tokens), Type::INT8_ARRAY),
                    (
                        &column(|usage| usage.price.map(Amount::nano)),
                        Type::INT8_ARRAY,
                    ),
                    (
                        &column(|usage| Some(usage.requested_at_ms)),
                        Type::INT8_ARRAY,
                    ),
                    (&text(|usage| &usage.remote_id), Type::TEXT_ARRAY),
                    (&text(|usage| &usage.model), Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(rows.len())
    }

    /// Takes over a dialog; returns whether it was new.
    ///
    /// # Errors
    /// When Postgres refuses.
    pub async fn import_dialog(
        &self,
        token: TokenId,
        name: DialogName,
        content: &[u8],
    ) -> Result<bool, LedgerError> {
        let rows = self
            .session
            .query(
                IMPORT_DIALOG,
                &[
                    (&token.0, Type::INT8),
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                    (&content, Type::BYTEA),
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }
}

const SET_BUDGETS: &str = "
    update turnpike.access_token set prompt_tokens = $2, completion_tokens = $3 where id = $1";

const MAKE_ADMIN: &str = "
    insert into turnpike.resale_admin (token_id) values ($1) on conflict do nothing";

const TOKEN_OF: &str = "select id from turnpike.access_token where sha256 = $1";

// The prefix of a secret that somebody else made may be most of it: what is shown is of its digest's digest.
const IMPORT_TOKEN: &str = "
    with made as (
      insert into turnpike.access_token
        (account_id, sha256, prefix, label, expires_at, upstream_key, prompt_tokens, completion_tokens)
      values (turnpike.account_id($1), $2, 'import-' || left(encode(sha256($2), 'hex'), 6), $3,
              to_timestamp($4 * 0.001), $5, $6, $7)
      on conflict on constraint access_token_sha256_unique do nothing
      returning id
    )
    select id, true from made
    union all
    select id, false from turnpike.access_token where sha256 = $2";

const IMPORT_USAGE: &str = "
    insert into turnpike.imported_usage
      (token_id, source_id, prompt_tokens, completion_tokens, total_tokens, price, requested_at, remote_id, model)
    select u.token, u.id, u.prompt, u.completion, u.total, u.price, to_timestamp(u.ms * 0.001), u.remote, u.model
      from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) as u (token, id, prompt, completion, total, price, ms, remote, model)
    on conflict on constraint imported_usage_identified do nothing
    returning source_id";

const IMPORT_DIALOG: &str = "
    insert into turnpike.dialog (token_id, door, name, content) values ($1, $2, $3, $4)
    on conflict on constraint dialog_name_unique do nothing
    returning id";
