//! One exchange, from admission to settlement, in the order things happen.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, request, uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use ledger::{AccessToken, Catalog, Hold};
use meter::{AnswerMeter, Api, RequestFacts, Splice, UsageFrameFilter};
use proxy::{Answer, BoxError, Gate, Observed, Pool, SendError, SendErrorKind, headers};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::{
    admission,
    answer::{AtAnswer, Parts, Till},
    endpoint::{Endpoint, below_base, is_ambiguous},
    gateway::{Entry, Gateway, Worker},
    models,
    passing::Passing,
    places::{self, Place},
    reckon::Admitted,
    record::Record,
    refusal::Refusal,
    settings::{StreamUsage, UnknownPaths},
    upload::{self, Bounds, Flowing, Need, Replay, Said, Upload, Whole},
};

/// The body of whatever we answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

type Reply = Response<ReplyBody>;

/// The header that names the exchange, and so its charge, on every answer.
const EXCHANGE_HEADER: HeaderName = HeaderName::from_static("x-turnpike-exchange");

/// Bytes of text per token, where no tokenizer has counted: what English comes to.
const BYTES_PER_TOKEN: u64 = 4;

/// Runs one exchange. Never fails: what goes wrong is a refusal, or an answer that breaks off.
pub(crate) async fn exchange(
    worker: Worker,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let endpoint = Endpoint::find(request.method(), request.uri().path());
    let record = Record::start(
        Arc::clone(&worker.gateway.metrics),
        peer.ip(),
        request.method().clone(),
        endpoint,
    );
    let id = record.id;
    let mut exchange = Exchange {
        worker,
        peer,
        record: Some(record),
    };
    let mut reply = match exchange.serve(request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            exchange.refused(&refusal);
            refusal.response().map(own)
        }
    };
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    reply.headers_mut().insert(EXCHANGE_HEADER, id);
    reply
}

/// An exchange before its answer has come. From then on its record is with the answer.
struct Exchange {
    worker: Worker,
    peer: SocketAddr,
    record: Option<Record>,
}

/// Where a request goes, and as what.
struct Route {
    place: Arc<Place>,
    /// The access token's own key instead of the place's.
    own: Option<headers::Credential>,
}

impl Exchange {
    async fn serve(&mut self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let permit = gateway.enter()?;
        if is_ambiguous(request.uri().path()) {
            return Err(self.unknown_path(&request));
        }
        let now_ms = self.record().started_at_ms;
        let token =
            admission::authenticate(&gateway, request.headers(), self.peer.ip(), now_ms).await?;
        self.record().token = Some(token.prefix.clone());
        let endpoint = self.record().endpoint;
        if !token.allows_endpoint(endpoint.name()) {
            return Err(Refusal::EndpointNotAllowed);
        }
        let started = self.record().started;
        let entry = Entry::new(permit, gateway.limits.admit(&token, started)?);
        match endpoint {
            Endpoint::Metered(api) => self.metered(api, token, entry, request).await,
            Endpoint::Models => {
                Ok(self.answer_own(&models::list(&gateway.ledger.catalog(), &token, now_ms)))
            }
            Endpoint::Model => {
                let name = below_base(request.uri().path()).trim_start_matches("/models/");
                let model = models::one(&gateway.ledger.catalog(), &token, name, now_ms)?;
                Ok(self.answer_own(&model))
            }
            Endpoint::Free => self.unmetered(token, entry, request).await,
            Endpoint::Unknown if gateway.settings.unknown_paths == UnknownPaths::Forward => {
                self.unmetered(token, entry, request).await
            }
            Endpoint::Unknown => Err(self.unknown_path(&request)),
        }
    }

