//! What `usage` takes.

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::parse_time;

/// A table of usage.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// One row for each of these.
    #[arg(long, value_enum, default_value = "day")]
    pub(crate) by: UsageBy,
    /// From this day or instant on (UTC). Default: 30 days ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<Timestamp>,
    /// Before this day or instant (UTC). Default: now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) until: Option<Timestamp>,
    /// Of this account only.
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// As a JSON array; money as text, in USD.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// As CSV with a header.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// What a row of the table of usage is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum UsageBy {
    /// A day (UTC).
    Day,
    /// A model.
    Model,
    /// An access token.
    Token,
    /// An account.
    Account,
}
