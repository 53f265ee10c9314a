//! Sending settlements to Postgres: whatever is wrong with one of them, the others commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Chain, Job, LOCK_PROBE, LOCK_WAIT, columns, columns::Columns, record};
use crate::{
    AccountId, InstanceId, LedgerError, connect::Connections, gauges::Gauges, link::Link, objects,
};

/// What became of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Now, or by an earlier try.
    Charged,
    /// Its key was charged by another exchange: nothing moved.
    Duplicate,
    /// Whoever took its process for dead has charged an estimate, and that stands.
    Interrupted,
}

/// Sends groups on a connection of its own.
pub(crate) struct Sender {
    link: Link,
    gauges: Arc<Gauges>,
}

/// What could not be settled now.
#[derive(Default)]
pub(crate) struct Left {
    /// Postgres does not answer.
    pub(crate) away: Vec<Job>,
    /// Somebody keeps the account locked (a transaction left open in psql).
    pub(crate) locked: Vec<Job>,
    /// Refused for good, of those nobody here waits for: their evidence must stay.
    pub(crate) refused: Vec<Uuid>,
}

/// Part of a group, and how it is sent.
struct Part {
    jobs: Vec<Job>,
    texts: Texts,
    lock_wait: Duration,
}

/// What becomes of texts that peers sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// Cleaned of what Postgres is known not to take.
    AsTheyAre,
    /// And the usage object kept as a JSON string, in case it is no JSON to Postgres.
    Plain,
}

impl Sender {
    pub(crate) const fn new(link: Link, gauges: Arc<Gauges>) -> Self {
        Self { link, gauges }
    }

    /// While there is nothing to send: keeps the connection. Never returns.
    pub(crate) async fn keep(&mut self) {
        self.link.keep().await;
    }

    /// Sends a group. One that waits for a lock too long is sent account by account; one that Postgres refuses for its
    /// rows is halved until the bad row stands alone. Whoever is settled is told.
    pub(crate) async fn send(&mut self, jobs: Vec<Job>, lock_wait: Duration) -> Left {
        let mut left = Left::default();
        // A stack whose top is the oldest part.
        let mut parts: Vec<_> = by(jobs, |job| job.instance)
            .map(|jobs| Part {
                jobs,
                texts: Texts::AsTheyAre,
                lock_wait,
            })
            .collect();
        while let Some(mut part) = parts.pop() {
            let error = match self.send_part(&part).await {
                Ok(outcomes) => {
                    self.gauges.settle_groups.fetch_add(1, Relaxed);
                    self.gauges
                        .settled
                        .fetch_add(u64::try_from(part.jobs.len()).unwrap_or(u64::MAX), Relaxed);
                    for (job, outcome) in part.jobs.into_iter().zip(outcomes) {
                        if outcome == Outcome::Interrupted {
                            tracing::warn!(exchange = %job.exchange, charge_nano_usd = job.charge.amount.nano(), "ledger.settle.too_late: it was charged as interrupted, another amount; correct it with turnpike.top_up()");
                        }
                        job.durable(outcome, &self.gauges);
                    }
                    continue;
                }
                Err(error) => error,
            };
            let is_mixed = part
                .jobs
                .windows(2)
                .any(|two| matches!(two, [one, other] if one.account != other.account));
            if error.is_locked() && (part.lock_wait > LOCK_PROBE || is_mixed) {
                parts.extend(by(part.jobs, |job: &Job| job.account).map(|jobs| Part {
                    jobs,
                    texts: part.texts,
                    lock_wait: LOCK_PROBE,
                }));
            } else if error.is_locked() {
                let account: Option<AccountId> = part.jobs.first().map(|job| job.account);
                tracing::warn!(
                    account = account.map(|it| it.0),
                    exchanges = part.jobs.len(),
                    "ledger.settle.locked: a transaction elsewhere keeps the account locked"
                );
                left.locked.extend(part.jobs);
            } else if !error.is_data() {
                // Not the rows' fault: Postgres is away, or somebody took a grant away.
                tracing::warn!(exchanges = part.jobs.len(), error = %Chain(&error), "ledger.settle.waiting");
                left.away.extend(part.jobs);
                while let Some(part) = parts.pop() {
                    left.away.extend(part.jobs);
                }
            } else if part.jobs.len() > 1 {
                let later = part.jobs.split_off(part.jobs.len() / 2);
                parts.push(Part {
                    jobs: later,
                    ..part
                });
                parts.push(part);
            } else if part.texts == Texts::AsTheyAre {
                // Money matters more than the texts beside it.
                parts.push(Part {
                    texts: Texts::Plain,
                    ..part
                });
            } else {
                for job in part.jobs {
                    left.refused.push(job.exchange);
                    self.refuse(job, &error);
                }
            }
        }
        left
    }

