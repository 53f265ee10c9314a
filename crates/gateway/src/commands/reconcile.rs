//! `turnpike reconcile`: a provider's export beside what was charged.

mod compare;
mod csv;
mod export;
mod figures;
mod json;
mod names;
mod print;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use jiff::{Timestamp, tz::TimeZone};
use ledger::{
    Config,
    admin::{Admin, Charged},
};

use self::{
    compare::{Comparison, How},
    export::Export,
};
use super::found;
use crate::{
    cli::Reconcile,
    fatal::{Code, Fatal, io_code},
};

pub(super) async fn run(command: &Reconcile, config: &Config) -> Result<ExitCode, Fatal> {
    // What is wrong with the file is said whether or not there is a database.
    let mut export = read(command)?;
    let Some((from, to)) = compare::span(&export, command.since, command.until) else {
        return Err(Fatal::new(
            Code::Usage,
            format!(
                "{} says nothing of the days from --since to --until",
                command.file.display()
            ),
        ));
    };
    export
        .records
        .retain(|record| (from..to).contains(&record.from));
    let about = export.endpoints.as_ref();
    let charged = Admin::connect(config)
        .await?
        .charged(&Charged {
            from_ms: from.saturating_mul(1_000),
            to_ms: to.saturating_mul(1_000),
            upstream: command.upstream.clone(),
            endpoints: command.endpoints.clone().or_else(|| {
                about.map(|endpoints| endpoints.iter().map(|name| (*name).to_owned()).collect())
            }),
        })
        .await?;
    let comparison = compare::compare(
        &export,
        &charged,
        &How {
            keys: &command.key,
            tolerance: command.tolerance,
            ignore_dates: command.ignore_dates,
        },
    );
    print(command, &comparison, &export.notes, (from, to));
    Ok(if comparison.rows.iter().any(compare::Row::differs) {
        found()
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads the export, but for what of it is not asked for.
fn read(command: &Reconcile) -> Result<Export, Fatal> {
    let path = &command.file;
    let unreadable = |error: io::Error| {
        Fatal::because(
            io_code(&error),
            &format!("{} cannot be read", path.display()),
            &error,
        )
    };
    let bytes = if path == Path::new("-") {
        up_to(FILE_BYTES_MAX, io::stdin().lock()).map_err(unreadable)?
    } else {
        File::open(path)
            .and_then(|file| up_to(FILE_BYTES_MAX, file))
            .map_err(unreadable)?
    };
    let mut export = export::read(&bytes, path)?;
    if !command.project.is_empty() {
        export.records.retain(|record| {
            let project = record.project.as_ref();
            project.is_some_and(|project| command.project.contains(project))
        });
    }
    if !command.key.is_empty() && export.records.iter().all(|record| record.key.is_none()) {
        return Err(Fatal::new(
            Code::Data,
            format!(
                "{} names no keys: leave out --key, or export it grouped by api_key_id",
                path.display()
            ),
        ));
    }
    Ok(export)
}

/// The largest export that is read: a month by minute, key and model of a large organization.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

fn up_to(max: u64, reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!(
            "it has more than {max} bytes; give it in parts"
        )));
    }
    Ok(bytes)
}

fn print(command: &Reconcile, comparison: &Comparison, of_export: &[String], span: (i64, i64)) {
    let notes = [of_export, &comparison.notes].concat();
    if command.json {
        let days = (day(span.0), day(span.1.saturating_sub(1)));
        println!("{:#}", print::json(comparison, days, command.all, &notes));
        return;
    }
    for note in &notes {
        eprintln!("note: {note}");
    }
    if command.csv {
        print!("{}", print::csv(comparison, command.all));
        eprintln!("{}", print::summary(comparison));
    } else {
        print!("{}", print::table(comparison, command.all));
        println!("{}", print::summary(comparison));
    }
}

fn day(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| "?".to_owned(),
        |instant| instant.to_zoned(TimeZone::UTC).date().to_string(),
    )
}
