//! The handle: what the gateway asks of the ledger while it serves.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tokio_postgres::types::Type;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    AccessToken, Catalog, Config, Hold, HoldRequest, InstanceId, LedgerError, TakeError,
    catalog::load,
    connect::{Connections, Params},
    gauges::Gauges,
    link::Link,
    listen,
    rates::{self, Rates},
    settle::{self, Job},
    take::{self, Want},
    tokens::Tokens,
};

/// The ledger. A cheap handle, usable from any runtime; its tasks run on the runtime that connected, and end when the last
/// handle and the last hold are gone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    wants: mpsc::Sender<Want>,
    jobs: mpsc::Sender<Job>,
    rates: Rates,
    instance: InstanceId,
    _tasks: Arc<DropGuard>,
}

/// What the handle and its tasks have in common.
pub(crate) struct Shared {
    pub(crate) tokens: Tokens,
    pub(crate) gauges: Arc<Gauges>,
    /// Asks for a load of the catalog.
    pub(crate) reload: Notify,
    catalog: ArcSwap<Catalog>,
    pool: Connections,
    statement_timeout: Duration,
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
        let connector = config.connector()?;
        let settle_session = connector.open().await?;
        let take_session = connector.open().await?;
        let rates_session = connector.open().await?;
        let pool = connector.pool(config.pool_size)?;
        let client = pool.get().await?;
        let catalog = load::load(&client, config.statement_timeout, 1).await?;
        let instance = register(&client, &config).await?;
        client.query_typed(PARTITIONS, &[]).await?;
        drop(client);

        let gauges = Arc::new(Gauges::default());
        gauges.connected.store(true, Relaxed);
        let (jobs, jobs_sent) = mpsc::channel(config.exchanges_max);
        let (wants, wants_sent) = mpsc::channel(config.exchanges_max);
        let settle_link = Link::new(connector.clone(), settle_session, Some(Arc::clone(&gauges)));
        tokio::spawn(settle::run(
            jobs_sent,
            settle_link,
            instance,
            Arc::clone(&gauges),
        ));
        let (rates, queued) = Rates::new();
        let rates_link = Link::new(connector.clone(), rates_session, None);
        tokio::spawn(rates::run(queued, rates.downgrade(), rates_link, instance));
        let take_link = Link::new(connector, take_session, None);
        tokio::spawn(take::run(
            wants_sent,
            take_link,
            instance,
            Arc::clone(&gauges),
        ));

        let shared = Arc::new(Shared {
            tokens: Tokens::new(pool.clone(), &config),
            gauges,
            reload: Notify::new(),
            catalog: ArcSwap::from_pointee(catalog),
            pool,
            statement_timeout: config.statement_timeout,
        });
        let gone = CancellationToken::new();
        let listener = config.direct_connector()?;
        tokio::spawn(
            gone.clone()
                .run_until_cancelled_owned(listen::run(Arc::clone(&shared), listener)),
        );
        tokio::spawn(
            gone.clone()
                .run_until_cancelled_owned(listen::refresh(Arc::clone(&shared), config.poll_every)),
        );
        tokio::spawn(
            gone.clone()
                .run_until_cancelled_owned(listen::live(Arc::clone(&shared), instance)),
        );
        Ok(Self {
            shared,
            wants,
            jobs,
            rates,
            instance,
            _tasks: Arc::new(gone.drop_guard()),
        })
    }

    /// The snapshot of prices, upstreams and routes.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog.load_full()
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
        self.shared.tokens.get(digest).await
    }

    /// How often and how much at once anybody may use.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Sets money aside. Reserves the place in the settle queue too, so that the end never lacks room.
    ///
    /// Cancelling the future gives the hold back if it was taken.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub async fn take(&self, want: HoldRequest) -> Result<Hold, TakeError> {
        let place = self
            .jobs
            .clone()
            .try_reserve_owned()
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => TakeError::Busy,
                mpsc::error::TrySendError::Closed(_) => {
                    TakeError::Unavailable(LedgerError::closed())
                }
            })?;
        let (answer, answered) = oneshot::channel();
        self.wants
            .try_send(Want {
                request: want,
                place,
                answer,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => TakeError::Busy,
                mpsc::error::TrySendError::Closed(_) => {
                    TakeError::Unavailable(LedgerError::closed())
                }
            })?;
        answered
            .await
            .unwrap_or_else(|_| Err(TakeError::Unavailable(LedgerError::closed())))
    }

    /// Whether an exchange that starts now could be held and settled.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.gauges.connected.load(Relaxed)
            && !self.jobs.is_closed()
            && self.jobs.capacity() > 0
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.gauges.stats()
    }

    /// This process in `turnpike.instance`.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Waits until every settlement handed over is durable, at most this long; then says goodbye in `turnpike.instance`.
    /// Returns how many are still open.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let mut settling = self.shared.gauges.settling();
        // The sender lives in the gauges, so that waiting cannot fail otherwise than by the deadline.
        let left = match timeout(deadline, settling.wait_for(|count| *count == 0)).await {
            Ok(_) => 0,
            Err(_) => *self.shared.gauges.settling().borrow(),
        };
        if left == 0
            && let Err(error) = self
                .shared
                .execute(GOODBYE, &[(&self.instance.0, Type::INT8)])
                .await
        {
            tracing::warn!(error = %settle::Chain(&error), "ledger.instance.goodbye");
        }
        left
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("instance", &self.instance)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) async fn load_catalog(&self) -> Result<(), LedgerError> {
        let client = self.pool.get().await?;
        let generation = self.catalog.load().generation().saturating_add(1);
        match load::load(&client, self.statement_timeout, generation).await {
            Ok(catalog) => {
                self.catalog.store(Arc::new(catalog));
                Ok(())
            }
            Err(error) => {
                // Its transaction may still be open: it does not go back into the pool.
                drop(deadpool_postgres::Client::take(client));
                Err(error)
            }
        }
    }

    pub(crate) async fn execute(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<(), LedgerError> {
        self.pool.query(statement, params).await.map(drop)
    }
}

async fn register(
    client: &tokio_postgres::Client,
    config: &Config,
) -> Result<InstanceId, LedgerError> {
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let row = client
        .query_typed_one(
            REGISTER,
            &[
                (&pid, Type::INT4),
                (&config.instance, Type::TEXT),
                (&env!("CARGO_PKG_VERSION"), Type::TEXT),
            ],
        )
        .await?;
    Ok(InstanceId(row.try_get(0)?))
}

const REGISTER: &str =
    "insert into turnpike.instance (pid, name, version) values ($1, $2, $3) returning id";
const GOODBYE: &str =
    "update turnpike.instance set seen_at = now(), stopped_at = now() where id = $1";
const PARTITIONS: &str = "select turnpike.ensure_charge_partitions()";
