//! From what a meter read to a charge: which price, how much, and how honest the figure is.

use std::{sync::Arc, time::Duration};

use ledger::{
    AccountId, Catalog, Charge, CostBy, End, Mark, NewObject, TokenId, UpstreamId, UpstreamKeyId,
};
use meter::{Api, Reading, RequestFacts};
use tariff::{
    Amount, Book, Buckets, Flags, Line, PriceId, ProviderCost, Quote, Units, Usage, undated,
};
use tracing::error;

use crate::{endpoint::Kind, units};

/// What was settled about an exchange before its last request byte went up.
pub(crate) struct Admitted {
    pub(crate) api: Api,
    /// The snapshot it was priced by; later price changes do not move it.
    pub(crate) catalog: Arc<Catalog>,
    /// What prices the model the client named.
    pub(crate) quote: Quote,
    pub(crate) facts: RequestFacts,
    pub(crate) model: String,
    pub(crate) endpoint: &'static str,
    /// Input tokens by tokenizer, where the answer will not report them; else by bytes.
    pub(crate) input_tokens_estimate: u64,
    /// How long the uploaded audio plays, where its answer may not say.
    pub(crate) file_ms: Option<u64>,
    pub(crate) started_at_ms: i64,
    /// Whose figure is charged.
    pub(crate) cost: CostBy,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) upstream_key: Option<UpstreamKeyId>,
    /// What the provider keeps of its answer, and whose it is then.
    pub(crate) keeps: Option<Keeps>,
}

/// Whose an answer is that the provider keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeps {
    pub(crate) kind: Kind,
    /// Only its parts are, so that one without any is not noted.
    pub(crate) only_parts: bool,
    pub(crate) account: AccountId,
    pub(crate) token: TokenId,
}

/// For how long providers keep answers.
const ANSWERS_KEPT: Duration = Duration::from_hours(30 * 24);

