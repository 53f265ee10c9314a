//! The way up: our credential where the client's was, the client's bytes otherwise.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request, uri::PathAndQuery};
use http_body::Body;
use ledger::{AccessToken, Dialect, SecretSource};
use proxy::{
    Answer, BoxError, Pool, SendError, SendErrorKind, Whole,
    headers::{self, Tracing},
};
use tracing::{error, info, warn};

use crate::{
    endpoint::Endpoint,
    gateway::Gateway,
    health::{self, Change, Outcome},
    places::{self, Place},
    refusal::Refusal,
};

/// With which key of ours an error was earned: it may quote it.
#[derive(Clone)]
pub(super) struct Shown(pub(super) Arc<headers::Credential>);

/// Where a request goes, and as what.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) place: Arc<Place>,
    /// What is appended to the place's base, less the query.
    path: String,
    /// The access token's own key instead of the place's.
    pub(super) own: Option<headers::Credential>,
}

impl Route {
    /// To this place, with the key that was `shown` at a front door, else with the access token's own if it has one. Such a key is for one provider, so it goes nowhere
    /// where there are several.
    ///
    /// # Errors
    /// 503 when that key cannot be used; the log says why.
    pub(super) fn new(
        place: Arc<Place>,
        is_only: bool,
        token: &AccessToken,
        endpoint: &Endpoint<'_>,
        shown: Option<&SecretSource>,
    ) -> Result<Self, Refusal> {
        let own = shown
            .or(token.upstream_key.as_ref())
            .map(|key| places::credential(key, place.dialect))
            .transpose();
        let own = match own {
            Ok(Some(_)) if !is_only => {
                Err("there are several upstreams, and it is for one".to_owned())
            }
            own => own,
        };
        let own = own.map_err(|error| {
            error!(token = token.prefix, "token.upstream_key_unusable: {error}");
            Refusal::Unavailable {
                reason: "the access token's own provider key is not set up properly",
            }
        })?;
        let path = path(place.dialect, endpoint)?;
        Ok(Self { place, path, own })
    }
}

impl Route {
    /// Another path than the dialect's.
    pub(super) fn set_path(&mut self, path: &str) {
        path.clone_into(&mut self.path);
    }

    /// The same request to another place, which is spoken to alike.
    pub(super) fn to(&self, place: Arc<Place>) -> Self {
        Self {
            place,
            path: self.path.clone(),
            own: None,
        }
    }
}

/// The path that a dialect has for an endpoint. Only Azure knows deployments; without one its paths are those of its
/// `v1`, which takes them as models.
fn path(dialect: Dialect, endpoint: &Endpoint<'_>) -> Result<String, Refusal> {
    let below = endpoint.below;
    match (dialect, endpoint.deployment) {
        (Dialect::Azure, Some(name)) => Ok(format!("/deployments/{name}{below}")),
        (Dialect::Azure, None) => Ok(format!("/v1{below}")),
        (Dialect::OpenAi | Dialect::Anthropic, None) => Ok(below.to_owned()),
        (Dialect::OpenAi | Dialect::Anthropic, Some(name)) => Err(Refusal::ModelNotFound {
            model: name.to_owned(),
        }),
    }
}

/// Sends a request up: the client's method, path, query, headers and body, with our credential.
pub(super) async fn send<B>(
    pool: &Pool,
    route: &Route,
    head: &request::Parts,
    body: B,
    plain: bool,
) -> Result<Response<Answer>, SendError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = upstream_uri(&route.path, route.place.query.as_deref(), &head.uri);
    // The case of header names is kept here by hyper.
    *request.extensions_mut() = head.extensions.clone();
    *request.headers_mut() = headers::upstream_headers(
        &head.headers,
        route.own.as_ref().or(route.place.credential.as_ref()),
        tracing(head),
    );
    if plain {
        // The answer will be edited, and the length of the body has changed.
        request.headers_mut().insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let length = request.body().size_hint().exact();
        if let (Some(length), header::Entry::Occupied(mut entry)) =
            (length, request.headers_mut().entry(header::CONTENT_LENGTH))
        {
            entry.insert(HeaderValue::from(length));
        }
    }
    let mut sent = pool
        .send(&route.place.target, &route.place.egress, request)
        .await;
    if let Ok(answer) = &mut sent
        && !answer.status().is_success()
        && let Some(credential) = &route.place.credential
        && route.own.is_none()
    {
        answer
            .extensions_mut()
            .insert(Shown(Arc::new(credential.clone())));
    }
    if route.own.is_none() {
        note(&route.place, &sent);
    }
    sent
}

