//! What one subject may still do, as this process knows it. No I/O, and time is an argument.
//!
//! Each window has a chunk leased from Postgres. Taking counts the chunk down; below zero it is debt, which the next
//! lease tells Postgres. A window that Postgres said is full refuses until it ends.

use std::time::{Duration, Instant};

use super::{Excess, RateLimits, Standing};

/// A rate's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) measure: &'static str,
    pub(super) seconds: u16,
}

/// The windows, in the order of a gate's state. The last is the one of tokens.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        measure: "requests",
        seconds: 1,
    },
    Kind {
        measure: "requests",
        seconds: 60,
    },
    Kind {
        measure: "requests",
        seconds: 3600,
    },
    Kind {
        measure: "tokens",
        seconds: 60,
    },
];
const TOKENS: usize = 3;
/// Of the windows of requests, which one headers tell: the minute, which clients expect, if it has a limit.
const TOLD: [usize; 3] = [1, 2, 0];

/// The share of a limit of concurrent exchanges that is kept ready between two of them: none of a small one, which is
/// leased exactly as needed.
const SPARE_SHARE: u32 = 8;
/// How long "no place is free" is believed.
const DENIED: Duration = Duration::from_millis(50);

/// The state of one subject.
#[derive(Debug, Default)]
pub(super) struct State {
    windows: [Window; 4],
    places: Places,
    /// Takes that wait for a lease.
    pub(super) waiting: u32,
    /// Whether the lessor has been asked to look here.
    pub(super) queued: bool,
}

#[derive(Debug, Default)]
struct Window {
    limit: Option<u64>,
    /// Up to when all of this holds; `None` before the window has begun.
    ends: Option<Instant>,
    /// What is left of the chunk; below zero what was used beyond it.
    left: i64,
    /// What Postgres had left for others, if it was asked in this window.
    elsewhere: Option<i64>,
    /// What this process used in this window.
    taken: u64,
    /// Postgres had nothing left.
    full: bool,
}

#[derive(Debug, Default)]
struct Places {
    limit: Option<u32>,
    /// Leased.
    granted: u32,
    open: u32,
    /// Up to when it is known that no more can be leased.
    denied: Option<Instant>,
    /// Postgres did not hear what is open here: it must be told.
    is_untold: bool,
}

/// What a gate says to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Counted.
    Taken(Standing),
    /// Too many.
    Refused(Excess),
    /// It depends on what Postgres has left.
    Unknown,
}

/// What one window says.
enum Says {
    Yes,
    No(Duration),
    Unknown,
}

/// What a gate wants of Postgres.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) windows: Vec<WindowAsk>,
    pub(super) places: Option<PlacesAsk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowAsk {
    /// The place in [`KINDS`].
    pub(super) window: usize,
    pub(super) limit: i64,
    pub(super) spent: i64,
    pub(super) wanted: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacesAsk {
    pub(super) limit: u32,
    pub(super) used: u32,
    pub(super) wanted: u32,
}

/// What Postgres says of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) granted: i64,
    pub(super) remaining: i64,
    pub(super) ends_in: Duration,
}

impl State {
    /// Counts one request, if what is leased allows or forbids it.
    pub(super) fn take(&mut self, limits: &RateLimits, now: Instant) -> Verdict {
        self.decide(limits, now, Window::says, Places::says)
    }

    /// Counts one request against whole limits, while Postgres is away. Never unknown.
    pub(super) fn take_locally(&mut self, limits: &RateLimits, now: Instant) -> Verdict {
        self.decide(limits, now, Window::says_locally, Places::says_locally)
    }

