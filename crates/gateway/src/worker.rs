//! What one data-plane thread has of its own.

use std::sync::Arc;

use proxy::Pool;
use tokio::sync::mpsc;

use crate::{answer::Left, gateway::Gateway};

/// What one data-plane thread has of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) pool: Pool,
    pub(crate) leave: mpsc::Sender<Left>,
}
