//! A writer's own connection, opened again whenever it is lost.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use crate::{
    LedgerError,
    connect::{Connector, Params, Session},
    gauges::Gauges,
};

/// One connection at a time, one statement at a time.
pub(crate) struct Link {
    connector: Connector,
    session: Option<Session>,
    /// Whose state is the ledger's `connected`; only one writer's is.
    shown: Option<Arc<Gauges>>,
}

impl Link {
    /// Connects when it is first needed.
    pub(crate) const fn new(connector: Connector, shown: Option<Arc<Gauges>>) -> Self {
        Self {
            connector,
            session: None,
            shown,
        }
    }

    /// Connects now.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub(crate) async fn connect(mut self) -> Result<Self, LedgerError> {
        let deadline = Instant::now() + CONNECT_MAX;
        let mut wait = Backoff::default();
        loop {
            match self.open().await {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(self);
                }
                // A statement's patience may be shorter than a busy server needs to let somebody in.
                Err(error) if error.is_unanswered() && Instant::now() < deadline => {
                    wait.pause().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs a statement, connecting first if need be. After a failure of the connection its outcome is unknown.
    pub(crate) async fn query(
        &mut self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let answer = self.session().await?.query(statement, params).await;
        self.heard(answer)
    }

    /// [`Link::query`], durable when it returns: see [`Session::query_durably`].
    pub(crate) async fn query_durably(
        &mut self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let answer = self.session().await?.query_durably(statement, params).await;
        self.heard(answer)
    }

    /// The connection, opened if need be.
    async fn session(&mut self) -> Result<&Session, LedgerError> {
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => self.open().await?,
        };
        Ok(self.session.insert(session))
    }

    /// Lets go of a connection that an answer says is broken.
    fn heard(&mut self, answer: Result<Vec<Row>, LedgerError>) -> Result<Vec<Row>, LedgerError> {
        if answer
            .as_ref()
            .is_err_and(|error| error.is_unavailable() && !error.is_locked())
        {
            self.lose();
        }
        answer
    }

    /// While there is nothing to do: notices the loss of the connection and opens it again. Never returns.
    pub(crate) async fn keep(&mut self) {
        let mut wait = Backoff::default();
        loop {
            match &mut self.session {
                Some(session) => {
                    session.closed().await;
                    self.lose();
                }
                None => match self.open().await {
                    Ok(session) => {
                        self.session = Some(session);
                        wait = Backoff::default();
                    }
                    Err(_) => wait.pause().await,
                },
            }
        }
    }

    async fn open(&mut self) -> Result<Session, LedgerError> {
        let session = self.connector.open().await?;
        self.show(true);
        Ok(session)
    }

    fn lose(&mut self) {
        self.session = None;
        self.show(false);
    }

    fn show(&self, connected: bool) {
        if let Some(gauges) = &self.shown {
            gauges.connected.store(connected, Relaxed);
        }
    }
}

/// Waits that double up to a limit.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = self.0.saturating_mul(2).min(Self::LONGEST);
    }

    const LONGEST: Duration = Duration::from_secs(1);
}

/// How long a busy server has to let a process in when it starts.
const CONNECT_MAX: Duration = Duration::from_secs(10);
