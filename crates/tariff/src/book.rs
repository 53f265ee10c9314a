//! The price table as a snapshot, and which rows of it price an exchange.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{Pattern, Price, Tier};

/// All prices, looked up by model name.
///
/// A lookup hashes the name a few times and searches one pattern's timeline by halves, however many
/// models and superseded versions there are. A pattern prices nothing at instants at which it has
/// no row of the default tier: every other tier falls back to that one.
#[derive(Debug, Default)]
pub struct Book {
    exact: HashMap<Box<str>, Timeline>,
    prefixes: HashMap<Box<str>, Timeline>,
    /// The lengths that occur among `prefixes`, longest first, so that the longest match is found first.
    prefix_lengths: Vec<usize>,
}

/// Every row that prices one model name at one instant: its tiers and context sizes.
#[derive(Clone, Debug)]
pub struct Quote {
    /// Ordered by tier, then by rising `min_context`, at most one row of each. Holds a row of the default tier.
    pub(crate) rows: Arc<[Arc<Price>]>,
}

impl Book {
    /// Builds the snapshot. Where versions overlap, the one with the later start counts, then the larger id.
    #[must_use]
    pub fn new(prices: Vec<Price>) -> Self {
        let mut by_pattern: HashMap<Pattern, Vec<Arc<Price>>> = HashMap::new();
        for price in prices {
            by_pattern
                .entry(price.pattern.clone())
                .or_default()
                .push(Arc::new(price));
        }
        let mut book = Self::default();
        for (pattern, rows) in by_pattern {
            let timeline = Timeline::new(&rows);
            match pattern {
                Pattern::Exact(name) => book.exact.insert(name, timeline),
                Pattern::Prefix(prefix) => book.prefixes.insert(prefix, timeline),
            };
        }
        let lengths: BTreeSet<usize> = book.prefixes.keys().map(|prefix| prefix.len()).collect();
        book.prefix_lengths = lengths.into_iter().rev().collect();
        book
    }

    /// The rows for a model name, in force at `at_ms` (milliseconds since the epoch): those of the exact
    /// name, else those of the name less its date or version suffix (`-2024-08-06`, `-20250929`, `-v2`),
    /// else of the longest prefix pattern, else, for `ft:BASE:org::id`, those of `ft:BASE`. `None` when nothing prices it.
    #[must_use]
    pub fn quote(&self, model: &str, at_ms: i64) -> Option<Quote> {
        self.quote_named(model, at_ms)
            .or_else(|| self.quote_prefix(model, at_ms))
            .or_else(|| self.quote_named(fine_tuned_base(model)?, at_ms))
    }

    /// The model names that have a price of their own at `at_ms`, in no order. Prefixes name no model.
    pub fn names(&self, at_ms: i64) -> impl Iterator<Item = &str> {
        self.exact
            .iter()
            .filter(move |(_, timeline)| timeline.at(at_ms).is_some())
            .map(|(name, _)| &**name)
    }

    /// As [`Book::quote`], but only by the exact name or the name less its date or version: no pattern of
    /// an operator's decides. This is how an answer's own model name is looked up.
    #[must_use]
    pub fn quote_named(&self, model: &str, at_ms: i64) -> Option<Quote> {
        let exact = |name: &str| self.exact.get(name)?.at(at_ms);
        exact(model).or_else(|| exact(undated(model)?))
    }

    fn quote_prefix(&self, model: &str, at_ms: i64) -> Option<Quote> {
        self.prefix_lengths
            .iter()
            .filter_map(|&length| self.prefixes.get(model.get(..length)?))
            .find_map(|timeline| timeline.at(at_ms))
    }
}

/// The name less one trailing date or version (`-2024-08-06`, `-20250929`, `-v2`): what a provider
/// appends to an alias in its answer. `None` when there is none.
#[must_use]
pub fn undated(model: &str) -> Option<&str> {
    let (rest, last) = model.rsplit_once('-')?;
    let digits = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit())
    };
    let versioned = last
        .strip_prefix('v')
        .is_some_and(|number| !number.is_empty() && digits(number, number.len()));
    if versioned || (digits(last, 8) && last.starts_with("20")) {
        return Some(rest);
    }
    let (rest, month) = digits(last, 2).then(|| rest.rsplit_once('-')).flatten()?;
    let (rest, year) = digits(month, 2).then(|| rest.rsplit_once('-')).flatten()?;
    (digits(year, 4) && year.starts_with("20")).then_some(rest)
}

