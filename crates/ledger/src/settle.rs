//! The settle writer: charges and releases of many exchanges in one statement, one commit.
//!
//! There is no timer. While one group commits, the next gathers in the queue: so a group is as large as the load makes
//! it, and a lone exchange waits for nobody. The exchange id makes repetition harmless, hence a lost connection is
//! answered by sending the same group again, for as long as it takes.

mod columns;

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Charge, HoldRequest, InstanceId, LedgerError,
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
    mut link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = jobs.recv_many(&mut group, GROUP_MAX) => received,
            () = link.keep() => continue,
        };
        if received == 0 {
            return;
        }
        settle(&mut link, mem::take(&mut group), instance, &gauges).await;
    }
}

/// Settles a group; one that Postgres refuses for its rows is halved until the bad row stands alone.
async fn settle(link: &mut Link, group: Vec<Job>, instance: InstanceId, gauges: &Gauges) {
    // A stack whose top is the oldest part.
    let mut parts = vec![(group, Texts::AsTheyAre)];
    while let Some((mut part, texts)) = parts.pop() {
        match send(link, &part, texts, instance).await {
            Ok(()) => {
                gauges.settle_groups.fetch_add(1, Relaxed);
                gauges
                    .settled
                    .fetch_add(u64::try_from(part.len()).unwrap_or(u64::MAX), Relaxed);
                part.into_iter().for_each(|job| answer(job, Ok(()), gauges));
            }
            Err(_) if part.len() > 1 => {
                let later = part.split_off(part.len() / 2);
                parts.push((later, texts));
                parts.push((part, texts));
            }
            // Money matters more than the texts beside it.
            Err(_) if texts == Texts::AsTheyAre => parts.push((part, Texts::Plain)),
            Err(error) => {
                for job in part {
                    tracing::error!(
                        exchange = %job.hold.exchange,
                        error = %Chain(&error),
                        "ledger.settle.refused: the charge is not booked; its hold stays as evidence"
                    );
                    gauges.settle_refused.fetch_add(1, Relaxed);
                    answer(job, Err(error.clone()), gauges);
                }
            }
        }
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

/// Sends a group until Postgres has answered. An error is about the rows.
async fn send(
    link: &mut Link,
    group: &[Job],
    texts: Texts,
    instance: InstanceId,
) -> Result<(), LedgerError> {
    let columns = Columns::new(group, texts == Texts::Plain);
    let mut wait = Backoff::default();
    let mut failures = 0_u32;
    loop {
        match link
            .query(columns::STATEMENT, &columns.params(&instance.0))
            .await
        {
            Ok(rows) if rows.len() == group.len() => return Ok(()),
            Ok(_) => return Err(LedgerError::row()),
            Err(error) if error.is_data() => return Err(error),
            // Not the rows' fault: Postgres is away, or somebody took a grant away. It stays first in the queue.
            Err(error) => {
                if failures.is_multiple_of(20) {
                    tracing::warn!(exchanges = group.len(), failures, error = %Chain(&error), "ledger.settle.waiting");
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

/// Exchanges in one statement. Larger groups gain little and make everybody in them wait.
const GROUP_MAX: usize = 256;
