//! Rates across replicas: requests per second, minute and hour, tokens per minute, concurrent exchanges.
//!
//! A process leases chunks of each window from Postgres and counts them in memory, so that most takes touch one short lock
//! and nothing else. Only a take that finds its chunk empty waits, with everybody else's, for one statement of the one task
//! that leases ([`lease`]). While Postgres is away each process counts against whole limits by itself.

mod gate;
mod lease;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::{Config, TokenId};

use self::gate::{State, Verdict};

pub(crate) use self::lease::run;

/// Subjects remembered. Beyond it idle ones are forgotten: what they leased lapses, what they used stands in Postgres.
const SUBJECTS_MAX: usize = 65_536;
/// Maps that share the subjects, so that workers seldom meet.
const SHARDS: usize = 64;
/// Subjects that may wait for the lessor; beyond it takes are counted locally.
const QUEUE_MAX: usize = 4_096;
/// How long a take waits for a lease, before it is counted locally: as long as a statement may take.
const PATIENCE: Duration = Config::STATEMENT_TIMEOUT;
/// Leases that others may snatch away before a take is counted locally.
const ATTEMPTS: usize = 16;

/// Whose rate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An access token's.
    Token(TokenId),
    /// A peer's: a v4 address, or the first of a v6 /64, which is what one customer gets. See [`Subject::address`].
    Address(IpAddr),
}

/// What a subject may do; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests in a second.
    pub requests_per_second: Option<u32>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Requests in an hour.
    pub requests_per_hour: Option<u32>,
    /// Tokens in a minute. Counted as they are used: a request is admitted while any are left.
    pub tokens_per_minute: Option<u64>,
    /// Exchanges open at once.
    pub concurrent_exchanges: Option<u32>,
}

/// How a subject stands in its windows, as this process knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The window of requests that clients look at: the minute's, else the hour's, else the second's.
    pub requests: Option<Rate>,
    /// The tokens'.
    pub tokens: Option<Rate>,
}

/// How one window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The most.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// When all of it is there again.
    pub reset: Duration,
}

/// Why a request must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Too many requests.
    Requests {
        /// For how long.
        wait: Duration,
        /// How long the window is that is full.
        seconds: u16,
        /// How the subject stands.
        standing: Standing,
    },
    /// Too many tokens.
    Tokens {
        /// For how long.
        wait: Duration,
        /// How the subject stands.
        standing: Standing,
    },
    /// As many exchanges are open as may be.
    AtOnce {
        /// How the subject stands.
        standing: Standing,
    },
}

/// The rates of every subject. A cheap handle.
#[derive(Clone)]
pub struct Rates(Arc<Shared>);

/// What the handles and the lessor share.
pub(crate) struct Shared {
    shards: [Mutex<HashMap<Subject, Arc<Gate>>>; SHARDS],
    hasher: RandomState,
    queue: mpsc::Sender<Arc<Gate>>,
    /// Postgres did not answer: nobody waits for it.
    away: AtomicBool,
}

/// One subject's state, and who waits for it.
pub(crate) struct Gate {
    subject: Subject,
    state: Mutex<State>,
    answered: Notify,
}

/// A request that was counted. Its place among the concurrent exchanges comes back when this is dropped.
#[derive(Default)]
pub struct Pass(Option<Counted>);

struct Counted {
    rates: Rates,
    gate: Arc<Gate>,
    standing: Standing,
}

impl Subject {
    /// A peer: its v4 address, also where that comes inside v6, else its v6 /64.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "token:{}", id.0),
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "address:{address}"),
            Self::Address(address @ IpAddr::V6(_)) => write!(f, "address:{address}/64"),
        }
    }
}

impl RateLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl Excess {
    /// How the subject stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self {
            Self::Requests { standing, .. }
            | Self::Tokens { standing, .. }
            | Self::AtOnce { standing } => *standing,
        }
    }
}

