//! The handle: what the gateway asks of the ledger while it serves.

use std::{sync::Arc, time::Duration};

use crate::{AccessToken, Catalog, Config, Hold, HoldRequest, LedgerError, TakeError};

/// The ledger. A cheap handle, usable from any runtime; its tasks run on the runtime that connected.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<()>,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Holds taken and not yet durably settled or released.
    pub exchanges_open: usize,
    /// Settlements handed over and not yet durable.
    pub settling: usize,
    /// Settlements made durable since the start.
    pub settled: u64,
    /// Groups they were committed in.
    pub settle_groups: u64,
    /// Holds taken since the start.
    pub taken: u64,
    /// Groups they were asked for in.
    pub take_groups: u64,
    /// Settlements Postgres refused for good.
    pub settle_refused: u64,
    /// Whether the settle writer has its connection.
    pub connected: bool,
    /// Whether `LISTEN` stands.
    pub listening: bool,
}

impl Ledger {
    /// Connects, registers this process, loads the catalog, starts the writers and `LISTEN`: all on the calling runtime.
    ///
    /// The database must be migrated ([`crate::migrate::run`]).
    ///
    /// # Errors
    /// When Postgres cannot be reached or lacks the schema.
    pub async fn connect(config: Config) -> Result<Self, LedgerError> {
        let _ = config;
        todo!()
    }

    /// The snapshot of prices, upstreams and routes.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        todo!()
    }

    /// The access token with this SHA-256, `None` when there is none. Revoked and expired ones are found too:
    /// see [`AccessToken::is_valid`].
    ///
    /// # Errors
    /// When it is not cached and Postgres does not answer.
    pub async fn access_token(
        &self,
        digest: [u8; 32],
    ) -> Result<Option<Arc<AccessToken>>, LedgerError> {
        let _ = digest;
        todo!()
    }

    /// Sets money aside. Reserves the place in the settle queue too, so that the end never lacks room.
    ///
    /// Cancelling the future gives the hold back if it was taken.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub async fn take(&self, want: HoldRequest) -> Result<Hold, TakeError> {
        let _ = want;
        todo!()
    }

    /// Whether an exchange that starts now could be held and settled.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Waits until every settlement handed over is durable, at most this long; then says goodbye in `turnpike.instance`.
    /// Returns how many are still open.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let _ = deadline;
        todo!()
    }
}
