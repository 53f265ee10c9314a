//! The body adapter: shows every frame to an observer and holds the tail back until its gate opens.
//!
//! ```text
//!             ┌───────────────────────── Observed ─────────────────────────┐
//!   inner ──► │ observer.frame ──► now ──► passing (coalesced) ───────────►│──► hyper
//!             │                └─► later ─► withheld ──(gate open)──┘      │
//!             └────────────────────────────────────────────────────────────┘
//! ```
//!
//! Two facts about hyper shape this file. Once a body with a known length has given its last byte,
//! or says `is_end_stream()`, nobody polls it again: so the frame that ends it is the one to
//! withhold, and its end is reported right then. And a body whose reader went away is simply
//! dropped: so `drop` is an end like the others, and must not await, block or spawn.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use super::BodyError;
use super::BoxError;
use super::End;
use super::Gate;
use super::Observer;
use super::Split;
use super::queue::COALESCED_BYTES;
use super::queue::Queue;

/// How many bytes are withheld at most while the body goes on. The frame that crosses the bound is kept whole.
pub const WITHHELD_BYTES_MAX: usize = 64 * 1024;

/// Frames read in one poll before other tasks get their turn, should the observer swallow them all.
const FRAMES_PER_POLL_MAX: usize = 256;

/// A body whose frames an [`Observer`] sees, and whose last bytes wait for the observer's gate.
///
/// The rules:
/// * The frame that ends a body of known length is withheld whole; the end of any other waits for the gate as
///   well; so do trailers. A body that has ended when it is wrapped is reported complete, and nothing waits.
/// * While something is withheld the rest of the body is read up to [`WITHHELD_BYTES_MAX`].
/// * The end is reported once, before the gate is waited for: see [`End`].
/// * When the source fails, what is withheld still waits for the gate and goes before the error.
/// * A known length stays known.
/// * Frames that are ready together are passed on together; none waits for one that is not ready.
#[derive(Debug)]
pub struct Observed<B: Body, O: Observer<B>> {
    /// `None` once its end has been reported: with `inner` taken, `observer.end` has been called.
    inner: Option<B>,
    observer: O,
    /// Not `Shut`: that finishes the body.
    gate_is_open: bool,
    was_full: bool,
    /// Goes on with the next polls. Nothing enters it from `withheld` before the gate is open.
    passing: Queue,
    /// Empty once the gate is open.
    withheld: Queue,
    /// What follows the data, once the inner body has ended.
    last: Last,
    keeps_length: bool,
}

#[derive(Debug)]
enum Last {
    /// The inner body goes on, or ended without more.
    Nothing,
    Trailers(HeaderMap),
    Failure(BodyError),
    /// The end was yielded, or there is nothing left that a poll could yield.
    Finished,
}

impl<B, O> Observed<B, O>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    O: Observer<B>,
{
    /// Wraps a body whose length the observer leaves as it is.
    pub fn new(inner: B, observer: O) -> Self {
        Self::with_length(inner, observer, true)
    }

    /// Wraps a body whose observer adds or swallows bytes: no length is promised, so it is sent chunked.
    ///
    /// The caller must drop the message's `content-length`.
    pub fn resizing(inner: B, observer: O) -> Self {
        Self::with_length(inner, observer, false)
    }

    fn with_length(inner: B, observer: O, keeps_length: bool) -> Self {
        let mut this = Self {
            inner: Some(inner),
            observer,
            gate_is_open: false,
            was_full: false,
            passing: Queue::default(),
            withheld: Queue::default(),
            last: Last::Nothing,
            keeps_length,
        };
        if this.inner.as_ref().is_some_and(Body::is_end_stream) {
            this.end_inner(|_| End::Complete);
            this.last = Last::Finished;
        }
        this
    }

    /// The observer.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// The inner body gives nothing more: takes what the observer has held back, then reports the end.
    fn finish_inner(&mut self, end: End<B>) {
        let rest = self.observer.rest();
        if self.gate_is_open {
            self.passing.push(rest);
        } else {
            self.withheld.push(rest);
        }
        self.end_inner(|_| end);
    }

    /// Reports the end; afterwards `inner` is gone, so it cannot be reported twice.
    fn end_inner(&mut self, end: impl FnOnce(B) -> End<B>) {
        if let Some(inner) = self.inner.take() {
            self.observer.end(end(inner));
        }
    }

    /// Whether something waits for the gate.
    fn waits(&self) -> bool {
        let is_over = self.gate_is_open || matches!(self.last, Last::Finished);
        !is_over && (!self.withheld.is_empty() || self.inner.is_none())
    }

