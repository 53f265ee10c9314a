//! The five figures that are compared, and reading them from decimal text without floats.

use std::fmt;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Requests,
    Input,
    Cached,
    Output,
    Usd,
}

impl Figure {
    pub(super) const ALL: [Self; 5] = [
        Self::Requests,
        Self::Input,
        Self::Cached,
        Self::Output,
        Self::Usd,
    ];

    /// Its name in JSON and CSV, and as a column of the general CSV form.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Input => "input_tokens",
            Self::Cached => "cached_tokens",
            Self::Output => "output_tokens",
            Self::Usd => "usd",
        }
    }

    /// A figure of this kind from its text.
    pub(super) fn parse(self, text: &str) -> Result<i128, BadFigure> {
        match self {
            Self::Usd => usd(text),
            _ => count(text),
        }
    }
}

/// A value for each figure; `None` where nobody told one. Counts, and for `Usd` [`ATTO_PER_NANO`]ths of a nano-USD:
/// providers tell amounts far below one nano-USD, and rounding each before the sum would add up to a difference of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures([Option<i128>; 5]);

/// Atto-USD (1e-18 USD) in a nano-USD.
pub(super) const ATTO_PER_NANO: i128 = 1_000_000_000;

impl Figures {
    pub(super) const fn get(&self, figure: Figure) -> Option<i128> {
        self.0[figure as usize]
    }

    /// Adds to one figure. Bounded texts make bounded values: no file is large enough to saturate a sum.
    pub(super) fn add(&mut self, figure: Figure, value: i128) {
        let sum = &mut self.0[figure as usize];
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for figure in Figure::ALL {
            if let Some(value) = other.get(figure) {
                self.add(figure, value);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Atto-USD as nano-USD, to the nearest, half away from zero: the one rounding of the provider's amounts.
pub(super) fn to_nano(atto: i128) -> i128 {
    let half = ATTO_PER_NANO / 2;
    let away = if atto < 0 {
        atto.saturating_sub(half)
    } else {
        atto.saturating_add(half)
    };
    away / ATTO_PER_NANO
}

/// Why a text is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFigure {
    Count,
    Usd,
}

impl fmt::Display for BadFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "is no count (a whole number, not negative, at most 2^53)",
            Self::Usd => "is no amount of USD (a decimal number of at most 9.2 billion)",
        })
    }
}

/// The largest count: what readers that use doubles can tell exactly.
const COUNT_MAX: i128 = 1 << 53;
/// The largest amount, atto-USD: that of an amount of nano-USD.
const USD_MAX: i128 = i64::MAX as i128 * ATTO_PER_NANO;
/// Atto-USD have so many decimals.
const USD_DECIMALS: i32 = 18;

/// `12`, and `12.0` where a spreadsheet made it.
fn count(text: &str) -> Result<i128, BadFigure> {
    match scaled(text, 0) {
        Some((count, true)) if (0..=COUNT_MAX).contains(&count) => Ok(count),
        _ => Err(BadFigure::Count),
    }
}

/// Atto-USD. What is finer is cut off: it is the noise of a provider's own floats.
fn usd(text: &str) -> Result<i128, BadFigure> {
    match scaled(text.strip_prefix('$').unwrap_or(text), USD_DECIMALS) {
        Some((atto, _)) if (-USD_MAX..=USD_MAX).contains(&atto) => Ok(atto),
        _ => Err(BadFigure::Usd),
    }
}

/// A decimal number times `10^decimals`, towards zero, and whether that is exact. `None`: it is none, or too large.
fn scaled(text: &str, decimals: i32) -> Option<(i128, bool)> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // So many digits of the text stand before the point of the result.
    let digits = [whole, fraction].concat();
    let point = i32::try_from(whole.len())
        .ok()?
        .checked_add(exponent)?
        .checked_add(decimals)?;
    let kept = usize::try_from(point).unwrap_or(0);
    let (kept_digits, cut) = digits.split_at(kept.min(digits.len()));
    let value = match kept_digits.trim_start_matches('0') {
        "" => 0,
        significant => {
            let zeros = u32::try_from(kept.saturating_sub(digits.len())).ok()?;
            let factor = 10_i128.checked_pow(zeros)?;
            significant.parse::<i128>().ok()?.checked_mul(factor)?
        }
    };
    let is_exact = cut.bytes().all(|digit| digit == b'0');
    Some((
        if is_negative {
            value.checked_neg()?
        } else {
            value
        },
        is_exact,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_however_they_are_written() {
        for (text, want) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("59200.0", Some(59_200)),
            ("1.2e3", Some(1_200)),
            ("0e999", Some(0)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740993", None),
            ("1e99", None),
            ("1.5", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("+1", None),
            ("1,000", None),
            ("NaN", None),
            ("1e", None),
        ] {
            assert_eq!(count(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn amounts_are_exact_to_the_atto_usd() {
        for (text, want) in [
            ("0.06", Some(60_000_000_000_000_000)),
            ("$0.06", Some(60_000_000_000_000_000)),
            (
                "0.003835980000000000000000000000",
                Some(3_835_980_000_000_000),
            ),
            ("2.3400000000000003e-05", Some(23_400_000_000_000)),
            ("1e-18", Some(1)),
            ("9e-19", Some(0)),
            ("-0.5", Some(-500_000_000_000_000_000)),
            (".5", Some(500_000_000_000_000_000)),
            (
                "9223372036.854775807",
                Some(i128::from(i64::MAX) * ATTO_PER_NANO),
            ),
            ("9223372036.854775808", None),
            ("1e2000000000", None),
            ("1e9999999999", None),
            ("0.06 usd", None),
            ("", None),
        ] {
            assert_eq!(usd(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_sum_is_rounded_once_to_the_nearest() {
        assert_eq!(to_nano(1_499_999_999), 1);
        assert_eq!(to_nano(1_500_000_000), 2);
        assert_eq!(to_nano(-1_500_000_000), -2);
        let mut sum = Figures::default();
        for _ in 0..10 {
            sum.add(Figure::Usd, usd("0.0000000004").unwrap());
        }
        assert_eq!(sum.get(Figure::Usd).map(to_nano), Some(4));
    }
}
