//! The settle writer: charges and releases of many exchanges in one statement, one commit.
//!
//! There is no timer. While one group commits, the next gathers in the queue: so a group is as large as the load makes
//! it, and a lone exchange waits for nobody. The exchange id makes repetition harmless, hence a lost connection is
//! answered by sending the same group again, for as long as it takes.

mod columns;

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    AccountId, Charge, HoldRequest, InstanceId, LedgerError,
    gauges::Gauges,
    link::{Backoff, Link},
};

use self::columns::Columns;

pub(crate) use self::columns::clean;

/// One exchange's end.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) hold: HoldRequest,
    /// `None` gives the hold back.
    pub(crate) charge: Option<Box<Charge>>,
    pub(crate) done: oneshot::Sender<Result<(), LedgerError>>,
}

/// Settles what comes until every sender is gone.
pub(crate) async fn run(
    mut jobs: mpsc::Receiver<Job>,
    link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
) {
    let mut settler = Settler {
        link,
        instance,
        gauges,
        stuck: BTreeMap::new(),
    };
    let mut probe = interval(PROBE_EVERY);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = jobs.recv_many(&mut group, GROUP_MAX) => received,
            _ = probe.tick(), if !settler.stuck.is_empty() => {
                settler.probe().await;
                continue;
            }
            () = settler.link.keep() => continue,
        };
        if received == 0 {
            break;
        }
        settler.settle(mem::take(&mut group)).await;
    }
    while !settler.stuck.is_empty() {
        probe.tick().await;
        settler.probe().await;
    }
}

struct Settler {
    link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
    /// Settlements of accounts that somebody keeps locked (a transaction left open in psql): they wait by themselves,
    /// so that nobody else waits for them. Bounded as the queue is, by the exchanges that may be open.
    stuck: BTreeMap<AccountId, Vec<Job>>,
}

/// Part of a group, and how it is sent.
struct Part {
    jobs: Vec<Job>,
    texts: Texts,
    lock_wait: Duration,
}

impl Settler {
    async fn settle(&mut self, mut group: Vec<Job>) {
        if !self.stuck.is_empty() {
            let locked: Vec<_> = group
                .extract_if(.., |job| self.stuck.contains_key(&job.hold.account))
                .collect();
            for job in locked {
                self.stuck.entry(job.hold.account).or_default().push(job);
            }
        }
        if !group.is_empty() {
            self.send_parts(Part {
                jobs: group,
                texts: Texts::AsTheyAre,
                lock_wait: LOCK_WAIT,
            })
            .await;
        }
    }

    /// Tries one of the locked accounts again, another one each time.
    async fn probe(&mut self) {
        if let Some((_, mut jobs)) = self.stuck.pop_first() {
            let rest = jobs.split_off(jobs.len().min(GROUP_MAX));
            let account = jobs.first().map(|job| job.hold.account);
            self.send_parts(Part {
                jobs,
                texts: Texts::AsTheyAre,
                lock_wait: LOCK_PROBE,
            })
            .await;
            if let Some(account) = account.filter(|_| !rest.is_empty()) {
                self.stuck.entry(account).or_default().extend(rest);
            }
        }
    }

    /// Sends a group. One that waits for a lock too long is sent account by account; one that Postgres refuses for its
    /// rows is halved until the bad row stands alone.
    async fn send_parts(&mut self, whole: Part) {
        // A stack whose top is the oldest part.
        let mut parts = vec![whole];
        while let Some(mut part) = parts.pop() {
            let error = match send(&mut self.link, &part, self.instance).await {
                Ok(()) => {
                    self.gauges.settle_groups.fetch_add(1, Relaxed);
                    self.gauges
                        .settled
                        .fetch_add(u64::try_from(part.jobs.len()).unwrap_or(u64::MAX), Relaxed);
                    part.jobs
                        .into_iter()
                        .for_each(|job| answer(job, Ok(()), &self.gauges));
                    continue;
                }
                Err(error) => error,
            };
            if error.is_locked() {
                let mut accounts: BTreeMap<AccountId, Vec<Job>> = BTreeMap::new();
                for job in part.jobs {
                    accounts.entry(job.hold.account).or_default().push(job);
                }
                if part.lock_wait > LOCK_PROBE {
                    let alone = |jobs| Part {
                        jobs,
                        texts: part.texts,
                        lock_wait: LOCK_PROBE,
                    };
                    parts.extend(accounts.into_values().map(alone));
                } else {
                    for (account, jobs) in accounts {
                        tracing::warn!(%account, exchanges = jobs.len(), "ledger.settle.locked: a transaction elsewhere keeps the account locked");
                        self.stuck.entry(account).or_default().extend(jobs);
                    }
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
                    self.refuse(job, &error);
                }
            }
        }
    }

    fn refuse(&self, job: Job, error: &LedgerError) {
        tracing::error!(
            exchange = %job.hold.exchange,
            error = %Chain(error),
            "ledger.settle.refused: the charge is not booked; its hold stays as evidence"
        );
        self.gauges.settle_refused.fetch_add(1, Relaxed);
        answer(job, Err(error.clone()), &self.gauges);
    }
}

/// What becomes of texts that peers sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// Cleaned of what Postgres is known not to take.
    AsTheyAre,
    /// And the usage object kept as a JSON string, in case it is no JSON to Postgres.
    Plain,
}

/// Sends a part until Postgres has answered. An error is about the rows, or about a lock.
async fn send(link: &mut Link, part: &Part, instance: InstanceId) -> Result<(), LedgerError> {
    let columns = Columns::new(&part.jobs, part.texts == Texts::Plain);
    let lock_ms = i32::try_from(part.lock_wait.as_millis()).unwrap_or(i32::MAX);
    let mut wait = Backoff::default();
    let mut failures = 0_u32;
    loop {
        match link
            .query_durably(columns::STATEMENT, &columns.params(&instance.0, &lock_ms))
            .await
        {
            Ok(rows) if rows.len() == part.jobs.len() => return Ok(()),
            Ok(_) => return Err(LedgerError::row()),
            Err(error) if error.is_data() || error.is_locked() => return Err(error),
            // Not the rows' fault: Postgres is away, or somebody took a grant away. It stays first in the queue.
            Err(error) => {
                if failures.is_multiple_of(20) {
                    tracing::warn!(exchanges = part.jobs.len(), failures, error = %Chain(&error), "ledger.settle.waiting");
                }
                failures = failures.saturating_add(1);
                wait.pause().await;
            }
        }
    }
}

fn answer(job: Job, result: Result<(), LedgerError>, gauges: &Gauges) {
    gauges.settling_ends();
    // Whoever waited may have left; the settlement stands.
    let _ = job.done.send(result);
}

/// An error with its causes, for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a LedgerError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut error: &dyn std::error::Error = self.0;
        write!(f, "{error}")?;
        while let Some(cause) = error.source() {
            write!(f, ": {cause}")?;
            error = cause;
        }
        Ok(())
    }
}

/// How long a group waits for locks: longer than any other gateway's commit.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long one account alone is waited for, since everybody waits meanwhile.
const LOCK_PROBE: Duration = Duration::from_millis(20);
const PROBE_EVERY: Duration = Duration::from_millis(200);

/// Exchanges in one statement. Larger groups gain little and make everybody in them wait.
const GROUP_MAX: usize = 256;
