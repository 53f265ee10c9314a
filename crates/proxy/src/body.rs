//! What a watched body is made of: the observer, what it may say, and how a body can end.

mod observed;
mod queue;
mod whole;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;

pub use self::observed::{Observed, WITHHELD_BYTES_MAX};
pub use self::queue::COALESCED_BYTES;
pub use self::whole::Whole;

/// Any error, as bodies and services of others hand them over.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Watches the frames of one body as they pass through [`Observed`], and keeps its gate.
///
/// `B` is the body watched. It comes back in [`End::Abandoned`], so that an observer can have the
/// rest of it read after the peer is gone.
pub trait Observer<B>: Send + 'static {
    /// Shows a data frame before it is passed on and says what goes on now and what waits for the gate.
    ///
    /// Called for every data frame, also after the gate has opened (then both parts go on at once).
    fn frame(&mut self, data: Bytes) -> Split;

    /// Bytes the observer itself has held back, such as the start of an event that might have been one to swallow.
    ///
    /// Asked once, when the body has ended or failed and before [`Observer::end`]; they go where a frame's would.
    fn rest(&mut self) -> Bytes {
        Bytes::new()
    }

    /// The body has ended in this way. Called exactly once, before the gate is waited for.
    fn end(&mut self, end: End<B>);

    /// Asked when something is withheld or the body has ended: may the tail go?
    ///
    /// Not asked again once it was answered. A body that was empty from the start is not asked for:
    /// nothing is left to withhold.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate>;

    /// [`WITHHELD_BYTES_MAX`] are withheld and the body goes on.
    ///
    /// From here on nothing more is read until the gate answers, so an observer whose gate waits for the rest
    /// of the body must now decide without it. Called at most once.
    fn full(&mut self) {}
}

/// What becomes of a frame's bytes. Either part may be empty; together they need not be what came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Goes on at once.
    pub now: Bytes,
    /// Waits until the gate opens, and whatever follows waits behind it.
    pub later: Bytes,
}

impl Split {
    /// All of it goes on.
    #[must_use]
    pub fn pass(data: Bytes) -> Self {
        Self {
            now: data,
            later: Bytes::new(),
        }
    }

    /// The first `now_bytes` bytes go on, the rest waits. A position past the end means all of it goes on.
    #[must_use]
    pub fn at(mut data: Bytes, now_bytes: usize) -> Self {
        let later = data.split_off(now_bytes.min(data.len()));
        Self { now: data, later }
    }

    /// All of it waits.
    #[must_use]
    pub fn withhold(data: Bytes) -> Self {
        Self {
            now: Bytes::new(),
            later: data,
        }
    }

    /// The frame is swallowed.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }
}

/// The ways a body ends.
#[derive(Debug)]
pub enum End<B> {
    /// Everything came.
    Complete,
    /// The body ended in an error; what came before it has been shown.
    Failed(BodyError),
    /// The reader dropped the body, or the gate shut, before the end came. Holds what is left, for draining.
    Abandoned(B),
}

/// The gate's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// What is withheld may go, and everything after it.
    Open,
    /// What is withheld must not go: the body ends in an error, so that the connection is cut.
    Shut,
}

/// Why a body broke off. Cheap to clone, so that the observer and the reader both get it.
#[derive(Debug, Clone)]
pub struct BodyError {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Shut,
    Inner(Arc<dyn Error + Send + Sync>),
}

impl BodyError {
    pub(crate) fn shut() -> Self {
        Self { kind: Kind::Shut }
    }

    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        Self {
            kind: Kind::Inner(Arc::from(error.into())),
        }
    }

    /// Whether our own gate ended the body, rather than its source.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        matches!(self.kind, Kind::Shut)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Shut => "the gate of the body was shut",
            Kind::Inner(_) => "the body broke off",
        })
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::Shut => None,
            Kind::Inner(error) => Some(&**error),
        }
    }
}
