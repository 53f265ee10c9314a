//! Work that ends after its request: what is held for it is parked in Postgres, where any process finds it and ends it.

use std::{borrow::Cow, time::Duration};

use tokio::sync::oneshot;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    AccountId, Charge, Hold, HoldRequest, InstanceId, Ledger, LedgerError, Mark, Means, NewObject,
    Settling, TokenId, UpstreamId, UpstreamKeyId,
    connect::{Connections, Params},
    hold::Open,
    link::Backoff,
    objects,
    recover::blank,
    settle::{Chain, Job, clean, clean_json, job_statement},
};

/// What becomes a job, beside what its hold says.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What the provider works on: `response`.
    pub kind: Cow<'static, str>,
    /// The provider's id of it.
    pub object_id: String,
    /// What its settlement needs: JSON, counts and words, never contents.
    pub facts: String,
    /// When the provider is first asked.
    pub poll_after: Duration,
    /// When it is settled by what is known, whatever the provider says.
    pub deadline_after: Duration,
    /// Whose it is, noted in the same transaction.
    pub object: Option<Box<NewObject>>,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// The exchange that began it.
    pub exchange: Uuid,
    /// Who pays.
    pub account: AccountId,
    /// With which access token.
    pub token: TokenId,
    /// Who works on it; `None`: the provider that the settings name.
    pub upstream: Option<UpstreamId>,
    /// With which key it was begun.
    pub upstream_key: Option<UpstreamKeyId>,
    /// The most it may cost.
    pub held: Means,
    /// What the provider works on.
    pub kind: String,
    /// The provider's id of it.
    pub object_id: String,
    /// The endpoint's short name.
    pub endpoint: String,
    /// The model the client named.
    pub model: String,
    /// When the request's head came, milliseconds since the epoch. Prices are those in force then.
    pub started_at_ms: i64,
    /// Since then, by Postgres' clock, milliseconds.
    pub age_ms: i64,
    /// Whether its deadline is past.
    pub is_late: bool,
    /// How often it was claimed.
    pub attempts: u32,
    /// How often in a row the provider said that it knows no such thing.
    pub misses: u32,
    /// How often in a row there was no answer to go by.
    pub failures: u32,
    /// What its settlement needs: JSON.
    pub facts: String,
}

/// What came of asking about a job that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes on.
    Open,
    /// The provider knows no such thing.
    Missing,
    /// There was no answer to go by.
    Nothing,
}

impl Ledger {
    /// Makes an open exchange a job: what is held moves from this process' purse to the job in one transaction. Tried until Postgres
    /// has it, whether or not anybody waits; the future says when. Should this process die before, the exchange is one of those it left open.
    pub fn park(&self, hold: Hold, job: NewJob) -> Settling {
        let (done, settled) = oneshot::channel();
        let pool = self.pool().clone();
        let parking = async move {
            let parked = park(&pool, hold, &job).await;
            if let Err(error) = &parked {
                tracing::error!(object = job.object_id, error = %Chain(error), "ledger.job.not_parked: nobody will ask the provider how it ends");
            }
            // Whoever waited may have left; the job stands.
            let _ = done.send(parked);
        };
        self.runtime().spawn(parking);
        Settling::of(settled)
    }

