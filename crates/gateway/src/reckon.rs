//! From what a meter read to a charge: which price, how much, and how honest the figure is.

use std::sync::Arc;

use ledger::{Catalog, Charge, End, Mark, UpstreamId, UpstreamKeyId};
use meter::{Reading, RequestFacts};
use tariff::{Amount, Buckets, Flags, Line, PriceId, Quote, Usage};
use tracing::error;

/// What was settled about an exchange before its last request byte went up.
pub(crate) struct Admitted {
    /// The snapshot it was priced by; later price changes do not move it.
    pub(crate) catalog: Arc<Catalog>,
    /// What prices the model the client named.
    pub(crate) quote: Quote,
    pub(crate) facts: RequestFacts,
    pub(crate) model: String,
    pub(crate) endpoint: &'static str,
    /// Input tokens by tokenizer, where the answer will not report them; else by bytes.
    pub(crate) input_tokens_estimate: u64,
    pub(crate) started_at_ms: i64,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) upstream_key: Option<UpstreamKeyId>,
}

/// How the answer went by, for the charge row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    pub(crate) status: u16,
    pub(crate) end: End,
    pub(crate) head_after_ms: u32,
    pub(crate) first_byte_after_ms: Option<u32>,
    pub(crate) ended_after_ms: u32,
}

/// A sum over lines, and the row that priced the first of them.
struct Sum {
    amount: Amount,
    price: PriceId,
    flags: Flags,
}

/// The charge for what was read, at most `held`. `None` when nothing was used: the answer is an error
/// without usage and without output.
pub(crate) fn reckon(
    admitted: &Admitted,
    reading: Reading,
    held: Amount,
    passage: Passage,
) -> Option<Charge> {
    let (usage, mut mark) = match reading.usage {
        Some(usage) => (usage, Mark::Measured),
        None if reading.is_error && reading.output_tokens_seen == 0 => return None,
        None => (
            estimate(admitted, reading.output_tokens_seen),
            Mark::Estimated,
        ),
    };
    let model_answered = reading.model;
    let priced = price(admitted, &usage, model_answered.as_deref());
    let (mut amount, price, flags) = match priced {
        Ok(sum) => (sum.amount, sum.price, sum.flags | usage.flags),
        Err(reason) => {
            // The hold was an upper bound over every rate of the row: it is the one figure that is safe.
            error!(
                model = admitted.model,
                answered = model_answered,
                reason,
                "charge.unpriced: charging the bound; see this model's price row"
            );
            mark = Mark::Bounded;
            (held, admitted.quote.default_price(), usage.flags)
        }
    };
    if amount > held {
        mark = Mark::Bounded;
        amount = held;
    }
    Some(Charge {
        price,
        amount,
        mark,
        model_requested: admitted.model.clone(),
        model_answered,
        endpoint: admitted.endpoint,
        service_tier: usage.service_tier.clone(),
        stream: admitted.facts.stream,
        buckets: usage.total(),
        usage_raw: reading.usage_raw,
        flags,
        provider_cost: usage.provider_cost,
        status: passage.status,
        end: passage.end,
        upstream: admitted.upstream,
        upstream_key: admitted.upstream_key,
        response_id: reading.response_id,
        started_at_ms: admitted.started_at_ms,
        head_after_ms: Some(passage.head_after_ms),
        first_byte_after_ms: passage.first_byte_after_ms,
        ended_after_ms: passage.ended_after_ms,
    })
}

/// Usage where none was reported: the tokenizer's count of what went up and of what came down.
fn estimate(admitted: &Admitted, output_tokens: u64) -> Usage {
    let buckets = Buckets {
        in_text: admitted.input_tokens_estimate,
        out_text: output_tokens,
        ..Buckets::default()
    };
    Usage {
        lines: vec![Line {
            model: None,
            buckets,
        }],
        ..Usage::default()
    }
}

/// Prices each line by the model that answered it where that model has a price of its own (its exact
/// name, or its name less the date), else by the model that was asked for.
fn price(admitted: &Admitted, usage: &Usage, answered: Option<&str>) -> Result<Sum, String> {
    let mut sum: Option<Sum> = None;
    for line in &usage.lines {
        let model = line.model.as_deref().or(answered);
        let own = model.and_then(|model| {
            admitted
                .catalog
                .book()
                .quote_named(model, admitted.started_at_ms)
        });
        let charged = own
            .as_ref()
            .unwrap_or(&admitted.quote)
            .charge(line, usage.service_tier.as_deref())
            .map_err(|error| error.to_string())?;
        sum = Some(match sum {
            None => Sum {
                amount: charged.amount,
                price: charged.price,
                flags: charged.flags,
            },
            Some(sum) => Sum {
                amount: sum
                    .amount
                    .checked_add(charged.amount)
                    .ok_or("the charge is larger than any amount")?,
                flags: sum.flags | charged.flags,
                ..sum
            },
        });
    }
    sum.ok_or_else(|| "usage without a line".to_owned())
}
