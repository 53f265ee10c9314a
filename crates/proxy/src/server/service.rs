//! A handler as hyper wants it, and answers as a client's protocol wants them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use http::Request;
use http::Response;
use http::Version;
use http::header;
use hyper::body::Incoming;

use super::Abort;
use super::Handler;
use crate::headers;

/// Requests of one connection, on their way to the handler.
pub(super) struct Service<H> {
    pub(super) handler: H,
    pub(super) peer: SocketAddr,
    pub(super) is_h2: bool,
    /// A client of HTTP/1.0 may be told the end of an answer by the end of the connection: only a reset can then say "cut".
    pub(super) has_seen_http10: Arc<AtomicBool>,
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Service<H> {
    type Response = Response<H::Body>;
    type Error = Abort;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Abort>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.version() == Version::HTTP_10 {
            self.has_seen_http10.store(true, Ordering::Relaxed);
        }
        let (handler, peer, is_h2) = (self.handler.clone(), self.peer, self.is_h2);
        Box::pin(async move {
            let mut response = handler.handle(peer, request).await?;
            if is_h2 {
                for_h2(&mut response);
            } else {
                // hyper writes down to HTTP/1.0 by itself, and panics at any other version than these three.
                *response.version_mut() = Version::HTTP_11;
            }
            Ok(response)
        })
    }
}

fn for_h2<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::CONNECTION) {
        *response.headers_mut() = headers::without_connection_headers(headers);
    }
}