    fn decide(
        &mut self,
        limits: &RateLimits,
        now: Instant,
        says: fn(&Window, Instant) -> Says,
        places_say: fn(&Places, Instant) -> Says,
    ) -> Verdict {
        let limits_of_windows = [
            limits.requests_per_second.map(u64::from),
            limits.requests_per_minute.map(u64::from),
            limits.requests_per_hour.map(u64::from),
            limits.tokens_per_minute,
        ];
        for (window, limit) in self.windows.iter_mut().zip(limits_of_windows) {
            window.set(limit, now);
        }
        if self.places.limit != limits.concurrent_exchanges {
            self.places.limit = limits.concurrent_exchanges;
            self.places.denied = None;
        }
        let mut longest: Option<(usize, Duration)> = None;
        let mut is_unknown = false;
        for (at, window) in self.windows.iter().enumerate() {
            match says(window, now) {
                Says::Yes => {}
                Says::Unknown => is_unknown = true,
                Says::No(wait) if longest.is_some_and(|(_, longest)| longest >= wait) => {}
                Says::No(wait) => longest = Some((at, wait)),
            }
        }
        let standing = |state: &Self| state.standing(now);
        if let Some((at, wait)) = longest {
            let (standing, seconds) = (standing(self), KINDS.map(|kind| kind.seconds)[at]);
            return Verdict::Refused(if at == TOKENS {
                Excess::Tokens { wait, standing }
            } else {
                Excess::Requests {
                    wait,
                    seconds,
                    standing,
                }
            });
        }
        match places_say(&self.places, now) {
            Says::No(_) => {
                return Verdict::Refused(Excess::AtOnce {
                    standing: standing(self),
                });
            }
            Says::Unknown => is_unknown = true,
            Says::Yes => {}
        }
        if is_unknown {
            return Verdict::Unknown;
        }
        for (window, kind) in self.windows.iter_mut().zip(KINDS) {
            let is_tokens = kind.measure == "tokens";
            window.spend(kind, u64::from(!is_tokens), now);
        }
        self.places.open = self.places.open.saturating_add(1);
        Verdict::Taken(standing(self))
    }

    /// Counts tokens that were used. Whether the lessor should look here.
    pub(super) fn spend_tokens(&mut self, tokens: u64, now: Instant) -> bool {
        let window = &mut self.windows[TOKENS];
        window.set(window.limit, now);
        window.spend(KINDS[TOKENS], tokens, now);
        window.left < 0 && self.queue()
    }

    /// Ends one exchange. Whether the lessor should look here.
    pub(super) fn release(&mut self) -> bool {
        self.places.open = self.places.open.saturating_sub(1);
        self.places.denied = None;
        self.places.excess(self.places.spare()).is_some() && self.queue()
    }

    /// Whether places stand ready that nobody uses: then the lessor should look here.
    pub(super) const fn has_idle_places(&self) -> bool {
        self.places.granted > self.places.open
    }

    /// Notes that the lessor is asked to look here. Whether it was not yet.
    pub(super) const fn queue(&mut self) -> bool {
        let is_new = !self.queued;
        self.queued = true;
        is_new
    }

    /// What is wanted of Postgres now. Debts are told once: they come back if the answer fails ([`State::failed`]).
    /// `idle` gives spare places back as well.
    pub(super) fn ask(&mut self, now: Instant, idle: bool) -> Ask {
        self.queued = false;
        let mut ask = Ask::default();
        for (at, (window, kind)) in self.windows.iter_mut().zip(KINDS).enumerate() {
            window.set(window.limit, now);
            let Some(limit) = window.limit else { continue };
            let waiting = if kind.measure == "tokens" {
                self.waiting.min(1)
            } else {
                self.waiting
            };
            let wanted = if window.full {
                0
            } else {
                i64::from(waiting).saturating_sub(window.left.max(0)).max(0)
            };
            let spent = window.left.min(0).saturating_neg();
            if wanted > 0 || spent > 0 {
                window.left = window.left.max(0);
                ask.windows.push(WindowAsk {
                    window: at,
                    limit: i64::try_from(limit).unwrap_or(i64::MAX),
                    spent,
                    wanted,
                });
            }
        }
        let places = &mut self.places;
        let needed = places.open.saturating_add(self.waiting);
        let spare = if idle { 0 } else { places.spare() };
        if let Some(limit) = places.limit
            && needed > places.granted
        {
            ask.places = Some(PlacesAsk {
                limit,
                used: places.open,
                wanted: needed.saturating_add(places.spare()).min(limit),
            });
        } else if places.is_untold || places.granted > needed.saturating_add(spare) {
            // From here on nobody takes what is given back.
            places.granted = places.granted.min(needed.saturating_add(spare));
            let limit = places.limit.unwrap_or(places.granted);
            ask.places = Some(PlacesAsk {
                limit,
                used: places.open,
                wanted: places.granted,
            });
        }
        ask
    }

    /// Takes note of a lease that was asked for at `asked_at`: so a window ends here no later than in Postgres.
    pub(super) fn granted(&mut self, ask: &WindowAsk, grant: Grant, asked_at: Instant) {
        let (window, kind) = (&mut self.windows[ask.window], KINDS[ask.window]);
        let ends = asked_at + grant.ends_in;
        let is_another = window
            .ends
            .is_some_and(|old| ends > old + kind.length() / 2);
        if is_another {
            window.left = window.left.min(0);
        }
        if is_another || window.ends.is_none() {
            window.taken = 0;
        }
        window.ends = Some(ends);
        window.left = window.left.saturating_add(grant.granted);
        window.elsewhere = Some(grant.remaining);
        window.full = ask.wanted > 0 && grant.granted == 0 && window.left <= 0;
    }

