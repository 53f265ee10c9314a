//! The task that speaks with Postgres about purses: leases for many in one statement, and what they give back in another.
//!
//! One statement at a time. Each carries a number that grows, and one whose answer was lost is sent again with the same number
//! until it is answered: so nothing is granted twice, and nothing that was granted is forgotten.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use tariff::Amount;
use tokio::{sync::mpsc, time::sleep};
use tokio_postgres::{Row, types::Type};

use super::{Entry, Order, Purses, buried, insufficient, refuse};
use crate::{
    AccountId, LedgerError, Limit, Means, Period, TakeError,
    gauges::Gauges,
    link::{Backoff, Link},
    purse::{Ask, Short, Shortage},
    settle::Chain,
};

/// Carries out orders until every sender is gone.
pub(crate) async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    link: Link,
    purses: std::sync::Weak<Purses>,
    gauges: Arc<Gauges>,
) {
    let mut bank = Bank {
        link,
        purses,
        gauges,
        request: 0,
        locked: HashMap::new(),
    };
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            received = orders.recv_many(&mut group, GROUP_MAX) => received,
            () = bank.link.keep() => continue,
        };
        if received == 0 {
            return;
        }
        bank.carry_out(mem::take(&mut group)).await;
    }
}

struct Bank {
    link: Link,
    purses: std::sync::Weak<Purses>,
    gauges: Arc<Gauges>,
    /// The number of the last statement.
    request: i64,
    /// Accounts that somebody kept locked a moment ago (a transaction left open in psql): they are asked for by
    /// themselves, so that nobody else waits for them.
    locked: HashMap<AccountId, Instant>,
}

/// One purse and what is asked for it.
struct Asked {
    entry: Arc<Entry>,
    ask: Ask,
}

/// One purse and what it gives back.
struct Spared {
    entry: Arc<Entry>,
    spare: Means,
}

/// What Postgres decided on one of them.
enum Verdict {
    Granted(Means),
    Short(Shortage, bool, SystemTime),
    Gone,
    Buried,
}

