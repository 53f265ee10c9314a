//! One target's connections: which are idle, how many there may be, and who waits.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Weak;

use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;

use super::PoolLimits;
use super::connect::Connector;
use super::error::SendError;
use super::error::Stage;
use super::h1;
use super::h2;
use super::lock;
use crate::Egress;
use crate::Target;

/// A target and the way to it, with the connections there are.
pub(super) struct Host {
    pub(super) target: Target,
    egress: Egress,
    pub(super) limits: Arc<PoolLimits>,
    /// One permit per HTTP/1 connection in use, or per HTTP/2 connection open. Fair: first come, first served.
    ///
    /// Idle connections hold none, yet bound nothing less: who has a permit takes an idle one before making one.
    places: Arc<Semaphore>,
    /// Told when a stream ends or an HTTP/2 connection opens.
    streams: Notify,
    /// Held while connecting as long as the upstream may turn out to speak HTTP/2, where one connection serves all who wait.
    first: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Newest last: that is the one taken, so that the others can age and go.
    idle: Vec<Idle>,
    h2: Vec<Arc<h2::Connection>>,
    speaks: Speaks,
    is_swept: bool,
}

struct Idle {
    connection: h1::Connection,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Speaks {
    #[default]
    Unknown,
    H1,
    H2,
}

/// A connection for one exchange.
pub(super) enum Checkout {
    H1(h1::Leased),
    H2(h2::Stream),
}

impl Checkout {
    /// Whether the connection was made for this exchange.
    pub(super) fn is_fresh(&self) -> bool {
        match self {
            Self::H1(leased) => leased.is_fresh,
            Self::H2(stream) => stream.is_fresh,
        }
    }
}

impl Host {
    pub(super) fn new(target: Target, egress: Egress, limits: Arc<PoolLimits>) -> Arc<Self> {
        Arc::new(Self {
            target,
            egress,
            places: Arc::new(Semaphore::new(
                limits.connections_max.min(Semaphore::MAX_PERMITS),
            )),
            streams: Notify::new(),
            first: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
            limits,
        })
    }

    /// Places taken.
    pub(super) fn busy(&self) -> usize {
        self.limits
            .connections_max
            .min(Semaphore::MAX_PERMITS)
            .saturating_sub(self.places.available_permits())
    }

    pub(super) fn idle_len(&self) -> usize {
        lock(&self.state).idle.len()
    }

    /// An idle connection, a free stream, or a new connection, in that order.
    pub(super) async fn check_out(
        self: &Arc<Self>,
        connector: &Connector,
    ) -> Result<Checkout, SendError> {
        // On the way of nearly every request: no timer, no await.
        if let Some(checkout) = self.try_check_out() {
            return Ok(checkout);
        }
        // Boxed: connecting is rare, and would make every request's future as large as itself.
        Box::pin(self.check_out_in_turn(connector)).await
    }

    /// Waits for a place, a stream or a connection that comes back.
    async fn check_out_in_turn(
        self: &Arc<Self>,
        connector: &Connector,
    ) -> Result<Checkout, SendError> {
        let until = Instant::now() + self.limits.queue_timeout;
        loop {
            let place = self.wait(until).await?;
            let place = match place {
                Waited::Stream(stream) => return Ok(Checkout::H2(stream)),
                Waited::Place(place) => place,
            };
            if let Some(connection) = self.pop_idle() {
                return Ok(Checkout::H1(connection.lease(place, false)));
            }
            if let Some(checkout) = self.connect(connector, place).await? {
                return Ok(checkout);
            }
        }
    }

    /// A new HTTP/1.1 connection, whatever else the target speaks.
    pub(super) async fn check_out_alone(
        self: &Arc<Self>,
        connector: &Connector,
    ) -> Result<h1::Leased, SendError> {
        let place = timeout(
            self.limits.queue_timeout,
            self.places.clone().acquire_owned(),
        )
        .await
        .map_err(|_| SendError::timeout(Stage::Queue))?
        .expect("this semaphore is never closed");
        let connecting = async {
            let stream = connector.connect_http1(&self.target, &self.egress).await?;
            h1::Connection::open(stream, &self.limits).await
        };
        let connection = timeout(self.limits.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(SendError::timeout(Stage::Connect)))?;
        Ok(connection.lease(place, true))
    }

    fn try_check_out(self: &Arc<Self>) -> Option<Checkout> {
        if let Some(stream) = self.free_stream() {
            return Some(Checkout::H2(stream));
        }
        let place = self.places.clone().try_acquire_owned().ok()?;
        let connection = self.pop_idle()?;
        Some(Checkout::H1(connection.lease(place, false)))
    }

