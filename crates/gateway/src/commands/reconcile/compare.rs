//! Ours beside theirs, by day, key and model.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use ledger::admin::ChargedRow;

use super::{
    export::{Export, midnight},
    figures::{ATTO_PER_NANO, Figure, Figures, to_nano},
    names,
};
use crate::cli::{KeyOf, OurKey, Percent};

/// What stands for every key, or every model.
const ALL: &str = "*";
/// What stands for a model that a provider does not name.
const UNNAMED: &str = "-";

/// What was compared.
pub(super) struct Comparison {
    pub(super) rows: Vec<Row>,
    pub(super) total: Row,
    /// What explains differences.
    pub(super) notes: Vec<String>,
}

/// One day, key and model.
pub(super) struct Row {
    pub(super) day: String,
    pub(super) key: String,
    pub(super) model: String,
    /// In the order of [`Figure::ALL`].
    pub(super) cells: [Cell; 5],
}

/// A figure; money in nano-USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) ours: i128,
    /// `None`: the export does not tell this figure, so it is not compared.
    pub(super) theirs: Option<i128>,
    pub(super) differs: bool,
}

impl Cell {
    pub(super) fn difference(self) -> Option<i128> {
        self.theirs.map(|theirs| self.ours.saturating_sub(theirs))
    }
}

impl Row {
    pub(super) fn differs(&self) -> bool {
        self.cells.iter().any(|cell| cell.differs)
    }

    fn is_none_of_ours(&self) -> bool {
        self.cells.iter().all(|cell| cell.ours == 0)
    }

    fn is_none_of_theirs(&self) -> bool {
        self.cells.iter().all(|cell| cell.theirs.unwrap_or(0) == 0)
    }
}

/// How to compare.
pub(super) struct How<'a> {
    pub(super) keys: &'a [KeyOf],
    pub(super) tolerance: Percent,
    pub(super) ignore_dates: bool,
}

#[derive(Default)]
struct Pair {
    ours: Figures,
    theirs: Figures,
    estimates: i64,
}

/// Puts both sides together. Charges and records are those of the same span of time.
pub(super) fn compare(export: &Export, charged: &[ChargedRow], how: &How<'_>) -> Comparison {
    let groups = Groups::new(how.keys);
    let names_models = export.records.iter().any(|record| record.model.is_some());
    let model = |name: &str| -> String {
        match (names_models, how.ignore_dates) {
            (false, _) => ALL.to_owned(),
            (true, true) => names::undated(name).to_owned(),
            (true, false) => name.to_owned(),
        }
    };
    let mut pairs: BTreeMap<(String, String, String), Pair> = BTreeMap::new();
    for record in &export.records {
        let name = record.model.as_deref().unwrap_or(UNNAMED);
        let key = groups.of_theirs(record.key.as_deref());
        let pair = pairs
            .entry((record.day.to_string(), key, model(name)))
            .or_default();
        pair.theirs.add_all(&record.figures);
    }
    for row in charged {
        let key = groups.of_ours(row);
        let pair = pairs
            .entry((row.day.clone(), key, model(&row.model)))
            .or_default();
        pair.ours.add_all(&figures_of(row));
        pair.estimates = pair.estimates.saturating_add(row.estimates);
    }

    let mut sum = Pair::default();
    let mut estimates = 0_i64;
    let mut rows = Vec::new();
    for ((day, key, model), pair) in pairs {
        sum.ours.add_all(&pair.ours);
        sum.theirs.add_all(&pair.theirs);
        let row = Row {
            day,
            key,
            model,
            cells: cells(&pair, export.told, how.tolerance),
        };
        if row.differs() {
            estimates = estimates.saturating_add(pair.estimates);
        }
        rows.push(row);
    }
    let total = Row {
        day: "total".into(),
        key: String::new(),
        model: String::new(),
        cells: cells(&sum, export.told, how.tolerance),
    };
    let mut notes = dated(&rows);
    if estimates > 0 {
        notes.push(format!(
            "{estimates} of the charges in rows that differ are estimates: the provider's answer told no usage (view turnpike.estimates)"
        ));
    }
    Comparison { rows, total, notes }
}

fn figures_of(row: &ChargedRow) -> Figures {
    let mut figures = Figures::default();
    figures.add(Figure::Requests, row.exchanges.into());
    figures.add(Figure::Input, row.input_tokens.into());
    figures.add(Figure::Cached, row.cached_tokens.into());
    figures.add(Figure::Output, row.output_tokens.into());
    figures.add(
        Figure::Usd,
        i128::from(row.amount.nano()).saturating_mul(ATTO_PER_NANO),
    );
    figures
}

