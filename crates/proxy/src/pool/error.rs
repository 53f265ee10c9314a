//! Why a request got no answer.

use std::error::Error;
use std::fmt;

use super::outgoing::Progress;
use crate::BodyError;
use crate::BoxError;

/// Why a request got no answer.
#[derive(Debug)]
pub struct SendError {
    kind: SendErrorKind,
    is_request_sent: bool,
    source: Option<BoxError>,
}

/// What went wrong, coarsely enough to choose a refusal by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// No connection: name, address, port or proxy.
    Connect,
    /// A connection, but no TLS on it that we trust.
    Tls,
    /// Something took too long.
    Timeout(Stage),
    /// The upstream closed or reset the connection before it answered.
    Closed,
    /// Our own request body broke off: the client left, or the gate was shut.
    Body,
    /// The upstream does not speak HTTP as we do, or the request cannot be sent as it is.
    Protocol,
}

/// What was waited for when time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A place among the target's connections.
    Queue,
    /// The connection.
    Connect,
    /// The head of the answer.
    FirstByte,
}

impl SendError {
    pub(super) fn new(kind: SendErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            is_request_sent: false,
            source: Some(source.into()),
        }
    }

    pub(super) fn bare(kind: SendErrorKind) -> Self {
        Self {
            kind,
            is_request_sent: false,
            source: None,
        }
    }

    pub(super) fn timeout(stage: Stage) -> Self {
        Self::bare(SendErrorKind::Timeout(stage))
    }

    /// Sorts what hyper reports about a connection.
    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        let kind = if error.is_user() || error.is_parse() {
            SendErrorKind::Protocol
        } else {
            SendErrorKind::Closed
        };
        Self::new(kind, error)
    }

    /// Sorts what hyper reports about a request. If the request's own body broke off, the rest only follows from that.
    pub(super) fn of_request(error: hyper::Error, progress: &Progress) -> Self {
        let sorted = match progress.broke_off() {
            Some(broke_off) => Self::new(SendErrorKind::Body, broke_off.clone()),
            None => Self::from_hyper(error),
        };
        Self {
            is_request_sent: progress.is_sent(),
            ..sorted
        }
    }

    pub(super) fn sent(mut self) -> Self {
        self.is_request_sent = true;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Whether time ran out, wherever.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, SendErrorKind::Timeout(_))
    }

    /// Whether our own request body ended this because its gate was shut.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        let source = self.source.as_ref();
        let broke_off = source.and_then(|source| source.downcast_ref::<BodyError>());
        broke_off.is_some_and(BodyError::is_shut)
    }

    /// Whether the last byte of the request may have reached the upstream: it may be at work, or have been.
    #[must_use]
    pub fn is_request_sent(&self) -> bool {
        self.is_request_sent
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SendErrorKind::Connect => "the upstream cannot be reached",
            SendErrorKind::Tls => "no trusted TLS connection to the upstream",
            SendErrorKind::Timeout(Stage::Queue) => {
                "no connection to the upstream became free in time"
            }
            SendErrorKind::Timeout(Stage::Connect) => "the upstream could not be reached in time",
            SendErrorKind::Timeout(Stage::FirstByte) => "the upstream did not answer in time",
            SendErrorKind::Closed => "the upstream closed the connection before it answered",
            SendErrorKind::Body => "the request's body broke off",
            SendErrorKind::Protocol => "the upstream and we do not understand each other",
        })
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
