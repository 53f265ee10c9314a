//! The handle: what the gateway asks of the ledger while it serves.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_postgres::{Row, types::Type};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    AccessToken, Catalog, Config, Hold, HoldRequest, InstanceId, LedgerError, TakeError,
    blackbox::{self, BlackBox, Sizes},
    catalog::load,
    connect::{Connections, Params},
    gauges::Gauges,
    hold::Open,
    journal::Journal,
    link::Link,
    listen::{self, Upkeep},
    means::Means,
    numbers,
    purses::{self, Purses},
    rates::{self, Rates},
    recorder::{Opening, Recorder},
    recover,
    settle::{self, Chain, Job, Later, Sender},
    tokens::Tokens,
    trail::{self, Trail},
};

/// The ledger. A cheap handle, usable from any runtime; its tasks run on the runtime that connected, and end when the last
/// handle and the last hold are gone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    trail: Arc<Trail>,
    recorder: Option<Arc<Recorder>>,
    black_box: Arc<Mutex<Option<BlackBox>>>,
    /// The trail's task, once it has ended.
    trail_written: watch::Receiver<bool>,
    rates: Rates,
    runtime: Handle,
    _tasks: Arc<DropGuard>,
}

/// What the handle and its tasks have in common.
pub(crate) struct Shared {
    pub(crate) tokens: Tokens,
    pub(crate) purses: Arc<Purses>,
    pub(crate) gauges: Arc<Gauges>,
    /// Asks for a load of the catalog.
    pub(crate) reload: Notify,
    /// A place for each exchange that may be open, until it is durably settled.
    places: Arc<Semaphore>,
    catalog: ArcSwap<Catalog>,
    pool: Connections,
    statement_timeout: Duration,
    has_journal: bool,
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
    /// Statements that leased for purses since the start.
    pub lease_groups: u64,
    /// Open exchanges of dead processes that were settled.
    pub interrupted: u64,
    /// Settlements that neither Postgres nor the journal would have; they are tried again.
    pub homeless: usize,
    /// Settlements in the journal that are not yet in Postgres.
    pub journal_records: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
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
        let gauges = Arc::new(Gauges::default());
        let sending = match &config.data_dir {
            Some(_) => connector.clone().with_patience(config.settle_patience),
            None => connector.clone(),
        };
        let settle_link = Link::new(sending.clone(), Some(Arc::clone(&gauges)))
            .connect()
            .await?;
        let lease_link = Link::new(connector.clone(), None).connect().await?;
        let rates_link = Link::new(connector.clone(), None).connect().await?;
        let pool = connector.pool(config.pool_size)?;
        let client = pool.get().await?;
        let catalog = load::load(&client, config.statement_timeout, 1).await?;
        client.query_typed(PARTITIONS, &[]).await?;
        drop(client);

        let upkeep = Upkeep {
            name: config.instance.clone(),
            lease: config.lease,
            charges_keep_months: config.charges_keep_months,
        };
        let home = home(&config, &pool).await?;
        let (black_box, journal, recorder) = black_box(&config, home.as_deref()).await?;
        let instance = register(&pool, &upkeep).await?;
        if let Some(black_box) = &black_box {
            black_box.name(instance).map_err(unusable)?;
        }
        let (purses, orders) = Purses::new(instance, config.lease);
        let (rates, queued) = Rates::new();
        let spender = Arc::clone(&purses);
        tokio::spawn(rates::run(
            queued,
            rates.downgrade(),
            rates_link,
            move || spender.instance(),
        ));
        let shared = Arc::new(Shared {
            tokens: Tokens::new(pool.clone(), &config),
            purses: Arc::clone(&purses),
            gauges: Arc::clone(&gauges),
            reload: Notify::new(),
            places: Arc::new(Semaphore::new(config.exchanges_max)),
            catalog: ArcSwap::from_pointee(catalog),
            pool,
            statement_timeout: config.statement_timeout,
            has_journal: journal.is_some(),
        });
        // What was left by processes that died here comes before anything new.
        let patient = || Sender::new(Link::new(connector.clone(), None), Arc::clone(&gauges));
        if let Some(dir) = &home {
            recover::from_disk(dir, config.orphans, &shared, &mut patient()).await?;
        }

