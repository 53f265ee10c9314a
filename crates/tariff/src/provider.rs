//! What a provider itself says an answer cost.

use crate::Amount;

/// Femto-USD in a nano-USD.
const FEMTO_PER_NANO: u128 = 1_000_000;
/// A factor of 1, in thousandths.
const PLAIN_PERMILLE: u32 = 1_000;

/// A cost that a provider told, to the nearest femto-USD (10⁻¹⁵): providers write doubles, whose last digits are noise
/// (`2.3400000000000003e-05`) and must not round a charge up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderCost {
    femto: u128,
}

impl ProviderCost {
    /// Nothing.
    pub const ZERO: Self = Self { femto: 0 };

    /// So many femto-USD.
    #[must_use]
    pub const fn from_femto(femto: u128) -> Self {
        Self { femto }
    }

    /// As it stands, rounded up to whole nano-USD. `None` past every amount.
    #[must_use]
    pub fn amount(self) -> Option<Amount> {
        self.times(PLAIN_PERMILLE)
    }

    /// Times a factor in thousandths, rounded up once. `None` past every amount.
    #[must_use]
    pub fn times(self, permille: u32) -> Option<Amount> {
        let product = self.femto.checked_mul(u128::from(permille))?;
        let divisor = FEMTO_PER_NANO.checked_mul(u128::from(PLAIN_PERMILLE))?;
        let nano = i64::try_from(product.div_ceil(divisor)).ok()?;
        Some(Amount::from_nano(nano))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_cost_is_rounded_up_once_after_its_factor() {
        let nano = |femto, permille| {
            ProviderCost::from_femto(femto)
                .times(permille)
                .map(Amount::nano)
        };
        assert_eq!(nano(11_300_000_000, 1_000), Some(11_300));
        assert_eq!(nano(1, 1_000), Some(1));
        assert_eq!(nano(0, 1_200), Some(0));
        // 1.000001 nano-USD x 1.5 = 1.5000015: 2. Rounded before as well it were 3.
        assert_eq!(nano(1_000_001, 1_500), Some(2));
        assert_eq!(nano(13_317_600_000_000, 1_100), Some(14_649_360));
        assert_eq!(nano(u128::MAX, 1_000), None);
        assert_eq!(nano(10_u128.pow(25), 1_000), None);
        assert_eq!(
            ProviderCost::from_femto(1_000_001).amount(),
            Some(Amount::from_nano(2))
        );
    }
}
