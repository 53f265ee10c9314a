//! One model of the list: its figures into price rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use tariff::{Amount, AmountError, Fees, Pattern, Price, PriceId, Rates, Tier};

use super::{
    LeftOut, Members, Options, Warning, fees,
    key::{self, Key},
};

/// 1,000 USD per 1,000,000 tokens, in nano-USD. The dearest real price is 600.
pub(crate) const RATE_MAX: i64 = 1_000_000_000_000;

/// A price per token times this power of ten is the price per 1,000,000.
const PER_MILLION_LOG10: u32 = 6;

/// The list's own documentation stands under this provider.
const SAMPLE_PROVIDER: &str = "one of ";

/// A model that became rows.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) prices: Vec<Price>,
    pub(super) warnings: BTreeSet<Warning>,
    /// The list's own keys.
    pub(super) figures_left_out: BTreeSet<String>,
}

/// The figures as they are listed, by tier and context size.
type Listed = BTreeMap<(&'static str, u64), Rates>;

const BASE: (&str, u64) = ("default", 0);

/// Whether the entry is of a provider that was asked for.
pub(super) fn is_wanted(value: &RawValue, options: &Options) -> bool {
    let members = members(value);
    let provider = members
        .as_ref()
        .and_then(|members| text(members, "litellm_provider"));
    options.providers.is_empty()
        || options
            .providers
            .iter()
            .any(|wanted| Some(&**wanted) == provider)
}

/// Reads one model.
pub(super) fn read(model: &str, value: &RawValue, options: &Options) -> Result<Entry, LeftOut> {
    let members = members(value).ok_or(LeftOut::NoPrice)?;
    let provider = text(&members, "litellm_provider").unwrap_or_default();
    let mode = text(&members, "mode").unwrap_or_default();
    if provider.starts_with(SAMPLE_PROVIDER) {
        return Err(LeftOut::Sample);
    }
    if !is_wanted(value, options) {
        return Err(LeftOut::OtherProvider);
    }
    if model.ends_with('*') {
        return Err(LeftOut::LooksLikePattern);
    }
    let mut entry = Entry {
        prices: Vec::new(),
        warnings: BTreeSet::new(),
        figures_left_out: BTreeSet::new(),
    };
    let mut listed = figures(&members, mode, &mut entry)?;
    let by_token = listed.values().any(|rates| !rates.is_none());
    let fees = fees::read(&members, mode, by_token)?;
    distrust_cheap_cache_writes(&mut listed, &mut entry.warnings);
    check(&listed, &fees, mode, &members, options, &mut entry.warnings)?;
    listed.entry(BASE).or_default();
    let converses = by_token && matches!(mode, "chat" | "responses" | "realtime");
    if converses
        && listed
            .get(&BASE)
            .is_some_and(|rates| rates.cr_text.is_none())
    {
        entry.warnings.insert(Warning::NoCacheRead);
    }
    let facts = Facts::read(&members, mode, converses, &listed, &mut entry.warnings);
    for ((tier, min_context), rates) in filled(&listed, &mut entry.warnings) {
        entry.prices.push(Price {
            id: PriceId(0),
            pattern: Pattern::Exact(model.into()),
            tier: Tier::new(tier),
            min_context,
            // xAI says "at or above" where the others say "above".
            context_inclusive: provider == "xai" && min_context > 0,
            valid_from_ms: 0,
            valid_to_ms: None,
            rates,
            // The other tiers and sizes fall back to these.
            fees: if (tier, min_context) == BASE {
                fees.clone()
            } else {
                Fees::default()
            },
            context_window: facts.context_window,
            output_max: facts.output_max,
        });
    }
    Ok(entry)
}

/// Every figure that has a place in a price row; the keys of those that have none go into the entry.
fn figures(members: &Members<'_>, mode: &str, entry: &mut Entry) -> Result<Listed, LeftOut> {
    let by_token = members.0.iter().any(|(key, _)| Key::parse(key).is_some());
    let realtime = mode == "realtime";
    let mut listed = Listed::new();
    let mut stand_ins = Vec::new();
    for (key, value) in &members.0 {
        if let Some(place) = Key::parse(key) {
            if let Some(rate) = rate(key, value)? {
                let slot =
                    (place.bucket)(listed.entry((place.tier, place.min_context)).or_default());
                if slot.replace(rate).is_some_and(|other| other != rate) {
                    return Err(LeftOut::Unreadable(key.to_string()));
                }
            }
        } else if let Some(place) = Key::parse_stand_in(key, realtime) {
            stand_ins.extend(rate(key, value)?.map(|rate| (place, rate)));
        } else if key::is_price(key) && !fees::is_read(key, mode, by_token) && !is_zero(value) {
            entry.figures_left_out.insert(key.to_string());
        }
    }
    for (place, rate) in stand_ins {
        let rates = listed.entry((place.tier, place.min_context)).or_default();
        let slot = (place.bucket)(rates);
        *slot = slot.or(Some(rate));
    }
    Ok(listed)
}

/// A figure in nano-USD per 1,000,000; `None` for `null`.
fn rate(key: &str, value: &RawValue) -> Result<Option<i64>, LeftOut> {
    let unreadable = || LeftOut::Unreadable(key.to_owned());
    let text = value.get().trim_matches('"');
    if text == "null" {
        return Ok(None);
    }
    match Amount::parse_scaled(text, PER_MILLION_LOG10) {
        Ok(amount) if amount >= Amount::ZERO => Ok(Some(amount.nano())),
        Err(AmountError::Range) => Err(LeftOut::Absurd),
        _ => Err(unreadable()),
    }
}

/// Whether the value is a zero in any spelling, which leaves nothing to report.
fn is_zero(value: &RawValue) -> bool {
    value.get() == "null" || Amount::parse_scaled(value.get(), 0) == Ok(Amount::ZERO)
}

/// Providers charge cache writes at the input price or above. A lower figure is in truth the price of
/// reading (old Azure and fine-tuned entries), or a zero that means "there are none" (DeepSeek).
fn distrust_cheap_cache_writes(listed: &mut Listed, warnings: &mut BTreeSet<Warning>) {
    for rates in listed.values_mut() {
        for write in [&mut rates.cw_5m, &mut rates.cw_1h] {
            if write.is_some_and(|write| Some(write) < rates.in_text) {
                *write = None;
                warnings.insert(Warning::CacheWriteBelowInput);
            }
        }
    }
}

fn check(
    listed: &Listed,
    fees: &Fees,
    mode: &str,
    members: &Members<'_>,
    options: &Options,
    warnings: &mut BTreeSet<Warning>,
) -> Result<(), LeftOut> {
    let base = listed.get(&BASE).copied().unwrap_or_default();
    let priced = members
        .0
        .iter()
        .any(|(key, value)| key::is_price(key) && !is_zero(value));
    if fees::is_absurd(fees) {
        if !options.allow_absurd {
            return Err(LeftOut::Absurd);
        }
        warnings.insert(Warning::Absurd);
    }
    if base.in_text.is_none() && fees::are_enough(fees) {
        return Ok(());
    }
    if base.in_text.is_none() {
        return Err(if priced {
            LeftOut::OtherUnit
        } else {
            LeftOut::NoPrice
        });
    }
    let outputs = [
        base.out_text,
        base.out_reasoning,
        base.out_audio,
        base.out_image,
    ];
    if outputs.iter().all(Option::is_none) && mode != "embedding" && !fees::are_enough(fees) {
        return Err(LeftOut::NoOutputPrice);
    }
    let all = || {
        listed
            .values()
            .flat_map(|rates| key::buckets().filter_map(|bucket| *bucket(&mut { *rates })))
    };
    if all().any(|rate| rate > RATE_MAX) {
        if !options.allow_absurd {
            return Err(LeftOut::Absurd);
        }
        warnings.insert(Warning::Absurd);
    }
    if all().all(|rate| rate == 0) && fees.is_none() {
        warnings.insert(Warning::Free);
    }
    Ok(())
}

/// The rows: every tier at every context size, with what the list leaves out filled in.
///
/// A figure missing for a tier at a context size is the dearest of its neighbours: the same tier's at
/// size zero, the default tier's at the same size and at size zero. So no row is cheaper than what is
/// known (a flex tier without long-context prices costs as the default one there).
fn filled(
    listed: &Listed,
    warnings: &mut BTreeSet<Warning>,
) -> BTreeMap<(&'static str, u64), Rates> {
    let places: BTreeSet<(&'static str, u64)> = listed
        .keys()
        .flat_map(|&(tier, size)| {
            let sizes_of_default = listed.keys().filter(|(other, _)| *other == BASE.0);
            [(tier, 0), (tier, size)]
                .into_iter()
                .chain(sizes_of_default.map(move |&(_, size)| (tier, size)))
        })
        .collect();
    let fill = |(tier, size): (&'static str, u64)| {
        let mut rates = listed.get(&(tier, size)).copied().unwrap_or_default();
        for bucket in key::buckets() {
            let neighbours = [(tier, 0), (BASE.0, size), BASE];
            let dearest = neighbours
                .iter()
                .filter_map(|place| *bucket(&mut { *listed.get(place)? }))
                .max();
            let slot = bucket(&mut rates);
            if slot.is_none() && dearest.is_some() {
                *slot = dearest;
                warnings.insert(Warning::Filled);
            }
        }
        ((tier, size), rates)
    };
    places.into_iter().map(fill).collect()
}

/// What the model takes and gives at most.
struct Facts {
    context_window: Option<u64>,
    output_max: Option<u64>,
}

impl Facts {
    fn read(
        members: &Members<'_>,
        mode: &str,
        converses: bool,
        listed: &Listed,
        warnings: &mut BTreeSet<Warning>,
    ) -> Self {
        // Elsewhere a request may hold many inputs (embeddings, legacy completions), each as large as the
        // listed maximum: that does not bound their sum.
        let context_window = if converses {
            count(members, "max_input_tokens")
        } else {
            None
        };
        let old_maximum = || {
            if converses {
                count(members, "max_tokens")
            } else {
                None
            }
        };
        let output_max = count(members, "max_output_tokens").or_else(old_maximum);
        if converses && context_window.is_none() {
            warnings.insert(Warning::NoContextWindow);
        }
        if (converses || mode == "completion") && output_max.is_none() {
            warnings.insert(Warning::NoOutputMax);
        }
        if listed
            .keys()
            .any(|(_, size)| context_window.is_some_and(|window| *size >= window))
        {
            warnings.insert(Warning::ContextBeyondWindow);
        }
        Self {
            context_window,
            output_max,
        }
    }
}

/// A positive whole number, also when it is spelled `2000000.0`.
fn count(members: &Members<'_>, name: &str) -> Option<u64> {
    let text = find(members, name)?.get();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let count = whole.parse().ok().filter(|count| *count > 0)?;
    fraction.bytes().all(|digit| digit == b'0').then_some(count)
}

pub(super) fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn text<'a>(members: &Members<'a>, name: &str) -> Option<&'a str> {
    serde_json::from_str(find(members, name)?.get()).ok()
}

pub(super) fn find<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    members
        .0
        .iter()
        .rfind(|(key, _)| key == name)
        .map(|(_, value)| *value)
}
