//! The data plane: one current-thread runtime per core, each with its own listener and upstream pool.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use proxy::{Abort, Doors, Drained, Handler, Pool, PoolLimits, server::listener};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    body::RequestBody,
    console::usage_page,
    drain,
    exchange::{ReplyBody, exchange},
    front_doors,
    gateway::Gateway,
    worker::Worker,
};

/// How long exchanges that were told to hurry get to settle.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(3);

/// What every worker is made of.
#[derive(Clone)]
pub(crate) struct Equipment {
    pub(crate) doors: Doors,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) pool_limits: PoolLimits,
    /// Places in each worker's drain: as many as exchanges may be open.
    pub(crate) drain_places: usize,
    /// How long open exchanges get once `shutdown` is cancelled.
    pub(crate) grace: Duration,
    pub(crate) shutdown: CancellationToken,
}

/// Listeners that share one address. The kernel spreads connections over them.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) fn listeners(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Listeners that share a port would share it with a second Turnpike as well: one that does not share finds out.
    drop(TcpListener::bind(address)?);
    let first = listener(address)?;
    // With port 0 the kernel has chosen; the others go where the first is.
    let address = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..workers {
        all.push(listener(address)?);
    }
    Ok(all)
}

/// Starts a worker on a thread of its own. The receiver says how it ended.
///
/// # Errors
/// When the system gives no thread or runtime.
pub(crate) fn start(
    number: usize,
    listener: TcpListener,
    gateway: Arc<Gateway>,
    equipment: Equipment,
) -> io::Result<oneshot::Receiver<io::Result<Drained>>> {
    let (tell, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let drained = runtime.block_on(work(listener, gateway, equipment));
            // Nobody listens once the program has given up waiting.
            let _ = tell.send(drained);
        })?;
    Ok(ended)
}

async fn work(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    equipment: Equipment,
) -> io::Result<Drained> {
    gateway.metrics.watch(tokio::runtime::Handle::current());
    let (leave, left) = mpsc::channel(equipment.drain_places);
    let drains = tokio::spawn(drain::run(Arc::clone(&gateway), left));
    let hurry = gateway.hurry.clone();
    let pool = Pool::new(equipment.tls, equipment.pool_limits);
    gateway.metrics.watch_pool(pool.clone());
    let worker = Worker {
        gateway,
        pool,
        leave,
    };
    let drained = equipment
        .doors
        .serve(listener, Front(worker), equipment.shutdown, equipment.grace)
        .await?;
    // Exchanges whose client has left go on without it; the last of them lets the drain end.
    tokio::select! {
        _ = drains => {}
        () = async { hurry.cancelled().await; sleep(LAST_SETTLEMENTS).await } => {
            tracing::warn!("shutdown.cut: some exchanges did not settle in time; their holds stay");
        }
    }
    Ok(drained)
}

/// Where clients' requests come in.
#[derive(Clone)]
struct Front(Worker);

impl Handler for Front {
    type Body = ReplyBody;

    async fn handle(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Self::Body>, Abort> {
        // hyper drops this future when the client leaves, and with it whatever it awaits. The exchange must
        // not be dropped: it holds money and may be working upstream. So it is a task of its own.
        let fronts = self.0.gateway.fronts.as_ref();
        if let Some(door) = fronts.and_then(|fronts| fronts.door(request.uri().path())) {
            return Ok(front_doors::serve(self.0.clone(), peer, door, request).await);
        }
        if self.0.gateway.settings.usage_page.is_on() {
            let page = usage_page(request.method(), request.uri().path(), request.headers());
            if let Some(page) = page {
                return Ok(page.map(|body| body.map_err(|never| match never {}).boxed_unsync()));
            }
        }
        let request = request.map(RequestBody::Incoming);
        tokio::spawn(exchange(self.0.clone(), peer, request, None))
            .await
            .map_err(|error| {
                tracing::error!(%error, "exchange.panicked: a defect; the hold stays");
                Abort
            })
    }
}