/// `ft:BASE` of `ft:BASE:org::id`.
fn fine_tuned_base(model: &str) -> Option<&str> {
    let base = model.strip_prefix("ft:")?.split_once(':')?.0;
    model.get(.."ft:".len().checked_add(base.len())?)
}

/// What prices one pattern from when on: one entry for each instant at which that changes, ordered.
#[derive(Debug)]
struct Timeline(Vec<(i64, Option<Quote>)>);

impl Timeline {
    fn new(rows: &[Arc<Price>]) -> Self {
        let mut changes: BTreeMap<i64, Vec<&Arc<Price>>> = BTreeMap::new();
        for row in rows {
            // A row that ends before it starts is never in force.
            if row.valid_to_ms.is_none_or(|to| to > row.valid_from_ms) {
                let ends = [Some(row.valid_from_ms), row.valid_to_ms];
                for instant in ends.into_iter().flatten() {
                    changes.entry(instant).or_default().push(row);
                }
            }
        }
        // Ordered by place, then by age, so that the last of each place is the one that counts.
        let mut in_force = BTreeMap::new();
        let epochs = changes.into_iter().map(|(instant, changed)| {
            for row in changed {
                let key = (row.place(), row.valid_from_ms, row.id);
                if row.valid_from_ms == instant {
                    in_force.insert(key, row);
                } else {
                    in_force.remove(&key);
                }
            }
            let mut rows: Vec<Arc<Price>> = Vec::new();
            for &row in in_force.values() {
                match rows.last_mut() {
                    Some(last) if last.place() == row.place() => *last = Arc::clone(row),
                    _ => rows.push(Arc::clone(row)),
                }
            }
            (instant, Quote::new(rows.into()))
        });
        Self(epochs.collect())
    }

    fn at(&self, at_ms: i64) -> Option<Quote> {
        let begun = self.0.partition_point(|(from, _)| *from <= at_ms);
        self.0.get(begun.checked_sub(1)?)?.1.clone()
    }
}

impl Quote {
    fn new(rows: Arc<[Arc<Price>]>) -> Option<Self> {
        rows.iter()
            .any(|row| row.tier.as_str() == Tier::DEFAULT)
            .then_some(Self { rows })
    }

    /// Whether characters have a price: a text read out is then billed by its length.
    #[must_use]
    pub fn has_characters(&self) -> bool {
        self.first_default().fees.characters.is_some()
    }

    /// The rows, ordered by tier, then by rising `min_context`.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Price>] {
        &self.rows
    }

    pub(crate) fn rows_of<'a>(&'a self, tier: &str) -> impl DoubleEndedIterator<Item = &'a Price> {
        self.rows
            .iter()
            .map(|row| &**row)
            .filter(move |row| row.tier.as_str() == tier)
    }
}

