//! Connections to upstreams: one pool per worker runtime, so that nothing on the way takes a lock another core wants.
//!
//! ```text
//!   send ──► a free HTTP/2 stream? ──► an idle HTTP/1 connection (newest first)? ──► connect
//!                                                   ▲                                  │
//!   Answer ── its body has ended ───────────────────┘          cap reached: wait, first come first served
//! ```
//!
//! An HTTP/1 connection is not a task of its own. While it is used, whoever polls the answer drives
//! it (see `h1.rs`); while it is idle nobody does, and its fate is looked at when it is taken out again.

mod answer;
mod connect;
mod convert;
mod error;
mod h1;
mod h2;
mod host;
mod outgoing;
mod patience;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use rustls::ClientConfig;

pub use self::answer::Answer;
pub use self::error::{SendError, SendErrorKind, Stage};
pub use self::patience::AnswerError;

use self::connect::Connector;
use self::host::Checkout;
use self::host::Host;
use self::outgoing::Outgoing;
use crate::BoxError;
use crate::Egress;
use crate::Target;
use crate::Whole;

/// Limits and waits of a [`Pool`]. Counts are per target and egress, and per worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Open connections; who wants one more waits in line.
    pub connections_max: usize,
    /// Idle connections kept for the next request.
    pub idle_max: usize,
    /// How long an idle connection is kept. Shorter than upstreams keep theirs, or requests meet closed doors.
    pub idle_timeout: Duration,
    /// How long to wait in line for a connection or stream.
    pub queue_timeout: Duration,
    /// From the name to a connection ready for requests: DNS, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the answer. Also how long an upstream may take nothing of a request.
    pub first_byte_timeout: Duration,
    /// Between two frames of an answer that its reader waits for.
    pub silence_timeout: Duration,
    /// From the head of an answer to its end, however much comes. `None`: as long as it likes.
    pub answer_timeout: Option<Duration>,
    /// Concurrent streams on one HTTP/2 connection, should the upstream allow more.
    pub h2_streams_max: usize,
    /// HTTP/2 connections; requests beyond their streams wait in line.
    pub h2_connections_max: usize,
    /// Bytes of the head of an answer; HTTP/1 reads bodies in pieces of up to this as well. 8 KiB at least.
    pub head_bytes_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            idle_max: 256,
            idle_timeout: Duration::from_secs(45),
            queue_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            // What the SDKs themselves wait.
            first_byte_timeout: Duration::from_secs(600),
            silence_timeout: Duration::from_secs(600),
            answer_timeout: None,
            h2_streams_max: 100,
            h2_connections_max: 8,
            head_bytes_max: 64 * 1024,
        }
    }
}

/// How often a request of which nothing was written is given another connection.
const REPEATS_MAX: usize = 8;

/// Connections to upstreams, for one worker runtime. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    limits: Arc<PoolLimits>,
    /// Never held across an await. Contended only if a pool is shared between runtimes, which works but is not the plan.
    hosts: Mutex<HashMap<(Target, Egress), Arc<Host>>>,
}

impl Pool {
    /// A pool without connections.
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>, limits: PoolLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector: Connector::new(tls),
                limits: Arc::new(limits),
                hosts: Mutex::default(),
            }),
        }
    }

    /// How many connections are in use now.
    #[must_use]
    pub fn busy(&self) -> usize {
        let hosts = self.shared.hosts.lock();
        let hosts = hosts.unwrap_or_else(std::sync::PoisonError::into_inner);
        hosts
            .values()
            .fold(0_usize, |sum, host| sum.saturating_add(host.busy()))
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// The request's URI is taken as path and query under the target's base. Its headers go as they are, but for
    /// what the protocol of the connection asks for: `Host` is the target's, `Expect` does not go.
    /// A request of which nothing was written, because the connection it was given turned out to be closed, is sent on
    /// another; nothing else is repeated.
    ///
    /// Dropping the future, or the answer before its end, closes the connection (HTTP/1) or resets the stream (HTTP/2).
    ///
    /// # Errors
    /// See [`SendErrorKind`].
    pub async fn send<B>(
        &self,
        target: &Target,
        egress: &Egress,
        request: Request<B>,
    ) -> Result<Response<Answer>, SendError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let host = self.host(target, egress);
        let (mut request, progress) = Outgoing::wrap(request);
        convert::under_base(&mut request, target)?;
        let mut repeats = 0;
        loop {
            let checkout = host.check_out(&self.shared.connector).await?;
            let is_fresh = checkout.is_fresh();
            let sent = match checkout {
                Checkout::H1(connection) => connection.send(&host, request, &progress).await,
                Checkout::H2(stream) => stream.send(&host, request, &progress).await,
            };
            match sent {
                Ok(answer) => return Ok(answer),
                // A connection that was made for this request and is closed already will not get better by trying again.
                Err(failed) => match failed.unsent {
                    Some(unsent) if !is_fresh && repeats < REPEATS_MAX => {
                        request = *unsent;
                        repeats += 1;
                    }
                    _ => return Err(failed.error),
                },
            }
        }
    }

    /// Asks for another protocol, on an HTTP/1.1 connection of its own. An answer of 101 has changed it: see
    /// [`hyper::upgrade::on`]. The answer keeps the connection's place among its target's until it is dropped.
    ///
    /// # Errors
    /// See [`SendErrorKind`].
    pub async fn upgrade(
        &self,
        target: &Target,
        egress: &Egress,
        request: Request<Whole>,
    ) -> Result<Response<Answer>, SendError> {
        let host = self.host(target, egress);
        let (mut request, progress) = Outgoing::wrap(request);
        convert::under_base(&mut request, target)?;
        let connection = Box::pin(host.check_out_alone(&self.shared.connector)).await?;
        let sent = connection.send(&host, request, &progress).await;
        sent.map_err(|failed| failed.error)
    }

    /// Connections that wait for their next request, over all targets.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        lock(&self.shared.hosts)
            .values()
            .map(|host| host.idle_len())
            .sum()
    }

    fn host(&self, target: &Target, egress: &Egress) -> Arc<Host> {
        let key = (target.clone(), egress.clone());
        let mut hosts = lock(&self.shared.hosts);
        if let Some(host) = hosts.get(&key) {
            return host.clone();
        }
        let host = Host::new(target.clone(), egress.clone(), self.shared.limits.clone());
        hosts.insert(key, host.clone());
        host
    }
}

/// No code panics while it holds one of these locks; should it, the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
