//! What an import left out, and what deserves a look, in words for an operator.

use std::{collections::BTreeMap, fmt};

use super::entry::Entry;

/// How many names stand behind a count.
const EXAMPLES: usize = 3;

/// What became of the models of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Models that have rows now.
    pub(crate) imported: usize,
    /// Models that have none, by reason.
    pub(crate) left_out: BTreeMap<LeftOut, Vec<String>>,
    /// Imported models that deserve a look.
    pub(crate) warnings: BTreeMap<Warning, Vec<String>>,
    /// Figures of imported models that have no place in a price row: the list's own key, the models.
    pub(crate) figures_left_out: BTreeMap<String, Vec<String>>,
}

/// Why a model has no rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOut {
    /// The list's own documentation.
    Sample,
    /// Of a provider that was not asked for.
    OtherProvider,
    /// Another entry bears the name.
    NameTaken,
    /// The name ends in `*`, which would make it a pattern.
    LooksLikePattern,
    /// No price at all.
    NoPrice,
    /// Priced, but not by the token.
    OtherUnit,
    /// One kind of image of a model: it stands in that model's row.
    KindOfImage,
    /// No price for output tokens, though the model gives some.
    NoOutputPrice,
    /// Above 1,000 USD per 1,000,000 tokens: more likely a mistake of the list than a price.
    Absurd,
    /// A figure that cannot be read: its key.
    Unreadable(String),
}

/// What deserves a look about an imported model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Warning {
    /// Imported at an absurd price, as asked.
    Absurd,
    /// All its prices are zero.
    Free,
    /// Its cache writes are listed below its input: a mistake, not taken.
    CacheWriteBelowInput,
    /// No price for cached input is listed.
    NoCacheRead,
    /// A tier or context size lists only some of its figures.
    Filled,
    /// Tiers that the list has only for its undated name were taken over.
    TiersOfAlias,
    /// The dearer row for long contexts begins at or above the listed context window.
    ContextBeyondWindow,
    /// No output maximum is listed.
    NoOutputMax,
    /// No context window is listed.
    NoContextWindow,
}

impl Report {
    /// How many models the list has.
    pub(crate) fn models(&self) -> usize {
        self.left_out.values().map(Vec::len).sum::<usize>() + self.imported
    }

    pub(super) fn imported(&mut self, model: &str, entry: &Entry) {
        self.imported += 1;
        for warning in &entry.warnings {
            self.warnings
                .entry(*warning)
                .or_default()
                .push(model.to_owned());
        }
        for key in &entry.figures_left_out {
            self.figures_left_out
                .entry(key.clone())
                .or_default()
                .push(model.to_owned());
        }
    }

    pub(super) fn warn(&mut self, model: &str, warning: Warning) {
        self.warnings
            .entry(warning)
            .or_default()
            .push(model.to_owned());
    }

    pub(super) fn left_out(&mut self, model: &str, reason: LeftOut) {
        self.left_out
            .entry(reason)
            .or_default()
            .push(model.to_owned());
    }
}

/// A line for each reason, with a few names.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} models imported", self.imported, self.models())?;
        section(f, "left out", &self.left_out)?;
        section(f, "to check", &self.warnings)?;
        section(
            f,
            "figures left out, by their key in the list",
            &self.figures_left_out,
        )
    }
}

fn section<R: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    reasons: &BTreeMap<R, Vec<String>>,
) -> fmt::Result {
    if reasons.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    for (reason, models) in reasons {
        let examples: Vec<&str> = models.iter().take(EXAMPLES).map(String::as_str).collect();
        let more = if models.len() > EXAMPLES { ", …" } else { "" };
        writeln!(
            f,
            "  {:>4}  {reason} ({}{more})",
            models.len(),
            examples.join(", ")
        )?;
    }
    Ok(())
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sample => "the list's own documentation",
            Self::OtherProvider => "of a provider not asked for",
            Self::NameTaken => "another entry of the list bears this name",
            Self::LooksLikePattern => "the name ends in *, which would make it a pattern",
            Self::NoPrice => "no price listed",
            Self::OtherUnit => "priced by a unit that price rows do not have",
            Self::KindOfImage => "one kind of image of a model: in that model's row",
            Self::NoOutputPrice => "no price for output tokens",
            Self::Absurd => {
                "dearer than 1,000 USD per 1,000,000 tokens, likely a mistake of the list"
            }
            Self::Unreadable(key) => return write!(f, "{key} cannot be read as an exact price"),
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absurd => "dearer than 1,000 USD per 1,000,000 tokens, imported as asked",
            Self::Free => "free: all prices are zero",
            Self::CacheWriteBelowInput => {
                "cache writes listed below the input price: not taken, they cost as input"
            }
            Self::NoCacheRead => "no price for cached input listed: it costs as other input",
            Self::Filled => {
                "a tier or context size lists only some figures: the dearest of its neighbours stands for the rest"
            }
            Self::TiersOfAlias => {
                "tiers listed only for the name without the date: the same prices stand for the dated name"
            }
            Self::ContextBeyondWindow => {
                "the row for long contexts begins at the listed context window: holds do not reach it"
            }
            Self::NoOutputMax => {
                "no output maximum listed: holds assume OUTPUT_MAX_ASSUMED where a request has no limit"
            }
            Self::NoContextWindow => {
                "no context window listed: holds assume CONTEXT_WINDOW_ASSUMED where a request refers to images or files"
            }
        })
    }
}
