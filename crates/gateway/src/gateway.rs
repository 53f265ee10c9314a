//! What every exchange shares.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fronts::Fronts;
use http::HeaderMap;
use ledger::{Ledger, Pass};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::Limits,
    places::Places,
    refusal::Refusal,
    settings,
    strangers::Strangers,
    telemetry::{Metrics, Otlp, Trace},
};

/// The state shared by all workers: cheap handles only.
pub(crate) struct Gateway {
    pub(crate) settings: settings::Exchange,
    pub(crate) front_doors: settings::FrontDoors,
    /// How work is followed that goes on when its request is over.
    pub(crate) jobs: settings::Jobs,
    /// The front doors that are open.
    pub(crate) fronts: Option<Fronts>,
    /// Bytes of request bodies that front doors may still read.
    pub(crate) door_bytes: Arc<Semaphore>,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Limits,
    pub(crate) strangers: Strangers,
    pub(crate) metrics: Arc<Metrics>,
    /// Where traces and metrics are sent, if anywhere.
    pub(crate) otlp: Option<Otlp>,
    pub(crate) places: Places,
    /// Whether clients' trace contexts go up.
    pub(crate) passes_traces: bool,
    /// The runtime for work that must not hold up a worker.
    pub(crate) control: Handle,
    /// One permit per exchange that may be open.
    pub(crate) open: Arc<Semaphore>,
    /// One permit per exchange that may keep an uploaded recording until its length is read.
    pub(crate) sounds: Arc<Semaphore>,
    /// Set once clients should go elsewhere; what they ask here all the same is served.
    pub(crate) draining: Arc<AtomicBool>,
    /// Set once no new work is taken.
    pub(crate) closed: AtomicBool,
    /// Cancelled when the time to finish is over: what is open settles on what it knows.
    pub(crate) hurry: CancellationToken,
}

/// An exchange's place among those open: in the gateway, for its peer and for its access token. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    _gateway: OwnedSemaphorePermit,
    peer: Pass,
    token: Pass,
}

impl Entry {
    pub(crate) const fn new(gateway: OwnedSemaphorePermit, peer: Pass, token: Pass) -> Self {
        Self {
            _gateway: gateway,
            peer,
            token,
        }
    }

    /// Counts tokens the exchange used.
    pub(crate) fn used(&self, tokens: u64) {
        self.peer.spend_tokens(tokens);
        self.token.spend_tokens(tokens);
    }
}

impl Gateway {
    /// A trace for an exchange whose request had these headers, where traces are sent.
    pub(crate) fn trace(&self, headers: &HeaderMap) -> Option<Box<Trace>> {
        let traces = self.otlp.as_ref()?.traces.as_ref()?;
        Some(traces.begin(headers))
    }

    /// All metrics, as Prometheus reads them.
    pub(crate) fn told(&self) -> String {
        let standing = self.places.standing(&self.ledger.catalog());
        self.metrics.text(self.ledger.stats(), standing)
    }

    /// A place among the open exchanges.
    ///
    /// # Errors
    /// 503 when all are taken, or the program is about to end.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable {
                reason: "it is shutting down",
            });
        }
        Arc::clone(&self.open)
            .try_acquire_owned()
            .map_err(|_| Refusal::Unavailable {
                reason: "too many exchanges are open",
            })
    }
}
