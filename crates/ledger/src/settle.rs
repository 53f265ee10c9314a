//! The settle writer: charges and releases of many exchanges in one statement, one commit.

use tokio::sync::oneshot;

use crate::{Charge, HoldRequest, LedgerError};

/// One exchange's end.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) hold: HoldRequest,
    /// `None` gives the hold back.
    pub(crate) charge: Option<Box<Charge>>,
    pub(crate) done: oneshot::Sender<Result<(), LedgerError>>,
}