    /// An exchange that costs money. Nothing is spent before the hold, nothing is finished before the charge.
    async fn metered(
        &mut self,
        api: Api,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        admission::check_content(request.headers())?;
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let (head, body) = request.into_parts();

        // Read the request as it passes.
        let only = gateway.places.only(&catalog)?;
        let inject =
            gateway.settings.stream_usage == StreamUsage::Inject && reports_usage_on_request(api);
        let need = match &only {
            _ if inject => Need::Everything,
            Some(_) => Need::Nothing,
            None => Need::Model,
        };
        let bounds = Bounds {
            bytes_max: gateway.settings.body_bytes_max,
            buffer_bytes_max: gateway.settings.body_buffer_bytes_max,
        };
        let upload = upload::read(body, api, need, bounds).await?;
        let place = match (only, upload.model()) {
            (Some(place), _) => place,
            (None, Some(model)) => gateway.places.for_model(&catalog, model)?,
            (None, None) => return Err(admission::missing_model()),
        };
        let route = Route {
            own: own_credential(&token)?,
            place,
        };
        self.record().upstream = Some(route.place.name.clone());

        // The first gate: the last byte goes up once its cost is held.
        let pool = self.worker.pool.clone();
        let (sent, hold, admitted, injected) = match upload {
            Upload::Whole(Whole {
                frames,
                facts,
                sized,
            }) => {
                let splice = (inject && facts.stream)
                    .then(|| Splice::include_usage(&facts))
                    .flatten();
                let (hold, admitted) = self.admit(api, &token, catalog, &route, facts).await?;
                let counting = if splice.is_none() {
                    self.count_text(api, &admitted, frames.clone())
                } else {
                    None
                };
                let frames = match &splice {
                    Some(splice) => splice.apply(0, frames),
                    None => frames,
                };
                let sent = in_time(
                    &gateway,
                    send(
                        &pool,
                        &route,
                        &head,
                        Replay::new(frames, sized),
                        splice.is_some(),
                    ),
                )
                .await;
                (
                    sent,
                    hold,
                    counted(admitted, counting).await,
                    splice.is_some(),
                )
            }
            Upload::Flowing(flowing) => {
                let Flowing {
                    body,
                    mut said,
                    verdict,
                    ..
                } = *flowing;
                let mut sending = pin!(send(&pool, &route, &head, body, false));
                let Said { facts, text } = tokio::select! {
                    biased;
                    said = &mut said => said.unwrap_or(Err(Refusal::ClientGone))?,
                    early = &mut sending => return self.answered_early(early, entry),
                };
                let (hold, admitted) = self.admit(api, &token, catalog, &route, facts).await?;
                let counting = self.count_text(api, &admitted, text);
                // Nobody hears it if the connection has just broken; then `sending` says so.
                let _ = verdict.send(Gate::Open);
                (
                    in_time(&gateway, sending).await,
                    hold,
                    counted(admitted, counting).await,
                    false,
                )
            }
        };
        match sent {
            // The second gate is where the answer passes.
            Ok(response) => self.relay(api, response, hold, admitted, injected, entry),
            Err(refusal) => {
                hold.release();
                Err(refusal)
            }
        }
    }

