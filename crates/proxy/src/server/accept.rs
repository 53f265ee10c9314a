//! The accept loop and its end: draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
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
    /// With the signal listening ends, idle connections close, busy ones finish the requests they have begun
    /// and say that they will close. What is left at the deadline is cut.
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
        // Of its own: its waiters share a lock, which workers should not.
        let shutdown = shutdown.child_token();
        let places = self.limits.connections_max.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let mut connections = JoinSet::new();
        let stalls = Stalls::default();
        let sweeping = stalls.clone().sweep(self.limits.reader_timeout);
        let _sweeping = AbortOnDropHandle::new(tokio::spawn(sweeping));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
                // Reaps; with none left this is `None`, which the pattern sorts out.
                Some(_) = connections.join_next() => continue,
            };
            let (place, stream, peer) = accepted;
            let serving = connection::serve(
                self.clone(),
                stream,
                peer,
                handler.clone(),
                shutdown.clone(),
                stalls.clone(),
                place,
            );
            connections.spawn(serving);
        }
        drop(listener);
        Ok(finish(connections, drain).await)
    }
}

/// The next connection, once there is a place for it. Until then the backlog holds clients back.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
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

async fn finish(mut connections: JoinSet<()>, drain: Duration) -> Drained {
    let mut finished = 0;
    let all = async {
        while connections.join_next().await.is_some() {
            finished += 1;
        }
    };
    let _ = tokio::time::timeout(drain, all).await;
    let cut = connections.len();
    connections.shutdown().await;
    Drained { finished, cut }
}
