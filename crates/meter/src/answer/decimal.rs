//! Numbers as providers write them: integers, floats with `.0`, exponents, numeric strings.

use tariff::ProviderCost;

/// Counts above this are not counts: readers that use doubles are exact up to here.
const COUNT_MAX: u128 = 1 << 53;
/// Digits read of a number; more are no figure of ours.
const DIGITS_MAX: usize = 36;

/// `text` as digits times a power of ten, without its sign.
struct Decimal {
    is_negative: bool,
    digits: u128,
    exponent: i32,
}

impl Decimal {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let len = whole.len().saturating_add(fraction.len());
        if len == 0 || len > DIGITS_MAX {
            return None;
        }
        let mut digits: u128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = char::from(byte).to_digit(10)?;
            digits = digits.checked_mul(10)?.checked_add(u128::from(digit))?;
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        Some(Self {
            is_negative,
            digits,
            exponent,
        })
    }

    /// The value times `10^shift`, and what was cut off as (remainder, divisor).
    fn scaled(&self, shift: i32) -> Option<(u128, u128, u128)> {
        if self.digits == 0 {
            return Some((0, 0, 1));
        }
        let power = self.exponent.checked_add(shift)?;
        let factor = 10_u128.checked_pow(power.unsigned_abs());
        if power >= 0 {
            return Some((self.digits.checked_mul(factor?)?, 0, 1));
        }
        // A divisor past the range leaves nothing of at most 36 digits.
        let Some(factor) = factor else {
            return Some((0, 1, u128::MAX));
        };
        Some((
            self.digits.checked_div(factor)?,
            self.digits.checked_rem(factor)?,
            factor,
        ))
    }
}

/// A count of tokens: whole, not negative, at most 2^53. `12`, `12.0`, `1.2e1`.
pub(super) fn count(text: &[u8]) -> Option<u64> {
    let decimal = Decimal::parse(text)?;
    let (whole, rest, _) = decimal.scaled(0)?;
    let is_count = rest == 0 && whole <= COUNT_MAX && (!decimal.is_negative || whole == 0);
    is_count.then(|| u64::try_from(whole).ok()).flatten()
}

/// A cost in units of `10^-scale` USD, to the nearest femto-USD (half up). Not negative, and no more than an amount holds.
pub(super) fn cost(text: &[u8], scale: i32) -> Option<ProviderCost> {
    let decimal = Decimal::parse(text)?;
    let (whole, rest, divisor) = decimal.scaled(15_i32.checked_sub(scale)?)?;
    if decimal.is_negative && (whole, rest) != (0, 0) {
        return None;
    }
    let half_up = u128::from(rest >= divisor.div_ceil(2));
    let cost = ProviderCost::from_femto(whole.checked_add(half_up)?);
    cost.amount().map(|_| cost)
}

/// Milliseconds from a number of seconds, rounded up. Not negative, at most 2^53.
pub(crate) fn millis(text: &[u8]) -> Option<u64> {
    let decimal = Decimal::parse(text)?;
    let (whole, rest, _) = decimal.scaled(3)?;
    if decimal.is_negative && (whole, rest) != (0, 0) {
        return None;
    }
    let ms = whole.checked_add(u128::from(rest > 0))?;
    (ms <= COUNT_MAX).then(|| u64::try_from(ms).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use tariff::Amount;

    use super::*;

    #[test]
    fn seconds_are_rounded_up_to_milliseconds() {
        assert_eq!(millis(b"4"), Some(4_000));
        assert_eq!(millis(b"36.7100001"), Some(36_711));
        assert_eq!(millis(b"-1"), None);
        assert_eq!(millis(b"1e40"), None);
    }

    #[test]
    fn counts_are_whole() {
        for (text, want) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            (" 12 ", Some(12)),
            ("1.2e1", Some(12)),
            ("1200E-2", Some(12)),
            ("-0.0", Some(0)),
            ("0e999999", Some(0)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740993", None),
            ("1e40", None),
            ("12.5", None),
            ("1e-1", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("abc", None),
            ("NaN", None),
            ("1_000", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(count(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn costs_are_read_to_the_femto_dollar_and_rounded_up() {
        let nano = |text: &[u8], scale| cost(text, scale)?.amount().map(Amount::nano);
        assert_eq!(nano(b"1.13e-05", 0), Some(11_300));
        assert_eq!(nano(b"0.0133176", 0), Some(13_317_600));
        // The noise of a double is none of the cost.
        assert_eq!(nano(b"2.3400000000000003e-05", 0), Some(23_400));
        assert_eq!(nano(b"0.0000234001", 0), Some(23_401));
        assert_eq!(nano(b"0.0000000001", 0), Some(1));
        assert_eq!(nano(b"0", 0), Some(0));
        assert_eq!(nano(b"1e-60", 0), Some(0));
        // xAI ticks: 1e-10 USD.
        assert_eq!(nano(b"1176500", 10), Some(117_650));
        assert_eq!(nano(b"1176501", 10), Some(117_651));
        assert_eq!(nano(b"200000000", 10), Some(20_000_000));
        assert_eq!(nano(b"-0.5", 0), None);
        assert_eq!(nano(b"1e30", 0), None);
        assert_eq!(nano(b"1e10", 0), None);
    }
}
