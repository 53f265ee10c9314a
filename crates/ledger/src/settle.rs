//! The settle writer: charges of many exchanges in one statement, one commit; while Postgres is away, in the journal.
//!
//! There is no timer. While one group commits, the next gathers in the queue: so a group is as large as the load makes
//! it, and a lone exchange waits for nobody. The exchange id makes repetition harmless, hence a lost connection is
//! answered by sending the same group again, or by the journal's replay.

mod columns;
mod later;
mod record;
mod replay;
mod send;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tariff::Amount;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use uuid::Uuid;

use crate::{
    AccountId, Charge, InstanceId, LedgerError, Mark, Means, TokenId, gauges::Gauges,
    purses::Entry, recorder, trail::Trail,
};

pub(crate) use self::{
    columns::{clean, clean_json},
    later::Later,
    record::decode,
    replay::{replay, replay_all, settle_all, tell_damage},
    send::{Outcome, Sender, job_statement},
};

/// One exchange's end.
pub(crate) struct Job {
    /// The process under whose lease it was held.
    pub(crate) instance: InstanceId,
    pub(crate) exchange: Uuid,
    pub(crate) token: TokenId,
    pub(crate) account: AccountId,
    pub(crate) held: Means,
    pub(crate) charge: Box<Charge>,
    /// `None` for one that is replayed, or settled for the dead.
    pub(crate) origin: Option<Origin>,
}

/// Where a job comes from, in this process: what happens there when it is durable.
pub(crate) struct Origin {
    pub(crate) purse: Arc<Entry>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) slot: Option<recorder::Slot>,
    /// Its place among those that may be open.
    pub(crate) place: OwnedSemaphorePermit,
    /// `None` once it was told that there is no durable place.
    pub(crate) done: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

impl Job {
    /// A job never charges more than was held: what is above the proven bound was reckoned wrongly.
    pub(crate) fn new(
        instance: InstanceId,
        (exchange, token, account): (Uuid, TokenId, AccountId),
        held: Means,
        mut charge: Box<Charge>,
        origin: Option<Origin>,
    ) -> Self {
        if charge.amount > held.money {
            charge.amount = held.money;
            charge.mark = Mark::Bounded;
        }
        Self {
            instance,
            exchange,
            token,
            account,
            held,
            charge,
            origin,
        }
    }

    /// What it takes out of the purse, the lease and the caps.
    pub(crate) fn used(&self) -> Means {
        Means {
            money: self.charge.amount.max(Amount::ZERO),
            prompt: self.charge.buckets.input(),
            completion: self.charge.buckets.output(),
        }
        .min(self.held)
    }

    /// It is durable: what it did not use is free again, and its answer's tail may go.
    fn durable(mut self, outcome: Outcome, gauges: &Gauges) {
        let used = match outcome {
            Outcome::Charged | Outcome::Interrupted => self.used(),
            Outcome::Duplicate => Means::NONE,
        };
        if let Some(origin) = self.origin.take() {
            if let Some(slot) = origin.slot {
                slot.clear();
            }
            origin.trail.ended(self.exchange);
            origin.purse.back(self.held.less(used));
            drop(origin.place);
            gauges.settling_ends();
            if let Some(done) = origin.done {
                // Whoever waited may have left; the settlement stands.
                let _ = done.send(Ok(()));
            }
        }
    }

    /// Postgres refuses it for good. Its evidence stays, and what was held stays leased.
    fn refused(mut self, error: &LedgerError, gauges: &Gauges) {
        if let Some(origin) = self.origin.take() {
            gauges.settling_ends();
            if let Some(done) = origin.done {
                let _ = done.send(Err(error.clone()));
            }
        }
    }

    /// There is no durable place for it now: its answer must not end.
    fn homeless(&mut self, error: &LedgerError) {
        if let Some(done) = self.origin.as_mut().and_then(|origin| origin.done.take()) {
            let _ = done.send(Err(error.clone()));
        }
    }
}

