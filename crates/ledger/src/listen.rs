//! The tasks that keep what is in memory true: `LISTEN`, the catalog's reloads, the instance's signs of life.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_postgres::{AsyncMessage, types::Type};

use crate::{
    InstanceId, LedgerError, TokenId, connect::Connector, ledger::Shared, link::Backoff,
    settle::Chain,
};

/// Listens, and listens again when the connection was lost. Never returns.
pub(crate) async fn run(shared: Arc<Shared>, connector: Connector) {
    let mut wait = Backoff::default();
    loop {
        let begun = Instant::now();
        let Err(error) = listen(&shared, &connector).await;
        if shared.gauges.listening.swap(false, Relaxed) {
            tracing::warn!(error = %Chain(&error), "ledger.listen.lost");
        }
        shared.tokens.set_listening(false);
        if begun.elapsed() > Duration::from_secs(10) {
            wait = Backoff::default();
        }
        wait.pause().await;
    }
}

async fn listen(
    shared: &Shared,
    connector: &Connector,
) -> Result<std::convert::Infallible, LedgerError> {
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
    ask(&client, "listen turnpike").await?;
    // What was said before we listened is unknown: everything is read again.
    shared.tokens.set_listening(true);
    shared.reload.notify_one();
    shared.gauges.listening.store(true, Relaxed);

    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = news.recv() => match message {
                Some(payload) => hear(shared, &payload),
                None => return Err(LedgerError::unavailable("the connection that listens was closed")),
            },
            // A connection whose other end vanished without a word would stay silent for ever.
            _ = alive.tick() => ask(&client, "select").await?,
        }
    }
}

async fn ask(client: &tokio_postgres::Client, statement: &str) -> Result<(), LedgerError> {
    timeout(ALIVE_MAX, client.batch_execute(statement))
        .await
        .map_err(|_| LedgerError::unavailable("the connection that listens is silent"))?
        .map_err(LedgerError::from)
}

fn hear(shared: &Shared, payload: &str) {
    match payload.split_once(':') {
        Some(("token", id)) => match id.parse() {
            Ok(id) => shared.tokens.changed(TokenId(id)),
            Err(_) => shared.tokens.all_changed(),
        },
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

/// Gives signs of life and sees to next month's partition. Never returns.
pub(crate) async fn live(shared: Arc<Shared>, instance: InstanceId) {
    let mut beat = interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut partitions_at: Option<Instant> = None;
    loop {
        beat.tick().await;
        if let Err(error) = shared.execute(BEAT, &[(&instance.0, Type::INT8)]).await {
            tracing::debug!(error = %Chain(&error), "ledger.instance.unheard");
            continue;
        }
        if partitions_at.is_none_or(|at| at.elapsed() > PARTITIONS_EVERY) {
            match shared.execute(PARTITIONS, &[]).await {
                Ok(()) => partitions_at = Some(Instant::now()),
                Err(error) => tracing::warn!(error = %Chain(&error), "ledger.partitions.missing"),
            }
        }
    }
}

const BEAT: &str = "update turnpike.instance set seen_at = now() where id = $1";
const PARTITIONS: &str = "select turnpike.ensure_charge_partitions()";

/// News not yet acted on; beyond it the socket waits.
const NEWS_MAX: usize = 1024;
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_MAX: Duration = Duration::from_secs(5);
const BEAT_EVERY: Duration = Duration::from_secs(10);
const PARTITIONS_EVERY: Duration = Duration::from_secs(6 * 3600);
