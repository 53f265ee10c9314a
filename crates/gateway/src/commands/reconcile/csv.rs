//! CSV with a header, in any order of columns: the dashboard's exports, and the general form.

use csv::{ReaderBuilder, StringRecord, Trim};
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use super::{
    export::{Export, Record},
    figures::{Figure, Figures},
    names,
};

/// What a column holds, and what it is called, the likeliest first. Names are compared in lower case, with everything but
/// letters and digits as `_`.
const COLUMNS: [(Column, &[&str]); 12] = [
    (
        Column::From,
        &[
            "start_time",
            "start_time_iso",
            "day",
            "date",
            "usage_date",
            "usage_date_utc",
            "timestamp",
            "time",
            "created",
            "created_at",
        ],
    ),
    (Column::To, &["end_time", "end_time_iso"]),
    (
        Column::Model,
        &["model", "model_name", "model_version", "snapshot_id"],
    ),
    (Column::LineItem, &["line_item"]),
    (Column::Key, &["api_key_id", "key_id", "key", "api_key"]),
    (Column::Project, &["project_id", "project"]),
    (
        Column::Figure(Figure::Requests),
        &[
            "num_model_requests",
            "n_requests",
            "num_requests",
            "request_count",
            "requests",
        ],
    ),
    (
        Column::Figure(Figure::Input),
        &["input_tokens", "prompt_tokens", "n_context_tokens_total"],
    ),
    (
        Column::Figure(Figure::Cached),
        &[
            "input_cached_tokens",
            "cached_tokens",
            "cached_input_tokens",
            "n_cached_context_tokens_total",
        ],
    ),
    (
        Column::Figure(Figure::Output),
        &[
            "output_tokens",
            "completion_tokens",
            "n_generated_tokens_total",
        ],
    ),
    (
        Column::Figure(Figure::Usd),
        &[
            "usd",
            "amount_value",
            "amount_usd",
            "cost_usd",
            "cost_in_usd",
            "amount",
            "cost",
            "total_cost",
        ],
    ),
    (Column::Currency, &["amount_currency", "currency"]),
];

/// What separates columns, the likeliest first.
const SEPARATORS: [u8; 3] = *b",\t;";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    From,
    To,
    Model,
    LineItem,
    Key,
    Project,
    Figure(Figure),
    Currency,
}

/// Reads a table.
///
/// # Errors
/// What is wrong, with line and column.
pub(super) fn read(text: &str) -> Result<Export, String> {
    let head = text.trim_start().lines().next().unwrap_or_default();
    let count = |separator: &u8| head.bytes().filter(|byte| byte == separator).count();
    let mut separator = SEPARATORS[0];
    for other in SEPARATORS {
        if count(&other) > count(&separator) {
            separator = other;
        }
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(separator)
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let header = Header::new(reader.headers().map_err(|error| error.to_string())?)?;
    let mut export = Export {
        tells_empty_spans: header.place(Column::To).is_some(),
        ..Export::default()
    };
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        header.row(&row, &mut export).map_err(|what| {
            let line = row.position().map_or(0, csv::Position::line);
            format!("line {line}: {what}")
        })?;
    }
    Ok(export)
}

/// Which column stands where.
struct Header {
    names: Vec<String>,
    places: Vec<(Column, usize)>,
}

impl Header {
    fn new(names: &StringRecord) -> Result<Self, String> {
        let plain: Vec<String> = names.iter().map(plain).collect();
        let mut places = Vec::new();
        for (column, synonyms) in COLUMNS {
            for synonym in synonyms {
                let mut found = plain.iter().enumerate().filter(|(_, name)| name == synonym);
                let Some((place, _)) = found.next() else {
                    continue;
                };
                if found.next().is_some() {
                    return Err(format!("the header names {synonym} twice"));
                }
                places.push((column, place));
                break;
            }
        }
        let header = Self {
            names: names.iter().map(str::to_owned).collect(),
            places,
        };
        if header.place(Column::From).is_none() {
            return Err(format!(
                "the header ({}) has no column for the day: day, date or start_time",
                header.names.join(", ")
            ));
        }
        if !Figure::ALL
            .iter()
            .any(|figure| header.place(Column::Figure(*figure)).is_some())
        {
            return Err(format!(
                "the header ({}) has none of requests, input_tokens, cached_tokens, output_tokens, usd, nor another name for them",
                header.names.join(", ")
            ));
        }
        Ok(header)
    }

