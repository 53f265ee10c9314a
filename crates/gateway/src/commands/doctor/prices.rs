//! What the doctor thinks of the prices in force.

use std::collections::BTreeMap;

use ledger::{LedgerError, admin::Admin};
use tariff::{Price, Rates};

use super::{super::now_ms, Finding, some};
use crate::price_list::RATE_MAX;

/// Input dearer than output by more than this is a mistake of units.
const INPUT_TO_OUTPUT_MAX: i64 = 100;
/// What the names of models without output have in them.
const NO_OUTPUT: [&str; 6] = ["embed", "moderation", "rerank", "bge-", "ada", "similarity"];

pub(super) async fn look(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let now_ms = now_ms();
    let prices = admin.prices().await?;
    let in_force: Vec<&Price> = prices
        .iter()
        .filter(|price| {
            price.valid_from_ms <= now_ms && price.valid_to_ms.is_none_or(|end| now_ms < end)
        })
        .collect();
    if in_force.is_empty() {
        return Ok(vec![Finding::risk(
            "prices.none",
            "no price is in force: every request is refused",
            "`turnpike price import`, or `turnpike price set MODEL --input USD --output USD --output-max TOKENS`",
        )]);
    }
    let mut found = absurd(&in_force);
    found.extend(unbounded(&in_force, admin.capped_tokens().await?));
    Ok(found)
}

fn absurd(prices: &[&Price]) -> Vec<Finding> {
    let names = |is_so: fn(&Price) -> bool| -> Vec<String> {
        let mut names: Vec<String> = prices
            .iter()
            .filter(|price| is_so(price))
            .map(|price| name(price))
            .collect();
        names.dedup();
        names
    };
    let correct = |model: &str| {
        format!(
            "`turnpike price set '{model}' --input USD --output USD` with USD per 1,000,000 tokens; see `turnpike price list`"
        )
    };
    [
        (
            "more than 1,000 USD per 1,000,000 tokens",
            names(is_too_dear),
        ),
        (
            "input dearer than output by more than 100 times",
            names(is_upside_down),
        ),
        ("output for nothing", names(is_output_free)),
    ]
    .into_iter()
    .filter_map(|(what, models)| {
        let first = models.first()?;
        let remedy = correct(first);
        Some(Finding::risk(
            "prices.absurd",
            format!("{what}: {}", some(&models)),
            remedy,
        ))
    })
    .collect()
}

/// The pattern, and the tier where it is not the usual one.
fn name(price: &Price) -> String {
    match price.tier.as_str() {
        "default" => price.pattern.to_string(),
        tier => format!("{} ({tier})", price.pattern),
    }
}

fn is_too_dear(price: &Price) -> bool {
    every(&price.rates).any(|rate| rate > RATE_MAX)
}

fn is_upside_down(price: &Price) -> bool {
    match (price.rates.in_text, price.rates.out_text) {
        (Some(input), Some(output)) => {
            output > 0 && input > output.saturating_mul(INPUT_TO_OUTPUT_MAX)
        }
        _ => false,
    }
}

/// A price for input, and 0 for the output of a model that by its name has one.
fn is_output_free(price: &Price) -> bool {
    let model = price.pattern.to_string();
    price.rates.in_text > Some(0)
        && price.rates.out_text == Some(0)
        && !NO_OUTPUT.iter().any(|part| model.contains(part))
}

/// Models whose requests have no bound of their own. A model's facts may stand on any of its rows.
fn unbounded(prices: &[&Price], capped_tokens: i64) -> Option<Finding> {
    let mut models: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for price in prices {
        let (window, output) = models.entry(price.pattern.to_string()).or_insert((
            false, // What costs nothing and is not there needs no bound.
            true,
        ));
        *window |= price.context_window.is_some();
        *output &= !has_output(&price.rates);
    }
    for price in prices {
        if price.output_max.is_some()
            && let Some((_, output)) = models.get_mut(&price.pattern.to_string())
        {
            *output = true;
        }
    }
    let lacking: Vec<String> = models
        .into_iter()
        .filter(|(_, (window, output))| !(*window && *output))
        .map(|(model, _)| model)
        .collect();
    let first = lacking.first()?;
    let what = format!(
        "no context window or no output maximum for {} models: {}",
        lacking.len(),
        some(&lacking)
    );
    let remedy = format!(
        "`turnpike price set '{first}' --input USD --output USD --context-window TOKENS --output-max TOKENS`, or `turnpike price import`"
    );
    Some(if capped_tokens > 0 {
        Finding::risk(
            "prices.unbounded",
            format!(
                "{what}; {capped_tokens} access tokens have a cap, so their requests for these without a limit of their own are refused"
            ),
            remedy,
        )
    } else {
        Finding::note(
            "prices.unbounded",
            format!("{what}; what OUTPUT_MAX_ASSUMED and CONTEXT_WINDOW_ASSUMED say is assumed"),
            remedy,
        )
    })
}

fn has_output(rates: &Rates) -> bool {
    [
        rates.out_text,
        rates.out_reasoning,
        rates.out_audio,
        rates.out_image,
    ]
    .into_iter()
    .flatten()
    .any(|rate| rate > 0)
}

fn every(rates: &Rates) -> impl Iterator<Item = i64> {
    [
        rates.in_text,
        rates.in_audio,
        rates.in_image,
        rates.cr_text,
        rates.cr_audio,
        rates.cr_image,
        rates.cw_5m,
        rates.cw_1h,
        rates.out_text,
        rates.out_reasoning,
        rates.out_audio,
        rates.out_image,
    ]
    .into_iter()
    .flatten()
}
