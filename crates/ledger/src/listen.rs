//! The tasks that keep what is in memory true: `LISTEN`, the catalog's reloads, the instance's signs of life.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_postgres::{AsyncMessage, types::Type};
use uuid::Uuid;

use crate::{
    AccountId, LedgerError, TokenId, connect::Connector, events, ledger::Shared, link::Backoff,
    numbers, objects, settle::Chain,
};

/// Listens, and listens again when the connection was lost. Never returns.
pub(crate) async fn run(shared: Arc<Shared>, connector: Connector) {
    let mut wait = Backoff::default();
    let mut failures = 0_u32;
    loop {
        let Err(error) = listen(&shared, &connector).await;
        if shared.gauges.listening.swap(false, Relaxed) {
            (wait, failures) = (Backoff::default(), 0);
        }
        shared.tokens.set_listening(false);
        if failures.is_multiple_of(60) {
            tracing::warn!(failures, error = %Chain(&error), "ledger.listen.lost: tokens are looked up every second meanwhile");
        }
        failures = failures.saturating_add(1);
        wait.pause().await;
    }
}

async fn listen(shared: &Shared, connector: &Connector) -> Result<Infallible, LedgerError> {
    let (client, mut connection) = connector.halves().await?;
    let (heard, mut news) = mpsc::channel(NEWS_MAX);
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && heard.send(notification.payload().to_owned()).await.is_err()
            {
                break;
            }
        }
    });
    let _driver = AbortOnDrop(driver);
    timeout(PING_MAX, client.batch_execute("listen turnpike"))
        .await
        .map_err(|_| LedgerError::unavailable("the connection that listens is silent"))??;

    // That LISTEN succeeded proves little: through a transaction pooler nothing is ever heard, and a connection whose other
    // end vanished stays silent for ever. So a word is sent by another connection now and then, and must be heard here.
    let ping = format!("{PING}{}", Uuid::now_v7());
    let mut awaited = false;
    let mut alive = interval(PING_MAX);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = news.recv() => match message {
                Some(payload) if payload == ping => {
                    awaited = false;
                    if !shared.gauges.listening.swap(true, Relaxed) {
                        // What was said before we listened is unknown: everything is read again.
                        shared.tokens.set_listening(true);
                        shared.reload.notify_one();
                        // Somebody may have been short meanwhile, and caps may have changed.
                        shared.purses.renew(|_, _| true);
                    }
                }
                Some(payload) => hear(shared, &payload),
                None => return Err(LedgerError::unavailable("the connection that listens was closed")),
            },
            _ = alive.tick() => {
                if awaited {
                    return Err(LedgerError::unavailable(
                        "notices do not arrive: a connection through a transaction pooler needs a direct one beside it",
                    ));
                }
                shared.execute("select pg_notify('turnpike', $1)", &[(&ping, Type::TEXT)]).await?;
                awaited = true;
            }
        }
    }
}

fn hear(shared: &Shared, payload: &str) {
    let purses = &shared.purses;
    match payload.split_once(':') {
        Some(("token", id)) => match id.parse() {
            Ok(id) => {
                shared.tokens.changed(TokenId(id));
                // Its caps may be lower now: what was leased under the old ones goes back.
                purses.renew(|token, _| token.0 == id);
            }
            Err(_) => shared.tokens.all_changed(),
        },
        Some(("account", id)) => {
            let id = id.parse().ok().map(AccountId);
            purses.renew(|_, account| id.is_none_or(|id| id == account));
        }
        Some(("recall", whom)) => match whom.split_once(':') {
            Some(("account", id)) => purses.recall(|_, account| account.0.to_string() == id),
            Some(("token", id)) => purses.recall(|token, _| token.0.to_string() == id),
            _ => purses.recall(|_, _| true),
        },
        // Another process makes sure that it hears.
        _ if payload.starts_with(PING) => {}
        None if payload == "catalog" => shared.reload.notify_one(),
        // Said by a newer schema, or "tokens".
        _ => {
            shared.tokens.all_changed();
            shared.reload.notify_one();
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Loads the catalog when told to and by the clock. Never returns.
pub(crate) async fn refresh(shared: Arc<Shared>, every: Duration) {
    let mut wait = Backoff::default();
    loop {
        let every = if shared.gauges.listening.load(Relaxed) {
            every
        } else {
            every.min(UNHEARD_EVERY)
        };
        // What was asked for while a load was under way makes one more load, however often it was asked.
        let _ = timeout(every, shared.reload.notified()).await;
        match shared.load_catalog().await {
            Ok(()) => wait = Backoff::default(),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "ledger.catalog.stale");
                shared.reload.notify_one();
                wait.pause().await;
            }
        }
    }
}

/// Gives signs of life, so that nobody takes this process for dead; should that have happened, begins anew. Never returns.
pub(crate) async fn live(shared: Arc<Shared>, upkeep: Upkeep) {
    let mut beat = interval(BEAT_EVERY.min(upkeep.lease / 8));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let instance = shared.purses.instance();
        let at = Instant::now();
        match shared.query(BEAT, &[(&instance.0, Type::INT8)]).await {
            Ok(rows) if rows.is_empty() => {
                tracing::error!(%instance, "ledger.instance.buried: another process took this one for dead; it begins anew");
                match shared.register(&upkeep).await {
                    Ok(instance) => {
                        shared.purses.begin_anew(instance);
                        shared.purses.heard(at, upkeep.lease);
                    }
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "ledger.instance.unheard");
                    }
                }
            }
            Ok(_) => shared.purses.heard(at, upkeep.lease),
            Err(error) => tracing::debug!(error = %Chain(&error), "ledger.instance.unheard"),
        }
        shared.purses.tidy(IDLE_AFTER);
    }
}

