//! The lessor: chunks and places for many subjects in one statement each.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_postgres::{Row, types::Type};

use crate::{
    InstanceId, LedgerError,
    link::{Backoff, Link},
    settle::Chain,
};

use super::{
    Gate, QUEUE_MAX, Shared, Subject,
    gate::{Ask, Grant, KINDS, PlacesAsk, WindowAsk},
};

/// Subjects in one statement.
const GROUP_MAX: usize = 256;
/// How often idle subjects are looked for: so long a spare place may stand unused.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// How often windows that ended long ago are deleted.
const DELETE_EVERY: Duration = Duration::from_secs(600);

/// Leases until every handle is gone.
pub(crate) async fn run(
    mut queued: mpsc::Receiver<Arc<Gate>>,
    rates: Weak<Shared>,
    link: Link,
    instance: impl Fn() -> InstanceId + Send + 'static,
) {
    let mut lessor = Lessor {
        rates,
        link,
        instance: Box::new(instance),
        wait: Backoff::default(),
        owed: HashMap::new(),
        deleted_at: Instant::now(),
    };
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        tokio::select! {
            received = queued.recv_many(&mut group, GROUP_MAX) => {
                if received == 0 {
                    return;
                }
                lessor.lease(&mut group, false).await;
            }
            _ = sweep.tick() => lessor.sweep().await,
            () = lessor.link.keep() => {}
        }
    }
}

struct Lessor {
    rates: Weak<Shared>,
    link: Link,
    /// Whose places they are; another one once this process was taken for dead.
    instance: Box<dyn Fn() -> InstanceId + Send>,
    wait: Backoff,
    /// Whose debts and places Postgres has not heard of.
    owed: HashMap<Subject, Arc<Gate>>,
    deleted_at: Instant,
}

impl Lessor {
    /// Asks for a group what its gates want, and tells whoever waits. Whether Postgres answered.
    async fn lease(&mut self, group: &mut Vec<Arc<Gate>>, idle: bool) -> bool {
        // A gate may have been forgotten and made anew: no subject may be asked for twice in one statement.
        group.sort_by_cached_key(|gate| gate.subject.to_string());
        let later: Vec<_> = group
            .extract_if(.., {
                let mut last = None;
                move |gate| last.replace(gate.subject) == Some(gate.subject)
            })
            .collect();
        let asked_at = Instant::now();
        let asks: Vec<_> = group
            .drain(..)
            .map(|gate| {
                let ask = gate.lock().ask(asked_at, idle);
                (gate, ask)
            })
            .collect();
        let answer = self.ask(&asks, asked_at).await;
        let is_away = answer.is_err();
        let was_away = self
            .rates
            .upgrade()
            .is_some_and(|rates| rates.away.swap(is_away, Relaxed));
        for (gate, _) in &asks {
            gate.answered.notify_waiters();
        }
        match answer {
            Ok(()) => self.wait = Backoff::default(),
            Err(error) => {
                if !was_away {
                    tracing::warn!(error = %Chain(&error), "ledger.rates.local: each process counts against whole limits meanwhile");
                }
                for (gate, _) in asks.into_iter().filter(|(_, ask)| *ask != Ask::default()) {
                    if self.owed.len() < QUEUE_MAX {
                        self.owed.insert(gate.subject, gate);
                    }
                }
                self.wait.pause().await;
            }
        }
        for gate in later {
            let is_new = gate.lock().queued;
            if let Some(rates) = self.rates.upgrade().filter(|_| is_new)
                && rates.queue.try_send(Arc::clone(&gate)).is_err()
            {
                gate.lock().queued = false;
                gate.answered.notify_waiters();
            }
        }
        !is_away
    }

    async fn ask(
        &mut self,
        asks: &[(Arc<Gate>, Ask)],
        asked_at: Instant,
    ) -> Result<(), LedgerError> {
        let windows = self.lease_windows(asks, asked_at).await;
        if windows.is_err() {
            asks.iter().for_each(|(gate, ask)| gate.lock().failed(ask));
        }
        let leased = match windows {
            Ok(()) => self.lease_places(asks).await,
            Err(error) => Err(error),
        };
        if leased.is_err() {
            let unheard = asks.iter().filter(|(_, ask)| ask.places.is_some());
            unheard.for_each(|(gate, _)| gate.lock().places_failed());
        }
        leased
    }

