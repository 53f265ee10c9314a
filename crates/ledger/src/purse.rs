//! One access token's allowance in this process, and who waits for more of it. No I/O, no clock, no async.
//!
//! ```text
//! Postgres: lease  =  purse: free  +  held for open exchanges (and charges not yet in Postgres)
//!
//! take     free → held          memory only
//! settle   held → spent + free  the charge leaves the lease in Postgres, the rest of the hold is free again
//! grant    lease + n, free + n  refilled ahead of need, by what was used since the last time
//! spare    lease − n, free − n  recalled because another process is short, or idle
//! ```
//!
//! The protocol's one rule: `free + held <= lease` at any moment, whatever is lost or repeated on the way. So a grant counts here
//! only after Postgres counted it, and what is spared is taken out here before Postgres gives it to anybody else.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use tariff::Amount;

use crate::{Limit, means::Means};

/// What is free, what is wanted, and who waits. `W` is whoever is told.
#[derive(Debug)]
pub(crate) struct Purse<W> {
    free: Means,
    /// What a refill aims at.
    target: Means,
    waiting: VecDeque<Waiting<W>>,
    /// An ask is under way or queued; at most one is.
    asking: bool,
    recall: Option<Recall>,
    /// What the ask under way wants.
    wanted: Means,
    short: Option<(Instant, Shortage)>,
    refilled_at: Instant,
    used_at: Instant,
    /// Until then nothing is asked for ahead of need: another process is short.
    frugal_until: Option<Instant>,
}

/// One who waits for more than is free.
#[derive(Debug)]
pub(crate) struct Waiting<W> {
    pub(crate) need: Means,
    pub(crate) who: W,
}

/// Others were told to give back what they can spare.
#[derive(Clone, Copy, Debug)]
struct Recall {
    /// When, by Postgres' clock: only answers after it count.
    asked_at: SystemTime,
    until: Instant,
}

/// What does not cover a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) by: Limit,
    /// What is left of it.
    pub(crate) available: u64,
}

/// What taking comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// It is held. `ask`: and the purse should be refilled ahead of need.
    Held { ask: bool },
    /// It must wait. `ask`: for an ask that has yet to be made.
    Waits { ask: bool },
    /// It did not fit a moment ago and nothing has come back since.
    Short(Shortage),
}

/// What Postgres is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// At least this, or nothing.
    pub(crate) need: Means,
    /// At most this.
    pub(crate) want: Means,
    /// When others were told to give back, if they were.
    pub(crate) asked_at: Option<SystemTime>,
}

/// What becomes of a shortage.
#[derive(Debug)]
pub(crate) enum Short<W> {
    /// Others may still give back: ask again soon.
    Again,
    /// Nobody can help: these do not fit. `ask`: others still wait.
    Refused { who: Vec<W>, ask: bool },
}

