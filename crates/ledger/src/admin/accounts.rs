//! Commands about accounts.

use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{AccountId, LedgerError};

use super::Admin;

/// An account as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The row.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Credits less charges.
    pub balance: Amount,
    /// How far below zero the balance may go; `None` for as far as it likes.
    pub credit_limit: Option<Amount>,
    /// What is held for its open exchanges, as far as their evidence is written.
    pub held: Amount,
}

/// A credit, or what was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditRow {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// How much.
    pub amount: Amount,
    /// Why.
    pub note: String,
}

impl Admin {
    /// The latest credits of an account, the last first.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn credits(&self, account: &str, most: i64) -> Result<Vec<CreditRow>, LedgerError> {
        let rows = self
            .session
            .query(CREDITS, &[(&account, Type::TEXT), (&most, Type::INT8)])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(CreditRow {
                    at_ms: row.try_get(0)?,
                    amount: Amount::from_nano(row.try_get(1)?),
                    note: row.try_get(2)?,
                })
            })
            .collect()
    }

    /// Makes an account. `credit_limit` `None`: it may spend as it likes.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the name is taken (constraint `account_name_unique`) or is no name.
    pub async fn create_account(
        &self,
        name: &str,
        credit_limit: Option<Amount>,
    ) -> Result<AccountId, LedgerError> {
        let limit = credit_limit.map(Amount::nano);
        let row = self
            .row(CREATE, &[(&name, Type::TEXT), (&limit, Type::INT8)])
            .await?;
        Ok(AccountId(row.try_get(0)?))
    }

    /// Credits an account; returns its new balance. A negative amount takes away.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when there is no such account, or the amount is zero.
    pub async fn top_up(
        &self,
        account: &str,
        amount: Amount,
        note: &str,
    ) -> Result<Amount, LedgerError> {
        let row = self
            .row(
                TOP_UP,
                &[
                    (&account, Type::TEXT),
                    (&amount.nano(), Type::INT8),
                    (&note, Type::TEXT),
                ],
            )
            .await?;
        Ok(Amount::from_nano(row.try_get(0)?))
    }

    /// All accounts by name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, LedgerError> {
        let rows = self.session.query(LIST, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(AccountRow {
                    id: AccountId(row.try_get(0)?),
                    name: row.try_get(1)?,
                    balance: Amount::from_nano(row.try_get(2)?),
                    credit_limit: row.try_get::<_, Option<i64>>(3)?.map(Amount::from_nano),
                    held: Amount::from_nano(row.try_get(4)?),
                })
            })
            .collect()
    }
}

const CREATE: &str = "select turnpike.create_account($1, turnpike.usd($2))";
const TOP_UP: &str = "select turnpike.nano(turnpike.top_up($1, turnpike.usd($2), $3))";
const LIST: &str =
    "select a.id, a.name, a.balance, a.credit_limit,
            (select coalesce(sum(h.amount), 0)::bigint from turnpike.hold as h where h.account_id = a.id)
       from turnpike.account as a order by a.name";
const CREDITS: &str = "
    select floor(extract(epoch from c.created_at) * 1000)::bigint, c.amount, c.note
      from turnpike.credit as c join turnpike.account as a on a.id = c.account_id
     where a.name = $1 order by c.id desc limit $2";
