//! Every purse of this process, and the task that asks Postgres to fill them and gives back what they can spare.

mod bank;

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tariff::Amount;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    AccountId, InstanceId, LedgerError, Limit, Means, TakeError, TokenId,
    purse::{Purse, Shortage, Take, Waiting},
};

pub(crate) use self::bank::run;

/// The purses. What is in them belongs to one row of `turnpike.instance`; should that be buried, all begin anew.
pub(crate) struct Purses {
    instance: AtomicI64,
    map: RwLock<HashMap<TokenId, Arc<Entry>>>,
    orders: mpsc::UnboundedSender<Order>,
    /// Until when the leases surely stand, in microseconds since `born`: then another process may give them away.
    fence_us: AtomicU64,
    /// When the last sign of life was taken, and since when none was missed, likewise.
    heard_us: AtomicU64,
    unbroken_us: AtomicU64,
    born: Instant,
}

/// A purse and whose it is.
pub(crate) struct Entry {
    token: TokenId,
    account: AccountId,
    instance: InstanceId,
    purse: Mutex<Purse<Waiter>>,
    /// An order to spare is in the queue.
    sparing: AtomicBool,
}

/// Whoever waits for a hold. What it gets is what it waited for, which goes back by itself should it have left.
pub(crate) type Waiter = oneshot::Sender<Result<Taken, TakeError>>;

/// What the task is told. A purse is in the queue at most once for each, so the queue is bounded by the purses.
pub(crate) enum Order {
    Ask(Arc<Entry>),
    /// Give back what can be spared; the flag says whether another process is short.
    Spare(Arc<Entry>, bool),
    /// Say when everything before this was carried out.
    Flush(oneshot::Sender<()>),
}

impl Purses {
    pub(crate) fn new(
        instance: InstanceId,
        lease: Duration,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let born = Instant::now();
        let purses = Arc::new(Self {
            instance: AtomicI64::new(instance.0),
            map: RwLock::default(),
            orders,
            fence_us: AtomicU64::new(0),
            heard_us: AtomicU64::new(0),
            unbroken_us: AtomicU64::new(0),
            born,
        });
        purses.heard(born, lease);
        (purses, ordered)
    }

    /// This process in `turnpike.instance`.
    pub(crate) fn instance(&self) -> InstanceId {
        InstanceId(self.instance.load(Relaxed))
    }

