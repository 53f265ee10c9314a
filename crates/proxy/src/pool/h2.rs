//! HTTP/2 connections: few, each a task of its own, each shared by many exchanges.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::sync::OwnedSemaphorePermit;

use super::PoolLimits;
use super::answer::Answer;
use super::convert;
use super::error::SendError;
use super::h1::Failed;
use super::host::Host;
use super::outgoing::Outgoing;
use super::outgoing::Progress;
use super::stream::Stream as Bytestream;

/// Asks a silent upstream whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What an upstream may send on one stream before we have passed it on. hyper's default is 2 MiB, per stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What it may send on all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// An open connection.
pub(super) struct Connection {
    sender: http2::SendRequest<Outgoing>,
    /// Streams in use.
    streams: AtomicUsize,
    /// Streams the upstream allows; told by the task that drives the connection.
    allowed: Arc<AtomicUsize>,
}

/// A place on a connection for one exchange. Dropping it makes room for the next.
pub(super) struct Stream {
    connection: Arc<Connection>,
    host: Arc<Host>,
    pub(super) is_fresh: bool,
}

/// Opens a connection and lets it run. It keeps its place among the target's until it ends.
pub(super) async fn open(
    stream: Bytestream,
    host: &Arc<Host>,
    place: OwnedSemaphorePermit,
) -> Result<Connection, SendError> {
    let head_bytes_max = u32::try_from(host.limits.head_bytes_max).unwrap_or(u32::MAX);
    let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(head_bytes_max)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(SendError::from_hyper)?;
    let allowed = Arc::new(AtomicUsize::new(driver.current_max_send_streams()));
    let connection = Connection {
        sender,
        streams: AtomicUsize::new(0),
        allowed: allowed.clone(),
    };
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        let ended = std::future::poll_fn(|cx| {
            let ended = Pin::new(&mut driver).poll(cx);
            allowed.store(driver.current_max_send_streams(), Ordering::Relaxed);
            ended
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "upstream connection ended"
            );
        }
        drop(place);
        if let Some(host) = host.upgrade() {
            host.stream_ended();
        }
    });
    Ok(connection)
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn has_room(&self, limits: &PoolLimits) -> bool {
        let allowed = self
            .allowed
            .load(Ordering::Relaxed)
            .min(limits.h2_streams_max);
        !self.is_closed() && self.streams.load(Ordering::Relaxed) < allowed
    }

    pub(super) fn stream(self: &Arc<Self>, host: &Arc<Host>, is_fresh: bool) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream {
            connection: self.clone(),
            host: host.clone(),
            is_fresh,
        }
    }
}

impl Stream {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        self,
        host: &Arc<Host>,
        mut request: Request<Outgoing>,
        progress: &Progress,
    ) -> Result<Response<Answer>, Failed> {
        convert::for_h2(&mut request, &host.target)?;
        let mut sender = self.connection.sender.clone();
        tokio::select! {
            biased;
            sent = sender.try_send_request(request) => match sent {
                Ok(response) => Ok(response.map(|body| Answer::h2(body, self, &host.limits))),
                Err(error) => Err(Failed::from_hyper(error, progress)),
            },
            () = progress.overdue(host.limits.first_byte_timeout) => Err(Failed::overdue(progress)),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        self.host.stream_ended();
    }
}
