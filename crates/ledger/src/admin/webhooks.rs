//! Webhooks: who is told of events.

use tokio_postgres::types::Type;

use crate::{LedgerError, Secret, SecretSource, events::WebhookForm};

use super::Admin;

/// A webhook to be made or changed.
#[derive(Clone, Copy, Debug)]
pub struct NewWebhook<'a> {
    /// What operators call it.
    pub name: &'a str,
    /// Where events are posted to.
    pub url: &'a str,
    /// `env:NAME`, `file:PATH` or the key itself; `None`: the one it has, or a new one.
    pub secret: Option<&'a str>,
    /// How it is told.
    pub form: WebhookForm,
    /// The kinds it is told of; `None`: all.
    pub events: Option<&'a [String]>,
    /// Only events of this account.
    pub account: Option<&'a str>,
}

/// A webhook, and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRow {
    /// Its name.
    pub name: String,
    /// Where events are posted to.
    pub url: String,
    /// How it is told.
    pub form: WebhookForm,
    /// The kinds it is told of; `None`: all.
    pub events: Option<Vec<String>>,
    /// Only events of this account.
    pub account: Option<String>,
    /// Whether it is told of anything.
    pub enabled: bool,
    /// Deliveries that are still to be made.
    pub pending: i64,
    /// Of these, tried three times or more without success.
    pub failing: i64,
    /// Deliveries that were given up in the last week.
    pub given_up: i64,
    /// Why the latest try failed that did.
    pub last_error: Option<String>,
}

impl Admin {
    /// Makes or changes a webhook. Returns the secret if one was made, this once.
    ///
    /// # Errors
    /// When an argument is wrong; the error says what would be right.
    pub async fn set_webhook(
        &self,
        wanted: &NewWebhook<'_>,
    ) -> Result<Option<Secret>, LedgerError> {
        let form = wanted.form.as_str();
        let params = &[
            (&wanted.name as _, Type::TEXT),
            (&wanted.url as _, Type::TEXT),
            (&wanted.secret as _, Type::TEXT),
            (&form as _, Type::TEXT),
            (&wanted.events as _, Type::TEXT_ARRAY),
            (&wanted.account as _, Type::TEXT),
        ];
        let row = self.row(SET, params).await?;
        Ok(row.try_get::<_, Option<String>>(0)?.map(Secret::new))
    }

    /// Removes a webhook. False: there is none of that name.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn remove_webhook(&self, name: &str) -> Result<bool, LedgerError> {
        Ok(self.row(REMOVE, &[(&name, Type::TEXT)]).await?.try_get(0)?)
    }

    /// All webhooks, by name.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read them.
    pub async fn webhooks(&self) -> Result<Vec<WebhookRow>, LedgerError> {
        let rows = self.session.query(LIST, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(WebhookRow {
                    name: row.try_get(0)?,
                    url: row.try_get(1)?,
                    form: WebhookForm::new(row.try_get(2)?),
                    events: row.try_get(3)?,
                    account: row.try_get(4)?,
                    enabled: row.try_get(5)?,
                    pending: row.try_get(6)?,
                    failing: row.try_get(7)?,
                    given_up: row.try_get(8)?,
                    last_error: row.try_get(9)?,
                })
            })
            .collect()
    }

    /// What signs a webhook's deliveries; `None`: there is none of that name.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read secrets.
    pub async fn webhook_secret(&self, name: &str) -> Result<Option<SecretSource>, LedgerError> {
        let rows = self.session.query(SECRET, &[(&name, Type::TEXT)]).await?;
        let row = rows.first();
        row.map(|row| Ok(SecretSource::new(row.try_get(0)?)))
            .transpose()
    }
}

const SET: &str =
    "select turnpike.set_webhook($1, $2, secret => $3, form => $4, events => $5, account => $6)";
const REMOVE: &str = "select turnpike.remove_webhook($1)";
const LIST: &str = "
    select w.name, w.url, w.form, w.events, a.name, w.enabled, d.pending, d.failing, d.given_up, d.last_error
      from turnpike.webhook as w
      left join turnpike.account as a on a.id = w.account_id,
           lateral (select count(*) filter (where d.delivered_at is null and d.failed_at is null) as pending,
                           count(*) filter (where d.delivered_at is null and d.failed_at is null and d.attempts >= 3 and d.last_error is not null) as failing,
                           count(*) filter (where d.failed_at > now() - interval '7 days') as given_up,
                           (array_agg(d.last_error order by d.next_at desc) filter (where d.last_error is not null))[1] as last_error
                      from turnpike.delivery as d where d.webhook_id = w.id) as d
     order by w.name";
const SECRET: &str = "select secret from turnpike.webhook where name = $1";