impl<W> Purse<W> {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            free: Means::NONE,
            target: Means::NONE,
            waiting: VecDeque::new(),
            asking: false,
            recall: None,
            wanted: Means::NONE,
            short: None,
            refilled_at: now,
            used_at: now,
            frugal_until: None,
        }
    }

    /// Holds `need` if it is free, else lets `who` wait for it. First come, first served.
    pub(crate) fn take(&mut self, need: Means, now: Instant, who: impl FnOnce() -> W) -> Take {
        self.used_at = now;
        if self.waiting.is_empty() && self.free.covers(need) {
            self.free = self.free.less(need);
            self.target = self.target.max(need);
            let is_low = !self.free.covers(self.target.half());
            let ask = is_low && !self.asking && !self.is_frugal(now) && !self.is_short(now);
            self.asking |= ask;
            return Take::Held { ask };
        }
        if let Some((until, shortage)) = self.short
            && now < until
            && shortage.available < part(need, shortage.by)
        {
            return Take::Short(shortage);
        }
        self.waiting.push_back(Waiting { need, who: who() });
        let ask = !self.asking;
        self.asking = true;
        Take::Waits { ask }
    }

    /// What to ask Postgres for now. `None`: nothing after all.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        let first = self.waiting.front().map(|waiting| waiting.need);
        if first.is_none() && (self.is_frugal(now) || self.free.covers(self.target)) {
            self.asking = false;
            return None;
        }
        let need = first.unwrap_or_default().less(self.free);
        let all = self
            .waiting
            .iter()
            .fold(Means::NONE, |sum, waiting| sum.plus(waiting.need));
        // Size follows use: what was not enough for a while is doubled, what lasts long is halved.
        let since = now.saturating_duration_since(self.refilled_at);
        if since < BUSY_FOR {
            self.target = self.target.max(all).times(2).min(target_max());
        } else if since > CALM_FOR {
            self.target = self.target.half();
        }
        let want = if self.is_frugal(now) {
            need
        } else {
            all.plus(self.target.max(first.unwrap_or_default().times(AHEAD)))
                .less(self.free)
                .min(target_max())
                .max(need)
        };
        self.wanted = want;
        Some(Ask {
            need,
            want,
            asked_at: self.recall.map(|recall| recall.asked_at),
        })
    }

    /// Postgres granted this. Returns those who are served; whether to ask again is [`Purse::asks_again`].
    pub(crate) fn granted(&mut self, grant: Means, now: Instant) -> Vec<Waiting<W>> {
        self.free = self.free.plus(grant);
        self.recall = None;
        self.short = None;
        self.refilled_at = now;
        if !grant.covers(self.wanted.half()) {
            // There is little left: asking at every take would not make it more.
            self.target = self.target.min(self.free);
            self.frugal_until = now.checked_add(SHORT_FOR).max(self.frugal_until);
        }
        self.serve()
    }

    /// Postgres grants nothing: it does not cover the first that waits.
    pub(crate) fn short(
        &mut self,
        shortage: Shortage,
        pending: bool,
        asked_at: SystemTime,
        now: Instant,
    ) -> Short<W> {
        // What came back meanwhile is free here, and Postgres does not know.
        let available = shortage
            .available
            .saturating_add(part(self.free, shortage.by));
        let recall = *self.recall.get_or_insert(Recall {
            asked_at,
            until: now.checked_add(RECALL_MAX).unwrap_or(now),
        });
        if pending && now < recall.until {
            return Short::Again;
        }
        self.recall = None;
        let shortage = Shortage {
            available,
            ..shortage
        };
        self.short = now.checked_add(SHORT_FOR).map(|until| (until, shortage));
        self.target = Means::NONE;
        let (refused, fits): (Vec<_>, Vec<_>) = self
            .waiting
            .drain(..)
            .partition(|waiting| part(waiting.need, shortage.by) > available);
        self.waiting = fits.into();
        Short::Refused {
            who: refused.into_iter().map(|waiting| waiting.who).collect(),
            ask: self.asks_again(),
        }
    }

    /// What was told about the token or its account may let in what did not fit.
    pub(crate) const fn forget_shortage(&mut self) {
        self.short = None;
    }

    /// The last shortage, for whoever is refused by it.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.short.map(|(_, shortage)| shortage)
    }

    /// Nobody is served any more: all that wait, and nothing is asked for.
    pub(crate) fn fail(&mut self) -> Vec<W> {
        self.asking = false;
        self.recall = None;
        self.waiting.drain(..).map(|waiting| waiting.who).collect()
    }

    /// What an exchange did not use comes back. Returns those who are served by it.
    pub(crate) fn back(&mut self, rest: Means, now: Instant) -> Vec<Waiting<W>> {
        self.free = self.free.plus(rest);
        self.used_at = now;
        self.short = None;
        self.serve()
    }

    /// Takes out all that can be spared: everything free, unless somebody here waits for it. Where another process is short,
    /// no more than what is needed is asked for during the next moments.
    pub(crate) fn spare(&mut self, is_short: bool, now: Instant) -> Means {
        if is_short {
            self.frugal_until = now.checked_add(FRUGAL_FOR);
        }
        if !self.waiting.is_empty() {
            return Means::NONE;
        }
        self.target = Means::NONE;
        std::mem::take(&mut self.free)
    }

    /// Whether somebody waits, so that another ask must follow; else none is under way any more.
    pub(crate) fn asks_again(&mut self) -> bool {
        self.asking = !self.waiting.is_empty();
        self.asking
    }

    /// Whether it has something free that nobody used for this long.
    pub(crate) fn is_idle(&self, now: Instant, after: Duration) -> bool {
        !self.asking
            && self.waiting.is_empty()
            && now.saturating_duration_since(self.used_at) >= after
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_none() && self.waiting.is_empty() && !self.asking
    }

    /// What is free.
    #[cfg(test)]
    pub(crate) const fn free(&self) -> Means {
        self.free
    }

    fn serve(&mut self) -> Vec<Waiting<W>> {
        let mut served = Vec::new();
        while let Some(next) = self.waiting.pop_front() {
            if !self.free.covers(next.need) {
                self.waiting.push_front(next);
                break;
            }
            self.free = self.free.less(next.need);
            served.push(next);
        }
        served
    }

    fn is_frugal(&self, now: Instant) -> bool {
        self.frugal_until.is_some_and(|until| now < until)
    }

    fn is_short(&self, now: Instant) -> bool {
        self.short.is_some_and(|(until, _)| now < until)
    }
}

/// The part of the means that a limit is about.
pub(crate) fn part(means: Means, by: Limit) -> u64 {
    match by {
        Limit::Account | Limit::Budget(_) => means.money.nano().try_into().unwrap_or(0),
        Limit::PromptTokens(_) => means.prompt,
        Limit::CompletionTokens(_) => means.completion,
    }
}

/// What no purse aims beyond: a million USD, 10¹² tokens.
const fn target_max() -> Means {
    Means {
        money: Amount::from_nano(1_000_000_000_000_000),
        prompt: 1_000_000_000_000,
        completion: 1_000_000_000_000,
    }
}

/// The first refill is for so many exchanges like the one that needs it.
const AHEAD: u32 = 16;
/// A refill that lasted less was too small.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// A refill that lasted longer was too large.
const CALM_FOR: Duration = Duration::from_secs(10);
/// How long a process that was told to give back asks for no more than it needs.
const FRUGAL_FOR: Duration = Duration::from_secs(1);
/// How long a shortage is remembered: whoever is refused and comes back at once must not cost Postgres a statement each time.
const SHORT_FOR: Duration = Duration::from_millis(50);
/// How long the others have to give back: as long as a busy machine may need. It ends as soon as all have answered, and those
/// that were not heard of lately are not waited for.
const RECALL_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