    /// A sign of life given at `at` was taken: the leases stand for most of their time from then.
    pub(crate) fn heard(&self, at: Instant, lease: Duration) {
        let since_born = at.saturating_duration_since(self.born);
        let at_us = u64::try_from(since_born.as_micros()).unwrap_or(u64::MAX);
        let gap_us = at_us.saturating_sub(self.heard_us.swap(at_us, Relaxed));
        if u128::from(gap_us) > (lease / 2).as_micros() {
            self.unbroken_us.store(at_us, Relaxed);
        }
        let until = at
            .saturating_duration_since(self.born)
            .saturating_add(lease.saturating_mul(FENCE_EIGHTHS) / 8);
        self.fence_us.fetch_max(
            u64::try_from(until.as_micros()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }

    /// Another process has taken this one for dead: what it had leased is gone.
    pub(crate) fn begin_anew(&self, instance: InstanceId) {
        let old = {
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            self.instance.store(instance.0, Relaxed);
            mem::take(&mut *map)
        };
        for entry in old.into_values() {
            let waiting = entry.purse().fail();
            refuse(waiting, &TakeError::Unavailable(buried()));
        }
    }

    /// Whether signs of life were taken for so long without a gap: else others that seem silent may only have had no Postgres.
    pub(crate) fn is_unbroken(&self, lease: Duration) -> bool {
        let now_us = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unbroken = now_us.saturating_sub(self.unbroken_us.load(Relaxed));
        u128::from(unbroken) >= lease.as_micros() && self.stand()
    }

    /// Whether the leases surely stand.
    pub(crate) fn stand(&self) -> bool {
        let now_us = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        now_us < self.fence_us.load(Relaxed)
    }

    /// Takes `need` out of the token's purse, waiting for a refill where it is not enough.
    pub(crate) async fn take(
        &self,
        token: TokenId,
        account: AccountId,
        need: Means,
    ) -> Result<Taken, TakeError> {
        if !self.stand() {
            return Err(TakeError::Unavailable(LedgerError::unavailable(
                "Postgres has not been heard of for so long that the leases may have lapsed",
            )));
        }
        let entry = self.entry(token, account);
        let mut answered = None;
        let taken = entry.purse().take(need, Instant::now(), || {
            let (answer, receiver) = oneshot::channel();
            answered = Some(receiver);
            answer
        });
        match taken {
            Take::Held { ask } => {
                if ask {
                    self.order(Order::Ask(Arc::clone(&entry)));
                }
                Ok(Taken { entry, need })
            }
            Take::Short(shortage) => Err(insufficient(shortage)),
            Take::Waits { ask } => {
                if ask {
                    self.order(Order::Ask(Arc::clone(&entry)));
                }
                let waiting =
                    answered.ok_or_else(|| TakeError::Unavailable(LedgerError::closed()))?;
                // Whoever stops waiting is noticed when his turn comes: then it goes to the next.
                match timeout(PATIENCE, waiting).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => Err(TakeError::Unavailable(LedgerError::closed())),
                    Err(_) => Err(TakeError::Unavailable(LedgerError::unavailable(
                        "Postgres did not answer in time",
                    ))),
                }
            }
        }
    }

    /// Gives back what the purses of an account or a token can spare: another process is short.
    pub(crate) fn recall(&self, concerns: impl Fn(TokenId, AccountId) -> bool) {
        for entry in self.entries() {
            if concerns(entry.token, entry.account) {
                self.spare(entry, true);
            }
        }
    }

    /// Gives back what was leased under caps that may be other ones now.
    pub(crate) fn renew(&self, concerns: impl Fn(TokenId, AccountId) -> bool) {
        for entry in self.entries() {
            if concerns(entry.token, entry.account) {
                entry.purse().forget_shortage();
                self.spare(entry, false);
            }
        }
    }

    fn spare(&self, entry: Arc<Entry>, is_short: bool) {
        if !entry.sparing.swap(true, Relaxed) {
            self.order(Order::Spare(entry, is_short));
        }
    }

    /// Gives back what nobody used for a while, and forgets empty purses.
    pub(crate) fn tidy(&self, idle: Duration) {
        let now = Instant::now();
        for entry in self.entries() {
            let (is_idle, is_empty) = {
                let purse = entry.purse();
                (purse.is_idle(now, idle), purse.is_empty())
            };
            if is_idle && !is_empty {
                self.spare(entry, false);
            } else if is_idle {
                let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
                // Nobody else has it: neither an open hold nor one that is being taken.
                if map
                    .get(&entry.token)
                    .is_some_and(|it| Arc::strong_count(it) <= 2)
                {
                    map.remove(&entry.token);
                }
            }
        }
    }

    /// Gives back everything free, and waits until Postgres has it.
    pub(crate) async fn give_all_back(&self) {
        self.recall(|_, _| true);
        let (done, flushed) = oneshot::channel();
        self.order(Order::Flush(done));
        let _ = flushed.await;
    }

    fn entry(&self, token: TokenId, account: AccountId) -> Arc<Entry> {
        let found = {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            map.get(&token).map(Arc::clone)
        };
        if let Some(entry) = found.filter(|entry| entry.account == account) {
            return entry;
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = map.get(&token).filter(|entry| entry.account == account) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry {
            token,
            account,
            instance: self.instance(),
            purse: Mutex::new(Purse::new(Instant::now())),
            sparing: AtomicBool::new(false),
        });
        map.insert(token, Arc::clone(&entry));
        entry
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.values().map(Arc::clone).collect()
    }

    fn order(&self, order: Order) {
        // The task ends only with the ledger, and then nobody waits.
        let _ = self.orders.send(order);
    }
}

/// What was taken. Given back unless a hold makes it its own.
pub(crate) struct Taken {
    entry: Arc<Entry>,
    need: Means,
}

impl Taken {
    pub(crate) fn keep(mut self) -> Arc<Entry> {
        self.need = Means::NONE;
        Arc::clone(&self.entry)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.need.is_none() {
            self.entry.back(self.need);
        }
    }
}

impl Entry {
    /// The process whose lease it spends.
    pub(crate) const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// What an exchange did not use comes back.
    pub(crate) fn back(self: &Arc<Self>, rest: Means) {
        let served = self.purse().back(rest, Instant::now());
        self.tell(served);
    }

    fn purse(&self) -> MutexGuard<'_, Purse<Waiter>> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who are served. What was meant for one who has left goes to the next.
    fn tell(self: &Arc<Self>, mut served: Vec<Waiting<Waiter>>) {
        while let Some(next) = served.pop() {
            let taken = Taken {
                entry: Arc::clone(self),
                need: next.need,
            };
            if let Err(Ok(unheard)) = next.who.send(Ok(taken)) {
                let _ = unheard.keep();
                served.extend(self.purse().back(next.need, Instant::now()));
            }
        }
    }
}

fn refuse(waiting: Vec<Waiter>, error: &TakeError) {
    for waiter in waiting {
        let _ = waiter.send(Err(error.clone()));
    }
}

fn buried() -> LedgerError {
    LedgerError::unavailable("this process was silent for so long that another took it for dead")
}

fn insufficient(shortage: Shortage) -> TakeError {
    let Shortage { by, available } = shortage;
    match by {
        Limit::Account | Limit::Budget(_) => TakeError::Insufficient {
            available: Amount::from_nano(available.try_into().unwrap_or(i64::MAX)),
            by,
        },
        Limit::PromptTokens(_) | Limit::CompletionTokens(_) => {
            TakeError::OverQuota { available, by }
        }
    }
}

/// How long a take waits while Postgres is away. A restart or a failover may pass unnoticed; beyond it the client had
/// better hear "not now".
const PATIENCE: Duration = Duration::from_secs(3);

/// How many eighths of the time that leases last they are spent from: the rest is for clocks that run apart.
const FENCE_EIGHTHS: u32 = 7;