    /// Jobs whose provider is to be asked now, at most so many, the longest due first. Nobody else gets them for so long.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn claim_jobs(
        &self,
        most: u32,
        claimed: Duration,
    ) -> Result<Vec<OpenJob>, LedgerError> {
        let instance = self.instance();
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        let seconds = i32::try_from(claimed.as_secs()).unwrap_or(i32::MAX);
        let params: Params<'_> = &[
            (&instance.0, Type::INT8),
            (&most, Type::INT4),
            (&seconds, Type::INT4),
        ];
        let rows = self.query(CLAIM, params).await?;
        rows.iter().map(open_job).collect()
    }

    /// Makes this process' claim on a job last for so long from now. False: the job has ended, or is another's by now.
    ///
    /// # Errors
    /// When Postgres does not answer; then the claim is as it was.
    pub async fn keep_claim(&self, job: &OpenJob, claimed: Duration) -> Result<bool, LedgerError> {
        let instance = self.instance();
        let seconds = i32::try_from(claimed.as_secs()).unwrap_or(i32::MAX);
        let params: Params<'_> = &[
            (&job.exchange, Type::UUID),
            (&instance.0, Type::INT8),
            (&seconds, Type::INT4),
        ];
        Ok(!self.query(KEEP_CLAIM, params).await?.is_empty())
    }

    /// The account's open job on this object.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn job_on(
        &self,
        account: AccountId,
        object_id: &str,
    ) -> Result<Option<OpenJob>, LedgerError> {
        let params: Params<'_> = &[(&account.0, Type::INT8), (&object_id, Type::TEXT)];
        let rows = self.query(ON, params).await?;
        rows.first().map(open_job).transpose()
    }

    /// The provider has not ended it: it is to be asked again after so long, by whoever comes first. What was seen several times in a row
    /// is counted.
    ///
    /// # Errors
    /// When Postgres does not answer; then the claim lapses by itself.
    pub async fn postpone(
        &self,
        job: &OpenJob,
        seen: Seen,
        after: Duration,
    ) -> Result<(), LedgerError> {
        let instance = self.instance();
        let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let (is_missing, is_nothing) = (seen == Seen::Missing, seen == Seen::Nothing);
        let params: Params<'_> = &[
            (&job.exchange, Type::UUID),
            (&instance.0, Type::INT8),
            (&after_ms, Type::INT8),
            (&is_missing, Type::BOOL),
            (&is_nothing, Type::BOOL),
        ];
        self.query(POSTPONE, params).await.map(drop)
    }

    /// Ends a job: its charges, and what they leave of its means is free again, in one transaction. Together they charge no more than
    /// was held. Several get ids of their own, made from the exchange's. False: it had ended, and nothing moved.
    ///
    /// # Errors
    /// When Postgres does not answer: the job stays open, or has ended; repeating is harmless.
    pub async fn settle_job(
        &self,
        job: &OpenJob,
        mut charges: Vec<Charge>,
    ) -> Result<bool, LedgerError> {
        if charges.is_empty() {
            return self.release_job(job).await;
        }
        // First, so that no client hears of parts which are not noted: repeating changes nothing.
        let objects = charges.iter_mut().filter_map(|charge| charge.object.take());
        let objects: Vec<_> = objects.map(|object| *object).collect();
        self.record_objects(&objects).await?;
        let mut left = job.held;
        let mut settlements = Vec::with_capacity(charges.len());
        for (at, charge) in (0_u16..).zip(charges) {
            let whose = (nth(job.exchange, at), job.token, job.account);
            let settlement = Job::new(PARKED, whose, left, Box::new(charge), None);
            left = left.less(settlement.used());
            settlements.push(settlement);
        }
        // The row says what was held for the job, not what was left of it.
        for settlement in &mut settlements {
            settlement.held = job.held;
        }
        let rows = job_statement(self.pool(), &settlements, job.exchange).await?;
        ended(&rows)
    }

    /// [`Ledger::settle_job`] once it is parked, whether or not anybody waits; the future says when. Where Postgres is away the job stays, and
    /// whoever asks its provider next ends it: nothing is lost.
    pub fn settle_parked(
        &self,
        parking: Option<Settling>,
        job: OpenJob,
        charges: Vec<Charge>,
    ) -> Settling {
        let (done, settled) = oneshot::channel();
        let ledger = self.clone();
        self.runtime().spawn(async move {
            if let Some(parking) = parking
                && let Err(error) = parking.await
            {
                let _ = done.send(Err(error));
                return;
            }
            if let Err(error) = ledger.settle_job(&job, charges).await {
                tracing::warn!(exchange = %job.exchange, error = %Chain(&error), "ledger.job.kept: it is settled when its provider is asked next");
            }
            let _ = done.send(Ok(()));
        });
        Settling::of(settled)
    }

    /// Ends a job that costs nothing: all its means are free again. False: it had ended.
    ///
    /// # Errors
    /// When Postgres does not answer; repeating is harmless.
    pub async fn release_job(&self, job: &OpenJob) -> Result<bool, LedgerError> {
        let rows = self.query(RELEASE, &[(&job.exchange, Type::UUID)]).await?;
        ended(&rows)
    }
}

