//! The spans of time that pages offer.

use ledger::report::Span;

const HOUR_S: i64 = 60 * 60;
const DAY_S: i64 = 24 * HOUR_S;

/// A span that ends now, by the name that pages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// The last 24 hours and the one that runs, by the hour.
    Hours,
    /// So many days (UTC), today included.
    Days(i64),
}

/// What a page may ask for.
const NAMES: [(&str, Range); 5] = [
    ("24h", Range::Hours),
    ("7d", Range::Days(7)),
    ("30d", Range::Days(30)),
    ("90d", Range::Days(90)),
    ("365d", Range::Days(365)),
];

impl Range {
    /// The range of this name.
    ///
    /// # Errors
    /// With the names that there are.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, range)| *range).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("'range' can be {}", names.join(", "))
        })
    }

    /// The seconds it covers.
    pub(crate) fn span(self, now_s: i64) -> Span {
        let (step_s, steps, is_hourly) = match self {
            Self::Hours => (HOUR_S, 24, true),
            Self::Days(days) => (DAY_S, days, false),
        };
        let until_s = now_s
            .div_euclid(step_s)
            .saturating_add(1)
            .saturating_mul(step_s);
        Span {
            since_s: until_s.saturating_sub(steps.saturating_mul(step_s)),
            until_s,
            is_hourly,
        }
    }

    /// Seconds from one figure to the next.
    pub(crate) const fn step_s(self) -> i64 {
        match self {
            Self::Hours => HOUR_S,
            Self::Days(_) => DAY_S,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_with_the_step_that_runs() {
        let now_s = 1_795_824_000 + 5 * HOUR_S + 7;
        let span = Range::named("7d").unwrap().span(now_s);
        assert_eq!(span.until_s, 1_795_824_000 + DAY_S);
        assert_eq!(span.until_s - span.since_s, 7 * DAY_S);
        assert_eq!(span.before().until_s, span.since_s);
        assert_eq!(span.since_s - span.before().since_s, 7 * DAY_S);
        let hours = Range::named("24h").unwrap().span(now_s);
        assert_eq!(hours.until_s, 1_795_824_000 + 6 * HOUR_S);
        assert_eq!(hours.until_s - hours.since_s, DAY_S);
        assert!(Range::named("1d").unwrap_err().contains("24h, 7d"));
    }
}
