//! Money: an integer number of nano-USD.

use std::{fmt, iter::Sum, str::FromStr};

/// Nano-USD in one USD.
const NANO_PER_USD: i64 = 1_000_000_000;

/// An amount of money in nano-USD (1e-9 USD). The range is ±9.2 billion USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain or scientific decimal number.
    #[error("not a decimal number of USD")]
    Syntax,
    /// Has digits below one nano-USD after scaling.
    #[error("finer than one nano-USD")]
    TooFine,
    /// Does not fit an `i64` of nano-USD.
    #[error("too large: more than 9.2 billion USD")]
    Range,
}

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The largest amount that can be written.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount from nano-USD.
    #[must_use]
    pub const fn from_nano(nano: i64) -> Self {
        Self(nano)
    }

    /// The amount in nano-USD.
    #[must_use]
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// The sum, or `None` past the range.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(nano) => Some(Self(nano)),
            None => None,
        }
    }

    /// The difference, or `None` past the range.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(nano) => Some(Self(nano)),
            None => None,
        }
    }

    /// Reads decimal USD times `scale` (a power of ten) exactly: `"2.50"`, `"1.25e-06"`.
    ///
    /// A price per token becomes a price per 1,000,000 tokens with `scale` 1,000,000.
    ///
    /// # Errors
    /// [`AmountError`] when the text is no decimal number, is finer than one nano-USD after
    /// scaling, or does not fit.
    pub fn parse_scaled(text: &str, scale_log10: u32) -> Result<Self, AmountError> {
        let (negative, text) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (
                mantissa,
                exponent.parse::<i32>().map_err(|_| AmountError::Syntax)?,
            ),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(AmountError::Syntax);
        }
        let mut digits: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(AmountError::Syntax);
            }
            digits = digits
                .checked_mul(10)
                .and_then(|d| d.checked_add(i128::from(byte.saturating_sub(b'0'))))
                .ok_or(AmountError::Range)?;
        }
        let fraction_len = i32::try_from(fraction.len()).map_err(|_| AmountError::Range)?;
        let shift = exponent
            .checked_sub(fraction_len)
            .and_then(|s| s.checked_add(9))
            .and_then(|s| s.checked_add_unsigned(scale_log10))
            .ok_or(AmountError::Range)?;
        let nano = if digits == 0 {
            0
        } else if let Ok(up) = u32::try_from(shift) {
            10_i128
                .checked_pow(up)
                .and_then(|f| digits.checked_mul(f))
                .ok_or(AmountError::Range)?
        } else {
            let factor = 10_i128
                .checked_pow(shift.unsigned_abs())
                .ok_or(AmountError::TooFine)?;
            if digits.checked_rem(factor) != Some(0) {
                return Err(AmountError::TooFine);
            }
            digits.checked_div(factor).ok_or(AmountError::Range)?
        };
        let nano = i64::try_from(nano).map_err(|_| AmountError::Range)?;
        Ok(Self(if negative {
            nano.checked_neg().ok_or(AmountError::Range)?
        } else {
            nano
        }))
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::parse_scaled(text, 0)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |sum, amount| {
            Self(sum.0.saturating_add(amount.0))
        })
    }
}

/// USD with at least two and at most nine decimals: `0.000282500`-like tails are trimmed.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nano = self.0.unsigned_abs();
        let per_usd = NANO_PER_USD.unsigned_abs();
        let fraction = format!("{:09}", nano.checked_rem(per_usd).unwrap_or_default());
        let trimmed = fraction.trim_end_matches('0');
        let fraction = if trimmed.len() < 2 {
            fraction.get(..2).unwrap_or_default()
        } else {
            trimmed
        };
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(
            f,
            "{sign}{}.{fraction}",
            nano.checked_div(per_usd).unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_scientific_texts_are_read_exactly() {
        let nano = |text, scale| Amount::parse_scaled(text, scale).map(Amount::nano);
        assert_eq!(nano("2.50", 0), Ok(2_500_000_000));
        assert_eq!(nano("1.25e-06", 6), Ok(1_250_000_000));
        assert_eq!(nano("2e-08", 6), Ok(20_000_000));
        assert_eq!(nano("-1", 0), Ok(-1_000_000_000));
        assert_eq!(nano("0.0", 0), Ok(0));
        assert_eq!(nano(".5", 0), Ok(500_000_000));
    }

    #[test]
    fn texts_that_are_no_amount_are_refused() {
        for text in [
            "", "-", ".", "1,5", "abc", "1e", "1e1.5", "0x10", "NaN", "+-1",
        ] {
            assert_eq!(
                Amount::parse_scaled(text, 0),
                Err(AmountError::Syntax),
                "{text}"
            );
        }
        assert_eq!(Amount::parse_scaled("1e-10", 0), Err(AmountError::TooFine));
        assert_eq!(Amount::parse_scaled("1e10", 0), Err(AmountError::Range));
        assert_eq!(
            Amount::parse_scaled("9223372036.854775808", 0),
            Err(AmountError::Range)
        );
        assert_eq!(
            Amount::parse_scaled("1e-2000000000", 0),
            Err(AmountError::TooFine)
        );
    }

    #[test]
    fn display_keeps_every_nano_and_at_least_cents() {
        assert_eq!(Amount::from_nano(282_500).to_string(), "0.0002825");
        assert_eq!(Amount::from_nano(2_500_000_000).to_string(), "2.50");
        assert_eq!(Amount::from_nano(-1).to_string(), "-0.000000001");
        assert_eq!(
            Amount::from_nano(i64::MIN).to_string(),
            "-9223372036.854775808"
        );
    }
}
