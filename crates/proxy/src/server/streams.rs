//! The requests that are open on one HTTP/2 connection: with none for too long, it ends.
//!
//! For HTTP/1 hyper does that. On HTTP/2 it only asks by pings, and who answers them stays for ever.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// Counts one connection's requests.
#[derive(Clone)]
pub(super) struct Streams(watch::Sender<usize>);

/// A request that is open until this is dropped.
pub(super) struct Open(watch::Sender<usize>);

impl Streams {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.0.clone())
    }

    /// Ends once no request was open for so long.
    pub(super) async fn idle_for(&self, long: Duration) {
        let mut open = self.0.subscribe();
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

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
