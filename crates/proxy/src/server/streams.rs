//! The requests that are open on one HTTP/2 connection: none for too long, and the connection ends; one whose
//! client takes nothing of its answer, and that stream is reset.
//!
//! HTTP/1 needs neither: hyper bounds its idle time, and a stalled client shows at the socket (`patient.rs`). On HTTP/2
//! the socket may be busy with pings and the windows shut.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

/// One connection's requests. Also what hyper starts them with.
#[derive(Clone)]
pub(super) struct Streams {
    stall_timeout: Duration,
    open: watch::Sender<usize>,
    /// The request that was just begun: hyper starts its task before it begins another.
    begun: Arc<Mutex<Option<Taking>>>,
}

/// How a client takes one answer.
#[derive(Clone)]
struct Taking(Arc<Mutex<Option<Instant>>>);

/// A request that is open until this is dropped.
pub(super) struct Open {
    streams: watch::Sender<usize>,
    taking: Taking,
}

impl Streams {
    pub(super) fn new(stall_timeout: Duration) -> Self {
        Self {
            stall_timeout,
            open: watch::Sender::new(0),
            begun: Arc::default(),
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        let taking = Taking(Arc::default());
        *lock(&self.begun) = Some(taking.clone());
        Open {
            streams: self.open.clone(),
            taking,
        }
    }

    /// Ends once no request was open for so long.
    pub(super) async fn idle_for(&self, long: Duration) {
        let mut open = self.open.subscribe();
        loop {
            let is_idle = *open.borrow_and_update() == 0;
            // The sender lives as long as we do.
            if is_idle {
                tokio::select! {
                    () = sleep(long) => return,
                    _ = open.changed() => {}
                }
            } else if open.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Open {
    /// A frame was given out; the next poll says that it was taken.
    pub(super) fn gave(&self) {
        *lock(&self.taking.0) = Some(Instant::now());
    }

    /// What was given is taken.
    pub(super) fn taken(&self) {
        *lock(&self.taking.0) = None;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.send_modify(|open| *open -= 1);
    }
}

impl Taking {
    /// Ends once the client has taken nothing for so long.
    async fn stalls_for(&self, long: Duration) {
        loop {
            let given = *lock(&self.0);
            let Some(given) = given else {
                sleep(long).await;
                continue;
            };
            sleep_until(given + long).await;
            if *lock(&self.0) == Some(given) {
                return;
            }
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let taking = lock(&self.begun).take();
        let patience = self.stall_timeout;
        tokio::spawn(async move {
            match taking {
                Some(taking) => tokio::select! {
                    _ = stream => {}
                    // Dropped with its answer's body, the stream is reset.
                    () = taking.stalls_for(patience) => tracing::debug!("a client takes nothing of its answer"),
                },
                None => {
                    stream.await;
                }
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