        let later = Later::new(journal, Arc::clone(&gauges));
        let (jobs, jobs_sent) = mpsc::unbounded_channel();
        let gone = CancellationToken::new();
        tokio::spawn(settle::run(
            jobs_sent,
            Sender::new(settle_link, Arc::clone(&gauges)),
            later.clone(),
            Arc::clone(&gauges),
        ));
        let replaying = settle::replay(
            later,
            Sender::new(Link::new(sending, None), Arc::clone(&gauges)),
        );
        tokio::spawn(gone.clone().run_until_cancelled_owned(replaying));
        tokio::spawn(purses::run(
            orders,
            lease_link,
            Arc::downgrade(&purses),
            Arc::clone(&gauges),
        ));
        let trail = Trail::new();
        let (written, trail_written) = watch::channel(false);
        let writing = trail::run(Arc::clone(&trail), Link::new(connector.clone(), None));
        tokio::spawn(gone.clone().run_until_cancelled_owned(async move {
            writing.await;
            let _ = written.send(true);
        }));

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
                .run_until_cancelled_owned(numbers::run(Arc::clone(&shared))),
        );
        tokio::spawn(gone.clone().run_until_cancelled_owned(listen::keep_months(
            Arc::clone(&shared),
            upkeep.charges_keep_months,
        )));
        tokio::spawn(
            gone.clone()
                .run_until_cancelled_owned(listen::live(Arc::clone(&shared), upkeep)),
        );
        // Whoever is in the middle of settling for the dead is not stopped.
        tokio::spawn(recover::reap(
            Arc::clone(&shared),
            config.orphans,
            config.lease,
            patient(),
            gone.clone(),
        ));
        Ok(Self {
            shared,
            jobs,
            trail,
            recorder: recorder.map(Arc::new),
            black_box: Arc::new(Mutex::new(black_box)),
            trail_written,
            rates,
            runtime: Handle::current(),
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

    /// Whether this digest is known, or known to be unknown: then asking for it costs Postgres nothing, or is worth it.
    pub async fn has_heard_of(&self, digest: &[u8; 32]) -> bool {
        self.shared.tokens.has_heard_of(digest).await
    }

    /// How often and how much at once anybody may use.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Sets means aside, out of the token's purse: memory only, unless the purse must be filled first. Reserves the place in
    /// the settle queue too, so that the end never lacks room.
    ///
    /// Cancelling the future gives the hold back if it was taken.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub async fn take(&self, mut want: HoldRequest) -> Result<Hold, TakeError> {
        let shared = &self.shared;
        if self.jobs.is_closed() {
            return Err(TakeError::Unavailable(LedgerError::closed()));
        }
        if shared.gauges.homeless() > 0 && shared.has_journal {
            return Err(TakeError::Unavailable(LedgerError::unavailable(
                "there is no durable place for a charge",
            )));
        }
        let place = Arc::clone(&shared.places)
            .try_acquire_owned()
            .map_err(|_| TakeError::Busy)?;
        want.means = want.means.max(Means::NONE);
        let taken = shared
            .purses
            .take(want.token, want.account, want.means)
            .await?;
        let slot = self
            .recorder
            .as_ref()
            .and_then(|recorder| recorder.open(&opening(&want)));
        let purse = taken.keep();
        self.trail.began(purse.instance(), &want);
        shared.gauges.taken.fetch_add(1, Relaxed);
        let open = Open {
            place,
            purse,
            trail: Arc::clone(&self.trail),
            slot,
            jobs: self.jobs.clone(),
        };
        Ok(Hold::new(want, open, &shared.gauges))
    }

    /// Whether an exchange that starts now could be held and settled: there is a place for it, and Postgres answers or what
    /// was leased still stands and the journal takes its charge.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let gauges = &self.shared.gauges;
        let is_durable = gauges.connected.load(Relaxed)
            || (self.shared.has_journal && gauges.homeless() == 0 && self.shared.purses.stand());
        is_durable && !self.jobs.is_closed() && self.shared.places.available_permits() > 0
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.gauges.stats()
    }

    /// This process in `turnpike.instance`.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.shared.purses.instance()
    }

    pub(crate) fn pool(&self) -> &Connections {
        &self.shared.pool
    }

    /// For what runs whether or not anybody waits.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs a statement of the front doors on a connection of the pool.
    pub(crate) async fn query(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, LedgerError> {
        self.shared.pool.query(statement, params).await
    }

    /// Waits until every settlement handed over is durable, at most this long; then gives the leases back and says goodbye in
    /// `turnpike.instance`. Returns how many are still open.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let mut settling = self.shared.gauges.settling();
        // The sender lives in the gauges, so that waiting cannot fail otherwise than by the deadline.
        let left = match timeout(deadline, settling.wait_for(|count| *count == 0)).await {
            Ok(_) => 0,
            Err(_) => *self.shared.gauges.settling().borrow(),
        };
        if left == 0 && timeout(GOODBYE_MAX, self.say_goodbye()).await.is_err() {
            tracing::warn!(
                "ledger.instance.goodbye: Postgres does not answer; the leases lapse by themselves"
            );
        }
        left
    }

    async fn say_goodbye(&self) {
        self.shared.purses.give_all_back().await;
        self.trail.close();
        let _ = self
            .trail_written
            .clone()
            .wait_for(|written| *written)
            .await;
        // What is in the journal is replayed by the next process that starts here.
        if self.shared.gauges.open.load(Relaxed) > 0 || self.stats().journal_records > 0 {
            return;
        }
        let instance = self.instance();
        if let Err(error) = self
            .shared
            .execute(GOODBYE, &[(&instance.0, Type::INT8)])
            .await
        {
            tracing::warn!(error = %Chain(&error), "ledger.instance.goodbye");
            return;
        }
        let black_box = self
            .black_box
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let removed = spawn_blocking(move || black_box.map_or(Ok(()), BlackBox::remove)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(error = %Chain(&error), "ledger.blackbox.kept");
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("instance", &self.instance())
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

    pub(crate) async fn query(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        self.pool.query(statement, params).await
    }

    /// Makes a row for this process in `turnpike.instance`.
    pub(crate) async fn register(&self, upkeep: &Upkeep) -> Result<InstanceId, LedgerError> {
        register(&self.pool, upkeep).await
    }
}

/// Where in the data directory the black boxes of these very books are: a machine may serve several.
async fn home(config: &Config, pool: &Connections) -> Result<Option<PathBuf>, LedgerError> {
    let Some(dir) = &config.data_dir else {
        return Ok(None);
    };
    let rows = pool.query(IDENTITY, &[]).await?;
    let row = rows.first().ok_or_else(LedgerError::row)?;
    let (id, name): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
    let name: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '_' })
        .collect();
    Ok(Some(
        dir.join(blackbox::LEDGERS).join(format!("{name}-{id}")),
    ))
}

