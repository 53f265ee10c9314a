//! What providers keep for customers, and whose it is.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_postgres::types::{ToSql, Type};

use crate::{
    AccountId, Ledger, LedgerError, Settling, TokenId, UpstreamId, UpstreamKeyId, connect::Params,
    ledger::Shared,
};

/// An object that a provider has just made for a customer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct NewObject {
    /// The provider's id. One that is empty, longer than 256 bytes or not printable ASCII is not noted.
    pub id: String,
    /// What it is: `response`.
    pub kind: Cow<'static, str>,
    /// Whose it is.
    pub account: AccountId,
    /// With which access token it was made.
    pub token: TokenId,
    /// Who keeps it; `None`: the provider that the settings name.
    pub upstream: Option<UpstreamId>,
    /// The key it was made with.
    pub upstream_key: Option<UpstreamKeyId>,
    /// The model it was made with.
    pub model: Option<String>,
    /// What it belongs to.
    pub parent: Option<String>,
    /// What bounds the cost of what is made of it, or its parts: JSON, counts and lengths and ids, never contents.
    pub facts: Option<String>,
    /// For how long the provider keeps it. `None`: until it is deleted.
    pub kept: Option<Duration>,
}

impl NewObject {
    /// The same with parts that are kept under these ids; those that nobody could ask for are left out.
    #[must_use]
    pub fn with_parts(mut self, ids: &[String]) -> Self {
        let ids: Vec<_> = ids.iter().filter(|id| is_id(id)).collect();
        if !ids.is_empty() {
            self.facts = Some(serde_json::json!({ "parts": ids }).to_string());
        }
        self
    }
}

/// An object of an account's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The provider's id.
    pub id: String,
    /// What it is: `response`.
    pub kind: String,
    /// With which access token it was made.
    pub token: TokenId,
    /// Who keeps it; `None`: the provider that the settings name.
    pub upstream: Option<UpstreamId>,
    /// The key it was made with.
    pub upstream_key: Option<UpstreamKeyId>,
    /// The model it was made with.
    pub model: Option<String>,
    /// What it belongs to.
    pub parent: Option<String>,
    /// What bounds the cost of what is made of it: JSON.
    pub facts: Option<String>,
}

impl Ledger {
    /// Notes whose these objects are; durable when it returns. The first who is told an id has it: repeating changes nothing.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn record_objects(&self, objects: &[NewObject]) -> Result<(), LedgerError> {
        let columns = Columns::new(objects);
        if !columns.is_empty() {
            self.query(KEEP, &columns.params()).await?;
        }
        Ok(())
    }

    /// [`Ledger::record_objects`] whether or not anybody waits; the future says when.
    pub fn record_later(&self, object: NewObject) -> Settling {
        self.later(move |ledger| async move { ledger.record_objects(&[object]).await })
    }

    /// [`Ledger::forget_object`] whether or not anybody waits; the future says when.
    pub fn forget_later(&self, account: AccountId, id: String) -> Settling {
        self.later(move |ledger| async move { ledger.forget_object(account, &id).await })
    }

    fn later<F>(&self, what: impl FnOnce(Self) -> F + Send + 'static) -> Settling
    where
        F: Future<Output = Result<(), LedgerError>> + Send,
    {
        let (done, settled) = oneshot::channel();
        let ledger = self.clone();
        self.runtime().spawn(async move {
            // Whoever waited may have left.
            let _ = done.send(what(ledger).await);
        });
        Settling::of(settled)
    }

    /// Those of these objects that are the account's, in no order. An id that two upstreams gave away is there twice.
    ///
    /// # Errors
    /// When Postgres does not answer, or what it would answer is still in the journal.
    pub async fn owned(
        &self,
        account: AccountId,
        ids: &[&str],
    ) -> Result<Vec<Object>, LedgerError> {
        self.looked_up(OWNED, account, ids).await
    }

    async fn looked_up(
        &self,
        statement: &'static str,
        account: AccountId,
        ids: &[&str],
    ) -> Result<Vec<Object>, LedgerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let params: Params<'_> = &[(&account.0, Type::INT8), (&ids, Type::TEXT_ARRAY)];
        let rows = self.query(statement, params).await?;
        if rows.len() < ids.len() && self.stats().journal_records > 0 {
            return Err(LedgerError::unavailable(
                "what was settled while Postgres was away is not yet there",
            ));
        }
        rows.iter().map(object).collect()
    }

    /// The account's answers that have these parts: one for each part that is found, with the part's id and the kind `part`.
    ///
    /// # Errors
    /// As [`Ledger::owned`].
    pub async fn owned_parts(
        &self,
        account: AccountId,
        ids: &[&str],
    ) -> Result<Vec<Object>, LedgerError> {
        self.looked_up(OWNED_PARTS, account, ids).await
    }

    /// The account's objects of a kind, the newest first: at most so many, of those made before `before` where it names one.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn objects_of(
        &self,
        account: AccountId,
        kind: &str,
        before: Option<&str>,
        most: i64,
    ) -> Result<Vec<Object>, LedgerError> {
        let params: Params<'_> = &[
            (&account.0, Type::INT8),
            (&kind, Type::TEXT),
            (&before, Type::TEXT),
            (&most, Type::INT8),
        ];
        self.query(LISTED, params)
            .await?
            .iter()
            .map(object)
            .collect()
    }

    /// Forgets an object of the account's that its provider has deleted.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn forget_object(&self, account: AccountId, id: &str) -> Result<(), LedgerError> {
        let params: Params<'_> = &[(&account.0, Type::INT8), (&id, Type::TEXT)];
        self.query(FORGET, params).await.map(drop)
    }
}

