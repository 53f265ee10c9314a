//! Reads the public price list (`config/model_prices.json`, the grammar of litellm's file) into price rows.
//!
//! Figures are read as decimal text, never as floats. A model is either in the rows or in the report,
//! and a figure of an imported model that has no place in a price row is in the report as well.
//!
//! Rows keep the list's own key as model name (`gpt-4o`, `azure/gpt-4o`, `xai/grok-3`), since that is
//! what makes them unambiguous. Who serves one provider under its own names imports that provider
//! alone with its prefix cut off ([`Options::providers`], [`Options::strip_prefixes`]).

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use tariff::Price;

pub(crate) use self::entry::RATE_MAX;
pub(crate) use self::report::{LeftOut, Report, Warning};

mod dated;
mod entry;
mod fees;
mod images;
mod key;
mod report;
mod videos;

/// What to take from the list, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only these providers, by the list's own names (`openai`, `anthropic`, …); empty takes all.
    pub(crate) providers: Vec<String>,
    /// Prefixes cut off model names, with the slash after them: `xai` makes `xai/grok-3` `grok-3`.
    /// A name that the list has without prefix stays with the model that bears it.
    pub(crate) strip_prefixes: Vec<String>,
    /// Takes prices above [`entry::RATE_MAX`] too.
    pub(crate) allow_absurd: bool,
}

/// The rows of a price list, and what is not in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PriceList {
    /// One row for each model, tier and context size. `id` is 0 and `valid_from_ms` is 0: not yet stored.
    pub(crate) prices: Vec<Price>,
    /// What was left out, and what deserves a look.
    pub(crate) report: Report,
}

/// The file is no price list.
#[derive(Debug, thiserror::Error)]
#[error("not a price list: expected a JSON object with an object for each model")]
pub(crate) struct PriceListError(#[from] serde_json::Error);

/// Reads a price list.
///
/// # Errors
/// When the text is not a JSON object. What is wrong with a single model is in the report.
pub(crate) fn read(text: &str, options: &Options) -> Result<PriceList, PriceListError> {
    let models: Members<'_> = serde_json::from_str(text)?;
    let mut list = PriceList::default();
    let names = Names::new(&models, options);
    let mut images = images::Images::default();
    for (at, (key, value)) in models.0.iter().enumerate() {
        let model = names.name(key);
        let yields = names.owners.get(model).is_some_and(|&owner| owner != at);
        let read = if yields && entry::is_wanted(value, options) {
            Err(LeftOut::NameTaken)
        } else if entry::is_wanted(value, options)
            && let Some(reason) = images.take(model, value)
        {
            Err(reason)
        } else {
            entry::read(model, value, options)
        };
        match read {
            Ok(entry) => {
                list.report.imported(key, &entry);
                list.prices.extend(entry.prices);
            }
            Err(reason) => list.report.left_out(key, reason),
        }
    }
    images.add_to(&mut list);
    videos::take_sizes(&mut list);
    dated::take_tiers_of_aliases(&mut list);
    Ok(list)
}

/// Which entry of the list bears which model name.
struct Names<'a> {
    options: &'a Options,
    owners: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn new(models: &'a Members<'_>, options: &'a Options) -> Self {
        let mut names = Self {
            options,
            owners: HashMap::new(),
        };
        let wanted = models
            .0
            .iter()
            .enumerate()
            .filter(|(_, (_, value))| entry::is_wanted(value, options));
        // Of two equal keys the later one counts, as in every JSON parser; a name that had to be cut
        // out of a key yields to a key, and to an earlier one that was cut.
        for (at, (key, _)) in wanted.clone() {
            if names.name(key) == &**key {
                names.owners.insert(key, at);
            }
        }
        for (at, (key, _)) in wanted {
            let name = names.name(key);
            names.owners.entry(name).or_insert(at);
        }
        names
    }

    fn name<'k>(&self, key: &'k str) -> &'k str {
        let cut = |prefix: &String| key.strip_prefix(&**prefix)?.strip_prefix('/');
        self.options
            .strip_prefixes
            .iter()
            .find_map(cut)
            .filter(|name| !name.is_empty())
            .unwrap_or(key)
    }
}

/// The members of a JSON object in their order, repeated ones too, their values unread.
#[derive(Debug)]
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((Cow::Owned(key), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests;
