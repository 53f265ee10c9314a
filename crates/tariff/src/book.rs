//! The price table as a snapshot, and which rows of it price an exchange.

use std::sync::Arc;

use crate::Price;

/// All prices, looked up by model name.
#[derive(Debug, Default)]
pub struct Book {}

/// Every row that prices one model name at one instant: its tiers and context sizes.
#[derive(Clone, Debug)]
pub struct Quote {
    pub(crate) rows: Arc<[Arc<Price>]>,
}

impl Book {
    /// Builds the snapshot.
    #[must_use]
    pub fn new(prices: Vec<Price>) -> Self {
        let _ = prices;
        todo!()
    }

    /// The rows for a model name, in force at `at_ms` (milliseconds since the epoch): those of the exact
    /// name, else those of the name less its date or version suffix (`-2024-08-06`, `-20250929`, `-v2`),
    /// else of the longest prefix pattern, else, for `ft:BASE:org::id`, those of `ft:BASE`. `None` when nothing prices it.
    #[must_use]
    pub fn quote(&self, model: &str, at_ms: i64) -> Option<Quote> {
        let _ = (model, at_ms);
        todo!()
    }
}
