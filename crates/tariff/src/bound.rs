//! The most an exchange can cost: what a hold is taken for.

use crate::{
    Amount, Fees, ImageKind, Line, Price, Quote, Rates, Tier, Units,
    charge::Cost,
    fees::{PLAIN_BPS, UnitError},
};

/// What is known of a request when its hold is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Bytes of the request body. A token is at least one byte.
    pub body_bytes: u64,
    /// The body names things outside itself (images, files, earlier answers) or hosted tools, so its
    /// length does not bound its tokens: the context window does.
    pub refers_outside: bool,
    /// What limits the output.
    pub output: OutputLimit,
    /// How many answers to each input (`n`, `best_of`); at least 1.
    pub choices: u64,
    /// How many inputs, each with a context window and answers of its own; at least 1.
    pub inputs: u64,
    /// The tier the request names.
    pub service_tier: Option<&'a str>,
    /// The speed the request names.
    pub speed: Option<&'a str>,
    /// The most it may use beside tokens. Where a price has no tokens for such a thing, this is the
    /// whole bound; where it has both, the dearer counts.
    pub units: Units,
    /// What kind of images `units` counts.
    pub image: ImageKind,
    /// The most calls of paid tools, of whichever kind.
    pub tool_calls: u64,
    /// Stands in for a price row's missing `context_window` where the body's length is no bound. It
    /// never makes a bound smaller.
    pub context_window_assumed: Option<u64>,
    /// Stands in for a price row's missing `output_max` where the request has no limit of its own. It
    /// never makes a bound smaller.
    pub output_max_assumed: Option<u64>,
}

/// What limits an answer's output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputLimit {
    /// The model's own maximum.
    #[default]
    Model,
    /// The request's own limit, in tokens. The smaller of it and the model's maximum counts.
    Tokens(u64),
    /// The endpoint gives no output tokens (embeddings).
    NoOutput,
}

/// An upper bound of what an exchange can cost and use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Money.
    pub amount: Amount,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens, all answers together.
    pub output_tokens: u64,
}

/// Why a request cannot be bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// No limit in the request and no `output_max` in the price row.
    #[error("the output of this model has no known maximum")]
    OutputUnknown,
    /// The body refers outside itself and the price row has no `context_window`.
    #[error("the input of this model has no known maximum")]
    InputUnknown,
    /// The row has no rate for one side of the exchange, so no token of that side could be charged.
    #[error("this model has no price for {side} tokens")]
    Unpriced {
        /// `input` or `output`.
        side: &'static str,
    },
    /// The row has a price neither for tokens nor for the endpoint's own unit.
    #[error("this model has no price for {unit}")]
    UnitUnpriced {
        /// The unit.
        unit: &'static str,
    },
    /// The product does not fit an amount.
    #[error("the bound is larger than any amount")]
    Range,
}

impl Ask<'_> {
    /// Answers to all inputs together.
    fn answers(&self) -> Option<u64> {
        self.choices.max(1).checked_mul(self.inputs.max(1))
    }
}

impl Quote {
    /// The most this request can cost, over every tier that may serve it, every context size it may
    /// reach and every kind of token it may be billed in.
    ///
    /// # Errors
    /// [`BoundError`] when a fact the bound needs is missing.
    pub fn bound(&self, ask: &Ask<'_>) -> Result<Bound, BoundError> {
        let input_tokens = self.input_bound(ask)?;
        let output_each = self.output_bound(ask)?;
        let output_tokens = output_each
            .checked_mul(ask.answers().ok_or(BoundError::Range)?)
            .ok_or(BoundError::Range)?;
        let mut most = Cost::default();
        for row in self.rows_reachable(ask, input_tokens) {
            most = most.max(self.row_bound(row, ask, input_tokens, output_tokens)?);
        }
        let amount = most.round_up().ok_or(BoundError::Range)?;
        Ok(Bound {
            amount,
            input_tokens,
            output_tokens,
        })
    }

    /// The most output tokens per choice with which the request costs at most `available`:
    /// the limit that would fit, for the refusal's sentence. `None` when no limit would.
    #[must_use]
    pub fn output_limit_within(&self, ask: &Ask<'_>, available: Amount) -> Option<u64> {
        if ask.output == OutputLimit::NoOutput {
            return None;
        }
        let answers = ask.answers()?;
        let input_tokens = self.input_bound(ask).ok()?;
        let mut limit = self
            .output_max()
            .unwrap_or(u64::MAX)
            .min(u64::MAX.checked_div(answers)?);
        for row in self.rows_reachable(ask, input_tokens) {
            let rates = row.rates.with_fallbacks();
            let fixed = self.row_bound(row, ask, input_tokens, 0).ok()?;
            let left = Cost::within(available)
                .checked_sub(fixed)
                .filter(|left| *left >= Cost::default())?;
            let fees = row.fees.or(&self.first_default().fees);
            let each = multiplied(Cost::new(answers, rates.dearest_output()?)?, &fees, ask)?;
            // An output that costs nothing limits nothing.
            limit = left.over(each).map_or(limit, |fits| limit.min(fits));
        }
        (limit > 0).then_some(limit)
    }

