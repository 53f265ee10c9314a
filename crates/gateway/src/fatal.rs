//! Why the program ends without having done its work: one line, and an exit code of `sysexits.h`.

use std::{error::Error, fmt, io, process::ExitCode};

use ledger::LedgerError;

use crate::settings::SettingsError;

/// One clear line and an exit code.
#[derive(Debug)]
pub(crate) struct Fatal {
    code: Code,
    line: String,
}

/// The codes of `sysexits.h` that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The command line is wrong.
    Usage = 64,
    /// Data given is wrong.
    Data = 65,
    /// A file given cannot be read.
    NoInput = 66,
    /// Something needed, such as Postgres, is not there.
    Unavailable = 69,
    /// The system refuses something (a port, a thread).
    System = 71,
    /// Reading or writing failed.
    Io = 74,
    /// Not permitted.
    NoPermission = 77,
    /// A setting is wrong, or the database is not migrated.
    Config = 78,
}

impl Fatal {
    /// A line without a cause.
    pub(crate) fn new(code: Code, line: impl Into<String>) -> Self {
        Self {
            code,
            line: line.into(),
        }
    }

    /// A line and why.
    pub(crate) fn because(code: Code, line: &str, cause: &(dyn Error + 'static)) -> Self {
        Self {
            code,
            line: format!("{line}: {}", chain(cause)),
        }
    }

    /// What the process says to its parent.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Some errors quote their cause already.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

impl From<SettingsError> for Fatal {
    fn from(error: SettingsError) -> Self {
        Self::new(Code::Config, error.to_string())
    }
}

impl From<LedgerError> for Fatal {
    fn from(error: LedgerError) -> Self {
        let code = if error.is_config() || error.is_migration() {
            Code::Config
        } else if error.is_login() {
            Code::NoPermission
        } else if error.is_refused() {
            Code::Data
        } else {
            Code::Unavailable
        };
        let mut line = chain(&error);
        if let Some(hint) = error.hint() {
            line.push_str(". ");
            line.push_str(hint);
        }
        Self::new(code, line)
    }
}

/// The code for an error of the file system or network.
pub(crate) fn io_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NoInput,
        io::ErrorKind::PermissionDenied => Code::NoPermission,
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => Code::System,
        _ => Code::Io,
    }
}
