//! Work that goes on when its request is over: parked when it begins, asked about until it ends, settled once, by whichever process comes first.

mod responses;

use std::{sync::Arc, time::Duration};

use ledger::{Catalog, Charge, End, Hold, Ledger, Mark, NewJob, OpenJob, Seen, Settling};
use meter::Reading;
use proxy::Pool;
use tariff::{Buckets, Flags, PriceId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    endpoint::Kind,
    gateway::Gateway,
    reckon::{Admitted, Passage, reckon},
    work,
};

pub(crate) use self::responses::admitted;

/// How often each process looks for jobs that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a job is one process's, unless that goes on claiming it while an answer comes.
const CLAIMED: Duration = Duration::from_mins(3);
/// How often it does.
const CLAIM_KEPT_EVERY: Duration = Duration::from_mins(1);
/// The longest time between two questions.
const POLL_MAX: Duration = Duration::from_mins(1);
/// The same after questions without an answer. Some providers keep what came out for ten minutes.
const POLL_FAILED_MAX: Duration = Duration::from_mins(8);
/// How often in a row a provider says that it knows no such thing before that is believed.
const GONE_AFTER: u32 = 5;

/// What parks an exchange.
pub(crate) struct Background {
    pub(crate) ledger: Ledger,
    poll_after: Duration,
    deadline_after: Duration,
}

impl Background {
    /// As the operator has set it.
    pub(crate) fn new(gateway: &Gateway) -> Self {
        Self {
            ledger: gateway.ledger.clone(),
            poll_after: gateway.jobs.poll_after(),
            deadline_after: gateway.jobs.background_max(),
        }
    }

    /// Parks an exchange that the provider goes on with under this id.
    pub(crate) fn park(&self, hold: Hold, admitted: &Admitted, id: String) -> (OpenJob, Settling) {
        let request = hold.request();
        let job = OpenJob {
            exchange: request.exchange,
            account: request.account,
            token: request.token,
            upstream: admitted.upstream,
            upstream_key: admitted.upstream_key,
            held: request.means,
            kind: Kind::Response.name().to_owned(),
            object_id: id.clone(),
            endpoint: admitted.endpoint.to_owned(),
            model: admitted.model.clone(),
            started_at_ms: admitted.started_at_ms,
            age_ms: 0,
            is_late: false,
            attempts: 0,
            misses: 0,
            failures: 0,
            facts: responses::facts(admitted),
        };
        let new = NewJob {
            kind: Kind::Response.name().into(),
            facts: job.facts.clone(),
            poll_after: self.poll_after,
            deadline_after: self.deadline_after,
            object: admitted.object(&id, &[]),
            object_id: id,
        };
        (job, self.ledger.park(hold, new))
    }
}

/// What a provider says of a job.
enum Verdict {
    /// It goes on.
    Open,
    /// It has ended, and cost this.
    Ended(Vec<Charge>),
    /// There is no such thing.
    Gone,
    /// No answer, or none that can be read.
    Unknown(String),
}

/// The charge of a job whose end an answer shows; `None` if nothing was used. Charged once, however often it is shown.
pub(crate) fn charge(
    admitted: &Admitted,
    reading: Reading,
    job: &OpenJob,
    passage: Passage,
) -> Option<Charge> {
    let charge = reckon(admitted, reading, job.held.money, passage)?;
    Some(Charge {
        key: Some(key(job)),
        // It was noted when the job began, but for what came out.
        object: charge.object.filter(|object| object.facts.is_some()),
        ..charge
    })
}

/// What is charged once: kind, upstream and the provider's id.
fn key(job: &OpenJob) -> String {
    let upstream = job.upstream.map_or(0, |id| id.0);
    format!("{}:{upstream}:{}", job.kind, job.object_id)
}

/// How long a job has taken so far.
pub(crate) fn passage(job: &OpenJob) -> Passage {
    let age_ms = u32::try_from(job.age_ms.max(0)).unwrap_or(u32::MAX);
    Passage {
        status: 200,
        end: End::Complete,
        head_after_ms: age_ms,
        first_byte_after_ms: Some(age_ms),
        ended_after_ms: age_ms,
    }
}

/// Asks providers until the program ends.
pub(crate) async fn run(gateway: Arc<Gateway>, pool: Pool, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(gateway.jobs.jobs_at_once.get() as usize));
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let mut free = Vec::new();
        while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            free.push(place);
        }
        let most = u32::try_from(free.len()).unwrap_or(u32::MAX);
        if most == 0 {
            continue;
        }
        match gateway.ledger.claim_jobs(most, CLAIMED).await {
            Ok(jobs) => {
                for (job, place) in jobs.into_iter().zip(free) {
                    tokio::spawn(see_to(Arc::clone(&gateway), pool.clone(), job, place));
                }
            }
            Err(error) => warn!(%error, "jobs.not_claimed: they are looked for again"),
        }
    }
}

