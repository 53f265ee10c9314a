//! Tells operators what they want to know: looks for events, and delivers them to webhooks until they are taken.

mod message;
mod post;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ledger::{Delivery, Recorded, Told, UpstreamEvent, UpstreamId};
use proxy::Pool;
use tokio::{
    sync::mpsc::Receiver,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use self::{message::TEST, post::post};
use crate::{gateway::Gateway, health::Alarm, telemetry::OutcomeLabel};

/// How often each process looks for deliveries that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often budgets are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// And how much of the time at most: a look that took long is followed by a rest that many times as long.
const REST_FACTOR: u32 = 20;
/// Webhooks that are told at the same time.
const WEBHOOKS_AT_ONCE: usize = 32;
/// Deliveries that one webhook gets in a row.
const EACH: i32 = 8;
/// How long they are one process's: longer than all of them may take.
const CLAIMED: Duration = Duration::from_secs(120);

/// Runs until the program ends. What it was telling then is told again when its claim lapses.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    pool: Pool,
    alarms: Option<Receiver<Alarm>>,
    shutdown: CancellationToken,
) {
    if let Some(alarms) = alarms {
        let telling = tell(Arc::clone(&gateway), alarms);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(telling));
    }
    let busy = Busy::default();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch_at = Instant::now();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let begun = Instant::now();
        if begun >= watch_at {
            watch(&gateway).await;
            let rest = begun.elapsed().saturating_mul(REST_FACTOR);
            watch_at = Instant::now() + rest.max(WATCH_EVERY);
        }
        let taken = busy.all();
        let free = WEBHOOKS_AT_ONCE.saturating_sub(taken.len());
        let free = i32::try_from(free).unwrap_or(i32::MAX);
        match gateway
            .ledger
            .claim_deliveries(&taken, free, EACH, CLAIMED)
            .await
        {
            Ok(deliveries) => {
                for (webhook, deliveries) in by_webhook(deliveries) {
                    let place = busy.take(webhook);
                    tokio::spawn(deliver(
                        Arc::clone(&gateway),
                        pool.clone(),
                        deliveries,
                        place,
                    ));
                }
            }
            Err(error) => tracing::debug!(%error, "webhooks.waiting"),
        }
    }
}

/// Looks for events, and how much is on its way.
async fn watch(gateway: &Gateway) {
    match gateway.ledger.watch_budgets().await {
        Ok(0) => {}
        Ok(events) => info!(events, "webhooks.events"),
        Err(error) => warn!(%error, "webhooks.unwatched: budgets are looked at again later"),
    }
    if let Ok(pending) = gateway.ledger.pending_deliveries().await {
        gateway.metrics.webhook_deliveries_pending.set(pending);
    }
}

fn by_webhook(deliveries: Vec<Delivery>) -> HashMap<i64, Vec<Delivery>> {
    let mut all: HashMap<i64, Vec<Delivery>> = HashMap::new();
    for delivery in deliveries {
        all.entry(delivery.webhook).or_default().push(delivery);
    }
    all
}

/// Tells one webhook, one thing after the other. Where it does not answer, the rest waits.
async fn deliver(gateway: Arc<Gateway>, pool: Pool, deliveries: Vec<Delivery>, _place: Place) {
    let mut is_away = false;
    for delivery in &deliveries {
        let told = if is_away {
            Told::Untried
        } else {
            let event = &delivery.event;
            post(&pool, &delivery.url, &delivery.secret, delivery.form, event).await
        };
        is_away |= told != Told::Delivered;
        let recorded = gateway.ledger.record_delivery(delivery, &told).await;
        let (webhook, event, attempt) =
            (delivery.name.as_str(), delivery.event.id, delivery.attempt);
        let outcome = match (&told, recorded) {
            (Told::Untried, _) => continue,
            (_, Err(error)) => {
                warn!(webhook, %event, attempt, %error, "webhook.unrecorded: it is told again when the claim lapses");
                continue;
            }
            (Told::Failed(why), Ok(Recorded::GivenUp)) => {
                error!(webhook, %event, attempt, why, "webhook.given_up: it was tried for a day");
                "given_up"
            }
            (Told::Failed(why), Ok(_)) => {
                warn!(webhook, %event, attempt, why, "webhook.failed: it is tried again");
                "failed"
            }
            (Told::Delivered, Ok(_)) => "delivered",
        };
        gateway
            .metrics
            .webhook_deliveries
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }
}

/// The webhooks that are being told.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<HashSet<i64>>>);

/// One of them, until it is dropped.
struct Place {
    busy: Busy,
    webhook: i64,
}

impl Busy {
    fn all(&self) -> Vec<i64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().copied().collect()
    }

    fn take(&self, webhook: i64) -> Place {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(webhook);
        Place {
            busy: self.clone(),
            webhook,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.webhook);
    }
}

/// Makes events of what happens to upstreams' keys. Each is told once in an hour: what was told is remembered here, so that Postgres
/// is not asked for every request that fails, and there, for the other replicas.
async fn tell(gateway: Arc<Gateway>, mut alarms: Receiver<Alarm>) {
    let mut told: HashSet<(UpstreamId, Option<i64>, bool)> = HashSet::new();
    let mut hour = 0;
    while let Some(alarm) = alarms.recv().await {
        let now = this_hour();
        if now != hour {
            (hour, told) = (now, HashSet::new());
        }
        let (upstream, key) = (alarm.upstream, alarm.key.map(|key| key.0));
        let mut news = Vec::new();
        if alarm.is_ejected && told.insert((upstream, key, true)) {
            news.push((UpstreamEvent::KeyEjected, alarm.key));
        }
        if all_rest(&gateway, upstream) && told.insert((upstream, None, false)) {
            news.push((UpstreamEvent::PoolOut, None));
        }
        for (what, key) in news {
            if let Err(error) = gateway.ledger.tell_upstream(what, upstream, key).await {
                warn!(%upstream, %error, "webhooks.untold: Postgres does not take the event; the next one is tried again");
                told.clear();
            }
        }
    }
}

fn all_rest(gateway: &Gateway, upstream: UpstreamId) -> bool {
    let catalog = gateway.ledger.catalog();
    let name = catalog
        .upstreams()
        .iter()
        .find(|it| it.id == upstream)
        .map(|it| it.name.clone());
    let standing = gateway.places.standing(&catalog);
    name.is_some_and(|name| {
        standing
            .iter()
            .filter(|it| it.upstream == name)
            .all(|it| it.rests)
    })
}

fn this_hour() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs().div_euclid(3600)
}
