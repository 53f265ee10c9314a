//! The relay under test: a handler that sends every request on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use proxy::Abort;
use proxy::BoxError;
use proxy::Doors;
use proxy::DoorsLimits;
use proxy::Drained;
use proxy::Egress;
use proxy::Handler;
use proxy::Pool;
use proxy::PoolLimits;
use proxy::SendErrorKind;
use proxy::Target;
use proxy::Whole;
use proxy::headers;
use proxy::headers::Credential;
use proxy::server::listener;
use proxy::tls;
use testkit::raw::Wire;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Sends every request to one target.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) pool: Pool,
    pub(crate) target: Target,
    pub(crate) egress: Egress,
    credential: Credential,
}

impl Relay {
    pub(crate) fn to(url: &str) -> Self {
        Self::with_limits(url, limits())
    }

    pub(crate) fn with_limits(url: &str, limits: PoolLimits) -> Self {
        Self::trusting(url, limits, &tls::Roots::Platform)
    }

    pub(crate) fn trusting(url: &str, limits: PoolLimits, roots: &tls::Roots) -> Self {
        Self {
            pool: Pool::new(tls::client_config(roots).unwrap(), limits),
            target: Target::parse(url).unwrap(),
            egress: Egress::Direct,
            credential: Credential::bearer("ours").unwrap(),
        }
    }

    pub(crate) fn through(self, proxy: &str) -> Self {
        Self {
            egress: Egress::parse(proxy).unwrap(),
            ..self
        }
    }

    pub(crate) fn start(self) -> Running {
        serve(self)
    }
}

/// Defaults, but impatient.
pub(crate) fn limits() -> PoolLimits {
    PoolLimits {
        queue_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        first_byte_timeout: Duration::from_secs(5),
        ..PoolLimits::default()
    }
}

impl Handler for Relay {
    type Body = Body;

    async fn handle(
        &self,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Abort> {
        let (mut parts, body) = request.into_parts();
        parts.headers = headers::upstream_request_headers(&parts.headers, Some(&self.credential));
        let request = Request::from_parts(parts, body);
        match self.pool.send(&self.target, &self.egress, request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                parts.headers = headers::client_response_headers(&parts.headers);
                Ok(Response::from_parts(
                    parts,
                    body.map_err(Into::into).boxed_unsync(),
                ))
            }
            Err(error) => Ok(refusal(&format!("{:?}", error.kind()), error.kind())),
        }
    }
}

fn refusal(text: &str, kind: SendErrorKind) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = match kind {
        SendErrorKind::Timeout(_) => http::StatusCode::GATEWAY_TIMEOUT,
        _ => http::StatusCode::BAD_GATEWAY,
    };
    response
}

pub(crate) fn whole(text: &str) -> Body {
    Whole::from(text.to_owned())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A server that runs until it is dropped or stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    task: Option<JoinHandle<Drained>>,
}

pub(crate) fn serve(handler: impl Handler + Sync) -> Running {
    serve_with(
        Doors::new(DoorsLimits::default()),
        handler,
        Duration::from_secs(5),
    )
}

pub(crate) fn serve_with(doors: Doors, handler: impl Handler + Sync, drain: Duration) -> Running {
    let listener = listener("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let signal = shutdown.clone();
    let task =
        tokio::spawn(async move { doors.serve(listener, handler, signal, drain).await.unwrap() });
    Running {
        address,
        shutdown,
        task: Some(task),
    }
}

impl Running {
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    pub(crate) fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stopped(mut self) -> Drained {
        self.task.take().unwrap().await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A handler out of a function.
pub(crate) struct Answering<F>(Arc<F>);

impl<F> Clone for Answering<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, R> Handler for Answering<F>
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response<Body>, Abort>> + Send,
{
    type Body = Body;

    async fn handle(
        &self,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Abort> {
        (self.0)(request).await
    }
}

pub(crate) fn answering<F, R>(answer: F) -> Answering<F>
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response<Body>, Abort>> + Send,
{
    Answering(Arc::new(answer))
}