fn object(row: &tokio_postgres::Row) -> Result<Object, LedgerError> {
    let upstream: i64 = row.try_get(3)?;
    Ok(Object {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        token: TokenId(row.try_get(2)?),
        upstream: (upstream != 0).then_some(UpstreamId(upstream)),
        upstream_key: row.try_get::<_, Option<i64>>(4)?.map(UpstreamKeyId),
        model: row.try_get(5)?,
        parent: row.try_get(6)?,
        facts: row.try_get(7)?,
    })
}

/// Forgets what providers have forgotten, a little at a time.
pub(crate) async fn sweep(shared: &Shared) -> Result<(), LedgerError> {
    loop {
        let rows = shared.query(SWEEP, &[(&SWEPT_AT_ONCE, Type::INT8)]).await?;
        let swept: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        if swept < SWEPT_AT_ONCE {
            return Ok(());
        }
    }
}

/// Objects as the parameters of `turnpike.keep_objects`.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    ids: Vec<&'a str>,
    kinds: Vec<&'a str>,
    upstreams: Vec<Option<i64>>,
    upstream_keys: Vec<Option<i64>>,
    accounts: Vec<i64>,
    tokens: Vec<i64>,
    models: Vec<Option<Cow<'a, str>>>,
    parents: Vec<Option<Cow<'a, str>>>,
    facts: Vec<Option<Cow<'a, str>>>,
    kept_seconds: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(objects: impl IntoIterator<Item = &'a NewObject>) -> Self {
        let mut columns = Self::default();
        for object in objects.into_iter().filter(|it| is_id(&it.id)) {
            columns.ids.push(&object.id);
            columns.kinds.push(&object.kind);
            columns.upstreams.push(object.upstream.map(|it| it.0));
            columns
                .upstream_keys
                .push(object.upstream_key.map(|it| it.0));
            columns.accounts.push(object.account.0);
            columns.tokens.push(object.token.0);
            let clean = |text: &'a Option<String>| text.as_deref().map(crate::settle::clean);
            columns.models.push(clean(&object.model));
            columns.parents.push(clean(&object.parent));
            let facts = object.facts.as_deref();
            columns.facts.push(facts.map(crate::settle::clean_json));
            columns.kept_seconds.push(
                object
                    .kept
                    .map(|kept| i64::try_from(kept.as_secs()).unwrap_or(i64::MAX)),
            );
        }
        columns
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(crate) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.upstreams, Type::INT8_ARRAY),
            (&self.upstream_keys, Type::INT8_ARRAY),
            (&self.accounts, Type::INT8_ARRAY),
            (&self.tokens, Type::INT8_ARRAY),
            (&self.models, Type::TEXT_ARRAY),
            (&self.parents, Type::TEXT_ARRAY),
            (&self.facts, Type::TEXT_ARRAY),
            (&self.kept_seconds, Type::INT8_ARRAY),
        ]
    }
}

/// Whether an id is one that can be asked for again.
fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

const KEEP: &str = "select turnpike.keep_objects($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const OWNED: &str = "
    select id, kind, token_id, upstream_id, upstream_key_id, model, parent, facts::text from turnpike.object
     where id = any ($2) and account_id = $1 and (expires_at is null or expires_at > now())";
const OWNED_PARTS: &str = "
    select p.id, 'part', o.token_id, o.upstream_id, o.upstream_key_id, o.model, o.id, null::text
      from turnpike.object as o cross join lateral jsonb_array_elements_text(o.facts -> 'parts') as p (id)
     where o.facts ? 'parts' and o.facts -> 'parts' ?| $2 and p.id = any ($2)
       and o.account_id = $1 and (o.expires_at is null or o.expires_at > now())";
const LISTED: &str = "
    select id, kind, token_id, upstream_id, upstream_key_id, model, parent, facts::text from turnpike.object as o
     where account_id = $1 and kind = $2 and (expires_at is null or expires_at > now())
       and ($3::text is null
            or (created_at, id) < (select b.created_at, b.id from turnpike.object as b where b.id = $3 and b.account_id = $1 limit 1))
     order by created_at desc, id desc limit $4";
const FORGET: &str = "delete from turnpike.object where id = $2 and account_id = $1";
const SWEEP: &str = "
    with gone as (
      delete from turnpike.object where ctid in (select ctid from turnpike.object where expires_at <= now() limit $1) returning 1
    ), over as (
      delete from turnpike.job where ended_at < now() - interval '7 days' returning 1
    )
    select count(*) from gone";
/// As `object_id_printable` has it.
const ID_BYTES_MAX: usize = 256;
/// Rows that are forgotten in one statement.
const SWEPT_AT_ONCE: i64 = 5_000;
