//! `turnpike doctor`: what is wrong or about to be, and what to do about it. It only looks.

mod books;
mod machine;
mod prices;
mod upstreams;
mod webhooks;

use std::process::ExitCode;

use ledger::admin::Connected;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::found;
use crate::{cli::Doctor, fatal::Fatal, settings::Settings, startup};

/// How bad it is. The worst stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// It does not serve, or the books are wrong.
    Broken,
    /// It will, or can, go wrong: someone must act.
    Risk,
    /// Worth knowing; nobody must act.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// Which check found it: a stable name.
    check: &'static str,
    /// What is so.
    what: String,
    /// What to do about it.
    remedy: String,
}

impl Finding {
    fn broken(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Broken, check, what, remedy)
    }

    fn risk(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Risk, check, what, remedy)
    }

    fn note(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Note, check, what, remedy)
    }

    fn new(
        level: Level,
        check: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            level,
            check,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Risk => "risk",
            Self::Note => "note",
        }
    }
}

/// Looks at everything and says what it found. Exit code 1 if someone must act.
pub(super) fn run(
    command: &Doctor,
    settings: &Settings,
    runtime: &Runtime,
) -> Result<ExitCode, Fatal> {
    let mut findings = machine::look(settings);
    let connected = match startup::open(&settings.database, startup::Use::Command, runtime) {
        Ok(database) => {
            let connected = runtime.block_on(books::look(
                &database,
                settings,
                !command.offline,
                &mut findings,
            ));
            database.close();
            connected
        }
        Err(fatal) => {
            findings.push(books::unreachable(fatal.to_string()));
            None
        }
    };
    // Stable, so that what one check found stays together.
    findings.sort_by_key(|finding| finding.level);
    if command.json {
        println!("{:#}", as_json(connected.as_ref(), &findings));
    } else {
        print!("{}", as_text(connected.as_ref(), &findings));
    }
    Ok(if needing_action(&findings) == 0 {
        ExitCode::SUCCESS
    } else {
        found()
    })
}

fn needing_action(findings: &[Finding]) -> usize {
    findings
        .iter()
        .filter(|finding| finding.level < Level::Note)
        .count()
}

fn as_json(connected: Option<&Connected>, findings: &[Finding]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level.name(),
                "check": finding.check,
                "finding": finding.what,
                "remedy": finding.remedy,
            })
        })
        .collect();
    let database = connected.map(
        |it| json!({ "place": it.place, "user": it.user, "version": it.version, "clock_ahead_ms": it.ahead_ms }),
    );
    json!({ "database": database, "findings": findings })
}

fn as_text(connected: Option<&Connected>, findings: &[Finding]) -> String {
    let mut text = connected.map_or_else(String::new, |it| {
        format!(
            "Postgres {} at {}, as user {}\n",
            it.version, it.place, it.user
        )
    });
    for finding in findings {
        text.push_str(&format!(
            "{:<7} {}: {}\n        -> {}\n",
            finding.level.name(),
            finding.check,
            finding.what,
            finding.remedy
        ));
    }
    let act = needing_action(findings);
    text.push_str(&match (act, findings.len().saturating_sub(act)) {
        (0, 0) => "nothing found\n".to_owned(),
        (0, notes) => format!("nothing to do; worth knowing: {notes}\n"),
        (act, notes) => format!("to be acted on: {act}; worth knowing: {notes}\n"),
    });
    text
}

/// The first few of many, and how many more there are.
fn some(names: &[String]) -> String {
    /// How many are told.
    const TOLD: usize = 5;
    let told = names.get(..TOLD).unwrap_or(names).join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_first_and_notes_are_no_reason_to_act() {
        assert!(Level::Broken < Level::Risk && Level::Risk < Level::Note);
        let note = Finding::note("a", "b", "c");
        assert_eq!(needing_action(std::slice::from_ref(&note)), 0);
        assert_eq!(needing_action(&[note, Finding::risk("a", "b", "c")]), 1);
    }

    #[test]
    fn many_names_are_told_in_few_words() {
        let names: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(some(&names), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(some(&names[..2]), "1, 2");
    }
}