    fn place(&self, column: Column) -> Option<usize> {
        let mut places = self.places.iter();
        places
            .find(|(known, _)| *known == column)
            .map(|(_, place)| *place)
    }

    /// A cell that is there and not empty, with its column's name.
    fn cell<'a>(&'a self, column: Column, row: &'a StringRecord) -> Option<(&'a str, &'a str)> {
        let place = self.place(column)?;
        let text = row.get(place).filter(|text| !text.is_empty())?;
        Some((self.names.get(place)?, text))
    }

    fn row(&self, row: &StringRecord, export: &mut Export) -> Result<(), String> {
        let text = |column| self.cell(column, row).map(|(_, text)| text.to_owned());
        let time = |column| {
            self.cell(column, row)
                .map(|(name, text)| {
                    seconds(text)
                        .ok_or_else(|| format!("{name}: {text:?} is neither a day nor a time"))
                })
                .transpose()
        };
        let from = time(Column::From)?.ok_or("the day is missing")?;
        let (from, to) = match time(Column::To)? {
            Some(to) => (from, to),
            None => whole_day(from),
        };
        let day = export
            .cover(from, to)
            .map_err(|what| format!("the row {what}"))?;
        let mut figures = Figures::default();
        for figure in Figure::ALL {
            if let Some((name, text)) = self.cell(Column::Figure(figure), row) {
                let value = figure
                    .parse(text)
                    .map_err(|bad| format!("{name}: {text:?} {bad}"))?;
                figures.add(figure, value);
            }
        }
        match self.cell(Column::Currency, row) {
            Some((name, text)) if !text.eq_ignore_ascii_case("usd") => {
                return Err(format!(
                    "{name}: {text} is not compared: charges are in USD"
                ));
            }
            _ => {}
        }
        // The dashboard has a row for each day on which nothing happened.
        if !figures.is_empty() {
            export.add(Record {
                day,
                from,
                model: text(Column::Model).or_else(|| {
                    text(Column::LineItem).map(|item| names::model_of(&item).to_owned())
                }),
                key: text(Column::Key),
                project: text(Column::Project),
                figures,
            });
        }
        Ok(())
    }
}

/// `Input tokens (total)` as `input_tokens_total`.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for char in name.chars() {
        if char.is_alphanumeric() {
            plain.extend(char.to_lowercase());
        } else if !plain.ends_with('_') {
            plain.push('_');
        }
    }
    plain.trim_matches('_').to_owned()
}

/// Larger numbers are milliseconds: as seconds they would be past the year 5000.
const SECONDS_MAX: i64 = 100_000_000_000;

/// A day, an instant with or without its offset (then UTC), or a number of seconds or milliseconds since the epoch.
fn seconds(text: &str) -> Option<i64> {
    if let Ok(number) = text.strip_suffix(".0").unwrap_or(text).parse::<i64>() {
        return Some(if number > SECONDS_MAX {
            number / 1_000
        } else {
            number
        });
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_second());
    }
    let local = text
        .parse::<Date>()
        .map(|date| date.at(0, 0, 0, 0))
        .or_else(|_| text.parse::<DateTime>())
        .ok()?;
    local
        .to_zoned(TimeZone::UTC)
        .ok()
        .map(|instant| instant.timestamp().as_second())
}

/// The day around an instant.
fn whole_day(seconds: i64) -> (i64, i64) {
    const DAY: i64 = 24 * 60 * 60;
    let from = seconds.div_euclid(DAY).saturating_mul(DAY);
    (from, from.saturating_add(DAY))
}
