//! A handler as hyper wants it, and answers as a client's protocol wants them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use hyper::body::Incoming;

use super::Abort;
use super::Handler;
use super::outgoing::Outgoing;
use super::stalls::Stalls;
use super::streams::Open;
use super::streams::Streams;
use crate::headers;

/// Requests of one connection, on their way to the handler.
pub(super) struct Service<H> {
    pub(super) handler: H,
    pub(super) peer: SocketAddr,
    pub(super) is_h2: bool,
    /// Those of an HTTP/2 connection.
    pub(super) streams: Streams,
    /// A client of HTTP/1.0 may be told the end of an answer by the end of the connection: only a reset can then say "cut".
    pub(super) has_seen_http10: Arc<AtomicBool>,
    pub(super) stalls: Stalls,
    /// Whether the client should come back on another connection.
    pub(super) leaving: Arc<AtomicBool>,
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Service<H> {
    type Response = Response<Outgoing<H::Body>>;
    type Error = Abort;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Abort>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.version() == Version::HTTP_10 {
            self.has_seen_http10.store(true, Ordering::Relaxed);
        }
        let (handler, peer) = (self.handler.clone(), self.peer);
        let watched = self
            .is_h2
            .then(|| (self.stalls.clone(), self.streams.begin()));
        let leaving = self.leaving.clone();
        Box::pin(async move {
            let response = handler.handle(peer, request).await?;
            Ok(match watched {
                Some((stalls, open)) => for_h2(response, &stalls, open),
                None => for_h1(response, leaving.load(Ordering::Relaxed)),
            })
        })
    }
}

fn for_h1<B>(mut response: Response<B>, is_leaving: bool) -> Response<Outgoing<B>> {
    // hyper writes down to HTTP/1.0 by itself, and panics at any other version than these three.
    *response.version_mut() = Version::HTTP_11;
    if is_leaving && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let shows_zero = announced.is_some_and(|len| len == "0") && may_have_length(response.status());
    response.map(|body| Outgoing::new(body, shows_zero))
}

fn for_h2<B: Send + 'static>(
    mut response: Response<B>,
    stalls: &Stalls,
    open: Open,
) -> Response<Outgoing<B>> {
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::CONNECTION) {
        *response.headers_mut() = headers::for_h2(headers);
    }
    response.map(|body| Outgoing::watched(stalls.watch(body, open)))
}

fn may_have_length(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
