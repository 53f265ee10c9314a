//! Counts shared between the handle, its holds and the writers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;

use crate::Stats;

#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Holds neither settled nor released nor lost.
    pub(crate) open: AtomicUsize,
    /// Settlements handed over and not yet answered. Watched by whoever drains.
    settling: watch::Sender<usize>,
    pub(crate) settled: AtomicU64,
    pub(crate) settle_groups: AtomicU64,
    pub(crate) settle_refused: AtomicU64,
    pub(crate) taken: AtomicU64,
    pub(crate) take_groups: AtomicU64,
    pub(crate) connected: AtomicBool,
    pub(crate) listening: AtomicBool,
}

impl Gauges {
    pub(crate) fn settling_begins(&self) {
        self.settling
            .send_modify(|count| *count = count.saturating_add(1));
    }

    pub(crate) fn settling_ends(&self) {
        self.settling
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    pub(crate) fn settling(&self) -> watch::Receiver<usize> {
        self.settling.subscribe()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            exchanges_open: self.open.load(Relaxed),
            settling: *self.settling.borrow(),
            settled: self.settled.load(Relaxed),
            settle_groups: self.settle_groups.load(Relaxed),
            settle_refused: self.settle_refused.load(Relaxed),
            taken: self.taken.load(Relaxed),
            take_groups: self.take_groups.load(Relaxed),
            connected: self.connected.load(Relaxed),
            listening: self.listening.load(Relaxed),
        }
    }
}
