//! Requests per minute and exchanges at once, per access token, within this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ledger::{AccessToken, TokenId};

use crate::refusal::Refusal;

/// The window of `requests_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);
/// Tokens remembered before those with nothing to remember are forgotten.
const TOKENS_MAX: usize = 65_536;

/// The state of every limited token.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    tokens: Mutex<HashMap<TokenId, Arc<Mutex<Counters>>>>,
}

/// One token's state.
#[derive(Debug)]
struct Counters {
    /// When the next request would conform if they came evenly (the generic cell rate algorithm:
    /// <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>), so a full minute's allowance may come at once.
    due: Instant,
    open: u32,
}

/// A place among a token's concurrent exchanges, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<Mutex<Counters>>>);

impl Limits {
    /// Counts one more request of this token, or says why it must wait.
    pub(crate) fn admit(&self, token: &AccessToken, now: Instant) -> Result<Place, Refusal> {
        if token.requests_per_minute.is_none() && token.concurrent_exchanges.is_none() {
            return Ok(Place(None));
        }
        let counters = self.counters(token.id, now);
        let mut state = counters.lock().unwrap_or_else(PoisonError::into_inner);
        if token
            .concurrent_exchanges
            .is_some_and(|most| state.open >= most)
        {
            return Err(Refusal::TooManyAtOnce);
        }
        if let Some(per_minute) = token.requests_per_minute {
            let interval = MINUTE.checked_div(per_minute).unwrap_or(Duration::MAX);
            let due = state.due.max(now);
            let early = due.saturating_duration_since(now);
            let Some(late) = (early + interval)
                .checked_sub(MINUTE)
                .filter(|late| !late.is_zero())
            else {
                state.due = due + interval;
                state.open += 1;
                drop(state);
                return Ok(Place(Some(counters)));
            };
            return Err(Refusal::TooManyRequests {
                retry_after_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX).max(1),
            });
        }
        state.open += 1;
        drop(state);
        Ok(Place(Some(counters)))
    }

    fn counters(&self, token: TokenId, now: Instant) -> Arc<Mutex<Counters>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, counters| {
                let state = counters.lock().unwrap_or_else(PoisonError::into_inner);
                state.open > 0 || state.due > now
            });
        }
        Arc::clone(
            tokens
                .entry(token)
                .or_insert_with(|| Arc::new(Mutex::new(Counters { due: now, open: 0 }))),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counters) = &self.0 {
            let mut state = counters.lock().unwrap_or_else(PoisonError::into_inner);
            state.open = state.open.saturating_sub(1);
        }
    }
}
