//! Who guesses access tokens: how often one address may show tokens that nobody knows, and how many are looked up at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ledger::Subject;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::refusal::Refusal;

/// Look-ups of tokens that may be under way or wait for a connection to Postgres. Above it, who shows a token that is not
/// known here yet is told to come again.
pub(crate) const LOOKUPS_MAX: usize = 256;
/// Addresses that are remembered. When they are more, those whose minute is over go, and then all.
const ADDRESSES_MAX: usize = 16 * 1024;
/// The window in which unknown tokens count.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts what each address has shown that is no access token.
#[derive(Debug)]
pub(crate) struct Strangers {
    per_minute: Option<NonZeroU32>,
    lookups: Semaphore,
    counts: Mutex<HashMap<Subject, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    unknown: u32,
}

/// Leave to look one token up.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    strangers: &'a Strangers,
    peer: Subject,
    _place: SemaphorePermit<'a>,
}

impl Strangers {
    /// Nobody has come yet.
    pub(crate) fn new(per_minute: Option<NonZeroU32>) -> Self {
        Self {
            per_minute,
            lookups: Semaphore::new(LOOKUPS_MAX),
            counts: Mutex::default(),
        }
    }

    /// Whether a token that `peer` shows may be looked up.
    ///
    /// # Errors
    /// 429 for an address that has guessed too often, 503 when too many wait.
    pub(crate) fn look_up(&self, peer: IpAddr) -> Result<Lookup<'_>, Refusal> {
        let peer = Subject::address(peer);
        self.admit(peer, Instant::now())?;
        let place = self
            .lookups
            .try_acquire()
            .map_err(|_| Refusal::Unavailable {
                reason: "too many access tokens are being looked up",
            })?;
        Ok(Lookup {
            strangers: self,
            peer,
            _place: place,
        })
    }

    fn admit(&self, peer: Subject, now: Instant) -> Result<(), Refusal> {
        let Some(most) = self.per_minute else {
            return Ok(());
        };
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get(&peer) else {
            return Ok(());
        };
        let left = WINDOW.saturating_sub(now.duration_since(count.since));
        if left.is_zero() || count.unknown < most.get() {
            return Ok(());
        }
        let retry_after_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        Err(Refusal::TooManyUnknownTokens { retry_after_ms })
    }

    fn count(&self, peer: Subject, now: Instant) {
        if self.per_minute.is_none() {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &Count| now.duration_since(count.since) >= WINDOW;
        if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&peer) {
            counts.retain(|_, count| !is_over(count));
            if counts.len() >= ADDRESSES_MAX {
                counts.clear();
            }
        }
        let new = Count {
            since: now,
            unknown: 0,
        };
        let count = counts.entry(peer).or_insert(new);
        if is_over(count) {
            *count = new;
        }
        count.unknown = count.unknown.saturating_add(1);
    }
}

impl Lookup<'_> {
    /// Nobody knows the token.
    pub(crate) fn unknown(self) {
        self.strangers.count(self.peer, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::from(last.to_be_bytes())
    }

    #[test]
    fn an_address_that_guesses_too_often_must_wait_and_others_need_not() {
        let strangers = Strangers::new(NonZeroU32::new(2));
        for _ in 0..2 {
            strangers.look_up(address(1)).unwrap().unknown();
        }
        assert!(matches!(
            strangers.look_up(address(1)),
            Err(Refusal::TooManyUnknownTokens {
                retry_after_ms: 1..
            })
        ));
        strangers.look_up(address(2)).unwrap().unknown();
        let later = Instant::now() + WINDOW;
        let peer = Subject::address(address(1));
        assert!(strangers.admit(peer, later).is_ok());
        strangers.count(peer, later);
        assert!(strangers.admit(peer, later).is_ok());
    }

    #[test]
    fn tokens_that_are_known_do_not_count() {
        let strangers = Strangers::new(NonZeroU32::new(1));
        for _ in 0..10 {
            drop(strangers.look_up(address(1)).unwrap());
        }
    }

    #[test]
    fn only_so_many_are_looked_up_at_once() {
        let strangers = Strangers::new(None);
        let places: Vec<_> = (0..LOOKUPS_MAX)
            .map(|_| strangers.look_up(address(1)).unwrap())
            .collect();
        assert!(matches!(
            strangers.look_up(address(2)),
            Err(Refusal::Unavailable { .. })
        ));
        drop(places);
        strangers.look_up(address(2)).unwrap();
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let strangers = Strangers::new(NonZeroU32::new(1));
        for number in 0..40_000 {
            strangers.look_up(address(number)).unwrap().unknown();
        }
        assert!(strangers.counts.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
