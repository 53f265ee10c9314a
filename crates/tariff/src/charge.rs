//! What an exchange costs.

use crate::{Amount, Flags, Line, PriceId, Quote};

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
    /// # Errors
    /// [`ChargeError`] when a bucket has no rate or the product no room.
    pub fn charge(&self, line: &Line, service_tier: Option<&str>) -> Result<Charged, ChargeError> {
        let _ = (line, service_tier);
        todo!()
    }
}
