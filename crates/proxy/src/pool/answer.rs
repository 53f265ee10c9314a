//! The body of an answer. Its end gives the connection back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::PoolLimits;
use super::h1;
use super::h2;
use super::host::Host;
use super::patience::AnswerError;
use super::patience::Patience;

/// The body of an upstream's answer.
///
/// Read to its end, its connection is used again. Dropped before, the connection is closed (HTTP/1) or
/// the stream reset (HTTP/2), which tells the upstream that nobody listens any more. It breaks off when its upstream says
/// nothing for too long, or does not come to an end: see [`AnswerError`].
pub struct Answer {
    incoming: Incoming,
    lease: Lease,
    patience: Patience,
}

/// What the answer occupies until it ends.
enum Lease {
    Nothing,
    H1 {
        connection: h1::Connection,
        host: Arc<Host>,
        place: OwnedSemaphorePermit,
    },
    H2 {
        _stream: h2::Stream,
    },
    /// A connection that moves by itself and is not used again: for as long as its answer is read, since an upstream that
    /// has answered and takes no more of the request would keep it for ever.
    Detached {
        _place: OwnedSemaphorePermit,
        _moving: Option<AbortOnDropHandle<()>>,
    },
}

impl Answer {
    pub(super) fn h1(
        incoming: Incoming,
        connection: h1::Connection,
        place: OwnedSemaphorePermit,
        host: &Arc<Host>,
    ) -> Self {
        let lease = Lease::H1 {
            connection,
            host: host.clone(),
            place,
        };
        Self::new(incoming, lease, &host.limits).given_back_if_ended()
    }

    pub(super) fn h2(incoming: Incoming, stream: h2::Stream, limits: &PoolLimits) -> Self {
        let lease = Lease::H2 { _stream: stream };
        Self::new(incoming, lease, limits).given_back_if_ended()
    }

    pub(super) fn detached(
        incoming: Incoming,
        place: OwnedSemaphorePermit,
        moving: Option<AbortOnDropHandle<()>>,
        limits: &PoolLimits,
    ) -> Self {
        let lease = Lease::Detached {
            _place: place,
            _moving: moving,
        };
        Self::new(incoming, lease, limits)
    }

    fn new(incoming: Incoming, lease: Lease, limits: &PoolLimits) -> Self {
        Self {
            incoming,
            lease,
            patience: Patience::new(limits),
        }
    }

    fn given_back_if_ended(mut self) -> Self {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
        self
    }

    fn give_back(&mut self) {
        if let Lease::H1 {
            connection,
            host,
            place,
        } = std::mem::replace(&mut self.lease, Lease::Nothing)
        {
            host.check_in(connection);
            // After: who waits for the place finds the connection.
            drop(place);
        }
    }

    /// A frame that is there, or arrives while the connection is moved as far as it goes.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Lease::H1 { connection, .. } = &mut self.lease {
            if connection.drive(cx) {
                // What the connection still had to say is in `incoming`.
                self.lease = Lease::Nothing;
            }
            return Pin::new(&mut self.incoming).poll_frame(cx);
        }
        Poll::Pending
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let frame = match self.poll_incoming(cx) {
            Poll::Pending => self.patience.poll_over(cx).map(|error| Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(frame)) => {
                let frame = frame.map_err(AnswerError::Broken);
                Poll::Ready(Some(
                    frame.and_then(|frame| self.patience.heard().map(|()| frame)),
                ))
            }
        };
        match &frame {
            Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => self.lease = Lease::Nothing,
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.give_back(),
            Poll::Ready(Some(Ok(_))) => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Answer").field(&self.incoming).finish()
    }
}
