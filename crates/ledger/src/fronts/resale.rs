//! Users of resale and their two budgets.

use tokio_postgres::{Row, types::Type};

use crate::{AccountId, Ledger, LedgerError, TokenId};

/// An access token that pays, found otherwise than by its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Its row.
    pub token: TokenId,
    /// Its account.
    pub account: AccountId,
    /// SHA-256 of its secret, by which [`Ledger::access_token`] finds it.
    pub digest: [u8; 32],
}

/// An access token's two budgets in tokens, and what it has used of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// The most prompt tokens; `None` for as many as it likes.
    pub prompt_max: Option<i64>,
    /// The most completion tokens.
    pub completion_max: Option<i64>,
    /// Prompt tokens charged so far.
    pub prompt_used: i64,
    /// Completion tokens charged so far.
    pub completion_used: i64,
}

impl Budgets {
    /// What is left of both; as much as can be said where there is no limit.
    #[must_use]
    pub fn left(&self) -> (i64, i64) {
        let left = |most: Option<i64>, used: i64| match most {
            Some(most) => most.saturating_sub(used),
            None => UNLIMITED,
        };
        (
            left(self.prompt_max, self.prompt_used),
            left(self.completion_max, self.completion_used),
        )
    }
}

/// What a budget without limit says it has left: the largest integer that every JSON reader keeps exactly.
const UNLIMITED: i64 = (1 << 53) - 1;

impl Ledger {
    /// Whether an access token may speak for the users of its account at front door resale.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn is_resale_admin(&self, token: TokenId) -> Result<bool, LedgerError> {
        let rows = self.query(IS_ADMIN, &[(&token.0, Type::INT8)]).await?;
        Ok(!rows.is_empty())
    }

    /// The user of an account by his name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn resale_user(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<Option<Payer>, LedgerError> {
        let rows = self
            .query(USER, &[(&account.0, Type::INT8), (&name, Type::TEXT)])
            .await?;
        rows.first().map(payer).transpose()
    }

    /// A token's two budgets and what it has used.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn budgets(&self, token: TokenId) -> Result<Budgets, LedgerError> {
        let rows = self.query(BUDGETS, &[(&token.0, Type::INT8)]).await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        Ok(Budgets {
            prompt_max: row.try_get(0)?,
            completion_max: row.try_get(1)?,
            prompt_used: row.try_get(2)?,
            completion_used: row.try_get(3)?,
        })
    }

    /// Makes a user with these budgets; one that is there stays as he is. Returns his token.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when `admin` is none, or the name is no name.
    pub async fn issue_resale_user(
        &self,
        admin: TokenId,
        name: &str,
        prompt: i64,
        completion: i64,
    ) -> Result<TokenId, LedgerError> {
        let rows = self
            .query(
                ISSUE,
                &[
                    (&admin.0, Type::INT8),
                    (&name, Type::TEXT),
                    (&prompt, Type::INT8),
                    (&completion, Type::INT8),
                ],
            )
            .await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        Ok(TokenId(row.try_get(0)?))
    }

    /// Sets what a user has left of both budgets; `false` when there is none of that name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn set_resale_left(
        &self,
        admin: TokenId,
        name: &str,
        prompt: i64,
        completion: i64,
    ) -> Result<bool, LedgerError> {
        let rows = self
            .query(
                SET_LEFT,
                &[
                    (&admin.0, Type::INT8),
                    (&name, Type::TEXT),
                    (&prompt, Type::INT8),
                    (&completion, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.first().ok_or_else(LedgerError::row)?.try_get(0)?)
    }
}

fn payer(row: &Row) -> Result<Payer, LedgerError> {
    Ok(Payer {
        token: TokenId(row.try_get(0)?),
        account: AccountId(row.try_get(1)?),
        digest: row
            .try_get::<_, &[u8]>(2)?
            .try_into()
            .map_err(|_| LedgerError::row())?,
    })
}

const IS_ADMIN: &str = "select from turnpike.resale_admin where token_id = $1";

const USER: &str = "
    select t.id, t.account_id, t.sha256
      from turnpike.resale_user as u join turnpike.access_token as t on t.id = u.token_id
     where u.account_id = $1 and u.name = $2";

const BUDGETS: &str = "
    select t.prompt_tokens, t.completion_tokens, u.prompt, u.completion
      from turnpike.access_token as t, turnpike.tokens_used(t.id) as u
     where t.id = $1";

const ISSUE: &str = "select turnpike.resale_issue($1, $2, $3, $4)";

const SET_LEFT: &str = "select turnpike.resale_set_left($1, $2, $3, $4)";