    /// Takes note of how many exchanges may be open.
    pub(super) fn places_granted(&mut self, ask: &PlacesAsk, places: u32, now: Instant) {
        self.places.granted = places;
        self.places.is_untold = false;
        let is_short = places < ask.wanted && places <= self.places.open;
        self.places.denied = is_short.then(|| now + DENIED);
    }

    /// Takes note that Postgres did not hear of what was spent.
    pub(super) fn failed(&mut self, ask: &Ask) {
        for ask in &ask.windows {
            let window = &mut self.windows[ask.window];
            window.left = window.left.saturating_sub(ask.spent);
        }
    }

    /// Takes note that Postgres did not hear of the places.
    pub(super) const fn places_failed(&mut self) {
        self.places.is_untold = true;
    }

    /// Whether nothing is lost by forgetting it: no exchange is open, and every window has ended.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.is_free()
            && self
                .windows
                .iter()
                .all(|window| window.left >= 0 && window.ends.is_none_or(|ends| now >= ends))
    }

    /// Whether it can be forgotten if it must: what it leased lapses.
    pub(super) const fn is_free(&self) -> bool {
        self.places.open == 0
            && self.places.granted == 0
            && !self.places.is_untold
            && self.waiting == 0
            && !self.queued
    }

    fn standing(&self, now: Instant) -> Standing {
        let of = |at: usize| self.windows[at].standing(now);
        Standing {
            requests: TOLD.into_iter().find_map(of),
            tokens: of(TOKENS),
        }
    }
}

impl Kind {
    const fn length(self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }
}

impl Window {
    /// Follows the limit and the clock.
    fn set(&mut self, limit: Option<u64>, now: Instant) {
        if self.limit != limit {
            self.limit = limit;
            self.full = false;
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            *self = Self {
                limit,
                left: self.left.min(0),
                ..Self::default()
            };
        }
    }

    fn says(&self, now: Instant) -> Says {
        match (self.limit, self.ends) {
            (None, _) => Says::Yes,
            (Some(_), Some(_)) if self.left > 0 => Says::Yes,
            (Some(_), Some(ends)) if self.full => Says::No(ends.saturating_duration_since(now)),
            _ => Says::Unknown,
        }
    }

    fn says_locally(&self, now: Instant) -> Says {
        match self.says(now) {
            Says::Unknown => match (self.limit, self.ends) {
                (Some(limit), Some(ends)) if self.taken >= limit => {
                    Says::No(ends.saturating_duration_since(now))
                }
                _ => Says::Yes,
            },
            known => known,
        }
    }

    fn spend(&mut self, kind: Kind, amount: u64, now: Instant) {
        if self.limit.is_some() {
            self.ends.get_or_insert(now + kind.length());
            self.taken = self.taken.saturating_add(amount);
            self.left = self
                .left
                .saturating_sub(i64::try_from(amount).unwrap_or(i64::MAX));
        }
    }

    fn standing(&self, now: Instant) -> Option<super::Rate> {
        let limit = self.limit?;
        let remaining = match self.elsewhere {
            Some(elsewhere) => u64::try_from(elsewhere.saturating_add(self.left)).unwrap_or(0),
            None => limit.saturating_sub(self.taken),
        };
        Some(super::Rate {
            limit,
            remaining: remaining.min(limit),
            reset: self
                .ends
                .map(|ends| ends.saturating_duration_since(now))
                .unwrap_or_default(),
        })
    }
}

impl Places {
    fn says(&self, now: Instant) -> Says {
        match self.limit {
            None => Says::Yes,
            Some(limit) if self.open < self.granted.min(limit) => Says::Yes,
            Some(limit) if self.open >= limit || self.denied.is_some_and(|until| now < until) => {
                Says::No(DENIED)
            }
            Some(_) => Says::Unknown,
        }
    }

    fn says_locally(&self, now: Instant) -> Says {
        match self.says(now) {
            Says::Unknown => Says::Yes,
            known => known,
        }
    }

    /// What is kept ready.
    fn spare(&self) -> u32 {
        self.limit.unwrap_or_default() / SPARE_SHARE
    }

    /// What is leased beyond those open and this many more.
    fn excess(&self, spare: u32) -> Option<u32> {
        self.granted
            .checked_sub(self.open.saturating_add(spare))
            .filter(|excess| *excess > 0)
    }
}

#[cfg(test)]
mod tests;