/// Asks about one job, and does what the answer calls for.
async fn see_to(gateway: Arc<Gateway>, pool: Pool, job: OpenJob, _place: OwnedSemaphorePermit) {
    let verdict = tokio::select! {
        verdict = ask(&gateway, &pool, &job) => verdict,
        () = lose_claim(&gateway.ledger, &job) => {
            info!(exchange = %job.exchange, object = job.object_id, "job.another_s: it has ended meanwhile, or another process sees to it");
            return;
        }
    };
    let ledger = &gateway.ledger;
    let (exchange, object) = (job.exchange, &job.object_id);
    let done = match verdict {
        Verdict::Ended(charges) => {
            for charge in &charges {
                info!(%exchange, object, charge_nano_usd = charge.amount.nano(), mark = charge.mark.as_str(), "job.ended");
            }
            ledger.settle_job(&job, charges).await.map(drop)
        }
        Verdict::Gone if job.misses.saturating_add(1) >= GONE_AFTER || job.is_late => {
            error!(%exchange, object, "job.gone: the provider knows no such thing any more; it is charged what was held for it");
            ledger.settle_job(&job, vec![bound(&job)]).await.map(drop)
        }
        Verdict::Open | Verdict::Unknown(_) if job.is_late => {
            error!(%exchange, object, "job.late: it has not ended by its deadline; it is charged what was held for it");
            ledger.settle_job(&job, vec![bound(&job)]).await.map(drop)
        }
        Verdict::Open => {
            ledger
                .postpone(&job, Seen::Open, next(&gateway, &job))
                .await
        }
        Verdict::Gone => {
            warn!(%exchange, object, "job.missing: the provider knows no such thing; it is asked again");
            ledger
                .postpone(&job, Seen::Missing, next(&gateway, &job))
                .await
        }
        Verdict::Unknown(reason) => {
            warn!(%exchange, object, reason, "job.unknown: the provider is asked again");
            ledger
                .postpone(&job, Seen::Nothing, next_after_failure(&gateway, &job))
                .await
        }
    };
    if let Err(error) = done {
        warn!(%exchange, object, %error, "job.kept: Postgres does not answer; it is seen to once its claim has lapsed");
    }
}

/// When a provider is asked again: the longer it takes, the later.
fn next(gateway: &Gateway, job: &OpenJob) -> Duration {
    let age = Duration::from_millis(u64::try_from(job.age_ms).unwrap_or_default());
    let least = gateway.jobs.poll_after();
    (age / 4).clamp(least, POLL_MAX.max(least))
}

/// The same when there was no answer: the more often in a row, the later.
fn next_after_failure(gateway: &Gateway, job: &OpenJob) -> Duration {
    let next = next(gateway, job);
    backed_off(next, job.failures)
}

/// Twice as long for each failure before, up to a limit, and never sooner than without any.
fn backed_off(next: Duration, failures: u32) -> Duration {
    let longer = next.saturating_mul(2_u32.saturating_pow(failures));
    longer.min(POLL_FAILED_MAX.max(next))
}

/// Keeps a job claimed, however long its answer takes. Ends when it is this process' no more.
async fn lose_claim(ledger: &Ledger, job: &OpenJob) {
    loop {
        tokio::time::sleep(CLAIM_KEPT_EVERY).await;
        match ledger.keep_claim(job, CLAIMED).await {
            Ok(true) => {}
            Ok(false) => return,
            // It lapses unless Postgres is back soon; whoever settles, it is charged once.
            Err(error) => warn!(exchange = %job.exchange, %error, "job.claim_not_kept"),
        }
    }
}

/// Asks the provider.
async fn ask(gateway: &Gateway, pool: &Pool, job: &OpenJob) -> Verdict {
    match Kind::named(&job.kind) {
        Some(Kind::Response) => responses::ask(gateway, pool, job).await,
        Some(Kind::Batch | Kind::MessageBatch | Kind::Video | Kind::TuningJob) => {
            match work::ask(gateway, pool, job).await {
                Ok(None) => Verdict::Open,
                Ok(Some(work::Ended::Free)) => Verdict::Ended(Vec::new()),
                Ok(Some(work::Ended::Charged(charge))) => Verdict::Ended(vec![*charge]),
                Err(work::Asked::Gone) => Verdict::Gone,
                Err(error) => Verdict::Unknown(error.to_string()),
            }
        }
        _ => Verdict::Unknown(format!("nobody here knows how to ask about a {}", job.kind)),
    }
}

/// What a job is charged whose end nobody knows: what was held for it.
fn bound(job: &OpenJob) -> Charge {
    let Passage { ended_after_ms, .. } = passage(job);
    Charge {
        price: PriceId(responses::Facts::of(job).price),
        amount: job.held.money,
        mark: Mark::Bounded,
        model_requested: job.model.clone(),
        model_answered: None,
        endpoint: job.endpoint.clone().into(),
        service_tier: None,
        stream: false,
        buckets: Buckets::default(),
        usage_raw: None,
        flags: Flags::default(),
        provider_cost: None,
        status: 200,
        end: End::Failed,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        response_id: Some(job.object_id.clone()),
        key: Some(key(job)),
        object: None,
        started_at_ms: job.started_at_ms,
        head_after_ms: None,
        first_byte_after_ms: None,
        ended_after_ms,
    }
}

/// The snapshot that prices a job now.
fn priced(catalog: &Arc<Catalog>, job: &OpenJob) -> Option<tariff::Quote> {
    catalog.book().quote(&job.model, job.started_at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_asked_about_more_seldom() {
        let [second, minute] = [1, 60].map(Duration::from_secs);
        assert_eq!(backed_off(second, 0), second);
        assert_eq!(backed_off(second, 5), 32 * second);
        assert_eq!(backed_off(minute, 2), 4 * minute);
        assert_eq!(backed_off(minute, 4), POLL_FAILED_MAX);
        assert_eq!(backed_off(second, u32::MAX), POLL_FAILED_MAX);
        assert_eq!(backed_off(9 * minute, 3), 9 * minute);
    }
}
