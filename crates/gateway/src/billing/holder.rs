//! What the page `/usage` shows the holder of an access token.

use ledger::{
    AccessToken,
    report::{DayRow, Holder, Span},
};
use serde::Serialize;

use super::{query::invalid, subscription::json};
use crate::{console::Range, refusal::Refusal};

#[derive(Serialize)]
struct Standing<'a> {
    #[serde(flatten)]
    holder: &'a Holder,
    rates: Rates,
    since_s: i64,
    until_s: i64,
    days: Vec<Day<'a>>,
}

/// How often and how much at once; `None` for no limit.
#[derive(Serialize)]
struct Rates {
    requests_per_second: Option<u32>,
    requests_per_minute: Option<u32>,
    requests_per_hour: Option<u32>,
    tokens_per_minute: Option<u64>,
    concurrent_exchanges: Option<u32>,
}

#[derive(Serialize)]
struct Day<'a> {
    at_s: i64,
    name: &'a str,
    exchanges: i64,
    input_tokens: i64,
    cached_tokens: i64,
    output_tokens: i64,
    /// Nano-USD, as a text.
    amount: String,
}

/// The days that the page asks for.
///
/// # Errors
/// 400 for a name that stands for none.
pub(super) fn range(name: Option<&str>) -> Result<Range, Refusal> {
    match Range::named(name.unwrap_or("30d")) {
        Ok(range @ Range::Days(_)) => Ok(range),
        _ => Err(invalid("range", "can be 7d, 30d, 90d or 365d")),
    }
}

/// Balance, caps and rates, and what was used by day and model.
pub(super) fn standing(
    holder: &Holder,
    token: &AccessToken,
    span: Span,
    days: &[DayRow],
) -> String {
    let rates = token.rates();
    json(&Standing {
        holder,
        rates: Rates {
            requests_per_second: rates.requests_per_second,
            requests_per_minute: rates.requests_per_minute,
            requests_per_hour: rates.requests_per_hour,
            tokens_per_minute: rates.tokens_per_minute,
            concurrent_exchanges: rates.concurrent_exchanges,
        },
        since_s: span.since_s,
        until_s: span.until_s,
        days: days.iter().map(day).collect(),
    })
}

fn day(row: &DayRow) -> Day<'_> {
    Day {
        at_s: row.day_s,
        name: &row.model,
        exchanges: row.exchanges,
        input_tokens: row.input_tokens,
        cached_tokens: row.cached_tokens,
        output_tokens: row.output_tokens,
        amount: row.amount.nano().to_string(),
    }
}