    async fn lease_windows(
        &mut self,
        asks: &[(Arc<Gate>, Ask)],
        asked_at: Instant,
    ) -> Result<(), LedgerError> {
        let flat: Vec<(&Gate, &WindowAsk)> = asks
            .iter()
            .flat_map(|(gate, ask)| ask.windows.iter().map(|ask| (&**gate, ask)))
            .collect();
        if flat.is_empty() {
            return Ok(());
        }
        let subjects: Vec<_> = flat
            .iter()
            .map(|(gate, _)| gate.subject.to_string())
            .collect();
        let measures: Vec<_> = flat
            .iter()
            .map(|(_, ask)| KINDS[ask.window].measure)
            .collect();
        let seconds: Vec<_> = flat
            .iter()
            .map(|(_, ask)| i32::from(KINDS[ask.window].seconds))
            .collect();
        let limits: Vec<_> = flat.iter().map(|(_, ask)| ask.limit).collect();
        let spent: Vec<_> = flat.iter().map(|(_, ask)| ask.spent).collect();
        let wanted: Vec<_> = flat.iter().map(|(_, ask)| ask.wanted).collect();
        let rows = self
            .link
            .query(
                LEASE_WINDOWS,
                &[
                    (&subjects, Type::TEXT_ARRAY),
                    (&measures, Type::TEXT_ARRAY),
                    (&seconds, Type::INT4_ARRAY),
                    (&limits, Type::INT8_ARRAY),
                    (&spent, Type::INT8_ARRAY),
                    (&wanted, Type::INT8_ARRAY),
                ],
            )
            .await?;
        let grants = rows.iter().map(grant).collect::<Result<Vec<_>, _>>()?;
        if grants.len() != flat.len() {
            return Err(LedgerError::row());
        }
        for ((gate, ask), grant) in flat.into_iter().zip(grants) {
            gate.lock().granted(ask, grant, asked_at);
        }
        Ok(())
    }

    async fn lease_places(&mut self, asks: &[(Arc<Gate>, Ask)]) -> Result<(), LedgerError> {
        let flat: Vec<(&Gate, &PlacesAsk)> = asks
            .iter()
            .filter_map(|(gate, ask)| Some((&**gate, ask.places.as_ref()?)))
            .collect();
        if flat.is_empty() {
            return Ok(());
        }
        let whole = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let subjects: Vec<_> = flat
            .iter()
            .map(|(gate, _)| gate.subject.to_string())
            .collect();
        let limits: Vec<_> = flat.iter().map(|(_, ask)| whole(ask.limit)).collect();
        let used: Vec<_> = flat.iter().map(|(_, ask)| whole(ask.used)).collect();
        let wanted: Vec<_> = flat.iter().map(|(_, ask)| whole(ask.wanted)).collect();
        let instance = (self.instance)();
        let rows = self
            .link
            .query(
                LEASE_PLACES,
                &[
                    (&subjects, Type::TEXT_ARRAY),
                    (&limits, Type::INT4_ARRAY),
                    (&used, Type::INT4_ARRAY),
                    (&wanted, Type::INT4_ARRAY),
                    (&instance.0, Type::INT8),
                ],
            )
            .await?;
        let places = rows
            .iter()
            .map(|row| row.try_get::<_, i32>(0))
            .collect::<Result<Vec<_>, _>>()?;
        if places.len() != flat.len() {
            return Err(LedgerError::row());
        }
        let now = Instant::now();
        for ((gate, ask), places) in flat.into_iter().zip(places) {
            gate.lock()
                .places_granted(ask, u32::try_from(places).unwrap_or_default(), now);
        }
        Ok(())
    }

    /// Gives back places that nobody uses, tells what is owed, forgets subjects that are over, deletes what is long past.
    async fn sweep(&mut self) {
        let Some(mut idle) = self
            .rates
            .upgrade()
            .map(|rates| rates.sweep(Instant::now()))
        else {
            return;
        };
        idle.extend(self.owed.drain().map(|(_, gate)| gate));
        while !idle.is_empty() {
            let mut group = idle.split_off(idle.len().saturating_sub(GROUP_MAX));
            if !self.lease(&mut group, true).await {
                let untold = idle.drain(..).map(|gate| (gate.subject, gate));
                self.owed.extend(untold.take(QUEUE_MAX));
            }
        }
        if self.deleted_at.elapsed() > DELETE_EVERY {
            self.deleted_at = Instant::now();
            for statement in [DELETE_WINDOWS, DELETE_PLACES] {
                if let Err(error) = self.link.query(statement, &[]).await {
                    tracing::debug!(error = %Chain(&error), "ledger.rates.not_deleted");
                }
            }
        }
    }
}

fn grant(row: &Row) -> Result<Grant, LedgerError> {
    let ends_in_ms = row.try_get::<_, i64>(2)?;
    Ok(Grant {
        granted: row.try_get(0)?,
        remaining: row.try_get(1)?,
        ends_in: Duration::from_millis(u64::try_from(ends_in_ms).unwrap_or_default()),
    })
}

const LEASE_WINDOWS: &str =
    "select granted, remaining, ends_in_ms from turnpike.lease_windows($1, $2, $3, $4, $5, $6)";
const LEASE_PLACES: &str = "select places from turnpike.lease_places($1, $2, $3, $4, $5)";
/// Rows that somebody is just using are left alone.
const DELETE_WINDOWS: &str = "
    delete from turnpike.rate_window as w using (
      select subject, measure, seconds from turnpike.rate_window where started_at < now() - interval '2 hours'
       for update skip locked) as old
     where (w.subject, w.measure, w.seconds) = (old.subject, old.measure, old.seconds)";
const DELETE_PLACES: &str = "
    delete from turnpike.rate_place as p where not exists (
      select from turnpike.instance as i where i.id = p.instance_id and i.stopped_at is null and i.seen_at > now() - interval '30 seconds')";