fn cells(pair: &Pair, told: [bool; 5], tolerance: Percent) -> [Cell; 5] {
    Figure::ALL.map(|figure| {
        let value = |figures: &Figures| {
            let value = figures.get(figure).unwrap_or(0);
            if figure == Figure::Usd {
                to_nano(value)
            } else {
                value
            }
        };
        let ours = value(&pair.ours);
        let theirs = told[figure as usize].then(|| value(&pair.theirs));
        Cell {
            ours,
            theirs,
            differs: theirs.is_some_and(|theirs| exceeds(ours, theirs, tolerance)),
        }
    })
}

/// Whether they differ by more than so many per cent of theirs.
fn exceeds(ours: i128, theirs: i128, tolerance: Percent) -> bool {
    const WHOLE: u128 = 100_000_000_000;
    let difference = ours.abs_diff(theirs);
    let allowed = theirs
        .unsigned_abs()
        .saturating_mul(tolerance.0.unsigned_abs().into());
    difference.saturating_mul(WHOLE) > allowed
}

/// Models that stand on one side under a date and on the other without, or under another.
fn dated(rows: &[Row]) -> Vec<String> {
    let mut theirs_by_name: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    let place = |row: &'_ Row| {
        let name = names::undated(&row.model).to_owned();
        (row.day.clone(), row.key.clone(), name)
    };
    for row in rows.iter().filter(|row| row.is_none_of_ours()) {
        theirs_by_name
            .entry(place(row))
            .or_default()
            .insert(&row.model);
    }
    let mut pairs = BTreeSet::new();
    for row in rows.iter().filter(|row| row.is_none_of_theirs()) {
        let theirs = theirs_by_name.get(&place(row)).into_iter().flatten();
        pairs.extend(
            theirs
                .filter(|theirs| **theirs != row.model)
                .map(|theirs| (row.model.as_str(), *theirs)),
        );
    }
    pairs
        .into_iter()
        .map(|(ours, theirs)| {
            format!(
                "our {ours} and their {theirs} differ only by the date in the name: --ignore-dates compares them as one"
            )
        })
        .collect()
}

/// Keys of theirs and of ours that belong together.
struct Groups<'a>(Vec<Group<'a>>);

struct Group<'a> {
    theirs: BTreeSet<&'a str>,
    ours: Vec<&'a OurKey>,
}

impl<'a> Groups<'a> {
    /// One key of theirs may be several of ours, and the other way round (one was replaced by the other): then all of them are one
    /// group.
    fn new(keys: &'a [KeyOf]) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for KeyOf { theirs, ours } in keys {
            let mut whole = Group {
                theirs: BTreeSet::from([theirs.as_str()]),
                ours: vec![ours],
            };
            for at in (0..groups.len()).rev() {
                if groups[at].theirs.contains(theirs.as_str()) || groups[at].ours.contains(&ours) {
                    let part = groups.swap_remove(at);
                    whole.theirs.extend(part.theirs);
                    whole.ours.extend(part.ours);
                }
            }
            groups.push(whole);
        }
        Self(groups)
    }

    fn of_theirs(&self, key: Option<&str>) -> String {
        let mut groups = self.0.iter();
        groups
            .find(|group| key.is_some_and(|key| group.theirs.contains(key)))
            .map_or_else(|| ALL.to_owned(), Group::label)
    }

    /// A key that is named itself comes before its upstream.
    fn of_ours(&self, row: &ChargedRow) -> String {
        let named = |wanted: &OurKey| {
            let mut groups = self.0.iter();
            groups
                .find(|group| group.ours.contains(&wanted))
                .map(Group::label)
        };
        row.key
            .and_then(|key| named(&OurKey::Id(key.0)))
            .or_else(|| named(&OurKey::Upstream(row.upstream.clone()?)))
            .unwrap_or_else(|| ALL.to_owned())
    }
}

impl Group<'_> {
    fn label(&self) -> String {
        let theirs: Vec<&str> = self.theirs.iter().copied().collect();
        theirs.join("+")
    }
}

/// The days to compare: what the export tells about, within what is asked for. Seconds since the epoch, the end excluded.
pub(super) fn span(
    export: &Export,
    since: Option<Date>,
    until: Option<Date>,
) -> Option<(i64, i64)> {
    let (first, last) = export.span?;
    let since = since.map(midnight);
    // The day after the last.
    let until = until.map(|day| midnight(day.saturating_add(jiff::Span::new().days(1))));
    let (from, to) = if export.tells_empty_spans {
        (
            since.map_or(first, |since| since.max(first)),
            until.map_or(last, |until| until.min(last)),
        )
    } else {
        // A table of days has no row where nothing happened: what is asked for is what it tells about.
        (since.unwrap_or(first), until.unwrap_or(last))
    };
    (from < to).then_some((from, to))
}