/// What a process says of itself, and what it sees to.
pub(crate) struct Upkeep {
    pub(crate) name: String,
    pub(crate) lease: Duration,
    pub(crate) charges_keep_months: Option<u32>,
}

/// Makes the partitions of the months to come and drops those that need not be kept. Never returns.
pub(crate) async fn keep_months(shared: Arc<Shared>, keep: Option<u32>) {
    let mut look = interval(MONTHS_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Connecting has just seen to it.
    look.tick().await;
    loop {
        if let Some(months) = keep
            && let Err(error) = drop_months(&shared, months).await
        {
            tracing::warn!(error = %Chain(&error), "ledger.months.kept: old charges could not be dropped");
        }
        if let Err(error) = objects::sweep(&shared).await {
            tracing::warn!(error = %Chain(&error), "ledger.objects.kept: what providers have forgotten could not be");
        }
        if let Err(error) = numbers::sweep(&shared).await {
            tracing::warn!(error = %Chain(&error), "ledger.numbers.kept: those of dropped charges could not be forgotten");
        }
        if let Err(error) = events::sweep(&shared).await {
            tracing::warn!(error = %Chain(&error), "ledger.events.kept: old events could not be forgotten");
        }
        look.tick().await;
        if let Err(error) = shared.execute(PARTITIONS, &[]).await {
            tracing::warn!(error = %Chain(&error), "ledger.partitions.missing");
        }
    }
}

async fn drop_months(shared: &Shared, months: u32) -> Result<(), LedgerError> {
    let months = i32::try_from(months.max(MONTHS_KEPT_MIN)).unwrap_or(i32::MAX);
    let rows = shared.query(DROP, &[(&months, Type::INT4)]).await?;
    let dropped: i32 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    if dropped > 0 {
        tracing::info!(
            months = dropped,
            "ledger.months.dropped: their sums are in turnpike.charge_closed"
        );
    }
    Ok(())
}

const BEAT: &str =
    "update turnpike.instance set seen_at = now() where id = $1 and buried_at is null returning id";
const PARTITIONS: &str = "select turnpike.ensure_charge_partitions()";
const DROP: &str = "select turnpike.drop_charges((date_trunc('month', now() at time zone 'UTC') - make_interval(months => $1 - 1))::date)";

/// The months that are kept in any case: this one and the last.
const MONTHS_KEPT_MIN: u32 = 2;
/// After so long without use what is free in a purse goes back.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// What a process says to itself begins so.
const PING: &str = "ping:";
/// How often it does, and how long it waits to hear it.
const PING_MAX: Duration = Duration::from_secs(5);
/// How often the catalog is loaded while changes are not heard of.
const UNHEARD_EVERY: Duration = Duration::from_secs(5);
/// News not yet acted on; beyond it the socket waits.
const NEWS_MAX: usize = 1024;
const BEAT_EVERY: Duration = Duration::from_secs(10);
const MONTHS_EVERY: Duration = Duration::from_secs(6 * 3600);
