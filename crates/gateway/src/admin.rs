//! The admin address: health, readiness, metrics, and the console.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proxy::{Abort, Handler, Whole};

use crate::{
    console::{self, Console},
    gateway::Gateway,
    settings::Secret,
};

/// Answers operators and their monitoring.
#[derive(Clone)]
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    console: Console,
}

/// The content type of Prometheus' text, as `prometheus-client` writes it (OpenMetrics 1.0).
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Handler for Admin {
    type Body = Whole;

    async fn handle(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Whole>, Abort> {
        if console::has(request.uri().path()) {
            return Ok(self.console.answer(peer, request).await);
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let (status, content_type, text) = match request.uri().path() {
            _ if !is_read => (
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT_TYPE,
                "only GET\n".to_owned(),
            ),
            "/healthz" => (StatusCode::OK, TEXT_TYPE, "ok\n".to_owned()),
            "/readyz" => match self.unready() {
                None => (StatusCode::OK, TEXT_TYPE, "ready\n".to_owned()),
                Some(reason) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT_TYPE,
                    format!("not ready: {reason}\n"),
                ),
            },
            "/metrics" if !self.console.knows(peer, request.headers()) => (
                StatusCode::UNAUTHORIZED,
                TEXT_TYPE,
                "send ADMIN_TOKEN as 'Authorization: Bearer …'\n".to_owned(),
            ),
            "/metrics" => (StatusCode::OK, METRICS_TYPE, self.gateway.told()),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT_TYPE,
                "/healthz, /readyz, /metrics and, for browsers, / are here\n".to_owned(),
            ),
        };
        let mut response = Response::new(Whole::from(text));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    }
}

impl Admin {
    pub(crate) fn new(gateway: Arc<Gateway>, token: Option<&Secret>) -> Self {
        Self {
            console: Console::new(Arc::clone(&gateway), token),
            gateway,
        }
    }

    /// Why new exchanges should go elsewhere.
    fn unready(&self) -> Option<&'static str> {
        if self.gateway.draining.load(Ordering::Relaxed) {
            Some("shutting down")
        } else if self.gateway.ledger.is_ready() {
            None
        } else {
            Some("the database does not answer")
        }
    }
}
