//! Money as JSON numbers, written digit by digit: no float stands between the books and the answer.

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;
use tariff::Amount;

/// A number of USD.
pub(super) struct Usd(pub(super) Amount);

/// The same in hundredths.
pub(super) struct Cents(pub(super) Amount);

/// Nano-USD in a cent.
const NANO_PER_CENT: u64 = 10_000_000;

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(self.0.to_string(), serializer)
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(cents(self.0), serializer)
    }
}

fn number<S: Serializer>(text: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text)
        .map_err(S::Error::custom)?
        .serialize(serializer)
}

fn cents(amount: Amount) -> String {
    let nano = amount.nano().unsigned_abs();
    let sign = if amount.nano() < 0 { "-" } else { "" };
    let whole = nano.checked_div(NANO_PER_CENT).unwrap_or_default();
    let rest = nano.checked_rem(NANO_PER_CENT).unwrap_or_default();
    let text = format!("{sign}{whole}.{rest:07}");
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_exact() {
        for (nano, text) in [
            (0, "0"),
            (1, "0.0000001"),
            (565_000, "0.0565"),
            (10_000_000, "1"),
            (-15_000_000, "-1.5"),
            (i64::MAX, "922337203685.4775807"),
            (i64::MIN, "-922337203685.4775808"),
        ] {
            assert_eq!(cents(Amount::from_nano(nano)), text);
        }
    }

    #[test]
    fn money_is_a_json_number_of_all_its_digits() {
        let amount = Amount::from_nano(12_345_678_901_234_567);
        assert_eq!(
            serde_json::to_string(&Usd(amount)).unwrap(),
            "12345678.901234567"
        );
        assert_eq!(
            serde_json::to_string(&Cents(amount)).unwrap(),
            "1234567890.1234567"
        );
    }
}