/// Asks for a WebSocket: the client's handshake, with our credential.
pub(super) async fn upgrade(
    pool: &Pool,
    route: &Route,
    head: &request::Parts,
) -> Result<Response<Answer>, SendError> {
    let mut request = Request::new(Whole::empty());
    *request.uri_mut() = upstream_uri(&route.path, route.place.query.as_deref(), &head.uri);
    *request.extensions_mut() = head.extensions.clone();
    *request.headers_mut() = headers::upstream_socket_headers(
        &head.headers,
        route.own.as_ref().or(route.place.credential.as_ref()),
        tracing(head),
    );
    let sent = pool
        .upgrade(&route.place.target, &route.place.egress, request)
        .await;
    if route.own.is_none() {
        note(&route.place, &sent);
    }
    sent
}

/// What the operator says of trace contexts, which `exchange` put beside the head; nothing is said where none may cross.
fn tracing(head: &request::Parts) -> Tracing {
    head.extensions.get().copied().unwrap_or_default()
}

/// Remembers how the place's key fared.
fn note(place: &Place, sent: &Result<Response<Answer>, SendError>) {
    let outcome = match sent {
        Ok(answer) => Outcome::of(answer.status(), answer.headers()),
        // The client's doing.
        Err(error) if error.kind() == SendErrorKind::Body => return,
        Err(_) => Outcome::Failed,
    };
    let (upstream, key) = (&place.name, place.key_id.map(|id| id.0));
    match place.health.note(outcome, health::now_ms()) {
        Change::Rests(rest) => {
            let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
            if outcome == Outcome::Ejected {
                error!(
                    upstream,
                    key, rest_ms, "upstream.key_refused: the upstream does not know this key"
                );
            } else {
                warn!(upstream, key, rest_ms, ?outcome, "upstream.key_rests");
            }
        }
        Change::Recovered => info!(upstream, key, "upstream.key_recovered"),
        Change::None => {}
    }
}

/// The path, and the query as it is, behind the place's own.
fn upstream_uri(path: &str, own: Option<&str>, uri: &Uri) -> Uri {
    let path = if path.is_empty() { "/" } else { path };
    let path_and_query = match (own, uri.query()) {
        (Some(own), Some(query)) => format!("{path}?{own}&{query}"),
        (None, Some(query)) | (Some(query), None) => format!("{path}?{query}"),
        (None, None) => path.to_owned(),
    };
    let path_and_query = PathAndQuery::try_from(path_and_query)
        .expect("a part of a path and a query are a path and a query");
    Uri::from(path_and_query)
}

/// Waits for the answer's head, unless the program must end first.
pub(super) async fn in_time(
    gateway: &Gateway,
    sending: impl Future<Output = Result<Response<Answer>, SendError>>,
) -> Result<Response<Answer>, Refusal> {
    let response = head_of(gateway, sending).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it, and nobody would meter what follows.
        warn!("upstream.switches: the upstream switches protocols unasked");
        return Err(Refusal::UpstreamUnreachable { sent: true });
    }
    Ok(response)
}

/// The same where another protocol was asked for.
pub(super) async fn head_of(
    gateway: &Gateway,
    sending: impl Future<Output = Result<Response<Answer>, SendError>>,
) -> Result<Response<Answer>, Refusal> {
    tokio::select! {
        sent = sending => sent.map_err(|error| unanswered(&error)),
        // It may have the request by now, and work on it: trying again would pay twice.
        () = gateway.hurry.cancelled() => Err(Refusal::UpstreamUnreachable { sent: true }),
    }
}

/// What to tell the client when the upstream gave no answer.
pub(super) fn unanswered(error: &SendError) -> Refusal {
    let sent = error.is_request_sent();
    if error.kind() == SendErrorKind::Body {
        return Refusal::ClientGone;
    }
    warn!(
        error = error as &dyn std::error::Error,
        sent, "upstream.no_answer"
    );
    if error.is_timeout() {
        Refusal::UpstreamTimeout { sent }
    } else {
        Refusal::UpstreamUnreachable { sent }
    }
}
