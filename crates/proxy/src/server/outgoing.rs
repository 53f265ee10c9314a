//! The body of an answer on its way to a client, with two of hyper's habits made good.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use super::stalls::Watched;
use crate::BoxError;

/// A handler's body as hyper gets it.
///
/// * At a body's error hyper drops the connection together with what it has not written yet: the head, and frames
///   that came just before. So an error waits for one `Pending`, at which hyper flushes.
/// * `content-length: 0` moves to the end of the head if the body says that it has ended. So it does not say.
pub(super) struct Outgoing<B> {
    body: Carried<B>,
    has_flushed: bool,
    error: Option<BoxError>,
    shows_zero: bool,
}

/// The body itself, or one that may be taken away.
enum Carried<B> {
    Own(B),
    Watched(Watched<B>),
}

impl<B> Outgoing<B> {
    pub(super) fn new(body: B, shows_zero: bool) -> Self {
        Self::with(Carried::Own(body), shows_zero)
    }

    pub(super) fn watched(body: Watched<B>) -> Self {
        Self::with(Carried::Watched(body), false)
    }

    fn with(body: Carried<B>, shows_zero: bool) -> Self {
        Self {
            body,
            has_flushed: false,
            error: None,
            shows_zero,
        }
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut self.body {
            Carried::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Carried::Watched(body) => Pin::new(body).poll_frame(cx),
        };
        match frame {
            Poll::Ready(Some(Err(error))) if !self.has_flushed => {
                self.error = Some(error);
                self.has_flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => {
                self.has_flushed = frame.is_pending();
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = match &self.body {
            Carried::Own(body) => body.is_end_stream(),
            Carried::Watched(body) => body.is_end_stream(),
        };
        !self.shows_zero && self.error.is_none() && has_ended
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Carried::Own(body) => body.size_hint(),
            Carried::Watched(body) => body.size_hint(),
        }
    }
}
