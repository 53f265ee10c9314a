//! The front doors as this program runs them: their calls read whole, their exchanges run, their records kept.

mod store;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fronts::{Away, BoxFuture, Broken, Call, Caller, Door, Exchange};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use ledger::{LedgerError, SecretSource};
use sha2::{Digest as _, Sha256};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tracing::{error, info, warn};

use crate::{
    admission::{CREDENTIAL_BYTES_MAX, look_up},
    body::RequestBody,
    exchange::{EXCHANGE_HEADER, ReplyBody, exchange, own},
    gateway::Gateway,
    refusal::{Refusal, Shape},
    telemetry::DoorLabels,
    through::Through,
    worker::Worker,
};

/// Bytes of request bodies that all doors together may hold at once. Doors read a body whole, and mostly before they know whose it is.
pub(crate) const BYTES_MAX: usize = 512 * 1024 * 1024;

/// Serves a call that came in by a door.
pub(crate) async fn serve(
    worker: Worker,
    peer: SocketAddr,
    door: Door,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let started = Instant::now();
    let gateway = Arc::clone(&worker.gateway);
    let method = request.method().clone();
    let address = address(&gateway, peer, &request);
    let host = Doorway { worker, address };
    let response = match host.answer(door, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(Shape::OpenAi).map(own),
    };
    let (name, status) = (door.name(), response.status().as_u16());
    gateway
        .metrics
        .door_calls
        .get_or_create(&DoorLabels { door: name, status })
        .inc();
    // An exchange has a line of its own.
    if !response.headers().contains_key(EXCHANGE_HEADER) {
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(door = name, %method, status, peer = %address, duration_ms, "door");
    }
    response
}

/// Where a call comes from: the peer, or what the nearest of the trusted proxies says.
fn address<B>(gateway: &Gateway, peer: SocketAddr, request: &Request<B>) -> IpAddr {
    let proxies = gateway.front_doors.door_proxies;
    let Some(place) = proxies.checked_sub(1) else {
        return peer.ip();
    };
    let values = request.headers().get_all("x-forwarded-for");
    let said: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    said.iter()
        .rev()
        .nth(place)
        .and_then(|address| address.trim().parse().ok())
        .unwrap_or_else(|| peer.ip())
}

/// One call's way to the exchange and to what is kept.
pub(crate) struct Doorway {
    worker: Worker,
    address: IpAddr,
}

impl Doorway {
    async fn answer(
        &self,
        door: Door,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let gateway = &self.worker.gateway;
        let fronts = gateway.fronts.as_ref().ok_or(Refusal::Unavailable {
            reason: "its front doors are shut",
        })?;
        if door == Door::ChatbotGrpc {
            let request = request.map(|body| body.map_err(|_| Broken).boxed_unsync());
            let served = fronts.serve_grpc(self, request).await;
            return served.ok_or(Refusal::Unavailable {
                reason: "its front doors are shut",
            });
        }
        let bytes_max = gateway.front_doors.door_body_bytes_max.get();
        let (head, body) = request.into_parts();
        if body.size_hint().lower() > bytes_max as u64 {
            return Ok(fronts.too_large(door, bytes_max));
        }
        let _room = self.room(&body, bytes_max)?;
        let patience = Duration::from_secs(gateway.settings.upload_seconds.get());
        let whole = timeout(patience, Limited::new(body, bytes_max).collect()).await;
        let body = match whole {
            Err(_) => return Err(Refusal::UploadTimeout),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Ok(fronts.too_large(door, bytes_max));
            }
            Ok(Err(_)) => return Err(Refusal::ClientGone),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let request = Request::from_parts(head, body);
        Ok(fronts.serve(door, self, self.address, request).await)
    }

    /// Room for a body, as long as it may get.
    fn room(&self, body: &Incoming, bytes_max: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let longest = body.size_hint().upper().unwrap_or(bytes_max as u64);
        let bytes = u32::try_from(longest.min(bytes_max as u64)).unwrap_or(u32::MAX);
        Arc::clone(&self.worker.gateway.door_bytes)
            .try_acquire_many_owned(bytes)
            .map_err(|_| Refusal::Unavailable {
                reason: "its front doors are reading as much as they may",
            })
    }
}

impl Exchange for Doorway {
    fn identify<'a>(&'a self, secret: &'a str) -> BoxFuture<'a, Result<Option<Caller>, Away>> {
        Box::pin(async move {
            if secret.is_empty() || secret.len() > CREDENTIAL_BYTES_MAX {
                return Ok(None);
            }
            let digest: [u8; 32] = Sha256::digest(secret).into();
            // Whatever it is that keeps it from being looked up: the door has one word for that.
            let token = look_up(&self.worker.gateway, digest, self.address).await;
            let token = token.map_err(|_| Away)?;
            Ok(token
                .filter(|token| token.is_valid(now_ms()) && token.allows_address(self.address))
                .map(|token| Caller {
                    token: token.id.0,
                    account: token.account.0,
                    digest,
                }))
        })
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Response<ReplyBody>> {
        let Call {
            door,
            caller,
            upstream_key,
            request,
        } = call;
        let through = Through {
            door,
            digest: caller.digest,
            // Taken literally: a caller must not name a file or a variable of ours.
            upstream_key: upstream_key.map(|key| SecretSource::Literal(ledger::Secret::new(key))),
        };
        let request = request.map(RequestBody::Whole);
        // The port says nothing where a proxy told the address.
        let peer = SocketAddr::new(self.address, 0);
        // A task of its own: whoever drops this leaves an exchange that holds money.
        let running = tokio::spawn(exchange(self.worker.clone(), peer, request, Some(through)));
        Box::pin(async move {
            running.await.unwrap_or_else(|error| {
                error!(%error, "exchange.panicked: a defect; the hold stays");
                let mut response = Response::new(own(Bytes::new()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            })
        })
    }

    fn output_max(&self, model: &str) -> Option<u64> {
        let gateway = &self.worker.gateway;
        let catalog = gateway.ledger.catalog();
        let quote = catalog.book().quote(model, now_ms())?;
        let known = quote.rows().iter().filter_map(|row| row.output_max).max();
        Some(known.unwrap_or_else(|| gateway.settings.output_max_assumed.get().into()))
    }
}

/// How often old dialogs are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// Deletes dialogs when their time is over. Never returns.
pub(crate) async fn forget(gateway: Arc<Gateway>) {
    let mut again = tokio::time::interval(FORGET_EVERY);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        for (door, retention) in gateway.front_doors.retention() {
            match gateway.ledger.sweep_dialogs(door, retention).await {
                Ok(0) => {}
                Ok(dialogs) => info!(door, dialogs, "dialog.forgotten"),
                Err(error) => warn!(door, %error, "dialog.not_forgotten"),
            }
        }
    }
}

fn away(error: &LedgerError) -> Away {
    warn!(%error, "door.database");
    Away
}

/// Now, in milliseconds since the epoch.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