    /// Sends a part as one statement; durable when it returns. A lost answer leaves the outcome unknown.
    async fn send_part(&mut self, part: &Part) -> Result<Vec<Outcome>, LedgerError> {
        let instance = part.jobs.first().map_or(InstanceId(0), |job| job.instance);
        let columns = Columns::new(&part.jobs, part.texts == Texts::Plain);
        let lock_ms = i32::try_from(part.lock_wait.as_millis()).unwrap_or(i32::MAX);
        let objects = part
            .jobs
            .iter()
            .filter_map(|job| job.charge.object.as_deref());
        let objects = objects::Columns::new(objects);
        let mut params = columns.params(&instance.0, &lock_ms);
        let statement = if objects.is_empty() {
            columns::STATEMENT
        } else {
            params.extend(objects.params());
            columns::STATEMENT_WITH_OBJECTS
        };
        let rows = self.link.query_durably(statement, &params).await?;
        if rows.len() != part.jobs.len() {
            return Err(LedgerError::row());
        }
        rows.iter()
            .map(|row| {
                Ok(match row.try_get::<_, &str>(0)? {
                    "duplicate" => Outcome::Duplicate,
                    "interrupted" => Outcome::Interrupted,
                    _ => Outcome::Charged,
                })
            })
            .collect()
    }

    fn refuse(&self, job: Job, error: &LedgerError) {
        tracing::error!(
            exchange = %job.exchange,
            token = %job.token,
            charge_nano_usd = job.charge.amount.nano(),
            // Counts, names and the provider's own figures: enough to book it by hand.
            record = job.origin.is_none().then(|| String::from_utf8_lossy(&record::encode(&job)).into_owned()),
            error = %Chain(error),
            "ledger.settle.refused: the charge is not booked; its hold stays as evidence"
        );
        self.gauges.settle_refused.fetch_add(1, Relaxed);
        job.refused(error, &self.gauges);
    }
}

/// Settles what a job cost and ends it, in one statement that is durable when it returns.
pub(crate) async fn job_statement(
    pool: &Connections,
    charges: &[Job],
    exchange: Uuid,
) -> Result<Vec<Row>, LedgerError> {
    let instance = charges.first().map_or(InstanceId(0), |job| job.instance);
    let lock_ms = i32::try_from(LOCK_WAIT.as_millis()).unwrap_or(i32::MAX);
    let mut texts = Texts::AsTheyAre;
    loop {
        let columns = Columns::new(charges, texts == Texts::Plain);
        let mut params = columns.params(&instance.0, &lock_ms);
        params.push((&exchange, Type::UUID));
        match pool.query(columns::STATEMENT_OF_JOB, &params).await {
            // Money matters more than the texts beside it.
            Err(error) if error.is_data() && texts == Texts::AsTheyAre => texts = Texts::Plain,
            answer => return answer,
        }
    }
}

fn by<K: Ord>(jobs: Vec<Job>, key: impl Fn(&Job) -> K) -> impl Iterator<Item = Vec<Job>> {
    let mut groups: BTreeMap<K, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        groups.entry(key(&job)).or_default().push(job);
    }
    groups.into_values()
}
