//! `turnpike usage`

use jiff::Timestamp;
use ledger::admin::{self, Admin};
use tariff::Amount;

use super::{now_ms, table::Table};
use crate::{
    cli::{Usage, UsageBy},
    fatal::Fatal,
};

/// Where the table begins unless `--since` says otherwise: 30 days ago, in milliseconds.
const SINCE_DEFAULT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

pub(super) async fn run(command: &Usage, admin: &Admin) -> Result<(), Fatal> {
    let (by, head) = match command.by {
        UsageBy::Day => (admin::UsageBy::Day, "day"),
        UsageBy::Model => (admin::UsageBy::Model, "model"),
        UsageBy::Token => (admin::UsageBy::Token, "token"),
    };
    let since_ms = command.since.map_or_else(
        || now_ms().saturating_sub(SINCE_DEFAULT_MS),
        Timestamp::as_millisecond,
    );
    let rows = admin
        .usage(by, since_ms, command.account.as_deref())
        .await?;
    let mut table = Table::new(
        &[
            head,
            "exchanges",
            "input",
            "cached",
            "output",
            "usd",
            "of it estimated",
        ],
        &[1, 2, 3, 4, 5, 6],
    );
    for row in &rows {
        table.row([
            row.key.clone(),
            row.exchanges.to_string(),
            row.input_tokens.to_string(),
            row.cached_tokens.to_string(),
            row.output_tokens.to_string(),
            row.amount.to_string(),
            row.estimated.to_string(),
        ]);
    }
    let sum = |value: fn(&admin::UsageRow) -> i64| {
        rows.iter()
            .map(value)
            .fold(0_i64, i64::saturating_add)
            .to_string()
    };
    let usd =
        |value: fn(&admin::UsageRow) -> Amount| rows.iter().map(value).sum::<Amount>().to_string();
    table.row([
        "total".into(),
        sum(|row| row.exchanges),
        sum(|row| row.input_tokens),
        sum(|row| row.cached_tokens),
        sum(|row| row.output_tokens),
        usd(|row| row.amount),
        usd(|row| row.estimated),
    ]);
    print!("{table}");
    Ok(())
}
