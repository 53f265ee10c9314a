//! A provider's export, whatever its format: what it says of each span of time, key and model.

use std::{collections::BTreeSet, path::Path};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    csv,
    figures::{Figure, Figures},
    json,
};
use crate::fatal::{Code, Fatal};

/// What the provider says.
#[derive(Debug, Default)]
pub(super) struct Export {
    pub(super) records: Vec<Record>,
    /// Which figures it tells, in the order of [`Figure::ALL`]: only those are compared.
    pub(super) told: [bool; 5],
    /// The span it tells about, whether or not anything happened in it. Seconds since the epoch, the end excluded.
    pub(super) span: Option<(i64, i64)>,
    /// Whether it has a row for each span of time it tells about, even where nothing happened.
    pub(super) tells_empty_spans: bool,
    /// The endpoints it is about; `None` for all.
    pub(super) endpoints: Option<BTreeSet<&'static str>>,
    /// What whoever reads the differences should know of it.
    pub(super) notes: Vec<String>,
}

/// What it says of one span of time, key and model.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) day: Date,
    /// When the span begins, seconds since the epoch.
    pub(super) from: i64,
    pub(super) model: Option<String>,
    pub(super) key: Option<String>,
    pub(super) project: Option<String>,
    pub(super) figures: Figures,
}

impl Export {
    /// Takes note of a span of time; returns its day.
    pub(super) fn cover(&mut self, from: i64, to: i64) -> Result<Date, String> {
        let day = day_of(from)?;
        if to <= from {
            return Err("ends before it starts".into());
        }
        if day_of(to.saturating_sub(1))? != day {
            return Err(format!(
                "reaches from {day} into another day (UTC): export it by day, hour or minute"
            ));
        }
        let (first, last) = self.span.unwrap_or((from, to));
        self.span = Some((first.min(from), last.max(to)));
        Ok(day)
    }

    pub(super) fn add(&mut self, record: Record) {
        for figure in Figure::ALL {
            self.told[figure as usize] |= record.figures.get(figure).is_some();
        }
        self.records.push(record);
    }
}

/// The day of an instant (UTC).
fn day_of(seconds: i64) -> Result<Date, String> {
    Timestamp::from_second(seconds)
        .map(|instant| instant.to_zoned(TimeZone::UTC).date())
        .map_err(|_| format!("{seconds} is no time in seconds since 1970"))
}

/// The instant a day begins (UTC), in seconds.
pub(super) fn midnight(day: Date) -> i64 {
    day.to_zoned(TimeZone::UTC)
        .map_or(i64::MAX, |midnight| midnight.timestamp().as_second())
}

/// Reads an export. `name` is the file's, for messages.
///
/// # Errors
/// Exit code 65 with the line and the field that are wrong.
pub(super) fn read(bytes: &[u8], name: &Path) -> Result<Export, Fatal> {
    let bad = |what: &str| Fatal::new(Code::Data, format!("{}: {what}", name.display()));
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
        .map_err(|_| bad("is not UTF-8 text"))?;
    let export = match text.trim_start().bytes().next() {
        None => return Err(bad("is empty")),
        Some(b'{' | b'[') => json::read(text),
        Some(_) => csv::read(text),
    }
    .map_err(|what| bad(&what))?;
    if export.span.is_none() {
        return Err(bad("says nothing of any day"));
    }
    Ok(export)
}
