//! The journal's replay: what was settled while Postgres was away goes there as soon as it answers, the oldest first.

use uuid::Uuid;

use super::{Chain, GROUP_MAX, Job, LOCK_PROBE, LOCK_WAIT, Later, Sender, decode};
use crate::{
    LedgerError,
    journal::{Damage, Journal, Record},
    link::Backoff,
};

/// Replays whenever there is something. Never returns.
pub(crate) async fn replay(later: Later, mut sender: Sender) {
    loop {
        tokio::select! {
            () = later.stirred() => {}
            () = sender.keep() => {}
        }
        let mut wait = Backoff::default();
        loop {
            let batch = match later.oldest().await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "ledger.journal.unreadable");
                    wait.pause().await;
                    continue;
                }
            };
            tell_damage(&batch.damage);
            let left = sender.send(jobs(&batch.records), LOCK_WAIT).await;
            if !left.away.is_empty() {
                // What was settled of it is settled again, which changes nothing.
                wait.pause().await;
                continue;
            }
            later.set_back();
            if !left.locked.is_empty() {
                // They go to the end, before they are forgotten at the beginning.
                let (_, homeless, error) = later.append(left.locked).await;
                wait.pause().await;
                if let Some(error) = error {
                    tracing::error!(exchanges = homeless.len(), error = %Chain(&error), "ledger.journal.refused");
                    continue;
                }
            } else {
                wait = Backoff::default();
            }
            if let Err(error) = later.forget(batch).await {
                tracing::error!(error = %Chain(&error), "ledger.journal.not_forgotten: it is replayed again, which changes nothing");
                wait.pause().await;
            }
        }
    }
}

/// Replays the whole journal of a process that is gone. Returns how many exchanges.
///
/// # Errors
/// When Postgres or the disk does not answer: then everything is still there.
pub(crate) async fn replay_all(
    journal: &mut Journal,
    sender: &mut Sender,
) -> Result<usize, LedgerError> {
    let mut replayed = 0_usize;
    let unreadable = |error| {
        LedgerError::unavailable("a journal cannot be read")
            .because::<crate::journal::JournalError>(error)
    };
    while !journal.is_empty() {
        let batch = journal.oldest(GROUP_MAX, usize::MAX).map_err(unreadable)?;
        tell_damage(&batch.damage);
        replayed = replayed.saturating_add(batch.records.len());
        settle_all(jobs(&batch.records), sender).await?;
        journal.forget(batch).map_err(unreadable)?;
    }
    Ok(replayed)
}

/// Settles jobs of nobody here, waiting for locks for a while. Returns those that Postgres refuses for good.
///
/// # Errors
/// When Postgres does not answer, or somebody keeps an account locked.
pub(crate) async fn settle_all(
    mut jobs: Vec<Job>,
    sender: &mut Sender,
) -> Result<Vec<Uuid>, LedgerError> {
    let (mut wait, mut lock_wait) = (Backoff::default(), LOCK_WAIT);
    let (mut refused, mut rounds) = (Vec::new(), 0);
    while !jobs.is_empty() {
        let rest = jobs.split_off(jobs.len().min(GROUP_MAX));
        let left = sender.send(jobs, lock_wait).await;
        if !left.away.is_empty() {
            return Err(LedgerError::unavailable("Postgres did not answer in time"));
        }
        jobs = rest;
        refused.extend(left.refused);
        if !left.locked.is_empty() {
            rounds += 1;
            if rounds > LOCKED_ROUNDS_MAX {
                return Err(LedgerError::unavailable(
                    "somebody keeps an account locked whose exchanges are to be settled",
                ));
            }
            jobs.extend(left.locked);
            lock_wait = LOCK_PROBE;
            wait.pause().await;
        }
    }
    Ok(refused)
}

/// How often an account that somebody keeps locked is tried, about a second apart.
const LOCKED_ROUNDS_MAX: u32 = 20;

fn jobs(records: &[Record]) -> Vec<Job> {
    records
        .iter()
        .filter_map(|record| {
            let job = decode(&record.payload);
            if let Err(error) = &job {
                tracing::error!(sequence = record.sequence, %error, "ledger.journal.foreign: a record of another program's; it is skipped");
            }
            job.ok()
        })
        .collect()
}

/// Says what of the journal is lost.
pub(crate) fn tell_damage(damage: &Damage) {
    if !damage.is_none() {
        tracing::error!(
            places = damage.count,
            bytes = damage.bytes,
            records = damage.records,
            segments = ?damage.places.iter().map(|place| &place.segment).collect::<Vec<_>>(),
            "ledger.journal.damaged: what cannot be read is skipped, and its segment kept aside"
        );
    }
}
