//! Answers over HTTP/2 whose client gives them no window: on such a stream nothing is written, so no write can fail.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Instant;

use super::streams::Open;
use crate::BoxError;

/// The answers on their way over HTTP/2 at one listener. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Stalls {
    answers: Arc<Mutex<Vec<Weak<dyn Stalling>>>>,
}

/// How often in a timeout one looks: what has stalled goes after at most a quarter more.
const LOOKS_PER_TIMEOUT: u32 = 4;

impl Stalls {
    /// A body that is let go when nobody asks it for more during a whole timeout.
    pub(super) fn watch<B: Send + 'static>(&self, body: B, open: Open) -> Watched<B> {
        let slot = Arc::new(Mutex::new(Slot {
            body: Some(body),
            open: Some(open),
            unasked_since: Some(Instant::now()),
        }));
        let stalling: Weak<dyn Stalling> = Arc::downgrade(&(slot.clone() as Arc<dyn Stalling>));
        lock(&self.answers).push(stalling);
        Watched { slot }
    }

    /// Lets go what has stalled, again and again. Never returns.
    pub(super) async fn sweep(self, timeout: Duration) {
        loop {
            tokio::time::sleep(timeout / LOOKS_PER_TIMEOUT).await;
            let mut open = Vec::new();
            lock(&self.answers).retain(|answer| {
                let answer = answer.upgrade();
                let is_open = answer.is_some();
                open.extend(answer);
                is_open
            });
            for answer in open {
                answer.let_go_after(timeout);
            }
        }
    }
}

trait Stalling: Send + Sync {
    fn let_go_after(&self, timeout: Duration);
}

/// A body, until it has stalled.
struct Slot<B> {
    body: Option<B>,
    /// Its request is open as long as it is here.
    open: Option<Open>,
    /// Set while it is the client's turn.
    unasked_since: Option<Instant>,
}

impl<B: Send + 'static> Stalling for Mutex<Slot<B>> {
    fn let_go_after(&self, timeout: Duration) {
        let mut slot = lock(self);
        let has_stalled = slot
            .unasked_since
            .is_some_and(|since| since.elapsed() >= timeout);
        let body = has_stalled.then(|| (slot.body.take(), slot.open.take()));
        drop(slot);
        // Not under the lock: whoever watches it hears that it was abandoned.
        drop(body);
    }
}

/// A body that may be taken away. Then it ends in an error, should its client ever ask again.
pub(super) struct Watched<B> {
    slot: Arc<Mutex<Slot<B>>>,
}

impl<B: Body<Error: Into<BoxError>> + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut slot = lock(&self.slot);
        let Some(body) = &mut slot.body else {
            return Poll::Ready(Some(Err("the client did not read".into())));
        };
        let frame = Pin::new(body).poll_frame(cx);
        slot.unasked_since = matches!(frame, Poll::Ready(Some(Ok(_)))).then(Instant::now);
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.slot)
            .body
            .as_ref()
            .is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let slot = lock(&self.slot);
        slot.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
