//! The body of an answer on its way to a client, with two of hyper's habits made good.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use super::streams::Open;
use crate::BoxError;

/// A handler's body as hyper gets it.
///
/// * At a body's error hyper drops the connection together with what it has not written yet: the head, and frames
///   that came just before. So an error waits for one `Pending`, at which hyper flushes.
/// * `content-length: 0` moves to the end of the head if the body says that it has ended. So it does not say.
pub(super) struct Outgoing<B> {
    body: B,
    has_flushed: bool,
    error: Option<BoxError>,
    shows_zero: bool,
    /// The stream of HTTP/2 that it goes to.
    open: Option<Open>,
}

impl<B> Outgoing<B> {
    pub(super) fn new(body: B, shows_zero: bool, open: Option<Open>) -> Self {
        Self {
            body,
            has_flushed: false,
            error: None,
            shows_zero,
            open,
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
        if let Some(open) = &self.open {
            open.taken();
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame.map_err(Into::into) {
            Poll::Ready(Some(Err(error))) if !self.has_flushed => {
                self.error = Some(error);
                self.has_flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => {
                self.has_flushed = frame.is_pending();
                if let (Poll::Ready(Some(Ok(_))), Some(open)) = (&frame, &self.open) {
                    open.gave();
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.shows_zero && self.error.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
