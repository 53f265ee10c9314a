//! What the process itself holds: descriptors, memory, tasks. What leaks shows here first.

use std::sync::{Mutex, PoisonError};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::runtime::Handle;

/// Gauges that are looked up when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    descriptors: Gauge,
    resident_bytes: Gauge,
    tasks: Gauge,
    runtimes: Mutex<Vec<Handle>>,
}

impl Vitals {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "process_open_fds",
                "Descriptors the process has open",
                &self.descriptors,
            ),
            (
                "process_resident_memory_bytes",
                "Memory the process occupies",
                &self.resident_bytes,
            ),
            ("tasks", "Tasks alive on all runtimes", &self.tasks),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// Counts the tasks of this runtime as well.
    pub(super) fn watch(&self, runtime: Handle) {
        self.runtimes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(runtime);
    }

    /// Looks. A system without `/proc` tells nothing of descriptors and memory.
    pub(super) fn look(&self) {
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // Less the one that looks.
            self.descriptors.set(gauge(open.count().saturating_sub(1)));
        }
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(gauge(bytes));
        }
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = runtimes
            .iter()
            .map(|runtime| runtime.metrics().num_alive_tasks())
            .sum();
        self.tasks.set(gauge(tasks));
    }
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
