//! What an exchange costs.

use crate::{Amount, Buckets, Flag, Flags, Line, Price, PriceId, Quote, Rates, Tier};

/// Prices are per this many units.
const UNITS_PER_PRICE: i128 = 1_000_000;

/// What one line costs, and by which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The charge.
    pub amount: Amount,
    /// The row that gave the figures.
    pub price: PriceId,
    /// What was odd on the way ([`crate::Flag::TierUnpriced`]).
    pub flags: Flags,
}

/// Why a line cannot be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// A bucket holds tokens and no rate of the row, nor a fallback, prices it.
    #[error("no rate for {bucket} tokens")]
    Unpriced {
        /// The bucket's name.
        bucket: &'static str,
    },
    /// The product does not fit an amount.
    #[error("the charge is larger than any amount")]
    Range,
}

impl Quote {
    /// What the line costs at the tier that served. The largest `min_context` below the line's input
    /// prices the whole line. The one rounding, up to whole nano-USD, is here.
    ///
    /// A tier without a row for this input is charged at the default tier's, flagged.
    ///
    /// # Errors
    /// [`ChargeError`] when a bucket has no rate or the product no room.
    pub fn charge(&self, line: &Line, service_tier: Option<&str>) -> Result<Charged, ChargeError> {
        let (row, flags) = self.row(
            line.buckets.input(),
            &Tier::new(service_tier.unwrap_or_default()),
        );
        let amount = Cost::of(&line.buckets, &row.rates)?
            .round_up()
            .ok_or(ChargeError::Range)?;
        Ok(Charged {
            amount,
            price: row.id,
            flags,
        })
    }

    /// The row that a charge names when no other can be told: the default tier's for the smallest inputs.
    #[must_use]
    pub fn default_price(&self) -> PriceId {
        self.first_default().id
    }

    /// The rates of plain text that a first estimate is made at, input and output, in nano-USD per 1,000,000 tokens:
    /// those of [`Quote::default_price`]. What is not priced costs nothing here.
    #[must_use]
    pub fn text_rates(&self) -> (i64, i64) {
        let rates = self.first_default().rates.with_fallbacks();
        (
            rates.in_text.unwrap_or_default(),
            rates.out_text.unwrap_or_default(),
        )
    }

    /// The row that prices a line with so many input tokens, served at this tier.
    fn row<'a>(&'a self, input: u64, tier: &Tier) -> (&'a Price, Flags) {
        let mut flags = Flags::default();
        if let Some(row) = self
            .rows_of(tier.as_str())
            .rfind(|row| row.reached_by(input))
        {
            return (row, flags);
        }
        if tier.as_str() != Tier::DEFAULT {
            flags.set(Flag::TierUnpriced);
        }
        let reached = self
            .rows_of(Tier::DEFAULT)
            .rfind(|row| row.reached_by(input));
        (reached.unwrap_or_else(|| self.first_default()), flags)
    }

    /// The default tier's row for the smallest inputs: it prices even those it does not reach down to.
    pub(crate) fn first_default(&self) -> &Price {
        self.rows_of(Tier::DEFAULT)
            .next()
            .expect("a quote is only made with a row of the default tier")
    }
}

/// What plain text costs: tokens and their rate (nano-USD per 1,000,000), of the input and of the output. For estimates where
/// nothing but this is known. `None` past an amount's range.
#[must_use]
pub fn text_cost(input: (u64, i64), output: (u64, i64)) -> Option<Amount> {
    Cost::new(input.0, input.1)?
        .checked_add(Cost::new(output.0, output.1)?)?
        .round_up()
}

/// An exact cost, in millionths of a nano-USD (1e-15 USD): tokens times nano-USD per 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(i128);

impl Cost {
    /// So many tokens at this rate.
    pub(crate) fn new(tokens: u64, rate: i64) -> Option<Self> {
        i128::from(tokens).checked_mul(i128::from(rate)).map(Self)
    }

    /// The most that is still no more than this amount after rounding.
    pub(crate) fn within(amount: Amount) -> Self {
        Self(i128::from(amount.nano()).saturating_mul(UNITS_PER_PRICE))
    }

    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub(crate) fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// How many whole times `each` goes into this. `None` when this is negative or `each` costs nothing.
    pub(crate) fn over(self, each: Self) -> Option<u64> {
        if self.0 < 0 || each.0 <= 0 {
            return None;
        }
        self.0
            .checked_div(each.0)
            .map(|times| u64::try_from(times).unwrap_or(u64::MAX))
    }

    /// All buckets at the row's rates.
    fn of(buckets: &Buckets, rates: &Rates) -> Result<Self, ChargeError> {
        let mut sum = Self::default();
        for (bucket, tokens, rate) in priced(buckets, &rates.with_fallbacks()) {
            if tokens > 0 {
                let rate = rate.ok_or(ChargeError::Unpriced { bucket })?;
                sum = Self::new(tokens, rate)
                    .and_then(|cost| sum.checked_add(cost))
                    .ok_or(ChargeError::Range)?;
            }
        }
        Ok(sum)
    }

    /// The one rounding of money in this program: up, to whole nano-USD. `None` past an amount's range.
    pub(crate) fn round_up(self) -> Option<Amount> {
        let whole = self.0.checked_div_euclid(UNITS_PER_PRICE)?;
        let rest = self.0.checked_rem_euclid(UNITS_PER_PRICE)?;
        let nano = whole.checked_add(i128::from(rest > 0))?;
        i64::try_from(nano).ok().map(Amount::from_nano)
    }
}

fn priced(tokens: &Buckets, rates: &Rates) -> [(&'static str, u64, Option<i64>); 12] {
    [
        ("in_text", tokens.in_text, rates.in_text),
        ("in_audio", tokens.in_audio, rates.in_audio),
        ("in_image", tokens.in_image, rates.in_image),
        ("cr_text", tokens.cr_text, rates.cr_text),
        ("cr_audio", tokens.cr_audio, rates.cr_audio),
        ("cr_image", tokens.cr_image, rates.cr_image),
        ("cw_5m", tokens.cw_5m, rates.cw_5m),
        ("cw_1h", tokens.cw_1h, rates.cw_1h),
        ("out_text", tokens.out_text, rates.out_text),
        ("out_reasoning", tokens.out_reasoning, rates.out_reasoning),
        ("out_audio", tokens.out_audio, rates.out_audio),
        ("out_image", tokens.out_image, rates.out_image),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_up_and_exact_figures_stay() {
        let rounded = |cost| Cost(cost).round_up().map(Amount::nano);
        assert_eq!(rounded(0), Some(0));
        assert_eq!(rounded(1), Some(1));
        assert_eq!(rounded(1_000_000), Some(1));
        assert_eq!(rounded(1_000_001), Some(2));
        assert_eq!(rounded(-1), Some(0));
        assert_eq!(rounded(i128::MAX), None);
    }
}