impl Bank {
    async fn carry_out(&mut self, orders: Vec<Order>) {
        let now = Instant::now();
        let (mut asks, mut spares, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Ask(entry) if self.is_current(&entry) => asks.push(entry),
                Order::Ask(entry) => {
                    let waiting = entry.purse().fail();
                    refuse(waiting, &TakeError::Unavailable(buried()));
                }
                Order::Spare(entry, is_short) => {
                    entry.sparing.store(false, Relaxed);
                    if self.is_current(&entry) {
                        let spare = entry.purse().spare(is_short, now);
                        spares.push(Spared { entry, spare });
                    }
                }
                Order::Flush(done) => flushes.push(done),
            }
        }
        // What is given back may be what is asked for.
        self.give_back(spares).await;
        self.lease(asks).await;
        for done in flushes {
            let _ = done.send(());
        }
    }

    fn is_current(&self, entry: &Entry) -> bool {
        self.purses
            .upgrade()
            .is_some_and(|purses| purses.instance() == entry.instance)
    }

    async fn give_back(&mut self, mut spares: Vec<Spared>) {
        let locked = spares.extract_if(.., |it| self.locked.contains_key(&it.entry.account));
        let mut parts: Vec<_> = by_account(locked.collect(), |it| it.entry.account).collect();
        parts.push((spares, LOCK_WAIT));
        while let Some((part, lock_wait)) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.send_back(&part, lock_wait).await {
                Ok(()) => {}
                Err(error) if error.is_locked() && lock_wait > LOCK_PROBE => {
                    parts.extend(by_account(part, |spared| spared.entry.account));
                }
                Err(error) => {
                    // It was rolled back: Postgres still counts it as leased here.
                    tracing::warn!(error = %Chain(&error), purses = part.len(), "ledger.purse.kept: what it could spare did not get back");
                    for Spared { entry, spare } in part {
                        entry.back(spare);
                    }
                }
            }
        }
    }

    async fn lease(&mut self, mut entries: Vec<Arc<Entry>>) {
        let mut parts = Vec::new();
        if !self.locked.is_empty() {
            self.locked.retain(|_, at| at.elapsed() < LOCKED_LIFETIME);
            let locked = entries.extract_if(.., |entry| self.locked.contains_key(&entry.account));
            parts.extend(by_account(locked.collect(), |entry| entry.account));
        }
        parts.push((entries, LOCK_WAIT));
        while let Some((part, lock_wait)) = parts.pop() {
            let now = Instant::now();
            let asked: Vec<_> = part
                .into_iter()
                .filter_map(|entry| {
                    let ask = entry.purse().ask(now)?;
                    Some(Asked { entry, ask })
                })
                .collect();
            if asked.is_empty() {
                continue;
            }
            match self.send_asks(&asked, lock_wait).await {
                Ok(verdicts) => {
                    self.gauges.lease_groups.fetch_add(1, Relaxed);
                    for (asked, verdict) in asked.into_iter().zip(verdicts) {
                        self.hear(asked.entry, verdict);
                    }
                }
                Err(error) if error.is_locked() && lock_wait > LOCK_PROBE => {
                    let entries = asked.into_iter().map(|it| it.entry).collect();
                    parts.extend(by_account(entries, |entry: &Arc<Entry>| entry.account));
                }
                // Whatever is wrong with one purse, the others are filled.
                Err(error) if error.is_data() && asked.len() > 1 => {
                    parts.extend(asked.into_iter().map(|it| (vec![it.entry], lock_wait)));
                }
                Err(error) => {
                    if error.is_locked() {
                        let locked = asked.iter().map(|it| (it.entry.account, Instant::now()));
                        self.locked.extend(locked);
                    }
                    tracing::warn!(error = %Chain(&error), purses = asked.len(), "ledger.lease.failed");
                    for Asked { entry, .. } in asked {
                        let waiting = entry.purse().fail();
                        refuse(waiting, &TakeError::Unavailable(error.clone()));
                    }
                }
            }
        }
    }

    fn hear(&self, entry: Arc<Entry>, verdict: Verdict) {
        let now = Instant::now();
        match verdict {
            Verdict::Granted(grant) => {
                let (served, again) = {
                    let mut purse = entry.purse();
                    let served = purse.granted(grant, now);
                    (served, purse.asks_again())
                };
                entry.tell(served);
                if again {
                    self.order(Order::Ask(entry));
                }
            }
            Verdict::Short(shortage, pending, asked_at) => {
                let outcome = entry.purse().short(shortage, pending, asked_at, now);
                match outcome {
                    // The others have been told: they need a moment.
                    Short::Again => self.order_later(entry),
                    Short::Refused { who, ask } => {
                        let shortage = entry.purse().shortage().unwrap_or(shortage);
                        refuse(who, &insufficient(shortage));
                        if ask {
                            self.order(Order::Ask(entry));
                        }
                    }
                }
            }
            Verdict::Gone => refuse(entry.purse().fail(), &TakeError::TokenGone),
            Verdict::Buried => refuse(entry.purse().fail(), &TakeError::Unavailable(buried())),
        }
    }

    fn order(&self, order: Order) {
        if let Some(purses) = self.purses.upgrade() {
            purses.order(order);
        }
    }

    fn order_later(&self, entry: Arc<Entry>) {
        let purses = self.purses.clone();
        tokio::spawn(async move {
            sleep(RECALL_EVERY).await;
            if let Some(purses) = purses.upgrade() {
                purses.order(Order::Ask(entry));
            }
        });
    }

    async fn send_back(&mut self, part: &[Spared], lock_wait: Duration) -> Result<(), LedgerError> {
        let Some(first) = part.first() else {
            return Ok(());
        };
        let tokens: Vec<_> = part.iter().map(|it| it.entry.token.0).collect();
        let accounts: Vec<_> = part.iter().map(|it| it.entry.account.0).collect();
        let [money, prompt, completion] = columns(part.iter().map(|it| it.spare));
        let (instance, request) = (first.entry.instance.0, self.next_request());
        let lock_ms = milliseconds(lock_wait);
        let (mut wait, mut is_unknown) = (Backoff::default(), false);
        loop {
            let answer = self
                .link
                .query(
                    RETURN,
                    &[
                        (&instance, Type::INT8),
                        (&request, Type::INT8),
                        (&tokens, Type::INT8_ARRAY),
                        (&accounts, Type::INT8_ARRAY),
                        (&money, Type::INT8_ARRAY),
                        (&prompt, Type::INT8_ARRAY),
                        (&completion, Type::INT8_ARRAY),
                        (&lock_ms, Type::INT4),
                    ],
                )
                .await;
            match answer {
                Ok(_) => return Ok(()),
                // An earlier try may have been carried out: only its own number tells.
                Err(error) if is_unknown && error.is_locked() && !self.is_over() => {
                    wait.pause().await;
                }
                Err(error) if error.is_locked() || !error.is_unavailable() || self.is_over() => {
                    return Err(error);
                }
                Err(_) => {
                    is_unknown = true;
                    wait.pause().await;
                }
            }
        }
    }

    async fn send_asks(
        &mut self,
        part: &[Asked],
        lock_wait: Duration,
    ) -> Result<Vec<Verdict>, LedgerError> {
        let Some(first) = part.first() else {
            return Ok(Vec::new());
        };
        let tokens: Vec<_> = part.iter().map(|it| it.entry.token.0).collect();
        let accounts: Vec<_> = part.iter().map(|it| it.entry.account.0).collect();
        let [need_money, need_prompt, need_completion] = columns(part.iter().map(|it| it.ask.need));
        let [want_money, want_prompt, want_completion] = columns(part.iter().map(|it| it.ask.want));
        let asked_at: Vec<_> = part.iter().map(|it| it.ask.asked_at).collect();
        let (instance, request) = (first.entry.instance.0, self.next_request());
        let lock_ms = milliseconds(lock_wait);
        let (mut wait, mut is_unknown) = (Backoff::default(), false);
        loop {
            let answer = self
                .link
                .query_durably(
                    LEASE,
                    &[
                        (&instance, Type::INT8),
                        (&request, Type::INT8),
                        (&tokens, Type::INT8_ARRAY),
                        (&accounts, Type::INT8_ARRAY),
                        (&need_money, Type::INT8_ARRAY),
                        (&want_money, Type::INT8_ARRAY),
                        (&need_prompt, Type::INT8_ARRAY),
                        (&want_prompt, Type::INT8_ARRAY),
                        (&need_completion, Type::INT8_ARRAY),
                        (&want_completion, Type::INT8_ARRAY),
                        (&asked_at, Type::TIMESTAMPTZ_ARRAY),
                        (&lock_ms, Type::INT4),
                    ],
                )
                .await;
            match answer {
                Ok(rows) if rows.len() == part.len() => return rows.iter().map(verdict).collect(),
                Ok(_) => return Err(LedgerError::row()),
                // An earlier try may have been carried out: only its own number tells.
                Err(error) if is_unknown && error.is_locked() && !self.is_over() => {
                    wait.pause().await;
                }
                Err(error) if error.is_locked() || !error.is_unavailable() || self.is_over() => {
                    return Err(error);
                }
                Err(_) => {
                    is_unknown = true;
                    wait.pause().await;
                }
            }
        }
    }

    /// Nobody is left for whom an answer matters.
    fn is_over(&self) -> bool {
        self.purses.strong_count() == 0
    }

    const fn next_request(&mut self) -> i64 {
        self.request = self.request.saturating_add(1);
        self.request
    }
}

