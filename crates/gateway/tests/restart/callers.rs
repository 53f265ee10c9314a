//! Clients that call without a pause, and fail the test when a call fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use testkit::raw::{Wire, patiently};
use tokio::task::JoinSet;

use crate::support::{eventually, post};

pub(super) const CALL: &str = r#"{"model":"gpt-4o","max_tokens":20,"messages":[]}"#;
pub(super) const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
/// Of one call, nano-USD.
pub(super) const COST: i64 = 3 * 2_500 + 10_000;
const CALLERS: usize = 8;

/// Half of them come by a new connection for each call, the others keep theirs for as long as they may.
pub(super) struct Callers {
    tasks: JoinSet<()>,
    calls: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    pub(super) fn start(address: SocketAddr, token: &str) -> Self {
        let (calls, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for number in 0..CALLERS {
            let request = post("/v1/chat/completions", token, CALL);
            let (calls, stop) = (Arc::clone(&calls), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut kept = None;
                while !stop.load(Relaxed) {
                    kept = call(address, &request, kept).await;
                    calls.fetch_add(1, Relaxed);
                    if number % 2 == 0 {
                        kept = None;
                    }
                }
            });
        }
        Self { tasks, calls, stop }
    }

    /// Waits for so many more answers.
    pub(super) async fn go_on_for(&self, more: usize) {
        let goal = self.calls.load(Relaxed) + more;
        eventually("calls are answered", async || {
            (self.calls.load(Relaxed) >= goal || self.tasks.len() < CALLERS).then_some(())
        })
        .await;
    }

    /// Lets every call end, and says how many there were.
    pub(super) async fn stop(mut self) -> usize {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no call fails");
        }
        self.calls.load(Relaxed)
    }
}

/// One call on the connection that was kept, or on a new one; that connection if it is good for another.
async fn call(address: SocketAddr, request: &str, kept: Option<Wire>) -> Option<Wire> {
    let mut wire = match kept {
        Some(mut wire) => {
            // As HTTP libraries do it: a kept connection that ends before an answer begins was closed for being idle.
            let is_there = wire.try_send(request).await.is_ok() && wire.has_more().await;
            if is_there {
                wire
            } else {
                sent(address, request).await
            }
        }
        None => sent(address, request).await,
    };
    let (head, body) = patiently("an answer", wire.read_message()).await;
    let body = String::from_utf8_lossy(&body);
    assert_eq!((head.status(), body.as_ref()), (200, ANSWER));
    (head.header("connection") != Some("close")).then_some(wire)
}

async fn sent(address: SocketAddr, request: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    wire.send(request).await;
    wire
}