    /// Waits for a place, or where HTTP/2 is spoken for a stream.
    async fn wait(self: &Arc<Self>, until: Instant) -> Result<Waited, SendError> {
        let waiting = async {
            loop {
                // Before looking, so that a stream that ends in between is not missed.
                let freed = self.streams.notified();
                if let Some(stream) = self.free_stream() {
                    return Waited::Stream(stream);
                }
                if self.has_enough_h2() {
                    freed.await;
                    continue;
                }
                tokio::select! {
                    biased;
                    place = self.places.clone().acquire_owned() => {
                        return Waited::Place(place.expect("this semaphore is never closed"));
                    }
                    () = freed => {}
                }
            }
        };
        tokio::time::timeout_at(until, waiting)
            .await
            .map_err(|_| SendError::timeout(Stage::Queue))
    }

    /// Makes a connection. `None`: someone else's has meanwhile turned out to serve us too.
    async fn connect(
        self: &Arc<Self>,
        connector: &Connector,
        place: OwnedSemaphorePermit,
    ) -> Result<Option<Checkout>, SendError> {
        let may_be_shared = self.target.is_tls() && lock(&self.state).speaks != Speaks::H1;
        let connecting = async {
            let _first = if may_be_shared {
                let first = self.first.lock().await;
                if self.is_served_meanwhile() {
                    return Ok(None);
                }
                // Known to be HTTP/1 by now: whoever waits behind us need not.
                (lock(&self.state).speaks != Speaks::H1).then_some(first)
            } else {
                None
            };
            let connected = connector.connect(&self.target, &self.egress).await?;
            if connected.is_h2 {
                let connection = h2::open(connected.stream, self, place).await?;
                return Ok(Some(Checkout::H2(self.admit_h2(connection))));
            }
            lock(&self.state).speaks = Speaks::H1;
            let connection = h1::Connection::open(connected.stream, &self.limits).await?;
            Ok(Some(Checkout::H1(connection.lease(place, true))))
        };
        timeout(self.limits.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(SendError::timeout(Stage::Connect)))
    }

    /// While we waited to connect: is there something to take, or are there enough connections to wait for?
    fn is_served_meanwhile(&self) -> bool {
        let speaks = lock(&self.state).speaks;
        self.has_free_stream()
            || self.has_enough_h2()
            || speaks == Speaks::H1 && self.idle_len() > 0
    }

    fn admit_h2(self: &Arc<Self>, connection: h2::Connection) -> h2::Stream {
        let connection = Arc::new(connection);
        let stream = connection.stream(self, true);
        let mut state = lock(&self.state);
        state.speaks = Speaks::H2;
        state.h2.push(connection);
        drop(state);
        self.streams.notify_waiters();
        stream
    }

    fn has_free_stream(&self) -> bool {
        lock(&self.state)
            .h2
            .iter()
            .any(|connection| connection.has_room(&self.limits))
    }

    fn free_stream(self: &Arc<Self>) -> Option<h2::Stream> {
        let mut state = lock(&self.state);
        if state.h2.is_empty() {
            return None;
        }
        state.h2.retain(|connection| !connection.is_closed());
        let connection = state
            .h2
            .iter()
            .find(|connection| connection.has_room(&self.limits))?;
        Some(connection.stream(self, false))
    }

    fn has_enough_h2(&self) -> bool {
        lock(&self.state).h2.len() >= self.limits.h2_connections_max
    }

    /// Told by a stream that has ended.
    pub(super) fn stream_ended(&self) {
        self.streams.notify_one();
    }

    /// The newest idle connection that is still good.
    fn pop_idle(&self) -> Option<h1::Connection> {
        loop {
            let Idle {
                mut connection,
                since,
            } = lock(&self.state).idle.pop()?;
            if since.elapsed() >= self.limits.idle_timeout {
                // The others are older still.
                lock(&self.state).idle.clear();
                return None;
            }
            if connection.is_good() {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back whose exchange has ended.
    pub(super) fn check_in(self: &Arc<Self>, mut connection: h1::Connection) {
        // Now rather than at the next request: an upstream that said it would close is let go at once.
        if !connection.is_good() {
            return;
        }
        let mut state = lock(&self.state);
        if state.idle.len() >= self.limits.idle_max {
            return;
        }
        state.idle.push(Idle {
            connection,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Drops idle connections that are too old or were closed; false when none is left.
    fn sweep(&self) -> bool {
        let mut state = lock(&self.state);
        let idle_timeout = self.limits.idle_timeout;
        state
            .idle
            .retain_mut(|idle| idle.since.elapsed() < idle_timeout && idle.connection.is_good());
        state.is_swept = !state.idle.is_empty();
        state.is_swept
    }
}

enum Waited {
    Place(OwnedSemaphorePermit),
    Stream(h2::Stream),
}

/// Looks after idle connections as long as there are any, four times per idle timeout.
async fn sweep(host: Weak<Host>) {
    loop {
        let Some(pause) = host.upgrade().map(|host| host.limits.idle_timeout / 4) else {
            return;
        };
        tokio::time::sleep(pause).await;
        match host.upgrade() {
            Some(host) if host.sweep() => {}
            _ => return,
        }
    }
}
