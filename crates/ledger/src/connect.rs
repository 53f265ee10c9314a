//! Connections to Postgres: single ones for the writers, for `LISTEN`, for migrations; a pool for look-ups.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures_util::future::join;
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    Client, Connection, Row, Socket,
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{LedgerError, config, tls::TlsMode};

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Parameters with their types: no statement is prepared by name, so that a transaction pooler is fine.
pub(crate) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Opens connections to one place.
#[derive(Clone)]
pub(crate) struct Connector {
    postgres: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    patience: Duration,
    /// For messages.
    place: Arc<str>,
}

impl Connector {
    pub(crate) fn new(
        postgres: &tokio_postgres::Config,
        tls: &TlsMode,
        patience: Duration,
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            postgres: postgres.clone(),
            tls: tls.connector()?,
            patience,
            place: config::place(postgres).into(),
        })
    }

    /// The same place, where an answer is waited for no longer than this.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn pool(&self, size: usize) -> Result<Connections, LedgerError> {
        // Fast: a dead connection is noticed by its driver, and asking first would cost a round trip each time.
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(
            self.postgres.clone(),
            self.tls.clone(),
            manager,
        ))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(self.patience),
            create: Some(self.patience),
            recycle: Some(self.patience),
        })
        .build()
        .map_err(|error| {
            LedgerError::config("the connection pool cannot be built").because(error)
        })?;
        Ok(Connections {
            pool,
            patience: self.patience,
            place: Arc::clone(&self.place),
        })
    }

    /// The two halves: whoever takes the connection must poll it.
    pub(crate) async fn halves(&self) -> Result<(Client, Connection<Socket, Stream>), LedgerError> {
        match timeout(self.patience, self.postgres.connect(self.tls.clone())).await {
            Ok(halves) => halves.map_err(|error| LedgerError::unconnected(&self.place, error)),
            Err(_) => Err(LedgerError::unanswered(&self.place, self.patience)),
        }
    }

    pub(crate) async fn open(&self) -> Result<Session, LedgerError> {
        let (client, connection) = self.halves().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "ledger.connection.lost");
            }
        });
        Ok(Session {
            client,
            driver,
            tls: self.tls.clone(),
            patience: self.patience,
        })
    }
}

/// A pool of connections.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool,
    patience: Duration,
    place: Arc<str>,
}

impl Connections {
    pub(crate) async fn get(&self) -> Result<deadpool_postgres::Client, LedgerError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => LedgerError::unconnected(&self.place, error),
            PoolError::Timeout(TimeoutType::Create) => {
                LedgerError::unanswered(&self.place, self.patience)
            }
            PoolError::Closed => LedgerError::closed(),
            error => LedgerError::unavailable("no connection to Postgres is free").because(error),
        })
    }

    /// Runs a statement. A connection on which its answer did not come in time does not go back.
    pub(crate) async fn query(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let client = self.get().await?;
        match timeout(self.patience, client.query_typed(statement, params)).await {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                drop(deadpool_postgres::Client::take(client));
                Err(LedgerError::unavailable("Postgres did not answer in time"))
            }
        }
    }
}

/// A connection and the task that drives it.
pub(crate) struct Session {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
    tls: MakeRustlsConnect,
    patience: Duration,
}

impl Session {
    /// Runs a statement that commits without waiting for the disk, and a commit behind it that does wait: so row locks
    /// do not last as long as the disk takes, and yet all is durable when this returns. One round trip for both.
    pub(crate) async fn query_durably(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        // Sent in this order, on one connection: the second commit's place in the log is behind the first's.
        let (rows, flushed) = join(self.query(statement, params), self.query(FLUSH, &[])).await;
        let rows = rows?;
        flushed.map(|_| rows)
    }

    /// Runs a statement. On a timeout the statement is cancelled, its outcome unknown and the session closed.
    pub(crate) async fn query(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        match timeout(self.patience, self.client.query_typed(statement, params)).await {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                let (cancel, tls) = (self.client.cancel_token(), self.tls.clone());
                let patience = self.patience;
                tokio::spawn(async move { timeout(patience, cancel.cancel_query(tls)).await });
                self.driver.abort();
                Err(LedgerError::unavailable("Postgres did not answer in time"))
            }
        }
    }

    /// Waits until the connection is lost.
    pub(crate) async fn closed(&mut self) {
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Dropping the client alone would leave the driver waiting for an answer that may never come.
        self.driver.abort();
    }
}

/// Writes next to nothing and waits until it is on disk, and with it all that was committed before (a flush reaches up
/// to its place in the log). Whatever the server's default, and no weaker than it.
const FLUSH: &str = "
    select case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', true) end,
           pg_logical_emit_message(true, 'turnpike', '')";
