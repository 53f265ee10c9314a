//! Tiers that the list has only for a model's undated name.
//!
//! OpenAI answers a request for `gpt-4o` as `gpt-4o-2024-08-06`, and a charge goes by the model that
//! answered. The list has priority and flex prices of some models under the undated name alone;
//! without them here, such an answer would be charged as the default tier, at half the price or less.

use std::collections::HashMap;

use tariff::{Pattern, Price, Tier};

use super::{PriceList, Warning};

type Models<'a> = HashMap<&'a str, Vec<&'a Price>>;

/// Gives dated names the tiers of their undated ones, where both cost the same at the default tier.
pub(super) fn take_tiers_of_aliases(list: &mut PriceList) {
    let mut models: Models<'_> = HashMap::new();
    for price in &list.prices {
        if let Pattern::Exact(name) = &price.pattern {
            models.entry(name).or_default().push(price);
        }
    }
    let mut added: Vec<Price> = Vec::new();
    for (dated, own) in &models {
        let alias = tariff::undated(dated).and_then(|name| models.get(name));
        let Some(alias) = alias.filter(|alias| base(alias) == base(own)) else {
            continue;
        };
        let missing = alias
            .iter()
            .filter(|price| !own.iter().any(|own| own.tier == price.tier));
        added.extend(missing.map(|price| Price {
            pattern: Pattern::new(dated),
            context_window: own.first().and_then(|own| own.context_window),
            output_max: own.first().and_then(|own| own.output_max),
            ..(*price).clone()
        }));
    }
    added.sort_by_cached_key(|price| {
        (
            price.pattern.to_string(),
            price.tier.as_str().to_owned(),
            price.min_context,
        )
    });
    let mut names: Vec<String> = added
        .iter()
        .map(|price| price.pattern.to_string())
        .collect();
    names.dedup();
    for name in names {
        list.report.warn(&name, Warning::TiersOfAlias);
    }
    list.prices.extend(added);
}

/// What the default tier costs for small inputs: by this an alias is known to be the same model.
fn base(prices: &[&Price]) -> Option<(Option<i64>, Option<i64>)> {
    let is_base = |price: &&&Price| price.tier == Tier::new("default") && price.min_context == 0;
    prices
        .iter()
        .find(is_base)
        .map(|price| (price.rates.in_text, price.rates.out_text))
}