fn ended(rows: &[Row]) -> Result<bool, LedgerError> {
    Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
}

async fn park(pool: &Connections, mut hold: Hold, job: &NewJob) -> Result<(), LedgerError> {
    let Some((request, open)) = hold.take() else {
        return Err(LedgerError::closed());
    };
    let (evidence, means) = (&request.evidence, request.means);
    let instance = open.purse.instance();
    let (object_id, model) = (clean(&job.object_id), clean(&evidence.model));
    let facts = clean_json(&job.facts);
    let (prompt, completion) = (count(means.prompt), count(means.completion));
    let (held, price) = (means.money.nano(), evidence.started_at_ms);
    // It may have moved on to another since it was held.
    let (upstream, upstream_key) = match &job.object {
        Some(object) => (object.upstream, object.upstream_key),
        None => (evidence.upstream, evidence.upstream_key),
    };
    let (upstream, upstream_key) = (upstream.map(|it| it.0), upstream_key.map(|it| it.0));
    let (poll_ms, deadline_ms) = (millis(job.poll_after), millis(job.deadline_after));
    let objects = objects::Columns::new(job.object.as_deref());
    let mut params: Vec<(&(dyn tokio_postgres::types::ToSql + Sync), Type)> = vec![
        (&request.exchange, Type::UUID),
        (&instance.0, Type::INT8),
        (&request.token.0, Type::INT8),
        (&request.account.0, Type::INT8),
        (&held, Type::INT8),
        (&prompt, Type::INT8),
        (&completion, Type::INT8),
        (&job.kind, Type::TEXT),
        (&object_id, Type::TEXT),
        (&upstream, Type::INT8),
        (&upstream_key, Type::INT8),
        (&evidence.endpoint, Type::TEXT),
        (&model, Type::TEXT),
        (&price, Type::INT8),
        (&poll_ms, Type::INT8),
        (&deadline_ms, Type::INT8),
        (&facts, Type::TEXT),
    ];
    params.extend(objects.params());
    let mut wait = Backoff::default();
    let verdict = loop {
        match ask_to_park(pool, &params).await {
            Ok(verdict) => break verdict,
            // Not the rows' fault. Whether it was parked is not known, so it is asked until it is.
            Err(error) if !error.is_data() => {
                tracing::warn!(error = %Chain(&error), "ledger.job.waiting");
                wait.pause().await;
            }
            // It goes on at the provider, and no job will tell what it costs.
            Err(error) => {
                let charge = bound(&request, (upstream, upstream_key), &object_id);
                hold.put_back(open);
                hold.settle(charge).await?;
                return Err(error);
            }
        }
    };
    let Open {
        place, trail, slot, ..
    } = open;
    if verdict != "parked" {
        return Err(LedgerError::unavailable(
            "this process was taken for dead, and its open exchanges are settled",
        ));
    }
    // The means have left the lease, so nothing comes back into the purse.
    if let Some(slot) = slot {
        slot.clear();
    }
    trail.ended(request.exchange);
    drop(place);
    Ok(())
}

async fn ask_to_park(pool: &Connections, params: Params<'_>) -> Result<String, LedgerError> {
    let rows = pool.query(PARK, params).await?;
    let row = rows.first().ok_or_else(LedgerError::row)?;
    Ok(row.try_get(0)?)
}

