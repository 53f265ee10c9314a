//! What is going on: open exchanges, processes and their leases, accounts, tokens about to end, charges to look at.

use serde::Serialize;
use tariff::Amount;
use tokio_postgres::types::Type;

use crate::{Ledger, LedgerError};

/// The evidence of one open exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenHold {
    /// The exchange.
    pub exchange: String,
    /// Who pays.
    pub account: String,
    /// The access token's prefix.
    pub token: String,
    /// The model the client named.
    pub model: String,
    /// The endpoint by short name.
    pub endpoint: String,
    /// What is set aside.
    #[serde(serialize_with = "super::nano")]
    pub amount: Amount,
    /// For how long, in seconds.
    pub age_s: i64,
    /// The process that has it.
    pub instance: String,
}

/// Everything that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Open exchanges of all processes.
    pub exchanges: i64,
    /// Set aside for them.
    #[serde(serialize_with = "super::nano")]
    pub exchanges_amount: Amount,
    /// Work that goes on after its request.
    pub jobs: i64,
    /// Set aside for that.
    #[serde(serialize_with = "super::nano")]
    pub jobs_amount: Amount,
}

/// A process and its purses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRow {
    /// What it calls itself.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Its last sign of life, seconds ago.
    pub seen_s: i64,
    /// How long it runs, in seconds.
    pub up_s: i64,
    /// Whether it was heard of within its leases' time.
    pub is_alive: bool,
    /// Its purses that have something in them.
    pub purses: i64,
    /// What is leased to them.
    #[serde(serialize_with = "super::nano")]
    pub leased: Amount,
    /// Its open exchanges.
    pub exchanges: i64,
}

/// What an account has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountMeans {
    /// Its name.
    pub name: String,
    /// Credits less charges.
    #[serde(serialize_with = "super::nano")]
    pub balance: Amount,
    /// How far below zero it may go; `None` for as far as it likes.
    #[serde(serialize_with = "super::nano_or_null")]
    pub credit_limit: Option<Amount>,
    /// What is leased to processes.
    #[serde(serialize_with = "super::nano")]
    pub leased: Amount,
    /// Access tokens that are valid.
    pub tokens: i64,
}

/// An access token that ends soon, or ended lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndingToken {
    /// The beginning of the token.
    pub prefix: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// Who pays.
    pub account: String,
    /// When it ends, seconds since the epoch.
    pub expires_s: i64,
}

/// A charge whose figure is not the provider's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoubtfulCharge {
    /// The exchange.
    pub exchange: String,
    /// When its request came, seconds since the epoch.
    pub started_s: i64,
    /// Who paid.
    pub account: String,
    /// The access token's prefix.
    pub token: String,
    /// The model that answered, else the one asked for.
    pub model: String,
    /// How the figure came about.
    pub mark: String,
    /// How the exchange ended.
    pub ending: String,
    /// Charged.
    #[serde(serialize_with = "super::nano")]
    pub amount: Amount,
}

/// Such charges of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoubtfulSum {
    /// How the figures came about.
    pub mark: String,
    /// How many.
    pub charges: i64,
    /// Charged.
    #[serde(serialize_with = "super::nano")]
    pub amount: Amount,
}

