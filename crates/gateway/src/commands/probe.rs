//! Asks upstreams, with each of their keys, for their list of models: it costs nothing, and tells whether they answer and take the key.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Empty;
use ledger::{Dialect, Upstream, UpstreamKeyId};
use proxy::{Pool, headers, tls};
use tokio::time::timeout;

use crate::{
    fatal::{Code, Fatal, chain},
    places::{self, Place},
    serve, settings,
};

/// How long one upstream gets to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many are asked at once.
const AT_ONCE: usize = 16;
/// The version of Anthropic's API that every request must name.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// One key tried.
pub(super) struct Probed {
    pub(super) upstream: String,
    /// `None`: the upstream was asked without a key, or could not be asked at all.
    pub(super) key: Option<UpstreamKeyId>,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// What came of it.
pub(super) enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// No answer: why.
    Unreachable(String),
    /// It was not asked, because its row or key cannot be used: why.
    Unusable(String),
}

impl Probed {
    /// Which key, never what it is.
    pub(super) fn key_in_words(&self) -> String {
        match self.key {
            Some(id) => format!("key {id}"),
            None => "a request without a key".to_owned(),
        }
    }
}

/// What asks.
pub(super) struct Prober {
    pool: Pool,
}

impl Prober {
    /// Asks as the gateway of these settings would.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read.
    pub(super) fn new(settings: &settings::Upstream) -> Result<Self, Fatal> {
        let tls = tls::client_config(&serve::roots(settings)).map_err(|error| {
            Fatal::because(
                Code::Config,
                "the certificates to trust cannot be read",
                &error,
            )
        })?;
        Ok(Self {
            pool: Pool::new(tls, serve::pool_limits(settings)),
        })
    }

    /// Asks each upstream with each of its keys; the results are in that order.
    pub(super) async fn ask_all(&self, upstreams: &[Upstream]) -> Vec<Probed> {
        let mut each = Vec::new();
        for upstream in upstreams {
            match places::each_key(upstream) {
                Ok(places) => {
                    let keys = upstream.keys.iter().map(|key| Some(key.id));
                    let keys = keys.chain([None]);
                    each.extend(
                        keys.zip(places)
                            .map(|(key, (_, place))| (upstream, key, place)),
                    );
                }
                Err(why) => each.push((upstream, None, Err(why))),
            }
        }
        stream::iter(each)
            .map(|(upstream, key, place)| async move {
                let since = Instant::now();
                let outcome = match place {
                    Ok(place) => self.ask(&place).await,
                    Err(why) => Outcome::Unusable(why),
                };
                Probed {
                    upstream: upstream.name.clone(),
                    key,
                    outcome,
                    took: since.elapsed(),
                }
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn ask(&self, place: &Place) -> Outcome {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = http::Uri::from_static(match place.dialect {
            Dialect::Azure => "/v1/models",
            Dialect::OpenAi | Dialect::Anthropic => "/models",
        });
        *request.headers_mut() =
            headers::upstream_request_headers(&HeaderMap::new(), place.credential.as_ref());
        if place.dialect == Dialect::Anthropic {
            request.headers_mut().insert(
                "anthropic-version",
                HeaderValue::from_static(ANTHROPIC_VERSION),
            );
        }
        let sent = self.pool.send(&place.target, &place.egress, request);
        match timeout(PATIENCE, sent).await {
            Ok(Ok(answer)) => Outcome::Answered(answer.status().as_u16()),
            Ok(Err(error)) => Outcome::Unreachable(chain(&error)),
            Err(_) => Outcome::Unreachable(format!(
                "it did not answer within {} seconds",
                PATIENCE.as_secs()
            )),
        }
    }
}
