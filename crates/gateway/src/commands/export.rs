//! `turnpike export`: charges for other programs, page by page, so that memory stays small however much there is.

mod columns;
mod events;
mod lines;
mod parquet;

use std::{fs::File, io, path::Path};

use jiff::Timestamp;
use ledger::admin::{Admin, NumberedCharge, Wanted};

use self::{events::Events, lines::Lines, parquet::Parquet};
use crate::{
    cli::{Export, Format},
    fatal::{Code, Fatal},
};

/// Takes charges in their order.
trait Sink {
    /// Writes some. What is written stays of use should nothing follow.
    fn write(&mut self, charges: &[NumberedCharge]) -> io::Result<()>;

    /// Nothing follows.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

pub(super) async fn run(command: &Export, admin: &Admin) -> Result<(), Fatal> {
    let wanted = Wanted {
        since_ms: command.since.map(Timestamp::as_millisecond),
        until_ms: command.until.map(Timestamp::as_millisecond),
        account: command.account.clone(),
    };
    if let (Some(since), Some(until)) = (wanted.since_ms, wanted.until_ms)
        && until <= since
    {
        return Err(Fatal::new(
            Code::Usage,
            "--until is not after --since, so nothing lies between them",
        ));
    }
    if let Some(account) = &wanted.account
        && !admin.has_account(account).await?
    {
        return Err(Fatal::new(
            Code::Data,
            format!("there is no account {account:?}; `turnpike account list` names them all"),
        ));
    }
    // What no gateway has numbered yet belongs to it as well.
    admin.number_charges().await?;
    let (mut sink, after) = open(command, admin).await?;
    let mut position = admin.export_span(&wanted, after).await?;
    let (mut written, mut last) = (0_u64, after);
    while !position.is_at_end() {
        let page = admin.export_page(&wanted, &mut position).await?;
        let Some(end) = page.last() else { continue };
        match sink.write(&page) {
            Ok(()) => {}
            // Who reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(unwritten(&error)),
        }
        written = written.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
        last = end.seq;
    }
    sink.finish().map_err(|error| unwritten(&error))?;
    eprintln!("{written} charges; --after {last} goes on behind them");
    Ok(())
}

/// What takes the charges, and the number behind which they begin.
async fn open(command: &Export, admin: &Admin) -> Result<(Box<dyn Sink>, i64), Fatal> {
    let is_stdout = command.out.as_os_str() == "-";
    if command.resume && (is_stdout || command.format == Format::Parquet) {
        return Err(Fatal::new(
            Code::Usage,
            "--resume goes on with lines in a file: give --out FILE and another format than parquet, or --after",
        ));
    }
    if command.format == Format::Parquet {
        let sink = if is_stdout {
            Parquet::streaming(io::stdout())
        } else {
            absent(&command.out)?;
            Parquet::into_file(&command.out)
        };
        return Ok((
            sink.map_err(|error| unopened(&command.out, &error))?,
            command.after,
        ));
    }
    let format: Box<dyn lines::Format> = match command.format {
        Format::Cloudevents => Box::new(Events::new(admin.books().await?, command.subject)),
        Format::Jsonl => Box::new(lines::Json),
        _ => Box::new(lines::Csv),
    };
    if is_stdout {
        let sink = Lines::new(format, Box::new(io::stdout()), false);
        return Ok((Box::new(sink), command.after));
    }
    if command.resume && command.out.exists() {
        let (file, after) = lines::reopen(&*format, &command.out)
            .map_err(|error| unopened(&command.out, &error))?;
        let sink = Lines::new(format, Box::new(file), after.is_some());
        return Ok((Box::new(sink), after.unwrap_or(0)));
    }
    absent(&command.out)?;
    let file = File::create_new(&command.out).map_err(|error| unopened(&command.out, &error))?;
    let sink = Lines::new(format, Box::new(file), false);
    Ok((Box::new(sink), command.after))
}

/// Nothing is written over.
fn absent(path: &Path) -> Result<(), Fatal> {
    if path.exists() {
        return Err(Fatal::new(
            Code::Io,
            format!(
                "{} is there already: give another name, or --resume to go on with lines",
                path.display()
            ),
        ));
    }
    Ok(())
}

fn unopened(path: &Path, error: &io::Error) -> Fatal {
    Fatal::because(
        Code::Io,
        &format!("{} cannot be written", path.display()),
        error,
    )
}

fn unwritten(error: &io::Error) -> Fatal {
    Fatal::because(Code::Io, "the export cannot be written", error)
}
