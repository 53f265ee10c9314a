//! The doors: listeners, and what speaks HTTP/1 or HTTP/2 to the clients that come in.

mod accept;
mod connection;
mod listener;
mod outgoing;
mod patient;
mod service;
mod stalls;
mod stream;
mod streams;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use rustls::ServerConfig;

use crate::BoxError;

pub use self::listener::listener;

/// Answers requests. One clone serves each request, so it should be cheap to clone.
pub trait Handler: Clone + Send + 'static {
    /// The body of an answer. Ending in an error cuts the connection (HTTP/1) or resets the stream (HTTP/2).
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static;

    /// Answers one request of a client at `peer`.
    ///
    /// The future is dropped when the client leaves. A client that sent `Expect: 100-continue` gets its 100 when
    /// the request's body is first polled: refuse before.
    fn handle(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Abort>> + Send;
}

/// Instead of an answer: the connection is cut (HTTP/1), the stream reset (HTTP/2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort;

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exchange was aborted")
    }
}

impl std::error::Error for Abort {}

/// Limits and waits of [`Doors`], each per listener or per connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorsLimits {
    /// Open connections; more wait in the listener's backlog.
    pub connections_max: usize,
    /// From accepting to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take over the head of a request; also how long a connection may idle between two, over HTTP/2 as well.
    pub header_timeout: Duration,
    /// Header lines of a request (431 above).
    pub headers_max: usize,
    /// Bytes of a request's head (431 above); HTTP/1 reads bodies in pieces of up to this as well. 8 KiB at least.
    pub head_bytes_max: usize,
    /// How long a client may leave what we have for it unread. Then its connection is reset (HTTP/1, or an HTTP/2 connection that
    /// takes nothing at all), or the one answer let go (an HTTP/2 stream without window).
    pub reader_timeout: Duration,
    /// Concurrent requests on one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Once listening has ended: how long connections that ask nothing stay open, since a request may be on its way. Half of what open
    /// connections get to finish at most.
    pub linger: Duration,
}

impl Default for DoorsLimits {
    fn default() -> Self {
        Self {
            connections_max: 16 * 1024,
            handshake_timeout: Duration::from_secs(10),
            // Longer than a load balancer in front of us (60 s is usual) keeps an idle connection.
            header_timeout: Duration::from_secs(75),
            headers_max: 100,
            head_bytes_max: 64 * 1024,
            reader_timeout: Duration::from_secs(300),
            h2_streams_max: 200,
            linger: Duration::from_secs(1),
        }
    }
}

/// Serves a listener's connections. One for each worker; cheap to clone.
#[derive(Clone)]
pub struct Doors {
    limits: Arc<DoorsLimits>,
    tls: Option<Arc<ServerConfig>>,
    /// Whether answers ask clients to come back on another connection.
    leaving: Arc<AtomicBool>,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when the signal came, and finished.
    pub finished: usize,
    /// Connections cut at the deadline.
    pub cut: usize,
}

impl Doors {
    /// Doors without TLS.
    #[must_use]
    pub fn new(limits: DoorsLimits) -> Self {
        Self {
            limits: Arc::new(limits),
            tls: None,
            leaving: Arc::default(),
        }
    }

    /// The same doors, speaking TLS and nothing else. See [`crate::tls::server_config`].
    #[must_use]
    pub fn with_tls(self, tls: Arc<ServerConfig>) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// The same doors, whose answers over HTTP/1 ask for another connection (`Connection: close`) from the moment this is true. It is
    /// at the latest when listening ends; before that, new connections go on coming in.
    #[must_use]
    pub fn with_leaving(self, leaving: Arc<AtomicBool>) -> Self {
        Self { leaving, ..self }
    }
}
