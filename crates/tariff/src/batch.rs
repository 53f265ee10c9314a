//! The most that many requests of one batch can cost together.

use crate::{
    Bound, BoundError, Price, Quote, Tier,
    bound::tokens_bound,
    charge::{BATCH_BPS, Cost},
    fees::PLAIN_BPS,
};

/// What is known of many requests to one model, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// How many they are.
    pub requests: u64,
    /// Bytes of those whose length bounds their input.
    pub body_bytes: u64,
    /// The longest of them.
    pub body_bytes_max: u64,
    /// Inputs whose length does not bound them: each may fill the context window.
    pub outside: u64,
    /// The most such inputs of one request.
    pub outside_max: u64,
    /// The sum of their limits of output.
    pub output_tokens: u64,
    /// Answers without a limit but the model's own.
    pub unlimited_answers: u64,
    /// The most calls of paid tools.
    pub tool_calls: u64,
    /// As in [`crate::Ask`].
    pub context_window_assumed: Option<u64>,
    /// As in [`crate::Ask`].
    pub output_max_assumed: Option<u64>,
}

impl Quote {
    /// The most they can cost in a batch.
    ///
    /// # Errors
    /// When a fact that the bound needs is missing.
    pub fn bound_batch(&self, many: &Many) -> Result<Bound, BoundError> {
        let window = match self.context_window().or(many.context_window_assumed) {
            Some(window) => window,
            None if many.outside == 0 => 0,
            None => return Err(BoundError::InputUnknown),
        };
        let output_max = match self.output_max().or(many.output_max_assumed) {
            Some(max) => max,
            None if many.unlimited_answers == 0 => 0,
            None => return Err(BoundError::OutputUnknown),
        };
        let sum = |a: u64, count: u64, each: u64| {
            let product = count.checked_mul(each).ok_or(BoundError::Range)?;
            a.checked_add(product).ok_or(BoundError::Range)
        };
        let input_tokens = sum(many.body_bytes, many.outside, window)?;
        let output_tokens = sum(many.output_tokens, many.unlimited_answers, output_max)?;
        let longest = sum(0, many.outside_max, window)?.max(many.body_bytes_max);
        let mut most = Cost::default();
        for row in self.rows_of_batch(longest) {
            let fees = row.fees.or(&self.first_default().fees);
            let rates = row.rates.with_fallbacks();
            let tokens = tokens_bound(&rates, input_tokens, output_tokens)?;
            let share = if self.is_halved(&Tier::new(Tier::BATCH)) {
                BATCH_BPS
            } else {
                PLAIN_BPS
            };
            let tools = Cost::each(many.tool_calls, fees.dearest_tool().unwrap_or(0));
            let requests = Cost::each(many.requests, fees.request.unwrap_or(0));
            let cost = tokens
                .times_bps(share, fees.dearest_region_bps())
                .zip(tools.zip(requests))
                .and_then(|(cost, (tools, requests))| {
                    cost.checked_add(tools)?.checked_add(requests)
                });
            most = most.max(cost.ok_or(BoundError::Range)?);
        }
        Ok(Bound {
            amount: most.round_up().ok_or(BoundError::Range)?,
            input_tokens,
            output_tokens,
        })
    }

    /// Every row that a line of a batch may be charged by, for up to so many input tokens.
    fn rows_of_batch(&self, input: u64) -> impl Iterator<Item = &Price> {
        let has_base = self.rows_of(Tier::BATCH).any(|row| row.min_context == 0);
        let own = self.rows_of(Tier::BATCH);
        let default = self
            .rows_of(Tier::DEFAULT)
            .filter(move |row| row.reached_by(input))
            .chain([self.first_default()])
            .filter(move |_| !has_base);
        own.filter(move |row| row.reached_by(input)).chain(default)
    }
}
