//! Events and their way to webhooks: what is due, who is at it, and how it went. Sending is the gateway's.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{Ledger, LedgerError, SecretSource, UpstreamId, UpstreamKeyId, ledger::Shared};

/// An event that is to be told to one webhook now.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which webhook.
    pub webhook: i64,
    /// Its name among operators.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// What signs it.
    pub secret: SecretSource,
    /// How it is told.
    pub form: WebhookForm,
    /// What is told.
    pub event: Event,
    /// Which try this is; the first is 1.
    pub attempt: i32,
}

/// Something that happened once.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event: the same on every try and for every webhook.
    pub id: Uuid,
    /// `budget.reached`, say.
    pub kind: String,
    /// When it was noticed, milliseconds since the epoch.
    pub at_ms: i64,
    /// Names and figures.
    pub payload: serde_json::Value,
}

/// How a webhook wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookForm {
    /// A JSON object after Standard Webhooks.
    Json,
    /// `{"text": …}`.
    Slack,
}

impl WebhookForm {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
        }
    }

    pub(crate) fn new(word: &str) -> Self {
        if word == "slack" {
            Self::Slack
        } else {
            Self::Json
        }
    }
}

/// How a try to deliver went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The receiver answered 2xx.
    Delivered,
    /// It did not: why.
    Failed(String),
    /// It was not tried, since its webhook does not answer.
    Untried,
}

/// What the books make of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is done with.
    Delivered,
    /// It is tried again later.
    Again,
    /// It was tried for a day, and is given up.
    GivenUp,
}

/// What happened to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEvent {
    /// It does not know a key.
    KeyEjected,
    /// All its keys rest.
    PoolOut,
}

impl Ledger {
    /// Makes events of the budgets that reached a threshold and the tokens that are about to end, if nobody else is at it. Returns how many are new.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn watch_budgets(&self) -> Result<i32, LedgerError> {
        let rows = self.query(WATCH, &[]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
    }

    /// Makes an event of what happened to an upstream, once in an hour whichever process says so. False: it was told.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn tell_upstream(
        &self,
        what: UpstreamEvent,
        upstream: UpstreamId,
        key: Option<UpstreamKeyId>,
    ) -> Result<bool, LedgerError> {
        let kind = match what {
            UpstreamEvent::KeyEjected => "upstream.key_ejected",
            UpstreamEvent::PoolOut => "upstream.pool_out",
        };
        let key = key.map(|key| key.0);
        let params = &[
            (&kind as _, Type::TEXT),
            (&upstream.0 as _, Type::INT8),
            (&key as _, Type::INT8),
        ];
        let rows = self.query(TELL, params).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Deliveries that are due, for this process and so long: of so many webhooks none of which is `busy`, so many of each.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn claim_deliveries(
        &self,
        busy: &[i64],
        webhooks: i32,
        each: i32,
        claimed_for: Duration,
    ) -> Result<Vec<Delivery>, LedgerError> {
        let seconds = i32::try_from(claimed_for.as_secs()).unwrap_or(i32::MAX);
        let params = &[
            (&busy as _, Type::INT8_ARRAY),
            (&webhooks as _, Type::INT4),
            (&each as _, Type::INT4),
            (&seconds as _, Type::INT4),
        ];
        let rows = self.query(CLAIM, params).await?;
        rows.iter()
            .map(|row| {
                Ok(Delivery {
                    webhook: row.try_get(0)?,
                    attempt: row.try_get(2)?,
                    name: row.try_get(3)?,
                    url: row.try_get(4)?,
                    secret: SecretSource::new(row.try_get(5)?),
                    form: WebhookForm::new(row.try_get(6)?),
                    event: Event {
                        id: row.try_get(1)?,
                        kind: row.try_get(7)?,
                        at_ms: row.try_get(8)?,
                        payload: row.try_get(9)?,
                    },
                })
            })
            .collect()
    }

    /// Writes down how a try went.
    ///
    /// # Errors
    /// When Postgres does not answer; then the claim lapses by itself, and it is tried again.
    pub async fn record_delivery(
        &self,
        delivery: &Delivery,
        told: &Told,
    ) -> Result<Recorded, LedgerError> {
        let (outcome, error) = match told {
            Told::Delivered => ("delivered", None),
            Told::Failed(why) => ("failed", Some(why.as_str())),
            Told::Untried => ("untried", None),
        };
        let params = &[
            (&delivery.webhook as _, Type::INT8),
            (&delivery.event.id as _, Type::UUID),
            (&delivery.attempt as _, Type::INT4),
            (&outcome as _, Type::TEXT),
            (&error as _, Type::TEXT),
        ];
        let rows = self.query(RECORD, params).await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        Ok(match row.try_get(0)? {
            "delivered" => Recorded::Delivered,
            "given_up" => Recorded::GivenUp,
            _ => Recorded::Again,
        })
    }

    /// How many deliveries are still to be made.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn pending_deliveries(&self) -> Result<i64, LedgerError> {
        let rows = self.query(PENDING, &[]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
    }
}

/// Forgets events whose time is over.
pub(crate) async fn sweep(shared: &Shared) -> Result<(), LedgerError> {
    shared.execute(SWEEP, &[]).await
}

const WATCH: &str = "select turnpike.watch_budgets()";
const TELL: &str = "select turnpike.tell_upstream($1, $2, $3)";
const CLAIM: &str = "
    select webhook, event, attempt, name, url, secret, form, kind, floor(extract(epoch from at) * 1000)::bigint, payload
      from turnpike.claim_deliveries($1, $2, $3, $4)";
const RECORD: &str = "select turnpike.record_delivery($1, $2, $3, $4, $5)";
const PENDING: &str =
    "select count(*) from turnpike.delivery where delivered_at is null and failed_at is null";
const SWEEP: &str = "select turnpike.sweep_events()";