    /// The most at one row's figures.
    fn row_bound(
        &self,
        row: &Price,
        ask: &Ask<'_>,
        input_tokens: u64,
        output_tokens: u64,
    ) -> Result<Cost, BoundError> {
        let fees = row.fees.or(&self.first_default().fees);
        let by_unit = match fees.priced(&ask.units) {
            Some(units) => {
                let line = Line {
                    units,
                    image: ask.image.clone(),
                    ..Line::default()
                };
                fees.cost(&line).map(|(cost, _)| cost)
            }
            None => Err(UnitError::Unpriced(
                ask.units.named().next().map_or("units", |(name, _)| name),
            )),
        };
        let by_unit = match by_unit {
            Ok(cost) => Ok(cost),
            Err(UnitError::Unpriced(unit)) => Err(BoundError::UnitUnpriced { unit }),
            Err(UnitError::Range) => return Err(BoundError::Range),
        };
        let by_token = tokens_bound(&row.rates.with_fallbacks(), input_tokens, output_tokens)
            .and_then(|cost| multiplied(cost, &fees, ask).ok_or(BoundError::Range));
        // Either prices it: an exchange is billed by its tokens where its answer reports them.
        let most = match (by_token, by_unit) {
            (Ok(tokens), Ok(units)) => tokens.max(units),
            (Ok(tokens), Err(_)) => tokens,
            (Err(BoundError::Unpriced { .. }), Ok(units)) if !ask.units.is_none() => units,
            (Err(BoundError::Unpriced { .. }), Err(unit)) => return Err(unit),
            (Err(error), _) => return Err(error),
        };
        let tools = Cost::each(ask.tool_calls, fees.dearest_tool().unwrap_or(0));
        let request = Cost::each(1, fees.request.unwrap_or(0));
        tools
            .zip(request)
            .and_then(|(tools, request)| most.checked_add(tools)?.checked_add(request))
            .ok_or(BoundError::Range)
    }

    /// The model's own facts may stand on any of its rows; the largest figure counts.
    pub(crate) fn context_window(&self) -> Option<u64> {
        self.rows.iter().filter_map(|row| row.context_window).max()
    }

    pub(crate) fn output_max(&self) -> Option<u64> {
        self.rows.iter().filter_map(|row| row.output_max).max()
    }

    fn input_bound(&self, ask: &Ask<'_>) -> Result<u64, BoundError> {
        let inputs = ask.inputs.max(1);
        let window = self
            .context_window()
            .map(|window| window.saturating_mul(inputs));
        if ask.refers_outside {
            let assumed = ask
                .context_window_assumed
                .map(|window| window.saturating_mul(inputs));
            let window = window.or(assumed);
            return window.ok_or(BoundError::InputUnknown);
        }
        Ok(ask.body_bytes.min(window.unwrap_or(u64::MAX)))
    }

    fn output_bound(&self, ask: &Ask<'_>) -> Result<u64, BoundError> {
        let max = self.output_max();
        match ask.output {
            OutputLimit::Model => max
                .or(ask.output_max_assumed)
                .ok_or(BoundError::OutputUnknown),
            OutputLimit::Tokens(limit) => Ok(limit.min(max.unwrap_or(u64::MAX))),
            OutputLimit::NoOutput => Ok(0),
        }
    }

    /// Every row that [`Quote::charge`] may pick for up to so many input tokens.
    fn rows_reachable<'a>(
        &'a self,
        ask: &Ask<'_>,
        input_tokens: u64,
    ) -> impl Iterator<Item = &'a Price> + 'a {
        let requested = match ask.service_tier {
            // The provider's project settings decide what `auto` is, and the dearest they allow is this.
            None | Some("" | "auto") => Tier::new("priority"),
            Some(name) => Tier::new(name),
        };
        // A tier that was asked for may still be served, and charged, as the default one.
        self.rows
            .iter()
            .filter(move |row| row.tier == requested || row.tier.as_str() == Tier::DEFAULT)
            .filter(move |row| row.reached_by(input_tokens))
            .map(|row| &**row)
            .chain([self.first_default()])
    }
}

pub(crate) fn tokens_bound(
    rates: &Rates,
    input_tokens: u64,
    output_tokens: u64,
) -> Result<Cost, BoundError> {
    let input = dearest_cost(input_tokens, rates.dearest_input(), "input")?;
    let output = dearest_cost(output_tokens, rates.dearest_output(), "output")?;
    input.checked_add(output).ok_or(BoundError::Range)
}

/// At the dearest place it may be computed in, and the speed it asks for.
fn multiplied(cost: Cost, fees: &Fees, ask: &Ask<'_>) -> Option<Cost> {
    let speed_bps = fees.speed_bps(ask.speed).max(PLAIN_BPS);
    cost.times_bps(fees.dearest_region_bps(), speed_bps)
}

fn dearest_cost(tokens: u64, rate: Option<i64>, side: &'static str) -> Result<Cost, BoundError> {
    if tokens == 0 {
        return Ok(Cost::default());
    }
    Cost::new(tokens, rate.ok_or(BoundError::Unpriced { side })?).ok_or(BoundError::Range)
}