/// The journal and the flight recorder of this process, where there is a data directory.
async fn black_box(
    config: &Config,
    home: Option<&Path>,
) -> Result<(Option<BlackBox>, Option<Journal>, Option<Recorder>), LedgerError> {
    let Some(dir) = home.map(Path::to_owned) else {
        return Ok((None, None, None));
    };
    let sizes = Sizes {
        journal_bytes_max: config.journal_bytes_max,
        recorder_slots: u32::try_from(config.exchanges_max).unwrap_or(u32::MAX),
    };
    let made = spawn_blocking(move || BlackBox::create(&dir, Uuid::now_v7(), sizes)).await;
    let made = made.map_err(|error| {
        LedgerError::unavailable("making the data directory failed").because(error)
    })?;
    let (black_box, journal, recorder) = made.map_err(unusable)?;
    Ok((Some(black_box), Some(journal), Some(recorder)))
}

fn unusable(error: blackbox::BlackBoxError) -> LedgerError {
    LedgerError::config("the data directory cannot be used").because(error)
}

fn opening(want: &HoldRequest) -> Opening<'_> {
    let evidence = &want.evidence;
    Opening {
        exchange: want.exchange,
        token: want.token.0,
        account: want.account.0,
        hold_nano: want.means.money.nano(),
        prompt_tokens_bound: want.means.prompt,
        completion_tokens_bound: want.means.completion,
        price: evidence.price.0,
        started_at_ms: evidence.started_at_ms,
        input_tokens_estimate: evidence.input_tokens,
        in_rate: evidence.input_rate,
        out_rate: evidence.output_rate,
        whole: evidence.whole,
        stream: evidence.stream,
        upstream: evidence.upstream.map(|it| it.0),
        upstream_key: evidence.upstream_key.map(|it| it.0),
        endpoint: (&*evidence.endpoint).into(),
        model: (&*evidence.model).into(),
    }
}

async fn register(pool: &Connections, upkeep: &Upkeep) -> Result<InstanceId, LedgerError> {
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let lease_seconds = i32::try_from(upkeep.lease.as_secs())
        .unwrap_or(i32::MAX)
        .max(1);
    let rows = pool
        .query(
            REGISTER,
            &[
                (&pid, Type::INT4),
                (&upkeep.name, Type::TEXT),
                (&env!("CARGO_PKG_VERSION"), Type::TEXT),
                (&lease_seconds, Type::INT4),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(LedgerError::row)?;
    Ok(InstanceId(row.try_get(0)?))
}

const REGISTER: &str = "
    insert into turnpike.instance (pid, name, version, lease_seconds) values ($1, $2, $3, $4) returning id";
const IDENTITY: &str = "select id, current_database()::text from turnpike.identity";
const GOODBYE: &str =
    "update turnpike.instance set seen_at = now(), stopped_at = now() where id = $1";
const PARTITIONS: &str = "select turnpike.ensure_charge_partitions()";
/// How long the end waits for Postgres.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
