//! The accept loop and its end: draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Doors;
use super::Drained;
use super::Handler;
use super::connection;
use super::stalls::Stalls;

/// After an error that will come again at once, such as no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Doors {
    /// Serves connections until `shutdown` is cancelled, then waits up to `drain` for those that are open.
    ///
    /// With the signal listening ends. Who has connected already is served once more: for a moment
    /// ([`linger`](super::DoorsLimits::linger)) idle connections stay open, and answers say that their connection closes. Then idle
    /// ones close, busy ones finish the requests they have begun. What is left at the deadline is cut.
    ///
    /// # Errors
    /// If the listener cannot be used at all. Errors of single connections are logged, not returned.
    pub async fn serve<H: Handler>(
        &self,
        listener: std::net::TcpListener,
        handler: H,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> io::Result<Drained> {
        let listener = TcpListener::from_std(listener)?;
        // Of their own: waiters share a lock, which workers should not.
        let shutdown = shutdown.child_token();
        let closing = CancellationToken::new();
        let places = self.limits.connections_max.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let mut connections = JoinSet::new();
        let stalls = Stalls::default();
        let sweeping = stalls.clone().sweep(self.limits.reader_timeout);
        let _sweeping = AbortOnDropHandle::new(tokio::spawn(sweeping));
        let serve = |(place, stream, peer): Accepted, connections: &mut JoinSet<()>| {
            let serving = connection::serve(
                self.clone(),
                stream,
                peer,
                handler.clone(),
                closing.clone(),
                stalls.clone(),
                place,
            );
            connections.spawn(serving);
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
                // Reaps; with none left this is `None`, which the pattern sorts out.
                Some(_) = connections.join_next() => continue,
            };
            serve(accepted, &mut connections);
        }
        self.leaving.store(true, Ordering::Relaxed);
        // Whose connection the kernel has taken waits for an answer: closing would reset it.
        for accepted in queued(listener.into_std()?, &places) {
            serve(accepted, &mut connections);
        }
        Ok(finish(connections, &closing, self.limits.linger, drain).await)
    }
}

type Accepted = (OwnedSemaphorePermit, TcpStream, SocketAddr);

/// What is in the backlog of a listener, as far as there are places. The listener is closed.
fn queued(listener: std::net::TcpListener, places: &Arc<Semaphore>) -> Vec<Accepted> {
    let mut queued = Vec::new();
    while let Ok(place) = places.clone().try_acquire_owned()
        && let Some((stream, peer)) = next_queued(&listener)
    {
        let nonblocking = stream.set_nonblocking(true);
        match nonblocking.and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => queued.push((place, stream, peer)),
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
    }
    queued
}

fn next_queued(listener: &std::net::TcpListener) -> Option<(std::net::TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Ok(accepted) => return Some(accepted),
            Err(error) if is_of_one_connection(&error) => {}
            // Empty, most of all.
            Err(_) => return None,
        }
    }
}

/// The next connection, once there is a place for it. Until then the backlog holds clients back.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Accepted {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (place, stream, peer),
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for the moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn finish(
    mut connections: JoinSet<()>,
    closing: &CancellationToken,
    linger: Duration,
    drain: Duration,
) -> Drained {
    let mut finished = 0_usize;
    let linger = linger.min(drain / 2);
    let mut all = async |within: Duration| {
        let joining = async {
            while connections.join_next().await.is_some() {
                finished = finished.saturating_add(1);
            }
        };
        timeout(within, joining).await
    };
    if all(linger).await.is_err() {
        closing.cancel();
        let _ = all(drain.saturating_sub(linger)).await;
    }
    let cut = connections.len();
    connections.shutdown().await;
    Drained { finished, cut }
}
