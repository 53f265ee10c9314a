//! Applies the numbered files of `/migrations`, which are built into the program.

use crate::{Config, LedgerError};

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The files applied now, by name.
    pub applied: Vec<&'static str>,
    /// The version the database has now.
    pub version: i32,
}

/// Brings the database to this program's version. Several processes may run it at once.
///
/// # Errors
/// [`LedgerError::is_migration`] when the database is newer than the program or an applied file was edited since.
pub async fn run(config: &Config) -> Result<Report, LedgerError> {
    let _ = config;
    todo!()
}
