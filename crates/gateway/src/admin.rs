//! The admin address: health, readiness, metrics.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proxy::{Abort, Handler, Whole};

use crate::gateway::Gateway;

/// Answers operators and their monitoring.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Gateway>);

/// The content type of Prometheus' text, as `prometheus-client` writes it (OpenMetrics 1.0).
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Handler for Admin {
    type Body = Whole;

    async fn handle(
        &self,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Whole>, Abort> {
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
            "/metrics" => (
                StatusCode::OK,
                METRICS_TYPE,
                self.0.metrics.text(
                    self.0.ledger.stats(),
                    self.0.places.standing(&self.0.ledger.catalog()),
                ),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT_TYPE,
                "/healthz, /readyz and /metrics are here\n".to_owned(),
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
    /// Why new exchanges should go elsewhere.
    fn unready(&self) -> Option<&'static str> {
        if self.0.draining.load(Ordering::Relaxed) {
            Some("shutting down")
        } else if self.0.ledger.is_ready() {
            None
        } else {
            Some("the database does not answer")
        }
    }
}