    /// Asks the gate if there is a reason to; an error means it is shut.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if !self.waits() {
            return Ok(());
        }
        match self.observer.poll_gate(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Gate::Open) => {
                self.gate_is_open = true;
                self.passing.append(&mut self.withheld);
                Ok(())
            }
            Poll::Ready(Gate::Shut) => {
                self.end_inner(End::Abandoned);
                self.withheld.clear();
                Err(match std::mem::replace(&mut self.last, Last::Finished) {
                    Last::Failure(error) => error,
                    _ => BodyError::shut(),
                })
            }
        }
    }

    /// What remains after the data, when its time has come.
    fn take_last(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match std::mem::replace(&mut self.last, Last::Finished) {
            // Nothing is withheld that an error could overtake.
            Last::Failure(error) if self.gate_is_open || self.withheld.is_empty() => {
                Poll::Ready(Some(Err(error)))
            }
            Last::Trailers(trailers) if self.gate_is_open => {
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Last::Nothing if self.gate_is_open => Poll::Ready(None),
            Last::Finished => Poll::Ready(None),
            waiting => {
                self.last = waiting;
                Poll::Pending
            }
        }
    }

    /// Reads what is ready into the queues, up to a batch. False: nothing has changed.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.inner.is_some() && self.withheld.bytes >= WITHHELD_BYTES_MAX && !self.was_full {
            self.was_full = true;
            self.observer.full();
            return true;
        }
        let mut frames = 0;
        while frames < FRAMES_PER_POLL_MAX
            && self.passing.bytes < COALESCED_BYTES
            && self.withheld.bytes < WITHHELD_BYTES_MAX
        {
            let Some(inner) = &mut self.inner else { break };
            let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
                break;
            };
            frames += 1;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.take_data(data),
                Some(Ok(Err(frame))) => {
                    // Trailers are the last frame; frames of kinds yet to come are not ours to pass.
                    if let Ok(trailers) = frame.into_trailers() {
                        self.last = Last::Trailers(trailers);
                        self.finish_inner(End::Complete);
                    }
                }
                Some(Err(error)) => {
                    let error = BodyError::inner(error);
                    self.last = Last::Failure(error.clone());
                    self.finish_inner(End::Failed(error));
                }
                None => self.finish_inner(End::Complete),
            }
        }
        frames > 0
    }

    fn take_data(&mut self, data: Bytes) {
        let Split { now, later } = self.observer.frame(data);
        let has_ended = self.inner.as_ref().is_some_and(Body::is_end_stream);
        if self.gate_is_open {
            self.passing.push(now);
            self.passing.push(later);
        } else if !self.withheld.is_empty() || has_ended || self.has_given_its_length() {
            self.withheld.push(now);
            self.withheld.push(later);
        } else {
            self.passing.push(now);
            self.withheld.push(later);
        }
        if has_ended {
            self.finish_inner(End::Complete);
        }
    }
}

impl<B: Body, O: Observer<B>> Observed<B, O> {
    /// Every byte of a known length came: the encoder will not poll again, even where trailers may follow.
    fn has_given_its_length(&self) -> bool {
        let inner = self.inner.as_ref();
        inner.is_some_and(|inner| inner.size_hint().exact() == Some(0))
    }
}

impl<B, O> Body for Observed<B, O>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    O: Observer<B>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        // The second turn asks the gate again: what was read may have been what it waited for.
        for _ in 0..2 {
            if let Err(error) = this.poll_gate(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            let has_read = this.read(cx);
            if let Some(data) = this.passing.pop_batch() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if this.inner.is_none()
                && let Poll::Ready(last) = this.take_last()
            {
                return Poll::Ready(last);
            }
            if !has_read {
                return Poll::Pending;
            }
        }
        // Everything was swallowed or withheld, and more may be ready: other tasks first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match self.last {
            Last::Finished => self.passing.is_empty(),
            Last::Nothing => self.inner.is_none() && self.gate_is_open && self.passing.is_empty(),
            Last::Trailers(_) | Last::Failure(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if !self.keeps_length {
            return SizeHint::default();
        }
        let held = (self.passing.bytes + self.withheld.bytes) as u64;
        let Some(inner) = &self.inner else {
            return SizeHint::with_exact(held);
        };
        let mut hint = inner.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(hint.lower().saturating_add(held));
        hint
    }
}

/// The observer is never pinned.
impl<B: Body + Unpin, O: Observer<B>> Unpin for Observed<B, O> {}

impl<B: Body, O: Observer<B>> Drop for Observed<B, O> {
    fn drop(&mut self) {
        let is_complete = self.has_given_its_length();
        if let Some(inner) = self.inner.take() {
            self.observer.end(if is_complete {
                End::Complete
            } else {
                End::Abandoned(inner)
            });
        }
    }
}
