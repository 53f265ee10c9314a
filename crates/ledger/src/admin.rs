//! What the commands do: the SQL contract of `DESIGN.md` as plain functions.

use tariff::{Amount, Price, PriceId};

use crate::{AccountId, Catalog, Config, Disconnect, LedgerError, TokenId};

/// A connection for an operator's commands.
#[derive(Debug)]
pub struct Admin {}

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
    pub token: crate::Secret,
    /// Its beginning, for display and for `rotate` and `revoke`.
    pub prefix: String,
    /// The row.
    pub id: TokenId,
}

/// A token as listed.
#[derive(Clone, Debug)]
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
    /// What is held for it now.
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

/// An account as listed.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// The row.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Credits less charges.
    pub balance: Amount,
    /// How far below zero the balance may go; `None` for as far as it likes.
    pub credit_limit: Option<Amount>,
    /// What is held for it now.
    pub held: Amount,
}

/// Whom a table of usage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// One row per day (UTC).
    Day,
    /// One row per model.
    Model,
    /// One row per access token.
    Token,
}

/// One row of a table of usage.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// The day (`2026-11-21`), the model or the token's prefix and label.
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
    /// Of this, by estimate (every mark but measured and provider_cost).
    pub estimated: Amount,
}

/// A price to set: a price row without its id (the `id` and `valid_to_ms` given are not read).
#[derive(Clone, Debug)]
pub struct NewPrice {
    /// The figures. `valid_from_ms` 0 means now.
    pub price: Price,
    /// What a client's leaving means.
    pub disconnect: Disconnect,
    /// Where the figures come from.
    pub source: Option<String>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// New versions.
    pub set: usize,
    /// Rows that stand like this already.
    pub unchanged: usize,
}

impl Admin {
    /// Connects. The database must be migrated.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn connect(config: &Config) -> Result<Self, LedgerError> {
        let _ = config;
        todo!()
    }

    /// Makes an account. `credit_limit` `None`: it may spend as it likes.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the name is taken (constraint `account_name_unique`) or empty.
    pub async fn create_account(
        &self,
        name: &str,
        credit_limit: Option<Amount>,
    ) -> Result<AccountId, LedgerError> {
        let _ = (name, credit_limit);
        todo!()
    }

    /// Credits an account; returns its new balance.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when there is no such account.
    pub async fn top_up(
        &self,
        account: &str,
        amount: Amount,
        note: &str,
    ) -> Result<Amount, LedgerError> {
        let _ = (account, amount, note);
        todo!()
    }

    /// All accounts by name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, LedgerError> {
        todo!()
    }

    /// Makes an access token.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`], with a hint, for an unknown account or a limit that makes no sense.
    pub async fn issue_token(&self, wanted: &IssueToken) -> Result<IssuedToken, LedgerError> {
        let _ = wanted;
        todo!()
    }

    /// All access tokens, newest first; of one account if named.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn tokens(&self, account: Option<&str>) -> Result<Vec<TokenRow>, LedgerError> {
        let _ = account;
        todo!()
    }

    /// Gives a token a new secret; the old one is refused from now on. Named by secret or by (part of) its prefix.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when none or several fit, or it is revoked.
    pub async fn rotate_token(&self, token: &str) -> Result<IssuedToken, LedgerError> {
        let _ = token;
        todo!()
    }

    /// Revokes a token, named by secret or by (part of) its prefix; returns the prefix.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when none or several fit.
    pub async fn revoke_token(&self, token: &str) -> Result<String, LedgerError> {
        let _ = token;
        todo!()
    }

    /// Sets one price version; returns its row, or the row that stands like this already.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the figures make no sense.
    pub async fn set_price(&self, price: &NewPrice) -> Result<PriceId, LedgerError> {
        let _ = price;
        todo!()
    }

    /// Sets many price versions in one transaction: all or none. Importing the same list again changes nothing.
    ///
    /// # Errors
    /// As [`Admin::set_price`].
    pub async fn import_prices(&mut self, prices: &[NewPrice]) -> Result<Imported, LedgerError> {
        let _ = prices;
        todo!()
    }

    /// Makes or changes an upstream. `key` `None` keeps the keys it has.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the URL is none.
    pub async fn set_upstream(
        &self,
        name: &str,
        base_url: &str,
        key: Option<&str>,
        proxy: Option<&str>,
    ) -> Result<(), LedgerError> {
        let _ = (name, base_url, key, proxy);
        todo!()
    }

    /// What the gateway would load now: prices, upstreams, routes.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn catalog(&self) -> Result<Catalog, LedgerError> {
        todo!()
    }

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
        let _ = (by, since_ms, account);
        todo!()
    }

    /// What `turnpike.audit` has to say: nothing, while the books are right.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn audit(&self) -> Result<Vec<String>, LedgerError> {
        todo!()
    }
}
