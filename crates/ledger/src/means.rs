//! What an exchange may use up: money and tokens, counted together.

use tariff::Amount;

/// Money and tokens: what a hold sets aside, what a purse has, what a charge takes. No part is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Money.
    pub money: Amount,
    /// Input tokens.
    pub prompt: u64,
    /// Output tokens.
    pub completion: u64,
}

impl Means {
    /// Nothing.
    pub const NONE: Self = Self {
        money: Amount::ZERO,
        prompt: 0,
        completion: 0,
    };

    /// The most Postgres can count.
    const TOKENS_MAX: u64 = i64::MAX.unsigned_abs();

    /// Whether every part is at least the other's.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.money >= other.money
            && self.prompt >= other.prompt
            && self.completion >= other.completion
    }

    /// Whether no part is left.
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Both together; each part at most what can be counted.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            money: Amount::from_nano(self.money.nano().saturating_add(other.money.nano())),
            prompt: tokens(self.prompt.saturating_add(other.prompt)),
            completion: tokens(self.completion.saturating_add(other.completion)),
        }
    }

    /// What is left without the other; no part falls below nothing.
    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            money: Amount::from_nano(self.money.nano().saturating_sub(other.money.nano()).max(0)),
            prompt: self.prompt.saturating_sub(other.prompt),
            completion: self.completion.saturating_sub(other.completion),
        }
    }

    /// The smaller of each part.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            money: self.money.min(other.money),
            prompt: self.prompt.min(other.prompt),
            completion: self.completion.min(other.completion),
        }
    }

    /// The larger of each part.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            money: self.money.max(other.money),
            prompt: self.prompt.max(other.prompt),
            completion: self.completion.max(other.completion),
        }
    }

    /// So many times as much; each part at most what can be counted.
    pub(crate) fn times(self, factor: u32) -> Self {
        Self {
            money: Amount::from_nano(self.money.nano().saturating_mul(factor.into())),
            prompt: tokens(self.prompt.saturating_mul(factor.into())),
            completion: tokens(self.completion.saturating_mul(factor.into())),
        }
    }

    /// Half of each part.
    pub(crate) fn half(self) -> Self {
        Self {
            money: Amount::from_nano(self.money.nano() >> 1),
            prompt: self.prompt >> 1,
            completion: self.completion >> 1,
        }
    }
}

/// At most what Postgres can count.
fn tokens(count: u64) -> u64 {
    count.min(Means::TOKENS_MAX)
}