impl Price {
    /// What the row is for, within its pattern: of two rows with the same place only one is in force.
    fn place(&self) -> (&str, u64) {
        (self.tier.as_str(), self.min_context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fees, PriceId, Rates};

    fn price(id: i64, pattern: &str) -> Price {
        Price {
            id: PriceId(id),
            pattern: Pattern::new(pattern),
            tier: Tier::new("default"),
            min_context: 0,
            context_inclusive: false,
            valid_from_ms: 0,
            valid_to_ms: None,
            rates: Rates::default(),
            fees: Fees::default(),
            context_window: None,
            output_max: None,
        }
    }

    fn ids(quote: Option<Quote>) -> Vec<i64> {
        quote
            .map(|quote| quote.rows().iter().map(|row| row.id.0).collect())
            .unwrap_or_default()
    }

    #[test]
    fn the_exact_name_wins_then_the_undated_one_then_the_longest_prefix() {
        let names = [
            "gpt-4o",
            "gpt-4o-2024-05-13",
            "gpt-*",
            "gpt-4o-m*",
            "claude-sonnet-4-5",
            "ada-002",
        ];
        let book = Book::new(
            names
                .iter()
                .zip(1..)
                .map(|(name, id)| price(id, name))
                .collect(),
        );
        let id = |model| ids(book.quote(model, 0));
        assert_eq!(id("gpt-4o"), [1]);
        assert_eq!(id("gpt-4o-2024-05-13"), [2]);
        assert_eq!(id("gpt-4o-2024-08-06"), [1]);
        assert_eq!(id("claude-sonnet-4-5-20250929"), [5]);
        assert_eq!(id("ada-002-v2"), [6]);
        assert_eq!(id("gpt-4o-mini-2024-07-18"), [4]);
        assert_eq!(id("gpt-5"), [3]);
        assert_eq!(id("GPT-4o"), []);
        assert_eq!(id("gpt"), []);
        assert_eq!(id(""), []);
    }

    #[test]
    fn only_dates_and_versions_are_cut_off() {
        assert_eq!(undated("gpt-4o-2024-08-06"), Some("gpt-4o"));
        assert_eq!(
            undated("claude-sonnet-4-5-20250929"),
            Some("claude-sonnet-4-5")
        );
        assert_eq!(
            undated("text-embedding-ada-002-v2"),
            Some("text-embedding-ada-002")
        );
        for name in [
            "gpt-4-0613",
            "gpt-4-32k",
            "x-1024-08-06",
            "x-12345678",
            "x-v",
            "x-v2a",
            "x-24-08-06",
            "x",
            "-",
            "",
        ] {
            assert_eq!(undated(name), None, "{name}");
        }
    }

    #[test]
    fn a_fine_tuned_model_is_priced_by_its_base() {
        let book = Book::new(vec![
            price(1, "ft:gpt-4o-mini-2024-07-18"),
            price(2, "ft:gpt-4o"),
            price(3, "gpt-4o"),
        ]);
        assert_eq!(
            ids(book.quote("ft:gpt-4o-mini-2024-07-18:acme::B1", 0)),
            [1]
        );
        assert_eq!(ids(book.quote("ft:gpt-4o-2024-08-06:acme:name:B1", 0)), [2]);
        assert_eq!(ids(book.quote("ft:gpt-5:acme::B1", 0)), []);
    }

    #[test]
    fn a_lone_star_prices_every_model_and_a_prefix_may_end_inside_a_character() {
        let book = Book::new(vec![price(1, "*"), price(2, "éé*")]);
        assert_eq!(ids(book.quote("anything", 0)), [1]);
        assert_eq!(ids(book.quote("aé", 0)), [1]);
        assert_eq!(ids(book.quote("ééa", 0)), [2]);
        assert_eq!(ids(book.quote("éa", 0)), [1]);
    }

    #[test]
    fn a_version_is_in_force_from_its_start_until_just_before_its_end() {
        let old = Price {
            valid_from_ms: 10,
            valid_to_ms: Some(20),
            ..price(1, "m")
        };
        let new = Price {
            valid_from_ms: 20,
            ..price(2, "m")
        };
        let priority = Price {
            valid_from_ms: 15,
            tier: Tier::new("priority"),
            ..price(3, "m")
        };
        let book = Book::new(vec![new, priority, old]);
        assert_eq!(ids(book.quote("m", 9)), []);
        assert_eq!(ids(book.quote("m", 10)), [1]);
        assert_eq!(ids(book.quote("m", 15)), [1, 3]);
        assert_eq!(ids(book.quote("m", 20)), [2, 3]);
        assert_eq!(ids(book.quote("m", i64::MAX)), [2, 3]);
        assert_eq!(book.names(9).count(), 0);
        assert_eq!(book.names(10).collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn the_later_of_two_overlapping_versions_counts() {
        let book = Book::new(vec![
            Price {
                valid_from_ms: 10,
                valid_to_ms: Some(20),
                ..price(2, "m")
            },
            price(1, "m"),
            price(3, "m"),
            Price {
                valid_from_ms: 5,
                valid_to_ms: Some(5),
                ..price(9, "m")
            },
        ]);
        assert_eq!(ids(book.quote("m", 5)), [3]);
        assert_eq!(ids(book.quote("m", 10)), [2]);
        assert_eq!(ids(book.quote("m", 20)), [3]);
    }

    #[test]
    fn a_pattern_without_a_default_tier_prices_nothing() {
        let book = Book::new(vec![
            Price {
                tier: Tier::new("flex"),
                ..price(1, "m")
            },
            price(2, "m*"),
        ]);
        assert_eq!(ids(book.quote("m", 0)), [2]);
    }
}