impl Admitted {
    /// What the provider keeps under this id, and of it under others.
    pub(crate) fn object(&self, id: &str, parts: &[String]) -> Option<Box<NewObject>> {
        let Keeps {
            kind,
            only_parts,
            account,
            token,
        } = self.keeps?;
        let object = NewObject {
            id: id.to_owned(),
            kind: kind.name().into(),
            account,
            token,
            upstream: self.upstream,
            upstream_key: self.upstream_key,
            model: Some(self.model.clone()),
            parent: None,
            facts: None,
            kept: Some(ANSWERS_KEPT),
        }
        .with_parts(parts);
        (!only_parts || object.facts.is_some()).then(|| Box::new(object))
    }
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

/// The charge for what was read, at most `held`. `None` when nothing was used: the answer is empty, or an
/// error without usage and without output.
pub(crate) fn reckon(
    admitted: &Admitted,
    reading: Reading,
    held: Amount,
    passage: Passage,
) -> Option<Charge> {
    let (mut usage, mut mark) = used(admitted, &reading, &passage)?;
    if let Some(line) = usage.lines.first_mut() {
        line.units.requests = 1;
    }
    units::size_searches(&mut usage, admitted.facts.search_size);
    let model_answered = reading.model;
    let priced = price(admitted, &usage, model_answered.as_deref());
    let told = usage.provider_cost;
    let cost = told.and_then(|told| admitted.cost.of(told));
    if cost.is_some() && mark == Mark::Measured && admitted.cost != CostBy::Price {
        mark = Mark::ProviderCost;
    }
    let (mut amount, price, flags) = match (priced, mark, cost) {
        // Where it is the provider's figure that counts, a model it chose may have no price here.
        (priced, Mark::ProviderCost, Some(cost)) => {
            let price = priced.map_or(admitted.quote.default_price(), |sum| sum.price);
            (cost, price, usage.flags)
        }
        // Nothing could be read, so nothing can be reckoned: the bound is the one estimate that is not too small.
        (Ok(sum), ..) if reading.lost && mark == Mark::Estimated => (held, sum.price, usage.flags),
        (Ok(sum), ..) => (sum.amount, sum.price, sum.flags | usage.flags),
        (Err(reason), ..) => {
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
        endpoint: admitted.endpoint.into(),
        service_tier: usage.service_tier.clone(),
        stream: admitted.facts.stream,
        buckets: usage.total(),
        usage_raw: with_units(
            reading.usage_raw,
            usage.lines.first().map(|line| &line.units),
        ),
        flags,
        provider_cost: told.and_then(ProviderCost::amount),
        status: passage.status,
        end: passage.end,
        upstream: admitted.upstream,
        upstream_key: admitted.upstream_key,
        object: reading
            .response_id
            .as_deref()
            .and_then(|id| admitted.object(id, &reading.parts)),
        response_id: reading.response_id,
        key: None,
        started_at_ms: admitted.started_at_ms,
        head_after_ms: Some(passage.head_after_ms),
        first_byte_after_ms: passage.first_byte_after_ms,
        ended_after_ms: passage.ended_after_ms,
    })
}

/// What was used, and how that is known. `None`: nothing was.
fn used(admitted: &Admitted, reading: &Reading, passage: &Passage) -> Option<(Usage, Mark)> {
    let seen = reading.output_tokens_seen;
    let Some(usage) = &reading.usage else {
        let is_empty = passage.first_byte_after_ms.is_none();
        let is_nothing = is_empty || (reading.is_error && seen == 0 && !reading.lost);
        if is_nothing {
            return None;
        }
        return Some(match unreported(admitted, reading) {
            Some((line, is_known)) => {
                let is_whole = is_known && passage.end == End::Complete;
                let mark = if is_whole {
                    Mark::Measured
                } else {
                    Mark::Estimated
                };
                let usage = Usage {
                    lines: vec![line],
                    ..Usage::default()
                };
                (usage, mark)
            }
            None => (estimate(admitted, seen), Mark::Estimated),
        });
    };
    let total = usage.total();
    // Some report usage with every frame: in a stream that broke off the last of them is not the whole.
    let is_whole = reading.complete || reading.finished || passage.end == End::Complete;
    if !is_whole && seen > total.output() {
        let mut usage = usage.clone();
        if let Some(line) = usage.lines.first_mut() {
            let more = seen.saturating_sub(total.output());
            line.buckets.out_text = line.buckets.out_text.saturating_add(more);
        }
        return Some((usage, Mark::Estimated));
    }
    let units = usage.lines.iter().all(|line| line.units.is_none());
    let says_only_cost =
        total.total() == 0 && units && usage.provider_cost > Some(ProviderCost::ZERO);
    let mark = if says_only_cost {
        Mark::ProviderCost
    } else {
        Mark::Measured
    };
    Some((usage.clone(), mark))
}

/// What an endpoint that may report nothing has used, by its request and by what its answer is.
fn unreported(admitted: &Admitted, reading: &Reading) -> Option<(Line, bool)> {
    units::unreported(
        admitted.api,
        &admitted.quote,
        &admitted.facts,
        reading,
        admitted.file_ms,
        admitted.input_tokens_estimate,
    )
}

/// The provider's usage object, unchanged; where it told none, what was charged beside tokens, so that a charge can be reckoned
/// again from its row.
fn with_units(raw: Option<String>, units: Option<&Units>) -> Option<String> {
    if raw.is_some() {
        return raw;
    }
    let named = units.into_iter().flat_map(Units::named);
    let counts: Vec<String> = named
        .filter(|(name, _)| *name != "requests")
        .map(|(name, count)| format!("\"{name}\":{count}"))
        .collect();
    (!counts.is_empty()).then(|| format!("{{\"turnpike_units\":{{{}}}}}", counts.join(",")))
}

/// Usage where none was reported: the tokenizer's count of what went up and of what came down, at the tier asked for.
fn estimate(admitted: &Admitted, output_tokens: u64) -> Usage {
    let buckets = Buckets {
        in_text: admitted.input_tokens_estimate,
        out_text: output_tokens,
        ..Buckets::default()
    };
    Usage {
        lines: vec![Line {
            buckets,
            ..Line::default()
        }],
        service_tier: admitted.facts.service_tier.clone(),
        ..Usage::default()
    }
}

/// The rows for a line. The answer's own model name decides where it has a price of its own (its exact name, or its
/// name less the date), else the name that was asked for. Of a name and its dated form, the price set last decides:
/// an operator who prices `gpt-4o` anew means the answers that call themselves `gpt-4o-2024-08-06` as well.
fn quote_for(admitted: &Admitted, answered: Option<&str>) -> Quote {
    quote_of(
        admitted.catalog.book(),
        (&admitted.quote, &admitted.model),
        answered,
        admitted.started_at_ms,
    )
}

/// The same for whoever has no exchange: the rows and the name of the model that was asked for, and the one that answered.
pub(crate) fn quote_of(
    book: &Book,
    (asked, model): (&Quote, &str),
    answered: Option<&str>,
    at_ms: i64,
) -> Quote {
    let own = answered.and_then(|model| book.quote_named(model, at_ms));
    let is_dated_form = answered.and_then(undated) == Some(model);
    match own {
        Some(own) if !(is_dated_form && set_ms(asked) > set_ms(&own)) => own,
        _ => asked.clone(),
    }
}

/// When the youngest of these rows was set, in milliseconds since the epoch.
fn set_ms(quote: &Quote) -> Option<i64> {
    quote.rows().iter().map(|row| row.valid_from_ms).max()
}

/// Prices each line and adds them up.
fn price(admitted: &Admitted, usage: &Usage, answered: Option<&str>) -> Result<Sum, String> {
    let mut sum: Option<Sum> = None;
    for line in &usage.lines {
        let quote = quote_for(admitted, line.model.as_deref().or(answered));
        let charged = quote
            .charge(line, usage.served())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stand_where_the_provider_told_no_figures() {
        let units = Units {
            images: 2,
            requests: 1,
            ..Units::default()
        };
        let with = |raw: Option<&str>| with_units(raw.map(str::to_owned), Some(&units));
        let alone = Some(r#"{"turnpike_units":{"images":2}}"#.to_owned());
        assert_eq!(with(None), alone);
        assert_eq!(with(Some(r#"{"a": 1}"#)).as_deref(), Some(r#"{"a": 1}"#));
        let none = Units {
            requests: 1,
            ..Units::default()
        };
        assert_eq!(with_units(None, Some(&none)), None);
    }
}
