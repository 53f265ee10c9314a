//! What `export` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::parse_time;

/// Charges for other programs.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Exchanges that started on this day or at this instant (UTC), or later. Default: all.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<Timestamp>,
    /// Exchanges that started before this day or instant (UTC). Default: all.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) until: Option<Timestamp>,
    /// How they are written.
    #[arg(long, value_enum, default_value = "csv")]
    pub(crate) format: Format,
    /// Of this account only.
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Into this file, which must not be there yet; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) out: PathBuf,
    /// Only charges behind this number: the last charge_seq that an earlier export told.
    #[arg(long, value_name = "CHARGE_SEQ", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) after: i64,
    /// Go on behind the last whole line of the file that an earlier export left unfinished.
    #[arg(long, conflicts_with = "after", requires = "out")]
    pub(crate) resume: bool,
    /// With cloudevents: who the subject is.
    #[arg(long, value_enum, default_value = "account")]
    pub(crate) subject: Subject,
}

/// A form of export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// CSV with a header.
    Csv,
    /// One JSON object on each line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// One CloudEvents 1.0 event in JSON on each line, as OpenMeter and Lago take them.
    Cloudevents,
}

/// Whom a CloudEvents subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The account's name.
    Account,
    /// The access token's prefix.
    Token,
}
