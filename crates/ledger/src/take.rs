//! The take writer: holds for many exchanges in one statement.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tariff::Amount;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_postgres::types::Type;

use crate::{
    Hold, HoldRequest, InstanceId, LedgerError, Limit, TakeError,
    gauges::Gauges,
    link::{Backoff, Link},
    settle::{Job, clean},
};

/// One exchange that wants a hold. The hold itself is sent back, so that nobody can receive half of it.
pub(crate) struct Want {
    pub(crate) request: HoldRequest,
    /// The place in the settle queue the hold will have.
    pub(crate) place: mpsc::OwnedPermit<Job>,
    pub(crate) answer: oneshot::Sender<Result<Hold, TakeError>>,
}

/// What Postgres decided on one of them.
enum Verdict {
    Taken,
    Insufficient(Limit, Amount),
    Gone,
}

/// Takes what is asked for until every sender is gone.
pub(crate) async fn run(
    mut wants: mpsc::Receiver<Want>,
    mut link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = wants.recv_many(&mut group, GROUP_MAX) => received,
            () = link.keep() => continue,
        };
        if received == 0 {
            return;
        }
        take(&mut link, mem::take(&mut group), instance, &gauges).await;
    }
}

/// Takes a group; one that Postgres refuses for its rows is halved until the bad row stands alone.
async fn take(link: &mut Link, group: Vec<Want>, instance: InstanceId, gauges: &Arc<Gauges>) {
    let mut parts = vec![group];
    while let Some(mut part) = parts.pop() {
        match send(link, &part, instance).await {
            Ok(verdicts) => {
                gauges.take_groups.fetch_add(1, Relaxed);
                for (want, verdict) in part.into_iter().zip(verdicts) {
                    give(want, verdict, gauges);
                }
            }
            Err((error, _)) if error.is_data() && part.len() > 1 => {
                let later = part.split_off(part.len() / 2);
                parts.push(later);
                parts.push(part);
            }
            Err((error, outcome)) => part
                .into_iter()
                .for_each(|want| refuse(want, &error, outcome, gauges)),
        }
    }
}

/// Whether a statement that failed may have been carried out after all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    NotDone,
    Unknown,
}

/// Sends a group until Postgres has answered or patience ends. The exchange ids make repetition harmless.
async fn send(
    link: &mut Link,
    group: &[Want],
    instance: InstanceId,
) -> Result<Vec<Verdict>, (LedgerError, Outcome)> {
    let exchanges: Vec<_> = group.iter().map(|want| want.request.exchange).collect();
    let tokens: Vec<_> = group.iter().map(|want| want.request.token.0).collect();
    let accounts: Vec<_> = group.iter().map(|want| want.request.account.0).collect();
    let amounts: Vec<_> = group
        .iter()
        .map(|want| want.request.amount.nano())
        .collect();
    let models: Vec<_> = group
        .iter()
        .map(|want| clean(&want.request.model))
        .collect();

    let deadline = Instant::now() + PATIENCE;
    let mut wait = Backoff::default();
    let mut outcome = Outcome::NotDone;
    loop {
        let answer = link
            .query(
                TAKE,
                &[
                    (&exchanges, Type::UUID_ARRAY),
                    (&tokens, Type::INT8_ARRAY),
                    (&accounts, Type::INT8_ARRAY),
                    (&amounts, Type::INT8_ARRAY),
                    (&models, Type::TEXT_ARRAY),
                    (&instance.0, Type::INT8),
                ],
            )
            .await;
        match answer {
            Ok(rows) if rows.len() == group.len() => {
                return rows
                    .iter()
                    .map(verdict)
                    .collect::<Result<_, _>>()
                    .map_err(|error| (error, Outcome::Unknown));
            }
            Ok(_) => return Err((LedgerError::row(), Outcome::Unknown)),
            Err(error) if !error.is_unavailable() => return Err((error, outcome)),
            Err(error) => {
                outcome = Outcome::Unknown;
                if Instant::now() >= deadline {
                    return Err((error, outcome));
                }
                wait.pause().await;
            }
        }
    }
}

const TAKE: &str = "select verdict, available from turnpike.take_holds($1, $2, $3, $4, $5, $6)";

fn verdict(row: &tokio_postgres::Row) -> Result<Verdict, LedgerError> {
    let available = Amount::from_nano(row.try_get::<_, Option<i64>>(1)?.unwrap_or_default());
    Ok(match row.try_get::<_, &str>(0)? {
        "taken" | "repeated" => Verdict::Taken,
        "account" => Verdict::Insufficient(Limit::Account, available),
        "token" => Verdict::Insufficient(Limit::Token, available),
        _ => Verdict::Gone,
    })
}

fn give(want: Want, verdict: Verdict, gauges: &Arc<Gauges>) {
    let answer = match verdict {
        Verdict::Taken => {
            gauges.taken.fetch_add(1, Relaxed);
            Ok(Hold::new(want.request, want.place, gauges))
        }
        Verdict::Insufficient(by, available) => Err(TakeError::Insufficient { available, by }),
        Verdict::Gone => Err(TakeError::TokenGone),
    };
    // Who asked may have left meanwhile: then the hold goes back.
    if let Err(Ok(hold)) = want.answer.send(answer) {
        drop(hold.release());
    }
}

fn refuse(want: Want, error: &LedgerError, outcome: Outcome, gauges: &Arc<Gauges>) {
    if outcome == Outcome::Unknown {
        // It may have been taken: the settle writer gives it back as soon as Postgres answers, or finds nothing to give.
        drop(Hold::new(want.request, want.place, gauges).release());
    }
    let _ = want.answer.send(Err(TakeError::Unavailable(error.clone())));
}

/// Holds in one statement.
const GROUP_MAX: usize = 256;

/// How long a group is tried again while Postgres is away. A restart or a failover may pass unnoticed; beyond it the
/// client had better hear "not now".
const PATIENCE: Duration = Duration::from_secs(3);