impl Rates {
    /// The handle, and what its lessor ([`run`]) is given.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Arc<Gate>>) {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let shared = Shared {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            queue,
            away: AtomicBool::new(false),
        };
        (Self(Arc::new(shared)), queued)
    }

    /// What the lessor may keep without keeping itself alive.
    pub(crate) fn downgrade(&self) -> std::sync::Weak<Shared> {
        Arc::downgrade(&self.0)
    }

    /// Counts one more request.
    ///
    /// # Errors
    /// When it is one too many.
    pub async fn admit(&self, subject: Subject, limits: &RateLimits) -> Result<Pass, Excess> {
        if limits.is_unlimited() {
            return Ok(Pass(None));
        }
        let gate = self.gate(subject);
        let verdict = gate.lock().take(limits, Instant::now());
        let verdict = match verdict {
            Verdict::Unknown => self.wait(&gate, limits).await,
            known => known,
        };
        match verdict {
            Verdict::Taken(standing) => Ok(Pass(Some(Counted {
                rates: self.clone(),
                gate,
                standing,
            }))),
            Verdict::Refused(excess) => Err(excess),
            Verdict::Unknown => Ok(Pass(None)),
        }
    }

    /// Waits for a lease, unless Postgres is away.
    async fn wait(&self, gate: &Arc<Gate>, limits: &RateLimits) -> Verdict {
        let _waiting = Waiting::new(gate);
        for _ in 0..ATTEMPTS {
            let mut answered = pin!(gate.answered.notified());
            answered.as_mut().enable();
            let is_new = {
                let mut state = gate.lock();
                match state.take(limits, Instant::now()) {
                    Verdict::Unknown => state.queue(),
                    known => return known,
                }
            };
            let is_queued = !is_new || self.send(gate);
            if !is_queued || self.0.away.load(Relaxed) {
                break;
            }
            if timeout(PATIENCE, answered).await.is_err() {
                self.0.away.store(true, Relaxed);
                break;
            }
        }
        gate.lock().take_locally(limits, Instant::now())
    }

    /// Asks the lessor to look at a gate that was marked as queued.
    fn send(&self, gate: &Arc<Gate>) -> bool {
        let is_sent = self.0.queue.try_send(Arc::clone(gate)).is_ok();
        if !is_sent {
            gate.lock().queued = false;
        }
        is_sent
    }

    fn gate(&self, subject: Subject) -> Arc<Gate> {
        let hash = self.0.hasher.hash_one(subject);
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        let mut shard = self.0.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = shard.get(&subject) {
            return Arc::clone(gate);
        }
        if shard.len() >= SUBJECTS_MAX / SHARDS {
            forget(&mut shard, Instant::now());
        }
        let gate = Arc::new(Gate {
            subject,
            state: Mutex::default(),
            answered: Notify::new(),
        });
        shard.insert(subject, Arc::clone(&gate));
        gate
    }
}

/// Makes room: forgets what is over, else the first that is free. Where every exchange is open there is none, and
/// their number has its own limit.
fn forget(shard: &mut HashMap<Subject, Arc<Gate>>, now: Instant) {
    let before = shard.len();
    shard.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.lock().is_over(now));
    if shard.len() == before {
        let free = shard
            .iter()
            .find(|(_, gate)| Arc::strong_count(gate) == 1 && gate.lock().is_free());
        if let Some(subject) = free.map(|(subject, _)| *subject) {
            shard.remove(&subject);
        }
    }
}

impl Shared {
    /// Forgets what is over. Returns those who keep places that nobody uses.
    fn sweep(&self, now: Instant) -> Vec<Arc<Gate>> {
        let mut idle = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.lock().is_over(now));
            idle.extend(
                shard
                    .values()
                    .filter(|gate| gate.lock().has_idle_places())
                    .cloned(),
            );
        }
        idle
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more take that waits, until dropped.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn new(gate: &'a Gate) -> Self {
        let mut state = gate.lock();
        state.waiting = state.waiting.saturating_add(1);
        drop(state);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

impl Pass {
    /// How the subject stood when the request was counted.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.0
            .as_ref()
            .map(|counted| counted.standing)
            .unwrap_or_default()
    }

    /// Counts tokens that the exchange used.
    pub fn spend_tokens(&self, tokens: u64) {
        if let Some(Counted { rates, gate, .. }) = &self.0 {
            let is_new = gate.lock().spend_tokens(tokens, Instant::now());
            if is_new {
                rates.send(gate);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(Counted { rates, gate, .. }) = &self.0 {
            let is_new = gate.lock().release();
            if is_new {
                rates.send(gate);
            }
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates")
            .field("away", &self.0.away)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
