//! Where settlements are durable while Postgres is away: the journal, as its two users share it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{sync::Notify, task::spawn_blocking};

use super::{Job, record};
use crate::{
    LedgerError,
    gauges::Gauges,
    journal::{Batch, Journal, JournalError},
};

/// The journal, if there is one, and whether it is where settlements go now.
#[derive(Clone)]
pub(crate) struct Later {
    journal: Option<Arc<Mutex<Journal>>>,
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
}

#[derive(Default)]
struct Shared {
    is_away: AtomicBool,
    stirred: Notify,
}

impl Later {
    pub(crate) fn new(journal: Option<Journal>, gauges: Arc<Gauges>) -> Self {
        Self {
            journal: journal.map(|journal| Arc::new(Mutex::new(journal))),
            shared: Arc::default(),
            gauges,
        }
    }

    pub(crate) const fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether settlements go straight to the journal: Postgres did not answer, and nothing was heard of it since.
    pub(crate) fn is_away(&self) -> bool {
        self.journal.is_some() && self.shared.is_away.load(Relaxed)
    }

    pub(crate) fn set_away(&self) {
        self.shared.is_away.store(true, Relaxed);
    }

    pub(crate) fn set_back(&self) {
        self.shared.is_away.store(false, Relaxed);
    }

    /// Appends jobs, durably. Returns those that are, those that are not, and why not; without a journal all are not.
    pub(crate) async fn append(&self, jobs: Vec<Job>) -> (Vec<Job>, Vec<Job>, Option<LedgerError>) {
        let Some(journal) = self.journal.clone() else {
            return (Vec::new(), jobs, None);
        };
        let records: Vec<_> = jobs.iter().map(record::encode).collect();
        let appended = spawn_blocking(move || {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            let appended = journal.append(&records);
            (appended, journal.records(), journal.bytes())
        })
        .await;
        match appended {
            Ok((Ok(()), records, bytes)) => {
                self.gauges.set_journal(records, bytes);
                self.shared.stirred.notify_one();
                (jobs, Vec::new(), None)
            }
            Ok((Err(error), ..)) => (Vec::new(), jobs, Some(refused(error))),
            Err(error) => (
                Vec::new(),
                jobs,
                Some(LedgerError::unavailable("the journal's task failed").because(error)),
            ),
        }
    }

    /// Waits for something to replay.
    pub(super) async fn stirred(&self) {
        self.shared.stirred.notified().await;
    }

    /// The oldest records.
    pub(super) async fn oldest(&self) -> Result<Option<Batch>, LedgerError> {
        self.with(|journal| {
            if journal.is_empty() {
                return Ok(None);
            }
            journal.oldest(super::GROUP_MAX, BATCH_BYTES_MAX).map(Some)
        })
        .await
        .unwrap_or(Ok(None))
    }

    /// They are in Postgres.
    pub(super) async fn forget(&self, batch: Batch) -> Result<(), LedgerError> {
        self.with(move |journal| journal.forget(batch))
            .await
            .unwrap_or(Ok(()))
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Option<Result<T, LedgerError>> {
        let journal = self.journal.clone()?;
        let done = spawn_blocking(move || {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            let done = act(&mut journal);
            (done, journal.records(), journal.bytes())
        })
        .await;
        Some(match done {
            Ok((done, records, bytes)) => {
                self.gauges.set_journal(records, bytes);
                done.map_err(refused)
            }
            Err(error) => Err(LedgerError::unavailable("the journal's task failed").because(error)),
        })
    }
}

fn refused(error: JournalError) -> LedgerError {
    LedgerError::unavailable("the journal has no place").because(error)
}

/// Bytes of records in one batch.
const BATCH_BYTES_MAX: usize = 4 << 20;
