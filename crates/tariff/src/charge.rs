//! What an exchange costs.

use crate::{
    Amount, Buckets, Flag, Flags, Line, Price, PriceId, Quote, Rates, Tier,
    fees::{PLAIN_BPS, UnitError},
};

/// A token's price is per 1,000,000, a minute has 60,000 milliseconds, and two multipliers are in
/// basis points: in this part of a nano-USD every cost is a whole number.
const PARTS_PER_NANO: i128 = 300_000_000_000_000;
/// Parts of a token at one nano-USD per 1,000,000, before the multipliers.
const PARTS_PER_TOKEN: i128 = 3;
/// Parts of a millisecond at one nano-USD per minute.
const PARTS_PER_MS: i128 = 5_000_000_000;
/// What tokens cost in a batch, of the default tier's price, where a model has no price for batches: half.
pub(crate) const BATCH_BPS: i64 = 5_000;

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

/// How the provider served an exchange, as its answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served<'a> {
    /// The service tier.
    pub tier: Option<&'a str>,
    /// Where it was computed, if that has a price (`us`).
    pub region: Option<&'a str>,
    /// How fast, if that has a price (`fast`).
    pub speed: Option<&'a str>,
}

impl<'a> From<Option<&'a str>> for Served<'a> {
    fn from(tier: Option<&'a str>) -> Self {
        Self {
            tier,
            ..Self::default()
        }
    }
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
    /// Something other than tokens was used and the row has no fee for it.
    #[error("no fee for {unit}")]
    UnitUnpriced {
        /// The unit's name.
        unit: &'static str,
    },
    /// The product does not fit an amount.
    #[error("the charge is larger than any amount")]
    Range,
}

