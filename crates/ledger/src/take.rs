//! The take writer: holds for many exchanges in one statement.

use std::{
    collections::{BTreeMap, HashMap},
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
    AccountId, Hold, HoldRequest, InstanceId, LedgerError, Limit, TakeError,
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
    link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
) {
    let mut taker = Taker {
        link,
        instance,
        gauges,
        locked: HashMap::new(),
    };
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = wants.recv_many(&mut group, GROUP_MAX) => received,
            () = taker.link.keep() => continue,
        };
        if received == 0 {
            return;
        }
        taker.take(mem::take(&mut group)).await;
    }
}

struct Taker {
    link: Link,
    instance: InstanceId,
    gauges: Arc<Gauges>,
    /// Accounts that somebody kept locked a moment ago (a transaction left open in psql): they are asked for by
    /// themselves, so that nobody else waits for them.
    locked: HashMap<AccountId, Instant>,
}

impl Taker {
    /// Takes a group. One that waits for a lock too long is sent account by account, and only who is concerned is
    /// refused; one that Postgres refuses for its rows is halved until the bad row stands alone.
    async fn take(&mut self, mut group: Vec<Want>) {
        let mut parts = Vec::new();
        if !self.locked.is_empty() {
            self.locked.retain(|_, at| at.elapsed() < LOCKED_LIFETIME);
            let locked =
                group.extract_if(.., |want| self.locked.contains_key(&want.request.account));
            parts.extend(by_account(locked.collect()));
        }
        if !group.is_empty() {
            parts.push((group, LOCK_WAIT));
        }
        while let Some((mut part, lock_wait)) = parts.pop() {
            match send(&mut self.link, &part, lock_wait, self.instance).await {
                Ok(verdicts) => {
                    self.gauges.take_groups.fetch_add(1, Relaxed);
                    for (want, verdict) in part.into_iter().zip(verdicts) {
                        give(want, verdict, &self.gauges);
                    }
                }
                Err((error, _)) if error.is_locked() && lock_wait > LOCK_PROBE => {
                    parts.extend(by_account(part))
                }
                Err((error, _)) if error.is_data() && part.len() > 1 => {
                    let later = part.split_off(part.len() / 2);
                    parts.push((later, lock_wait));
                    parts.push((part, lock_wait));
                }
                Err((error, outcome)) => {
                    if error.is_locked() {
                        self.locked.extend(
                            part.iter()
                                .map(|want| (want.request.account, Instant::now())),
                        );
                    }
                    part.into_iter()
                        .for_each(|want| refuse(want, &error, outcome, &self.gauges));
                }
            }
        }
    }
}

fn by_account(wants: Vec<Want>) -> impl Iterator<Item = (Vec<Want>, Duration)> {
    let mut accounts: BTreeMap<AccountId, Vec<Want>> = BTreeMap::new();
    for want in wants {
        accounts.entry(want.request.account).or_default().push(want);
    }
    accounts.into_values().map(|wants| (wants, LOCK_PROBE))
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
    lock_wait: Duration,
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

    let lock_ms = i32::try_from(lock_wait.as_millis()).unwrap_or(i32::MAX);

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
                    (&lock_ms, Type::INT4),
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
            Err(error) if error.is_locked() || !error.is_unavailable() => {
                return Err((error, outcome));
            }
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

const TAKE: &str = "select verdict, available from turnpike.take_holds($1, $2, $3, $4, $5, $6, $7)";

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

/// How long a group waits for locks: longer than any other gateway's commit.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long one account alone is waited for, since everybody waits meanwhile.
const LOCK_PROBE: Duration = Duration::from_millis(20);

/// How long an account counts as locked after it was found so.
const LOCKED_LIFETIME: Duration = Duration::from_secs(5);

/// How long a group is tried again while Postgres is away. A restart or a failover may pass unnoticed; beyond it the
/// client had better hear "not now".
const PATIENCE: Duration = Duration::from_secs(3);