fn by_account<T>(
    items: Vec<T>,
    account: impl Fn(&T) -> AccountId,
) -> impl Iterator<Item = (Vec<T>, Duration)> {
    let mut accounts: BTreeMap<AccountId, Vec<T>> = BTreeMap::new();
    for item in items {
        accounts.entry(account(&item)).or_default().push(item);
    }
    accounts.into_values().map(|items| (items, LOCK_PROBE))
}

/// As Postgres counts.
fn columns(means: impl Iterator<Item = Means> + Clone) -> [Vec<i64>; 3] {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    [
        means.clone().map(|it| it.money.nano()).collect(),
        means.clone().map(|it| count(it.prompt)).collect(),
        means.map(|it| count(it.completion)).collect(),
    ]
}

fn milliseconds(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}

fn verdict(row: &Row) -> Result<Verdict, LedgerError> {
    let count = |index| -> Result<u64, LedgerError> {
        Ok(u64::try_from(row.try_get::<_, i64>(index)?).unwrap_or_default())
    };
    Ok(match row.try_get::<_, &str>(0)? {
        "granted" => Verdict::Granted(Means {
            money: Amount::from_nano(row.try_get(1)?),
            prompt: count(2)?,
            completion: count(3)?,
        }),
        "short" => Verdict::Short(
            Shortage {
                by: limit(row.try_get(4)?)?,
                available: count(5)?,
            },
            row.try_get(6)?,
            row.try_get(7)?,
        ),
        "gone" => Verdict::Gone,
        _ => Verdict::Buried,
    })
}

fn limit(name: &str) -> Result<Limit, LedgerError> {
    Ok(match name {
        "account" => Limit::Account,
        "budget" => Limit::Budget(Period::Life),
        "budget_day" => Limit::Budget(Period::Day),
        "budget_month" => Limit::Budget(Period::Month),
        "prompt_tokens" => Limit::PromptTokens(Period::Life),
        "prompt_tokens_day" => Limit::PromptTokens(Period::Day),
        "prompt_tokens_month" => Limit::PromptTokens(Period::Month),
        "completion_tokens" => Limit::CompletionTokens(Period::Life),
        "completion_tokens_day" => Limit::CompletionTokens(Period::Day),
        "completion_tokens_month" => Limit::CompletionTokens(Period::Month),
        _ => return Err(LedgerError::row()),
    })
}

const LEASE: &str = "
    select verdict, money, prompt, completion, short_of, available, pending, asked_at
      from turnpike.lease_purses($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const RETURN: &str = "select from turnpike.return_purses($1, $2, $3, $4, $5, $6, $7, $8)";

/// Orders in one statement.
const GROUP_MAX: usize = 256;
/// How long a group waits for locks: longer than any other gateway's commit.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long one account alone is waited for, since everybody waits meanwhile.
const LOCK_PROBE: Duration = Duration::from_millis(20);
/// How long an account counts as locked after it was found so.
const LOCKED_LIFETIME: Duration = Duration::from_secs(5);
/// How often Postgres is asked whether the others have given back.
const RECALL_EVERY: Duration = Duration::from_millis(15);
