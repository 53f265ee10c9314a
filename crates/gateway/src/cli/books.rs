//! What `audit`, `doctor` and `reconcile` take.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use jiff::civil::Date;
use tariff::Amount;

/// How the audit is printed.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// As a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the findings are printed.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// As a JSON object: which database, and the findings with level, check, finding and remedy.
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not ask the upstreams whether they answer and take our keys.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// A provider's export and what to compare.
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The export; `-` for standard input.
    pub(crate) file: PathBuf,
    /// Which upstream key the provider means by an id: key_abc=7, the id in turnpike.upstream_key, or key_abc=openai, all keys
    /// of that upstream. May be given several times. Keys that are not named are compared summed up, as `*`.
    #[arg(long, value_name = "THEIRS=OURS")]
    pub(crate) key: Vec<KeyOf>,
    /// Charges of this upstream only. Give it when there are several providers.
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream: Option<String>,
    /// Charges of these endpoints only (chat/completions, responses, …). By default those the export is about; a table cannot
    /// say, so that the dashboard's of embeddings wants `--endpoints embeddings`.
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINT")]
    pub(crate) endpoints: Option<Vec<String>>,
    /// The export's rows of these projects only; an organization often has others.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub(crate) project: Vec<String>,
    /// From this day on (UTC).
    #[arg(long, value_name = "DAY")]
    pub(crate) since: Option<Date>,
    /// Up to and with this day (UTC).
    #[arg(long, value_name = "DAY")]
    pub(crate) until: Option<Date>,
    /// Differences up to so many per cent of the provider's figure are none.
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub(crate) tolerance: Percent,
    /// Compare gpt-4o-2024-08-06 and gpt-4o as one model.
    #[arg(long)]
    pub(crate) ignore_dates: bool,
    /// Show what agrees, too.
    #[arg(long)]
    pub(crate) all: bool,
    /// As a JSON object.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// As CSV, one line for each day, key and model.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// A key of theirs and what it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyOf {
    /// The provider's id.
    pub(crate) theirs: String,
    /// Which charges carry it.
    pub(crate) ours: OurKey,
}

/// A key, or all keys of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OurKey {
    /// A row of `turnpike.upstream_key`.
    Id(i64),
    /// An upstream's name.
    Upstream(String),
}

impl FromStr for KeyOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((theirs, ours)) if !theirs.is_empty() && !ours.is_empty() => Ok(Self {
                theirs: theirs.to_owned(),
                ours: ours
                    .parse()
                    .map_or_else(|_| OurKey::Upstream(ours.to_owned()), OurKey::Id),
            }),
            _ => Err("give the provider's id and ours: key_abc=7 or key_abc=openai".into()),
        }
    }
}

/// Per cent, in billionths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) i64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An amount is a decimal number with nine places, which is what is wanted here.
        match text.trim_end_matches('%').parse::<Amount>() {
            Ok(percent) if percent.nano() >= 0 => Ok(Self(percent.nano())),
            _ => Err("give per cent such as 1 or 0.5".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_id_or_an_upstream() {
        let ours = |text: &str| text.parse::<KeyOf>().map(|key| (key.theirs, key.ours));
        assert_eq!(ours("key_abc=7"), Ok(("key_abc".to_owned(), OurKey::Id(7))));
        assert_eq!(
            ours("key_abc=openai"),
            Ok(("key_abc".to_owned(), OurKey::Upstream("openai".into())))
        );
        for text in ["key_abc", "=7", "key_abc=", ""] {
            assert!(
                ours(text).is_err_and(|why| why.contains("key_abc=7")),
                "{text}"
            );
        }
    }

    #[test]
    fn per_cent_are_read_exactly() {
        let read = |text: &str| text.parse::<Percent>().ok().map(|percent| percent.0);
        assert_eq!(read("0.5"), Some(500_000_000));
        assert_eq!(read("2%"), Some(2_000_000_000));
        for text in ["-1", "", "much"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
