//! The body of a request on its way up, and how far it got.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Request;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::BodyError;
use crate::BoxError;

/// Any body, so that connections of one type carry all of them.
pub(super) struct Outgoing {
    inner: UnsyncBoxBody<Bytes, BodyError>,
    progress: Progress,
}

/// How far a request's body got; outlives the body.
#[derive(Clone, Default)]
pub(super) struct Progress {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_sent: AtomicBool,
    /// Frames the connection has taken.
    frames: AtomicUsize,
    /// The connection would take more, and there is none yet.
    lacks_more: AtomicBool,
    /// Why the body broke off, if it did. hyper tells it for HTTP/1 only.
    broke_off: OnceLock<BodyError>,
    /// Who waits for `is_sent`; an HTTP/2 body is read by another task.
    waiting: AtomicWaker,
}

impl Progress {
    /// Whether the body's end was given to the connection.
    pub(super) fn is_sent(&self) -> bool {
        self.shared.is_sent.load(Ordering::Acquire)
    }

    /// Resolves when it is `wait` ago that the whole request was sent, or when the upstream has taken nothing of what is
    /// there for it for so long. How long the body itself may take is for its source to bound.
    pub(super) async fn overdue(&self, wait: Duration) {
        while !self.is_sent() {
            let frames = self.shared.frames.load(Ordering::Acquire);
            let timed = tokio::time::timeout(wait, self.sent()).await;
            let is_taken = self.shared.frames.load(Ordering::Acquire) > frames
                || self.shared.lacks_more.load(Ordering::Acquire);
            if timed.is_err() && !is_taken {
                return;
            }
        }
        tokio::time::sleep(wait).await;
    }

    async fn sent(&self) {
        std::future::poll_fn(|cx| {
            self.shared.waiting.register(cx.waker());
            if self.is_sent() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Why the body broke off, if it did.
    pub(super) fn broke_off(&self) -> Option<&BodyError> {
        self.shared.broke_off.get()
    }

    fn tell_sent(&self) {
        if !self.shared.is_sent.swap(true, Ordering::AcqRel) {
            self.shared.waiting.wake();
        }
    }
}

impl Outgoing {
    pub(super) fn wrap<B>(request: Request<B>) -> (Request<Self>, Progress)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let progress = Progress::default();
        let request = request.map(|body| Self {
            inner: body.map_err(into_body_error).boxed_unsync(),
            progress: progress.clone(),
        });
        (request, progress)
    }
}

/// An [`crate::Observed`] has the right error already.
fn into_body_error(error: impl Into<BoxError>) -> BodyError {
    match error.into().downcast() {
        Ok(error) => *error,
        Err(error) => BodyError::inner(error),
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let is_last = match &frame {
            Poll::Pending => false,
            Poll::Ready(Some(Err(error))) => {
                // A second error would be a second opinion: the first stands.
                let _ = self.progress.shared.broke_off.set(error.clone());
                false
            }
            Poll::Ready(Some(Ok(frame))) => {
                frame.is_trailers()
                    || self.inner.is_end_stream()
                    || self.inner.size_hint().exact() == Some(0)
            }
            Poll::Ready(None) => true,
        };
        let shared = &self.progress.shared;
        shared
            .lacks_more
            .store(frame.is_pending(), Ordering::Release);
        if frame.is_ready() {
            shared.frames.fetch_add(1, Ordering::AcqRel);
        }
        if is_last {
            self.progress.tell_sent();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = self.inner.is_end_stream();
        // A body that is empty from the start is never polled: this question is how hyper finds out.
        if has_ended {
            self.progress.tell_sent();
        }
        has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
