//! Posts to a collector. What fails is told once in a while, and keeps nobody.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry_http::{HttpClient, HttpError};
use proxy::{Egress, Pool, Target};
use tokio::{runtime::Handle, time::timeout};
use tracing::{info, warn};

/// How long a collector gets for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a collector that fails is complained about.
const COMPLAINTS_APART: Duration = Duration::from_secs(60);
/// Most of a collector's answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The way to a collector for one signal.
#[derive(Clone)]
pub(super) struct Sender {
    way: Arc<Way>,
}

struct Way {
    signal: &'static str,
    target: Target,
    pool: Pool,
    control: Handle,
    failing: Mutex<Failing>,
}

/// How the collector has fared of late.
#[derive(Default)]
struct Failing {
    /// Requests in a row that failed.
    requests: u64,
    complained: Option<Instant>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({})", self.way.signal)
    }
}

impl Sender {
    pub(super) fn new(signal: &'static str, target: Target, pool: Pool, control: Handle) -> Self {
        let failing = Mutex::default();
        Self {
            way: Arc::new(Way {
                signal,
                target,
                pool,
                control,
                failing,
            }),
        }
    }

    /// Posts to the signal's path, whatever the request's own is.
    ///
    /// # Errors
    /// When the collector cannot be reached, takes too long or does not take it.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = timeout(PATIENCE, self.way.post(request))
            .await
            .unwrap_or_else(|_| Err("it does not answer in time".into()));
        self.way.note(sent.as_ref().err());
        sent
    }
}

impl Way {
    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        *request.uri_mut() = Uri::try_from(format!("/v1/{}", self.signal))?;
        let answer = self
            .pool
            .send(&self.target, &Egress::Direct, request)
            .await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        if !head.status.is_success() {
            return Err(format!("it answers {}", head.status).into());
        }
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Tells that it fails, or does again what it should; not each time.
    fn note(&self, error: Option<&HttpError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            if failing.complained.is_some() {
                info!(signal = self.signal, "telemetry.sent_again");
            }
            *failing = Failing::default();
            return;
        };
        failing.requests = failing.requests.saturating_add(1);
        let is_due = failing
            .complained
            .is_none_or(|last| last.elapsed() >= COMPLAINTS_APART);
        if is_due {
            failing.complained = Some(Instant::now());
            warn!(
                signal = self.signal,
                error = &**error as &dyn std::error::Error,
                failed = failing.requests,
                "telemetry.not_sent: the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take it"
            );
        }
    }
}

impl HttpClient for Sender {
    fn send_bytes<'a, 'future>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'a: 'future,
        Self: 'future,
    {
        // Who asks is a thread without a runtime.
        let sender = self.clone();
        let sending = self
            .way
            .control
            .spawn(async move { sender.send(request).await });
        Box::pin(async move { sending.await? })
    }
}
