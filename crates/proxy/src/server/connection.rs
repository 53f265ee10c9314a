//! One client's connection, from accepting to closing.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Doors;
use super::DoorsLimits;
use super::Handler;
use super::patient::Patient;
use super::service::Service;
use super::stalls::Stalls;
use super::stream;
use super::stream::Rewound;
use super::streams::Streams;
use crate::tls;

type Failure = Box<dyn Error + Send + Sync>;

/// Serves a connection to its end. What goes wrong with it concerns nobody else.
pub(super) async fn serve<H: Handler>(
    doors: Doors,
    tcp: TcpStream,
    peer: SocketAddr,
    handler: H,
    shutdown: CancellationToken,
    stalls: Stalls,
    _place: OwnedSemaphorePermit,
) {
    // Without it a stream of small events waits for the client's acknowledgements.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let tcp = Patient::new(tcp, doors.limits.reader_timeout);
    let service = Service {
        handler,
        peer,
        is_h2: false,
        streams: Streams::new(),
        has_seen_http10: Arc::new(AtomicBool::new(false)),
        stalls,
        leaving: doors.leaving.clone(),
    };
    let serving = match &doors.tls {
        None => decide(&doors.limits, tcp, service, shutdown).await,
        Some(config) => {
            let accepting = accept_tls(&doors.limits, config.clone(), tcp);
            match Box::pin(accepting).await {
                Ok(tls) => {
                    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(tls::ALPN_H2);
                    let service = Service { is_h2, ..service };
                    Ok(serve_http(&doors.limits, tls, service, shutdown))
                }
                Err(error) => Err(error),
            }
        }
    };
    let ended = match serving {
        Ok(serving) => serving.await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error as &dyn Error, "client connection ended");
    }
}

/// A connection being served. Boxed, and by itself: an idle connection should not hold the room
/// that the largest of handshakes and protocols would take.
type Serving = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Looks at the first bytes of a connection without TLS.
async fn decide<H: Handler>(
    limits: &DoorsLimits,
    tcp: Patient,
    service: Service<H>,
    shutdown: CancellationToken,
) -> Result<Serving, Failure> {
    let first_bytes = timeout(limits.header_timeout, stream::is_h2(tcp));
    tokio::select! {
        first_bytes = first_bytes => {
            let (is_h2, io) = first_bytes??;
            let service = Service { is_h2, ..service };
            Ok(serve_http(limits, io, service, shutdown))
        }
        // Nothing was asked yet.
        () = shutdown.cancelled() => Ok(Box::pin(std::future::ready(Ok(())))),
    }
}

async fn accept_tls(
    limits: &DoorsLimits,
    config: Arc<ServerConfig>,
    tcp: Patient,
) -> Result<TlsStream<Patient>, Failure> {
    let accepting = TlsAcceptor::from(config).accept(tcp);
    Ok(timeout(limits.handshake_timeout, accepting).await??)
}

fn serve_http<I, H>(
    limits: &DoorsLimits,
    io: I,
    service: Service<H>,
    shutdown: CancellationToken,
) -> Serving
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    H: Handler,
{
    if service.is_h2 {
        let timeouts = (limits.header_timeout, limits.reader_timeout);
        Box::pin(serve_h2(
            h2_builder(limits),
            io,
            service,
            timeouts,
            shutdown,
        ))
    } else {
        Box::pin(serve_h1(h1_builder(limits), io, service, shutdown))
    }
}

async fn serve_h1<I, H>(
    builder: http1::Builder,
    io: I,
    service: Service<H>,
    shutdown: CancellationToken,
) -> Result<(), Failure>
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    H: Handler,
{
    let has_seen_http10 = service.has_seen_http10.clone();
    let mut connection = builder
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if ended.is_err()
        && has_seen_http10.load(Ordering::Relaxed)
        && let Some(parts) = connection.into_parts()
    {
        parts.io.into_inner().reset_on_drop();
    }
    Ok(ended?)
}

async fn serve_h2<I, H>(
    builder: http2::Builder<TokioExecutor>,
    io: I,
    service: Service<H>,
    (idle_timeout, reader_timeout): (Duration, Duration),
    shutdown: CancellationToken,
) -> Result<(), Failure>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let streams = service.streams.clone();
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
        () = streams.idle_for(idle_timeout) => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                // Without open requests it goes by itself, unless the client does not take the end of an answer.
                () = streams.idle_for(reader_timeout) => Ok(()),
            }
        }
    };
    Ok(ended?)
}

fn h1_builder(limits: &DoorsLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(limits.head_bytes_max.max(HYPER_BUFFER_BYTES_MIN));
    if limits.headers_max != HYPER_HEADERS_MAX {
        builder.max_headers(limits.headers_max);
    }
    builder
}

fn h2_builder(limits: &DoorsLimits) -> http2::Builder<TokioExecutor> {
    let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_FAULTY_STREAMS_MAX)
        .max_header_list_size(head_bytes_max)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES);
    builder
}

/// What hyper allows by itself, from an array on the stack; any other number costs an allocation per request.
const HYPER_HEADERS_MAX: usize = 100;

/// hyper panics at a smaller read buffer.
const HYPER_BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Asks a silent client whether it is still there, and how long it may take to say so.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams that a client has reset before we came to look at them; one more, and its connection ends. The answer to rapid resets.
const H2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset because they broke the protocol, in the life of a connection; one more, and it ends.
const H2_FAULTY_STREAMS_MAX: usize = 256;

/// What a client may send on one stream before we have passed it on.
const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What it may send on all streams of a connection.
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What we hold of an answer for a client that reads slowly, per stream. hyper's default is 400 KiB.
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A stream that can end so that nobody takes it for a regular end.
trait Reset {
    /// Dropping the stream sends a reset instead of a regular end.
    fn reset_on_drop(self);
}

impl Reset for Patient {
    fn reset_on_drop(self) {
        self.set_reset();
    }
}

impl Reset for Rewound<Patient> {
    fn reset_on_drop(self) {
        self.into_inner().reset_on_drop();
    }
}

impl Reset for TlsStream<Patient> {
    // Without a close_notify, which dropping does not send, TLS tells the cut by itself; not every client listens.
    fn reset_on_drop(self) {
        self.into_inner().0.reset_on_drop();
    }
}
