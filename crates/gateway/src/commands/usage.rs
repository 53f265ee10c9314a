//! `turnpike usage`

use std::io::IsTerminal as _;

use jiff::Timestamp;
use ledger::admin::{self, Admin, UsageRow};
use serde_json::{Value, json};
use tariff::Amount;

use super::{now_ms, progress, table::Table};
use crate::{
    cli::{Usage, UsageBy},
    fatal::{Code, Fatal},
};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Where the table begins unless `--since` says otherwise: so many days before today.
const DAYS_DEFAULT: i64 = 30;
/// How wide the longest bar is, in characters.
const BAR_WIDTH: i128 = 24;
/// What a bar ends with, by eighths of a character.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

pub(super) async fn run(command: &Usage, admin: &Admin) -> Result<(), Fatal> {
    let (by, head) = match command.by {
        UsageBy::Day => (admin::UsageBy::Day, "day"),
        UsageBy::Model => (admin::UsageBy::Model, "model"),
        UsageBy::Token => (admin::UsageBy::Token, "token"),
        UsageBy::Account => (admin::UsageBy::Account, "account"),
    };
    let since_ms = command
        .since
        .map_or_else(|| days_ago(now_ms()), Timestamp::as_millisecond);
    let until_ms = command.until.map(Timestamp::as_millisecond);
    if until_ms.is_some_and(|until| until <= since_ms) {
        return Err(Fatal::new(
            Code::Usage,
            "--until is not after --since, so nothing lies between them",
        ));
    }
    let asked = admin.usage(by, since_ms, until_ms, command.account.as_deref());
    let rows = progress::waiting("adding up", asked).await?;
    if command.json {
        let rows: Vec<Value> = rows.iter().map(|row| as_json(head, row)).collect();
        println!("{:#}", Value::from(rows));
    } else if command.csv {
        print!("{}", as_csv(head, &rows)?);
    } else {
        print!("{}", table(head, &rows, bars()));
    }
    Ok(())
}

/// Whether to draw bars. They are for people: a program that reads our output gets columns alone.
pub(super) fn bars() -> bool {
    std::io::stdout().is_terminal()
}

/// The midnight some days before today, UTC.
pub(super) fn days_ago(now_ms: i64) -> i64 {
    let today = now_ms.div_euclid(DAY_MS);
    today.saturating_sub(DAYS_DEFAULT).saturating_mul(DAY_MS)
}

fn as_json(head: &str, row: &UsageRow) -> Value {
    json!({
        head: row.key,
        "exchanges": row.exchanges,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "usd": row.amount.to_string(),
        "estimated_usd": row.estimated.to_string(),
    })
}

fn as_csv(head: &str, rows: &[UsageRow]) -> Result<String, Fatal> {
    let unwritten = |error: &(dyn std::error::Error + 'static)| {
        Fatal::because(Code::Io, "the table cannot be written", error)
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        head,
        "exchanges",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "usd",
        "estimated_usd",
    ];
    writer
        .write_record(head)
        .map_err(|error| unwritten(&error))?;
    for row in rows {
        writer
            .write_record(cells(row))
            .map_err(|error| unwritten(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| unwritten(&error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cells(row: &UsageRow) -> [String; 7] {
    [
        row.key.clone(),
        row.exchanges.to_string(),
        row.input_tokens.to_string(),
        row.cached_tokens.to_string(),
        row.output_tokens.to_string(),
        row.amount.to_string(),
        row.estimated.to_string(),
    ]
}

pub(super) fn table(head: &str, rows: &[UsageRow], bars: bool) -> Table {
    let mut table = Table::new(
        &[
            head,
            "exchanges",
            "input",
            "cached",
            "output",
            "usd",
            "of it estimated",
            "",
        ],
        &[1, 2, 3, 4, 5, 6],
    );
    let most = rows.iter().map(|row| row.amount.nano()).max().unwrap_or(0);
    let mut add = |row: &UsageRow, bar: String| {
        let [key, exchanges, input, cached, output, usd, estimated] = cells(row);
        table.row([key, exchanges, input, cached, output, usd, estimated, bar]);
    };
    for row in rows {
        let bar = if bars {
            bar(row.amount.nano(), most)
        } else {
            String::new()
        };
        add(row, bar);
    }
    add(&total(rows), String::new());
    table
}

fn total(rows: &[UsageRow]) -> UsageRow {
    let sum = |value: fn(&UsageRow) -> i64| rows.iter().map(value).fold(0_i64, i64::saturating_add);
    let usd = |value: fn(&UsageRow) -> Amount| rows.iter().map(value).sum::<Amount>();
    UsageRow {
        key: "total".into(),
        exchanges: sum(|row| row.exchanges),
        input_tokens: sum(|row| row.input_tokens),
        cached_tokens: sum(|row| row.cached_tokens),
        output_tokens: sum(|row| row.output_tokens),
        amount: usd(|row| row.amount),
        estimated: usd(|row| row.estimated),
    }
}

/// A bar as long as the amount is to the greatest one, to an eighth of a character; what is not nothing shows.
fn bar(nano: i64, most: i64) -> String {
    if nano <= 0 || most <= 0 {
        return String::new();
    }
    let whole = BAR_WIDTH.saturating_mul(8);
    let eighths = i128::from(nano)
        .saturating_mul(whole)
        .checked_div(i128::from(most))
        .unwrap_or(0)
        .clamp(1, whole);
    let full = usize::try_from(eighths.div_euclid(8)).unwrap_or(0);
    let rest = usize::try_from(eighths.rem_euclid(8)).unwrap_or(0);
    let end = rest.checked_sub(1).and_then(|index| EIGHTHS.get(index));
    "█".repeat(full).chars().chain(end.copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_in_proportion_and_never_hides_an_amount() {
        assert_eq!(bar(100, 100).chars().count(), 24);
        assert_eq!(bar(50, 100), "█".repeat(12));
        assert_eq!(bar(1, i64::MAX), "▏");
        assert_eq!(bar(0, 100), "");
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(i64::MAX, i64::MAX), "█".repeat(24));
    }

    #[test]
    fn the_table_begins_at_a_midnight() {
        let midnight = 1_795_824_000_000;
        assert_eq!(days_ago(midnight + DAY_MS / 2), midnight - 30 * DAY_MS);
    }

    #[test]
    fn csv_keeps_names_with_commas_apart() {
        let row = UsageRow {
            key: "tp-ab, \"the\" label".into(),
            ..total(&[])
        };
        let text = as_csv("token", &[row]).unwrap();
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "\"tp-ab, \"\"the\"\" label\",0,0,0,0,0.00,0.00"
        );
    }
}
