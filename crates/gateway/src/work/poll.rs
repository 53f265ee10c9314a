//! Asking providers how their jobs stand, whether or not their clients do, and settling those that have ended.

use std::{sync::Arc, time::Duration};

use ledger::{NewObject, OpenJob};
use proxy::Pool;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Asked, Ended, Job, JobFacts, Look, Priced, given_up, look, price_of};
use crate::{endpoint::Kind, gateway::Gateway};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// Most jobs that one process asks about at once.
const CLAIMED_MAX: u32 = 8;
/// For how long nobody else asks about a job. Should reading its files take longer, another reads them too, and whoever settles first has it.
const CLAIMED: Duration = Duration::from_secs(60);
/// A job is asked about again after this share of its age, within bounds.
const SHARE_OF_AGE: i64 = 20;
const PAUSE_MS_MIN: i64 = 1_000;
const PAUSE_MS_MAX: i64 = 60_000;
/// A provider that does not know a job so often has lost it.
const GONE_MAX: u32 = 5;

/// Asks about what is due, for as long as the program runs.
pub(crate) async fn poll(gateway: Arc<Gateway>, pool: Pool) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = gateway.hurry.cancelled() => return,
        }
        let due = match gateway.ledger.claim_jobs(CLAIMED_MAX, CLAIMED).await {
            Ok(due) => due,
            Err(error) => {
                warn!(%error, "jobs.not_claimed");
                continue;
            }
        };
        for job in due {
            let (gateway, pool) = (Arc::clone(&gateway), pool.clone());
            tokio::spawn(async move { step(&gateway, &pool, &job).await });
        }
    }
}

/// Asks about one job, and ends it or puts it off.
pub(crate) async fn step(gateway: &Gateway, pool: &Pool, job: &OpenJob) {
    match ask(gateway, pool, job).await {
        Ok(None) => put_off(gateway, job).await,
        Ok(Some(ended)) => end(gateway, job, ended).await,
        Err(error) => {
            warn!(exchange = %job.exchange, job = job.object_id, %error, "job.not_asked");
            put_off(gateway, job).await;
        }
    }
}

/// How a job has ended; `None` while it goes on.
async fn ask(gateway: &Gateway, pool: &Pool, job: &OpenJob) -> Result<Option<Ended>, Asked> {
    let catalog = gateway.ledger.catalog();
    let facts: JobFacts = serde_json::from_str(&job.facts).unwrap_or_default();
    let priced = Priced {
        quote: catalog.book().quote(&job.model, job.started_at_ms),
        catalog: &catalog,
        model: &job.model,
        started_at_ms: job.started_at_ms,
        price: price_of(&facts),
    };
    let own = Job {
        kind: &job.kind,
        object: &job.object_id,
        endpoint: &job.endpoint,
        facts,
        held: job.held.money,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        age_ms: u32::try_from(job.age_ms).unwrap_or(u32::MAX),
    };
    let lost = || Ok(Some(Ended::Charged(Box::new(given_up(&priced, &own)))));
    let place = gateway
        .places
        .keeping(&catalog, job.upstream, job.upstream_key);
    let looked = match place {
        Ok(place) => look((pool, &*place), &priced, &own).await,
        Err(_) => Err(Asked::Failed("its upstream is not set up".into())),
    };
    match looked {
        Ok(Look { files, ended }) => {
            note(gateway, job, files).await;
            match ended {
                None if job.is_late => lost(),
                ended => Ok(ended),
            }
        }
        Err(error) if job.is_late || (error == Asked::Gone && job.attempts >= GONE_MAX) => {
            error!(exchange = %job.exchange, job = job.object_id, %error, "job.lost: nobody can tell what it used; charging its bound");
            lost()
        }
        Err(error) => Err(error),
    }
}

/// The files that it has made are its client's.
async fn note(gateway: &Gateway, job: &OpenJob, files: Vec<String>) {
    let files = files.into_iter().map(|id| NewObject {
        id,
        kind: Kind::File.name().into(),
        account: job.account,
        token: job.token,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        model: None,
        parent: Some(job.object_id.clone()),
        facts: None,
        kept: None,
    });
    let files: Vec<NewObject> = files.collect();
    if let Err(error) = gateway.ledger.record_objects(&files).await {
        warn!(%error, "job.files_not_noted: they are when its client asks for the job");
    }
}

async fn end(gateway: &Gateway, job: &OpenJob, ended: Ended) {
    let settled = match ended {
        Ended::Free => gateway.ledger.release_job(job).await,
        Ended::Charged(charge) => {
            info!(exchange = %job.exchange, job = job.object_id, amount = %charge.amount, mark = charge.mark.as_str(), "job.charged");
            gateway.ledger.settle_job(job, vec![*charge]).await
        }
    };
    if let Err(error) = settled {
        // Nothing moved, or it has ended: whoever comes next finds out.
        warn!(exchange = %job.exchange, %error, "job.not_settled");
        put_off(gateway, job).await;
    }
}

async fn put_off(gateway: &Gateway, job: &OpenJob) {
    let share = job.age_ms.checked_div(SHARE_OF_AGE).unwrap_or_default();
    let pause_ms = share.clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
    let pause = Duration::from_millis(pause_ms.unsigned_abs());
    if let Err(error) = gateway.ledger.postpone(job, pause).await {
        warn!(exchange = %job.exchange, %error, "job.not_put_off: its claim lapses");
    }
}
