//! A comparison as a table, as JSON, as CSV.

use serde_json::{Map, Value, json};
use tariff::Amount;

use super::{
    compare::{Cell, Comparison, Row},
    figures::Figure,
};
use crate::commands::table::Table;

/// For people: a line for each figure that differs (or each, with `all`), and the sums.
pub(super) fn table(comparison: &Comparison, all: bool) -> String {
    let mut table = Table::new(
        &[
            "day",
            "key",
            "model",
            "figure",
            "ours",
            "theirs",
            "difference",
            "%",
        ],
        &[4, 5, 6, 7],
    );
    let mut is_empty = true;
    for row in &comparison.rows {
        for (figure, cell) in Figure::ALL.into_iter().zip(row.cells) {
            if cell.differs || (all && cell.theirs.is_some()) {
                line(&mut table, row, figure, cell);
                is_empty = false;
            }
        }
    }
    if is_empty {
        return String::new();
    }
    for (figure, cell) in Figure::ALL.into_iter().zip(comparison.total.cells) {
        if cell.theirs.is_some() {
            line(&mut table, &comparison.total, figure, cell);
        }
    }
    table.to_string()
}

fn line(table: &mut Table, row: &Row, figure: Figure, cell: Cell) {
    let told = |value: Option<i128>| value.map_or_else(|| "-".into(), |value| text(figure, value));
    table.row([
        row.day.clone(),
        row.key.clone(),
        row.model.clone(),
        figure.name().to_owned(),
        text(figure, cell.ours),
        told(cell.theirs),
        told(cell.difference()),
        percent(cell),
    ]);
}

/// One sentence.
pub(super) fn summary(comparison: &Comparison) -> String {
    let compared = comparison.rows.len();
    let differ = comparison.rows.iter().filter(|row| row.differs()).count();
    let mut summary = match differ {
        0 => format!("no differences in {compared} rows of day, key and model"),
        _ => format!("{differ} of {compared} rows of day, key and model differ"),
    };
    let total = |figure: Figure| comparison.total.cells[figure as usize];
    for figure in [Figure::Requests, Figure::Usd] {
        let cell = total(figure);
        if let Some(theirs) = cell.theirs {
            let unit = if figure == Figure::Usd {
                "USD"
            } else {
                "requests"
            };
            summary.push_str(&format!(
                "; ours {} {unit}, theirs {}",
                text(figure, cell.ours),
                text(figure, theirs)
            ));
        }
    }
    summary
}

/// For programs. Money is a string, since a JSON number is a float to most.
pub(super) fn json(
    comparison: &Comparison,
    days: (String, String),
    all: bool,
    notes: &[String],
) -> Value {
    let rows = comparison.rows.iter().filter(|row| all || row.differs());
    json!({
        "first_day": days.0,
        "last_day": days.1,
        "rows": rows.map(|row| json!({
            "day": row.day,
            "key": row.key,
            "model": row.model,
            "figures": figures(row),
        })).collect::<Vec<_>>(),
        "total": figures(&comparison.total),
        "rows_compared": comparison.rows.len(),
        "rows_differing": comparison.rows.iter().filter(|row| row.differs()).count(),
        "notes": notes,
    })
}

fn figures(row: &Row) -> Value {
    let value = |figure, value: i128| match figure {
        Figure::Usd => Value::from(text(figure, value)),
        _ => i64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::from),
    };
    let cells = Figure::ALL
        .into_iter()
        .zip(row.cells)
        .map(|(figure, cell)| {
            let cell = json!({
                "ours": value(figure, cell.ours),
                "theirs": cell.theirs.map(|theirs| value(figure, theirs)),
                "difference": cell.difference().map(|difference| value(figure, difference)),
                "differs": cell.differs,
            });
            (figure.name().to_owned(), cell)
        });
    Value::Object(cells.collect::<Map<_, _>>())
}

/// For spreadsheets: what the export does not tell stays empty.
pub(super) fn csv(comparison: &Comparison, all: bool) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut head: Vec<String> = ["day", "key", "model"].map(str::to_owned).into();
    for figure in Figure::ALL {
        for side in ["ours", "theirs", "difference"] {
            head.push(format!("{}_{side}", figure.name()));
        }
    }
    // Writing to memory cannot fail.
    let _ = writer.write_record(&head);
    for row in comparison.rows.iter().filter(|row| all || row.differs()) {
        let mut cells = vec![row.day.clone(), row.key.clone(), row.model.clone()];
        for (figure, cell) in Figure::ALL.into_iter().zip(row.cells) {
            for value in [Some(cell.ours), cell.theirs, cell.difference()] {
                cells.push(value.map(|value| text(figure, value)).unwrap_or_default());
            }
        }
        let _ = writer.write_record(&cells);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value as people read it.
fn text(figure: Figure, value: i128) -> String {
    match (figure, i64::try_from(value)) {
        (Figure::Usd, Ok(nano)) => Amount::from_nano(nano).to_string(),
        (Figure::Usd, Err(_)) => format!("{value}e-9"),
        _ => value.to_string(),
    }
}

/// The difference in per cent of theirs, to the hundredth.
fn percent(cell: Cell) -> String {
    let (Some(theirs), Some(difference)) = (cell.theirs, cell.difference()) else {
        return String::new();
    };
    match difference.saturating_mul(10_000).checked_div(theirs.abs()) {
        // They have nothing of it.
        None if difference != 0 => "-".into(),
        hundredths => {
            let hundredths = hundredths.unwrap_or(0);
            let sign = if hundredths < 0 { "-" } else { "" };
            let whole = hundredths.unsigned_abs();
            format!("{sign}{}.{:02}", whole / 100, whole % 100)
        }
    }
}
