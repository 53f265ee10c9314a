//! What the ledger counts and how upstreams answer, looked up when it is asked for.

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use ledger::Stats;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proxy::Pool;

use crate::places::Standing;

/// Figures of the ledger, and of the way to upstreams.
#[derive(Default)]
pub(super) struct Books {
    holds_open: Gauge,
    holds: Counter,
    settled: Counter,
    settle_refused: Counter,
    upstream_answers: Family<OutcomeLabels, Counter>,
    connections: Gauge,
    pools: Mutex<Vec<Pool>>,
}

/// What came of requests with one of an upstream's keys. As many as the operator has keys, four of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    upstream: String,
    key: String,
    outcome: &'static str,
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

impl Books {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "holds_open",
            "Means held in purses for exchanges that are open now",
            self.holds_open.clone(),
        );
        for (name, help, counter) in [
            ("holds", "Holds taken out of purses", &self.holds),
            ("settled", "Settlements made durable", &self.settled),
            (
                "settlements_refused",
                "Settlements that Postgres refused for good; the log has each",
                &self.settle_refused,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "upstream_answers",
            "What came of requests, by upstream and key: well, limited (429), ejected (401) or failed (5xx, or no answer)",
            self.upstream_answers.clone(),
        );
        registry.register(
            "upstream_connections",
            "Connections to upstreams in use, all workers together",
            self.connections.clone(),
        );
    }

    /// Counts the connections of this pool as well.
    pub(super) fn watch(&self, pool: Pool) {
        self.pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pool);
    }

    pub(super) fn look(&self, ledger: &Stats, keys: &[Standing]) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.holds_open.set(gauge(ledger.exchanges_open));
        for (counter, count) in [
            (&self.holds, ledger.taken),
            (&self.settled, ledger.settled),
            (&self.settle_refused, ledger.settle_refused),
        ] {
            counter.inner().store(count, Relaxed);
        }
        // Those that are gone are told no more.
        self.upstream_answers.clear();
        for standing in keys {
            for (outcome, count) in standing.outcomes {
                let labels = OutcomeLabels {
                    upstream: standing.upstream.clone(),
                    key: standing.key_name(),
                    outcome,
                };
                let counter = self.upstream_answers.get_or_create(&labels);
                counter.inner().store(count, Relaxed);
            }
        }
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = pools
            .iter()
            .fold(0_usize, |sum, pool| sum.saturating_add(pool.busy()));
        self.connections.set(gauge(busy));
    }
}