impl Ledger {
    /// What is set aside, all processes together.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn held(&self) -> Result<Held, LedgerError> {
        let rows = self.query(HELD, &[]).await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        Ok(Held {
            exchanges: row.try_get(0)?,
            exchanges_amount: Amount::from_nano(row.try_get(1)?),
            jobs: row.try_get(2)?,
            jobs_amount: Amount::from_nano(row.try_get(3)?),
        })
    }

    /// The open exchanges, the oldest first.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn open_holds(&self, most: i64) -> Result<Vec<OpenHold>, LedgerError> {
        let rows = self.query(HOLDS, &[(&most, Type::INT8)]).await?;
        rows.iter()
            .map(|row| {
                Ok(OpenHold {
                    exchange: row.try_get(0)?,
                    account: row.try_get(1)?,
                    token: row.try_get(2)?,
                    model: row.try_get(3)?,
                    endpoint: row.try_get(4)?,
                    amount: Amount::from_nano(row.try_get(5)?),
                    age_s: row.try_get(6)?,
                    instance: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// The processes that run, or died and were not buried yet.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn processes(&self, most: i64) -> Result<Vec<ProcessRow>, LedgerError> {
        let rows = self.query(PROCESSES, &[(&most, Type::INT8)]).await?;
        rows.iter()
            .map(|row| {
                Ok(ProcessRow {
                    name: row.try_get(0)?,
                    version: row.try_get(1)?,
                    seen_s: row.try_get(2)?,
                    up_s: row.try_get(3)?,
                    is_alive: row.try_get(4)?,
                    purses: row.try_get(5)?,
                    leased: Amount::from_nano(row.try_get(6)?),
                    exchanges: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// The accounts, those with the least left first.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn account_means(&self, most: i64) -> Result<Vec<AccountMeans>, LedgerError> {
        let rows = self.query(ACCOUNTS, &[(&most, Type::INT8)]).await?;
        rows.iter()
            .map(|row| {
                Ok(AccountMeans {
                    name: row.try_get(0)?,
                    balance: Amount::from_nano(row.try_get(1)?),
                    credit_limit: row.try_get::<_, Option<i64>>(2)?.map(Amount::from_nano),
                    leased: Amount::from_nano(row.try_get(3)?),
                    tokens: row.try_get(4)?,
                })
            })
            .collect()
    }

    /// Access tokens that end within so many days, or ended in the last seven, by when.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn ending_tokens(
        &self,
        days: i32,
        most: i64,
    ) -> Result<Vec<EndingToken>, LedgerError> {
        let params = [(&days as _, Type::INT4), (&most as _, Type::INT8)];
        let rows = self.query(ENDING, &params).await?;
        rows.iter()
            .map(|row| {
                Ok(EndingToken {
                    prefix: row.try_get(0)?,
                    label: row.try_get(1)?,
                    account: row.try_get(2)?,
                    expires_s: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Charges since a second whose figure is not the provider's own, the latest first.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn doubtful_charges(
        &self,
        since_s: i64,
        most: i64,
    ) -> Result<Vec<DoubtfulCharge>, LedgerError> {
        let params = [(&since_s as _, Type::INT8), (&most as _, Type::INT8)];
        let rows = self.query(DOUBTFUL, &params).await?;
        rows.iter()
            .map(|row| {
                Ok(DoubtfulCharge {
                    exchange: row.try_get(0)?,
                    started_s: row.try_get(1)?,
                    account: row.try_get(2)?,
                    token: row.try_get(3)?,
                    model: row.try_get(4)?,
                    mark: row.try_get(5)?,
                    ending: row.try_get(6)?,
                    amount: Amount::from_nano(row.try_get(7)?),
                })
            })
            .collect()
    }

    /// The same, counted by how the figures came about.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn doubtful_sums(&self, since_s: i64) -> Result<Vec<DoubtfulSum>, LedgerError> {
        let rows = self.query(DOUBTFUL_SUMS, &[(&since_s, Type::INT8)]).await?;
        rows.iter()
            .map(|row| {
                Ok(DoubtfulSum {
                    mark: row.try_get(0)?,
                    charges: row.try_get(1)?,
                    amount: Amount::from_nano(row.try_get(2)?),
                })
            })
            .collect()
    }
}

const HELD: &str = "
    select h.count, h.amount, j.count, j.amount
      from (select count(*), coalesce(sum(amount), 0)::bigint as amount from turnpike.hold) as h,
           (select count(*), coalesce(sum(held), 0)::bigint as amount from turnpike.job where ended_at is null) as j";

const HOLDS: &str = "
    select h.exchange_id::text, a.name, t.prefix, h.model, h.endpoint, h.amount,
           greatest(extract(epoch from now() - h.taken_at), 0)::bigint, i.name
      from (select * from turnpike.hold order by taken_at limit $1) as h
      join turnpike.account as a on a.id = h.account_id
      join turnpike.access_token as t on t.id = h.token_id
      join turnpike.instance as i on i.id = h.instance_id
     order by h.taken_at";

// Instance 0 stands for work that goes on after its request; it is told as such (HELD).
const PROCESSES: &str = "
    select i.name, i.version, greatest(extract(epoch from now() - i.seen_at), 0)::bigint, greatest(extract(epoch from now() - i.started_at), 0)::bigint,
           i.seen_at > now() - make_interval(secs => i.lease_seconds), l.count, l.money, (select count(*) from turnpike.hold as h where h.instance_id = i.id)
      from turnpike.instance as i,
           lateral (select count(*) filter (where greatest(money, prompt, completion) > 0), coalesce(sum(money), 0)::bigint as money
                      from turnpike.lease where instance_id = i.id) as l
     where i.stopped_at is null and i.buried_at is null and i.id > 0
     order by i.started_at desc limit $1";

const ACCOUNTS: &str = "
    select a.name, a.balance, a.credit_limit, a.leased,
           (select count(*) from turnpike.access_token as t
             where t.account_id = a.id and t.revoked_at is null and (t.expires_at is null or t.expires_at > now()))
      from turnpike.account as a
     order by a.balance::numeric + a.credit_limit nulls last, a.name limit $1";

const ENDING: &str = "
    select t.prefix, t.label, a.name, floor(extract(epoch from t.expires_at))::bigint
      from turnpike.access_token as t join turnpike.account as a on a.id = t.account_id
     where t.revoked_at is null and t.expires_at < now() + make_interval(days => $1) and t.expires_at > now() - interval '7 days'
     order by t.expires_at, t.id limit $2";

const DOUBTFUL: &str = "
    select c.id::text, floor(extract(epoch from c.started_at))::bigint, a.name, t.prefix, coalesce(c.model_answered, c.model_requested),
           c.mark, c.ending, c.amount
      from (select * from turnpike.charge
             where mark not in ('measured', 'provider_cost') and id >= turnpike.first_id(to_timestamp(greatest($1, 0)))
             order by id desc limit $2) as c
      join turnpike.account as a on a.id = c.account_id
      join turnpike.access_token as t on t.id = c.token_id
     order by c.id desc";

const DOUBTFUL_SUMS: &str = "
    select mark, count(*), sum(amount)::bigint from turnpike.charge
     where mark not in ('measured', 'provider_cost') and id >= turnpike.first_id(to_timestamp(greatest($1, 0)))
     group by mark order by mark";
