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
    pub(crate) lease_groups: AtomicU64,
    pub(crate) interrupted: AtomicU64,
    /// Settlements that neither Postgres nor the journal would have.
    homeless: AtomicUsize,
    journal_records: AtomicU64,
    journal_bytes: AtomicU64,
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

    pub(crate) fn set_homeless(&self, count: usize) {
        self.homeless.store(count, Relaxed);
    }

    pub(crate) fn homeless(&self) -> usize {
        self.homeless.load(Relaxed)
    }

    pub(crate) fn set_journal(&self, records: u64, bytes: u64) {
        self.journal_records.store(records, Relaxed);
        self.journal_bytes.store(bytes, Relaxed);
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
            lease_groups: self.lease_groups.load(Relaxed),
            interrupted: self.interrupted.load(Relaxed),
            homeless: self.homeless.load(Relaxed),
            journal_records: self.journal_records.load(Relaxed),
            journal_bytes: self.journal_bytes.load(Relaxed),
            connected: self.connected.load(Relaxed),
            listening: self.listening.load(Relaxed),
        }
    }
}
