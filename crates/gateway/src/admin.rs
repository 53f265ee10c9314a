//! The admin address: health, readiness, metrics.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proxy::{Abort, Handler, Whole};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{gateway::Gateway, settings::Secret};

/// Answers operators and their monitoring.
#[derive(Clone)]
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    /// The digest of `ADMIN_TOKEN`: comparing digests takes as long whatever is shown, its length included.
    token: Option<[u8; 32]>,
}

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
            "/metrics" if !self.knows(request.headers()) => (
                StatusCode::UNAUTHORIZED,
                TEXT_TYPE,
                "send ADMIN_TOKEN as 'Authorization: Bearer …'\n".to_owned(),
            ),
            "/metrics" => (StatusCode::OK, METRICS_TYPE, self.gateway.told()),
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
    pub(crate) fn new(gateway: Arc<Gateway>, token: Option<&Secret>) -> Self {
        let token = token.map(|token| Sha256::digest(token.expose()).into());
        Self { gateway, token }
    }

    /// Whether who asks may see what only the operator may. Without a token everybody is the operator.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let shown = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| {
            let digest: [u8; 32] = Sha256::digest(shown).into();
            digest.ct_eq(token).into()
        })
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