impl Quote {
    /// What the line costs as it was served. The largest `min_context` below the line's input
    /// prices the whole line. The one rounding, up to whole nano-USD, is here.
    ///
    /// A tier without a row for this input is charged at the default tier's, flagged. Multipliers
    /// of region and speed are on tokens only; what has no fee at its tier has that of the default one.
    ///
    /// # Errors
    /// [`ChargeError`] when a bucket has no rate, a unit no fee, or the product no room.
    pub fn charge<'a>(
        &self,
        line: &Line,
        served: impl Into<Served<'a>>,
    ) -> Result<Charged, ChargeError> {
        let (cost, price, flags) = self.cost(line, served.into())?;
        Ok(Charged {
            amount: cost.round_up().ok_or(ChargeError::Range)?,
            price,
            flags,
        })
    }

    /// The exact cost of a line, and the row that gave the figures.
    fn cost(&self, line: &Line, served: Served<'_>) -> Result<(Cost, PriceId, Flags), ChargeError> {
        let tier = Tier::new(served.tier.unwrap_or_default());
        let (row, mut flags) = self.row(line.buckets.input(), &tier);
        let base = &self.first_default().fees;
        let mut cost = Cost::of(&line.buckets, &row.rates)?;
        if self.is_halved(&tier) {
            cost = cost
                .times_bps(BATCH_BPS, PLAIN_BPS)
                .ok_or(ChargeError::Range)?;
        }
        if !(row.fees.is_none() && base.is_none() && line.units.is_none()) {
            let fees = row.fees.or(base);
            let (units, is_tool_unpriced) = fees.cost(line).map_err(|error| match error {
                UnitError::Unpriced(unit) => ChargeError::UnitUnpriced { unit },
                UnitError::Range => ChargeError::Range,
            })?;
            if is_tool_unpriced {
                flags.set(Flag::ToolUnpriced);
            }
            cost = cost
                .times_bps(fees.region_bps(served.region), fees.speed_bps(served.speed))
                .and_then(|cost| cost.checked_add(units))
                .ok_or(ChargeError::Range)?;
        }
        Ok((cost, row.id, flags))
    }

    /// Whether a tier without rows of its own costs half of the default one: a batch does, at every provider that has them.
    pub(crate) fn is_halved(&self, tier: &Tier) -> bool {
        tier.as_str() == Tier::BATCH && self.rows_of(Tier::BATCH).next().is_none()
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
        if tier.as_str() != Tier::DEFAULT && !self.is_halved(tier) {
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

/// Many lines that are one charge: what each costs exactly, added up, rounded once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tab {
    cost: Cost,
    price: Option<PriceId>,
    flags: Flags,
}

impl Tab {
    /// Adds a line. The first one's row is the charge's.
    ///
    /// # Errors
    /// As [`Quote::charge`]; the line is not added then.
    pub fn add<'a>(
        &mut self,
        quote: &Quote,
        line: &Line,
        served: impl Into<Served<'a>>,
    ) -> Result<(), ChargeError> {
        let (cost, price, flags) = quote.cost(line, served.into())?;
        self.cost = self.cost.checked_add(cost).ok_or(ChargeError::Range)?;
        self.price.get_or_insert(price);
        self.flags |= flags;
        Ok(())
    }

    /// The charge; `None` when nothing was added, or the sum is larger than any amount.
    #[must_use]
    pub fn charged(&self) -> Option<Charged> {
        Some(Charged {
            amount: self.cost.round_up()?,
            price: self.price?,
            flags: self.flags,
        })
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

/// An exact cost, in [`PARTS_PER_NANO`]. Whatever fits an amount fits here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(i128);

impl Cost {
    /// So many tokens, or characters, at this rate per 1,000,000.
    pub(crate) fn new(tokens: u64, rate: i64) -> Option<Self> {
        let plain = i128::from(PLAIN_BPS);
        Self::product(
            tokens,
            rate,
            PARTS_PER_TOKEN.checked_mul(plain)?.checked_mul(plain)?,
        )
    }

    /// So many milliseconds at this rate per minute.
    pub(crate) fn of_time(ms: u64, rate: i64) -> Option<Self> {
        Self::product(ms, rate, PARTS_PER_MS)
    }

    /// So many at this fee each.
    pub(crate) fn each(count: u64, fee: i64) -> Option<Self> {
        Self::product(count, fee, PARTS_PER_NANO)
    }

    fn product(count: u64, rate: i64, parts: i128) -> Option<Self> {
        i128::from(count)
            .checked_mul(i128::from(rate))?
            .checked_mul(parts)
            .map(Self)
    }

    /// Twice multiplied, in basis points. Exact for sums of tokens' costs; else rounded up to a part.
    pub(crate) fn times_bps(self, region_bps: i64, speed_bps: i64) -> Option<Self> {
        let plain = i128::from(PLAIN_BPS);
        let square = plain.checked_mul(plain)?;
        let times = i128::from(region_bps).checked_mul(i128::from(speed_bps))?;
        if times == square {
            return Some(self);
        }
        let whole = self.0.checked_div_euclid(square)?.checked_mul(times)?;
        let rest = self.0.checked_rem_euclid(square)?.checked_mul(times)?;
        let up = i128::from(rest.checked_rem_euclid(square)? > 0);
        let rest = rest.checked_div_euclid(square)?.checked_add(up)?;
        whole.checked_add(rest).map(Self)
    }

    /// The most that is still no more than this amount after rounding.
    pub(crate) fn within(amount: Amount) -> Self {
        Self(i128::from(amount.nano()).saturating_mul(PARTS_PER_NANO))
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
        let whole = self.0.checked_div_euclid(PARTS_PER_NANO)?;
        let rest = self.0.checked_rem_euclid(PARTS_PER_NANO)?;
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
        assert_eq!(rounded(PARTS_PER_NANO), Some(1));
        assert_eq!(rounded(PARTS_PER_NANO + 1), Some(2));
        assert_eq!(rounded(-1), Some(0));
        assert_eq!(rounded(i128::MAX), None);
    }
}