    /// Prices the request and holds the most it can cost.
    async fn admit(
        &mut self,
        api: Api,
        token: &AccessToken,
        catalog: Arc<Catalog>,
        route: &Route,
        facts: RequestFacts,
    ) -> Result<(Hold, Admitted), Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let record = self.record();
        record.request_bytes = facts.body_bytes;
        let since = Instant::now();
        let model = admission::model(token, &facts)?;
        record.model = Some(model.clone());
        if gateway.settings.stream_usage == StreamUsage::Require && lacks_usage(api, &facts) {
            return Err(admission::usage_required());
        }
        let quote = admission::quote(&catalog, &model, record.started_at_ms)?;
        let hold = admission::hold(&gateway, token, record.id, api, &model, &facts, &quote).await?;
        record
            .metrics()
            .first_gate_seconds
            .observe(since.elapsed().as_secs_f64());
        let admitted = Admitted {
            catalog,
            quote,
            input_tokens_estimate: facts.body_bytes.div_ceil(BYTES_PER_TOKEN),
            facts,
            model,
            endpoint: record.endpoint.name(),
            started_at_ms: record.started_at_ms,
            upstream: route.place.id,
            upstream_key: route.place.key_id.filter(|_| route.own.is_none()),
        };
        Ok((hold, admitted))
    }

    /// Starts counting the request's text, away from the data plane, if its answer will not report usage.
    fn count_text(
        &self,
        api: Api,
        admitted: &Admitted,
        text: Vec<Bytes>,
    ) -> Option<JoinHandle<u64>> {
        let model = admitted.model.clone();
        lacks_usage(api, &admitted.facts).then(|| {
            self.worker
                .gateway
                .control
                .spawn_blocking(move || meter::request_text_tokens(api, &model, &text))
        })
    }

    /// Passes the answer on, metered if it is one that costs.
    fn relay(
        &mut self,
        api: Api,
        response: Response<Answer>,
        hold: Hold,
        admitted: Admitted,
        injected: bool,
        entry: Entry,
    ) -> Result<Reply, Refusal> {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            hold.release();
            error!(
                upstream = admitted.upstream.map(|id| id.0),
                status = status.as_u16(),
                "upstream.auth: the upstream refuses our key"
            );
            return Err(Refusal::UpstreamAuth);
        }
        if !status.is_success() {
            hold.release();
            return Ok(self.pass(response, "upstream_error", entry));
        }
        let (mut head, answer) = response.into_parts();
        let text = |name| {
            head.headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let meter = AnswerMeter::new(
            api,
            status.as_u16(),
            text(header::CONTENT_TYPE),
            text(header::CONTENT_ENCODING),
        );
        head.headers = headers::client_response_headers(&head.headers);
        if injected {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let filter = injected.then(UsageFrameFilter::new);
        let till = Till::new(Parts {
            meter,
            filter,
            hold,
            admitted,
            status,
            record: self.take_record(status),
            entry,
        });
        let observer = AtAnswer::new(till, self.worker.leave.clone());
        let body = if injected {
            Observed::resizing(answer, observer)
        } else {
            Observed::new(answer, observer)
        };
        Ok(Response::from_parts(
            head,
            body.map_err(Into::into).boxed_unsync(),
        ))
    }

    /// An exchange that costs nothing, or that nobody could meter and the operator lets through.
    async fn unmetered(
        &mut self,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let place = match gateway.places.only(&catalog)? {
            Some(place) => place,
            // Several upstreams, and no model that would choose: the first by priority.
            None => gateway.places.first(&catalog)?,
        };
        let route = Route {
            own: own_credential(&token)?,
            place,
        };
        self.record().upstream = Some(route.place.name.clone());
        let (head, body) = request.into_parts();
        let response = send(&self.worker.pool, &route, &head, body, false)
            .await
            .map_err(|error| unanswered(&error))?;
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Err(Refusal::UpstreamAuth);
        }
        Ok(self.pass(response, "complete", entry))
    }

    /// The upstream has answered before it had the request's last byte. Only an error can be meant: nothing was held.
    fn answered_early(
        &mut self,
        early: Result<Response<Answer>, SendError>,
        entry: Entry,
    ) -> Result<Reply, Refusal> {
        let response = early.map_err(|error| unanswered(&error))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::UpstreamAuth),
            status if status.is_client_error() || status.is_server_error() => {
                Ok(self.pass(response, "upstream_error", entry))
            }
            _ => Err(Refusal::UpstreamUnreachable { sent: false }),
        }
    }

    /// Passes an answer on that costs nothing.
    fn pass(&mut self, response: Response<Answer>, end: &'static str, entry: Entry) -> Reply {
        let (mut head, answer) = response.into_parts();
        head.headers = headers::client_response_headers(&head.headers);
        let mut record = self.take_record(head.status);
        record.end = end;
        let body = Observed::new(answer, Passing::new(record, entry));
        Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
    }

    /// An answer of our own that is no refusal.
    fn answer_own(&mut self, body: &serde_json::Value) -> Reply {
        let mut response = Response::new(Bytes::from(body.to_string()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let mut record = self.take_record(StatusCode::OK);
        record.end = "complete";
        response.map(own)
    }

    fn unknown_path(&self, request: &Request<Incoming>) -> Refusal {
        Refusal::UnknownPath {
            target: format!("{} {}", request.method(), request.uri().path()),
        }
    }

    /// Notes the refusal, unless the record has gone with an answer.
    fn refused(&mut self, refusal: &Refusal) {
        if let Some(record) = &mut self.record {
            record.refused(refusal);
        }
    }

    fn record(&mut self) -> &mut Record {
        self.record
            .as_mut()
            .expect("the record stays until an answer takes it, and nothing follows that")
    }

    fn take_record(&mut self, status: StatusCode) -> Record {
        let mut record = self
            .record
            .take()
            .expect("only one answer takes the record");
        record.status = Some(status);
        record
    }
}

/// Sends a request up: the client's method, path, query, headers and body, with our credential.
async fn send<B>(
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
    *request.uri_mut() = upstream_uri(&head.uri);
    // The case of header names is kept here by hyper.
    *request.extensions_mut() = head.extensions.clone();
    *request.headers_mut() = headers::upstream_request_headers(
        &head.headers,
        route.own.as_ref().or(route.place.credential.as_ref()),
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
    pool.send(&route.place.target, &route.place.egress, request)
        .await
}

/// The path below our base, and the query as it is.
fn upstream_uri(uri: &Uri) -> Uri {
    let path = below_base(uri.path());
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path_and_query = PathAndQuery::try_from(path_and_query)
        .expect("a part of a path and a query are a path and a query");
    Uri::from(path_and_query)
}

/// Whether an API's streams report usage only on request.
const fn reports_usage_on_request(api: Api) -> bool {
    matches!(api, Api::ChatCompletions | Api::Completions)
}

/// Whether the answer will come without usage because the request did not ask for it.
fn lacks_usage(api: Api, facts: &RequestFacts) -> bool {
    reports_usage_on_request(api) && facts.stream && facts.include_usage != Some(true)
}

/// The key that this access token's requests go up with, if it has one of its own.
fn own_credential(token: &AccessToken) -> Result<Option<headers::Credential>, Refusal> {
    token
        .upstream_key
        .as_ref()
        .map(places::credential)
        .transpose()
        .map_err(|error| {
            error!(token = token.prefix, "token.upstream_key_unusable: {error}");
            Refusal::Unavailable {
                reason: "the access token's own provider key is not set up properly",
            }
        })
}

/// Waits for the count of the request's text; it is long done when the answer's head comes.
async fn counted(mut admitted: Admitted, counting: Option<JoinHandle<u64>>) -> Admitted {
    if let Some(counting) = counting {
        match counting.await {
            Ok(tokens) => admitted.input_tokens_estimate = tokens,
            Err(error) => error!(%error, "estimate.failed: the request's text is counted by bytes"),
        }
    }
    admitted
}

/// Waits for the answer's head, unless the program must end first.
async fn in_time(
    gateway: &Gateway,
    sending: impl Future<Output = Result<Response<Answer>, SendError>>,
) -> Result<Response<Answer>, Refusal> {
    tokio::select! {
        sent = sending => sent.map_err(|error| unanswered(&error)),
        () = gateway.hurry.cancelled() => Err(Refusal::Unavailable { reason: "it is shutting down" }),
    }
}

/// What to tell the client when the upstream gave no answer.
fn unanswered(error: &SendError) -> Refusal {
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

fn own(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}