/// Settles what comes until every sender is gone.
pub(crate) async fn run(
    mut jobs: mpsc::UnboundedReceiver<Job>,
    sender: Sender,
    later: Later,
    gauges: Arc<Gauges>,
) {
    let mut settler = Settler {
        sender,
        later,
        gauges,
        waiting: VecDeque::new(),
        locked: HashMap::new(),
    };
    let mut probe = interval(PROBE_EVERY);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = jobs.recv_many(&mut group, GROUP_MAX) => received,
            _ = probe.tick(), if !settler.waiting.is_empty() => {
                settler.probe().await;
                continue;
            }
            () = settler.sender.keep() => continue,
        };
        if received == 0 {
            break;
        }
        settler.settle(mem::take(&mut group), LOCK_WAIT).await;
    }
    while !settler.waiting.is_empty() {
        probe.tick().await;
        settler.probe().await;
    }
}

struct Settler {
    sender: Sender,
    later: Later,
    gauges: Arc<Gauges>,
    /// What neither Postgres nor the journal would have. Bounded by the exchanges that may be open: each keeps its place.
    waiting: VecDeque<Job>,
    /// Accounts that somebody kept locked a moment ago.
    locked: HashMap<AccountId, Instant>,
}

impl Settler {
    async fn settle(&mut self, mut group: Vec<Job>, lock_wait: Duration) {
        if self.later.has_journal() {
            // Whom somebody keeps locked does not keep the others waiting.
            self.locked.retain(|_, at| at.elapsed() < LOCKED_LIFETIME);
            if !self.locked.is_empty() {
                let locked = group.extract_if(.., |job| self.locked.contains_key(&job.account));
                let locked: Vec<_> = locked.collect();
                if !locked.is_empty() {
                    self.place(locked).await;
                }
            }
        } else {
            // Whom somebody keeps locked waits by himself.
            let locked: Vec<_> = group
                .extract_if(.., |job| {
                    self.waiting.iter().any(|it| it.account == job.account)
                })
                .collect();
            self.waiting.extend(locked);
        }
        if group.is_empty() {
            return;
        }
        if self.later.is_away() {
            return self.place(group).await;
        }
        let left = self.sender.send(group, lock_wait).await;
        if !left.away.is_empty() {
            self.later.set_away();
            self.place(left.away).await;
        }
        if !left.locked.is_empty() {
            let now = Instant::now();
            let locked = left.locked.iter().map(|job| (job.account, now));
            self.locked.extend(locked);
            self.place(left.locked).await;
        }
    }

    /// Puts jobs where they are durable without Postgres. Where there is no such place they wait.
    async fn place(&mut self, jobs: Vec<Job>) {
        let (placed, homeless, error) = self.later.append(jobs).await;
        for job in placed {
            job.durable(Outcome::Charged, &self.gauges);
        }
        if let Some(error) = error {
            let is_news = |job: &Job| job.origin.as_ref().is_some_and(|it| it.done.is_some());
            if homeless.iter().any(is_news) {
                tracing::error!(
                    exchanges = homeless.len(),
                    error = %Chain(&error),
                    "ledger.journal.refused: neither Postgres nor the journal takes these charges; their answers are cut off"
                );
            }
            for mut job in homeless {
                job.homeless(&error);
                self.waiting.push_back(job);
            }
        } else {
            self.waiting.extend(homeless);
        }
        self.gauges.set_homeless(self.waiting.len());
    }

    /// Tries again with some of those that wait, the oldest first.
    async fn probe(&mut self) {
        let some = self.waiting.len().min(GROUP_MAX);
        let group: Vec<_> = self.waiting.drain(..some).collect();
        // Postgres first: it may be back, and the journal may still have no room.
        let left = self.sender.send(group, LOCK_PROBE).await;
        if left.away.is_empty() {
            self.later.set_back();
        }
        if self.later.has_journal() {
            let mut rest = left.away;
            rest.extend(left.locked);
            if !rest.is_empty() {
                self.place(rest).await;
            }
        } else {
            self.waiting.extend(left.locked);
            for job in left.away.into_iter().rev() {
                self.waiting.push_front(job);
            }
        }
        self.gauges.set_homeless(self.waiting.len());
    }
}

/// An error with its causes, for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut error = self.0;
        write!(f, "{error}")?;
        while let Some(cause) = error.source() {
            write!(f, ": {cause}")?;
            error = cause;
        }
        Ok(())
    }
}

/// How long a group waits for locks: longer than any other gateway's commit.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// How long one account alone is waited for, since everybody waits meanwhile.
const LOCK_PROBE: Duration = Duration::from_millis(20);
/// How long an account counts as locked after it was found so.
const LOCKED_LIFETIME: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Exchanges in one statement. Larger groups gain little and make everybody in them wait.
const GROUP_MAX: usize = 256;