/// The charge for what cannot be parked: what was held for it.
fn bound(
    request: &HoldRequest,
    (upstream, upstream_key): (Option<i64>, Option<i64>),
    object_id: &str,
) -> Charge {
    let evidence = &request.evidence;
    Charge {
        mark: Mark::Bounded,
        status: 200,
        upstream: upstream.map(UpstreamId),
        upstream_key: upstream_key.map(UpstreamKeyId),
        stream: evidence.stream,
        response_id: Some(object_id.to_owned()),
        ..blank(
            request.means.money,
            evidence.price,
            evidence.model.clone(),
            evidence.endpoint.to_string(),
            evidence.started_at_ms,
        )
    }
}

/// The id of a job's charges: the exchange's own for the first, one beside it for each other.
fn nth(exchange: Uuid, at: u16) -> Uuid {
    Uuid::from_u128(exchange.as_u128() ^ u128::from(at))
}

fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn open_job(row: &Row) -> Result<OpenJob, LedgerError> {
    let tokens = |at| -> Result<u64, LedgerError> {
        Ok(u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or_default())
    };
    let times = |at| -> Result<u32, LedgerError> {
        Ok(u32::try_from(row.try_get::<_, i32>(at)?).unwrap_or_default())
    };
    Ok(OpenJob {
        exchange: row.try_get(0)?,
        account: AccountId(row.try_get(1)?),
        token: TokenId(row.try_get(2)?),
        upstream: row.try_get::<_, Option<i64>>(3)?.map(UpstreamId),
        upstream_key: row.try_get::<_, Option<i64>>(4)?.map(UpstreamKeyId),
        held: Means {
            money: tariff::Amount::from_nano(row.try_get(5)?),
            prompt: tokens(6)?,
            completion: tokens(7)?,
        },
        kind: row.try_get(8)?,
        object_id: row.try_get(9)?,
        endpoint: row.try_get(10)?,
        model: row.try_get(11)?,
        started_at_ms: row.try_get(12)?,
        age_ms: row.try_get(13)?,
        is_late: row.try_get(14)?,
        attempts: times(15)?,
        misses: times(16)?,
        failures: times(17)?,
        facts: row.try_get(18)?,
    })
}

/// Whose lease has what is parked.
const PARKED: InstanceId = InstanceId(0);

const PARK: &str = "
    select turnpike.park_exchange($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17),
           turnpike.keep_objects($18, $19, $20, $21, $22, $23, $24, $25, $26, $27)";
const CLAIM: &str = "
    select exchange_id, account_id, token_id, upstream_id, upstream_key_id, held, prompt, completion, kind, object_id, endpoint, model,
           floor(extract(epoch from started_at) * 1000)::bigint, floor(extract(epoch from now() - started_at) * 1000)::bigint,
           deadline <= now(), attempts, misses, failures, facts::text
      from turnpike.claim_jobs($1, $2, $3)";
const ON: &str = "
    select exchange_id, account_id, token_id, upstream_id, upstream_key_id, held, prompt, completion, kind, object_id, endpoint, model,
           floor(extract(epoch from started_at) * 1000)::bigint, floor(extract(epoch from now() - started_at) * 1000)::bigint,
           deadline <= now(), attempts, misses, failures, facts::text
      from turnpike.job where object_id = $2 and account_id = $1 and ended_at is null order by created_at limit 1";
const KEEP_CLAIM: &str = "
    update turnpike.job set claimed_until = now() + $3 * interval '1 second'
     where exchange_id = $1 and ended_at is null and claimed_until is not null and claimed_by = $2 returning true";
const POSTPONE: &str = "
    update turnpike.job
       set poll_at = now() + $3 * interval '1 millisecond', claimed_until = null,
           misses = case when $4 then misses + 1 else 0 end, failures = case when $5 then failures + 1 else 0 end
     where exchange_id = $1 and ended_at is null and claimed_by is not distinct from $2";
const RELEASE: &str =
    "select turnpike.end_job($1, '{}', '{}', '{}', '{}') from turnpike.lock_job($1)";
