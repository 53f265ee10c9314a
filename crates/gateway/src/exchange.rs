//! One exchange, from admission to settlement, in the order things happen.

mod forward;
mod hush;
pub(crate) mod objects;
mod relay;
mod shelf;
mod socket;
mod work;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::combinators::UnsyncBoxBody;
use ledger::{AccessToken, Catalog, Evidence, Hold, Standing};
use meter::{Api, RequestFacts, Splice};
use percent_encoding::percent_decode_str;
use proxy::{Answer, BoxError, Gate, SendError, headers::Tracing};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{error, warn};

use crate::{
    admission, billing,
    body::RequestBody,
    counting::{Counted, Counting},
    endpoint::{BoundBy, Does, Endpoint, Metered, is_ambiguous, resembles_metered},
    gateway::Entry,
    limits, models,
    reckon::Admitted,
    record::Record,
    refusal::{Refusal, Shape},
    settings::{StreamUsage, UnknownPaths},
    sound::SOUND_BYTES_MAX,
    through::Through,
    upload::{self, Bounds, Flowing, Need, Replay, Said, Upload, Whole},
    worker::Worker,
};

use self::forward::Route;
pub(crate) use self::relay::own;

/// The body of whatever we answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

type Reply = Response<ReplyBody>;

/// The header that names the exchange, and so its charge, on every answer.
pub(crate) const EXCHANGE_HEADER: HeaderName = HeaderName::from_static("x-turnpike-exchange");

/// How often a request that got no connection moves on to another upstream.
const MOVES_MAX: usize = 2;

/// Bytes of text per token, where no tokenizer has counted: what English comes to.
const BYTES_PER_TOKEN: u64 = 4;

/// Runs one exchange, a client's own or one that came through a front door. Never fails: what goes wrong is a refusal, or an answer that breaks off.
pub(crate) async fn exchange(
    worker: Worker,
    peer: SocketAddr,
    mut request: Request<RequestBody>,
    through: Option<Through>,
) -> Reply {
    if worker.gateway.passes_traces {
        request.extensions_mut().insert(Tracing::Crosses);
    }
    let path = request.uri().path().to_owned();
    let endpoint = Endpoint::find(request.method(), &path);
    let mut record = Record::start(
        Arc::clone(&worker.gateway.metrics),
        peer.ip(),
        request.method().clone(),
        endpoint.name(),
    );
    record.door = through.as_ref().map(|through| through.door);
    record.trace = worker.gateway.trace(request.headers());
    let id = record.id;
    let mut exchange = Exchange {
        worker,
        peer,
        through,
        record: Some(record),
        standing: Standing::default(),
    };
    let mut reply = match exchange.serve(&endpoint, request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            exchange.refused(&refusal);
            let shape = if endpoint.is_anthropic() {
                Shape::Anthropic
            } else {
                Shape::OpenAi
            };
            refusal.response(shape).map(relay::own)
        }
    };
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    reply.headers_mut().insert(EXCHANGE_HEADER, id);
    limits::tell(reply.headers_mut(), &exchange.standing);
    reply
}

/// An exchange before its answer has come. From then on its record is with the answer.
struct Exchange {
    worker: Worker,
    peer: SocketAddr,
    /// Set where a front door knows whose exchange it is.
    through: Option<Through>,
    record: Option<Record>,
    /// How the access token stands in its limits.
    standing: Standing,
}

/// What a metered request asks for, and where it goes.
struct Asked {
    metered: Metered,
    /// The deployment that its path names.
    deployment: Option<String>,
    token: Arc<AccessToken>,
    catalog: Arc<Catalog>,
    route: Route,
    head: request::Parts,
    /// By when its last byte must have come.
    deadline: Instant,
    /// Allows keeping its recording until its length is read.
    sound: Option<OwnedSemaphorePermit>,
    /// What it names is kept where it goes, and nowhere else.
    is_pinned: bool,
}

/// A request that went up, its last byte after its hold, and the head of its answer.
struct WentUp {
    api: Api,
    response: Response<Answer>,
    hold: Hold,
    admitted: Admitted,
    /// Usage was asked for in the client's name.
    injected: bool,
}

impl WentUp {
    /// Waits for the count of the request's text, which is long done when the answer's head comes. Without an answer
    /// the hold goes back.
    async fn new(
        api: Api,
        sent: Result<Response<Answer>, Refusal>,
        hold: Hold,
        mut admitted: Admitted,
        counting: Option<Counting>,
        injected: bool,
    ) -> Result<Self, Refusal> {
        let response = match sent {
            Ok(response) => response,
            Err(refusal) => {
                hold.release();
                return Err(refusal);
            }
        };
        if let Some(counting) = counting {
            match counting.finish().await {
                Ok(Counted::Tokens(tokens)) => admitted.input_tokens_estimate = tokens,
                Ok(Counted::Millis(ms)) => admitted.file_ms = ms,
                Err(error) => {
                    error!(%error, "estimate.failed: the request is counted by bytes");
                }
            }
        }
        Ok(Self {
            api,
            response,
            hold,
            admitted,
            injected,
        })
    }
}

/// What answered before it had the request's last byte.
type Early = Result<Response<Answer>, SendError>;

impl Exchange {
    async fn serve(
        &mut self,
        endpoint: &Endpoint<'_>,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let permit = gateway.enter()?;
        if *request.method() == Method::CONNECT || is_ambiguous(request.uri().path()) {
            return Err(self.unknown_path(&request));
        }
        admission::framing(request.headers())?;
        let peer = gateway
            .limits
            .admit_peer(&gateway.ledger, self.peer.ip())
            .await?;
        let now_ms = self.record().started_at_ms;
        let digest = match &self.through {
            Some(through) => through.digest,
            None => admission::digest(request.headers())?,
        };
        let token = admission::authenticate(&gateway, digest, self.peer.ip(), now_ms).await?;
        self.record().token = Some(token.prefix.clone());
        if !token.allows_endpoint(endpoint.name()) {
            return Err(Refusal::EndpointNotAllowed);
        }
        let admitted;
        (admitted, self.standing) = limits::admit_token(&gateway.ledger, &token).await;
        let entry = Entry::new(permit, peer, admitted?);
        let may_forward = gateway.settings.unknown_paths == UnknownPaths::Forward
            && !resembles_metered(request.method(), request.uri().path());
        match endpoint.does() {
            Some(Does::Metered(metered)) => {
                self.metered(endpoint, metered, token, entry, request).await
            }
            Some(Does::Free) => self.unmetered(endpoint, token, entry, request).await,
            Some(Does::Models) => {
                let catalog = gateway.ledger.catalog();
                let answer = match endpoint.described {
                    Some(name) => models::one(&catalog, &token, name, now_ms)?,
                    None => models::list(&catalog, &token, now_ms),
                };
                Ok(self.answer_own(answer.to_string()))
            }
            Some(Does::Billing(asked)) => {
                let query = request.uri().query();
                let now_s = now_ms.div_euclid(1000);
                let answer = billing::answer(asked, &gateway.ledger, &token, query, now_s).await?;
                Ok(self.answer_own(answer))
            }
            Some(Does::Socket(speech)) => {
                Box::pin(self.socket(endpoint, speech, token, entry, request)).await
            }
            Some(Does::Unmetered) if gateway.settings.allow_unmetered_realtime.is_on() => {
                warn!(
                    token = token.prefix,
                    target = target(&request),
                    "realtime.unmetered: it spends where nobody meters"
                );
                self.unmetered(endpoint, token, entry, request).await
            }
            Some(Does::Refused | Does::Unmetered) => Err(Refusal::NotOffered {
                target: target(&request),
            }),
            Some(Does::Work(work)) => {
                // Boxed: the rarer way must not make every exchange's task as large as itself.
                Box::pin(self.work(endpoint, work, token, entry, request)).await
            }
            Some(Does::Kept(act)) if shelf::is_here(endpoint, act) => {
                Box::pin(self.shelf(endpoint, act, token, entry, request)).await
            }
            Some(Does::Kept(act)) => {
                Box::pin(self.kept(act, endpoint, token, entry, request)).await
            }
            None if may_forward => self.unmetered(endpoint, token, entry, request).await,
            None => Err(self.unknown_path(&request)),
        }
    }

    /// An exchange that costs money. Nothing is spent before the hold, nothing is finished before the charge.
    async fn metered(
        &mut self,
        endpoint: &Endpoint<'_>,
        metered: Metered,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        let scanner = admission::scanner(request.headers(), &metered)?;
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let of_path = objects::of_path(&gateway, &token, endpoint).await?;
        let (head, body) = request.into_parts();

        // Read the request as it passes.
        let home = objects::home(&gateway, &catalog, &of_path)?;
        let is_pinned = home.is_some();
        let only = match home {
            Some(place) => Some(place),
            None => gateway.places.only(&catalog)?,
        };
        let inject =
            gateway.settings.stream_usage == StreamUsage::Inject && metered.usage_on_request;
        let deployment = endpoint.deployment.map(decoded);
        let need = match (&only, &deployment) {
            _ if inject => Need::Everything,
            (Some(_), _) | (None, Some(_)) => Need::Nothing,
            (None, None) => Need::Model,
        };
        let patience = Duration::from_secs(gateway.settings.upload_seconds.get());
        let deadline = Instant::now() + patience;
        let mut bounds = Bounds::of(&gateway.settings);
        let sound = (metered.bound == BoundBy::Time)
            .then(|| Arc::clone(&gateway.sounds).try_acquire_owned().ok())
            .flatten();
        if sound.is_some() {
            bounds.kept_bytes_max = SOUND_BYTES_MAX;
        }
        let upload = upload::read(body, scanner, need, bounds);
        let upload = timeout_at(deadline, upload)
            .await
            .unwrap_or(Err(Refusal::UploadTimeout))?;
        let is_only = only.is_some();
        let place = match (only, deployment.as_deref().or(upload.model())) {
            (Some(place), _) => place,
            (None, Some(model)) => gateway.places.for_model(&catalog, model)?,
            (None, None) => return Err(admission::missing_model()),
        };
        let shown = self.through.as_ref().and_then(Through::upstream_key);
        let route = Route::new(place, is_only, &token, endpoint, shown)?;
        self.record().upstream = Some(route.place.name.clone());

        // The first gate: the last byte goes up once its cost is held.
        let asked = Asked {
            metered,
            deployment,
            token,
            catalog,
            route,
            head,
            deadline,
            sound,
            is_pinned,
        };
        let went_up = match upload {
            Upload::Whole(whole) => self.send_whole(asked, *whole, inject).await?,
            // Boxed: the rarer way must not make every exchange's task as large as itself.
            Upload::Flowing(flowing) => match Box::pin(self.send_flowing(asked, *flowing)).await? {
                Ok(went_up) => went_up,
                Err(early) => return self.answered_early(early, entry).await,
            },
        };
        // The second gate is where the answer passes.
        self.relay(went_up, entry).await
    }

    /// Admits a body that is all here, then sends it.
    async fn send_whole(
        &mut self,
        mut asked: Asked,
        whole: Whole,
        inject: bool,
    ) -> Result<WentUp, Refusal> {
        let sound = asked.sound.take();
        let Whole {
            frames,
            facts,
            sized,
        } = whole;
        let splice = (inject && facts.stream)
            .then(|| Splice::include_usage(&facts))
            .flatten();
        self.follow_objects(&mut asked, &facts, true).await?;
        let (hold, mut admitted) = self.admit(&asked, facts).await?;
        let (counting, frames) = match &splice {
            Some(splice) => (None, splice.apply(0, frames)),
            None => (self.count(&asked, &admitted, &frames, sound), frames),
        };
        let injected = splice.is_some();
        let sent = self
            .send_or_move(&mut asked, &mut admitted, frames, sized, injected)
            .await;
        WentUp::new(asked.metered.api, sent, hold, admitted, counting, injected).await
    }

    /// Sends a body that is all here. Where no connection comes about, nobody has any of it: then it moves on to another upstream of the model,
    /// as often as there are others and [`MOVES_MAX`] allows. After the last byte it never moves.
    async fn send_or_move(
        &mut self,
        asked: &mut Asked,
        admitted: &mut Admitted,
        frames: Vec<Bytes>,
        sized: bool,
        injected: bool,
    ) -> Result<Response<Answer>, Refusal> {
        let (pool, gateway) = (self.worker.pool.clone(), Arc::clone(&self.worker.gateway));
        let mut tried = vec![asked.route.place.id];
        loop {
            let body = Replay::new(frames.clone(), sized);
            let sending = forward::send(&pool, &asked.route, &asked.head, body, injected);
            let sent = forward::in_time(&gateway, sending).await;
            let Err(refusal) = &sent else { return sent };
            if !refusal.is_unsent() || tried.len() > MOVES_MAX || asked.is_pinned {
                return sent;
            }
            let (catalog, dialect) = (&asked.catalog, asked.route.place.dialect);
            let instead = gateway
                .places
                .instead_of(catalog, &admitted.model, &tried, dialect);
            let Some(place) = instead else { return sent };
            tried.push(place.id);
            self.record().upstream = Some(place.name.clone());
            (admitted.upstream, admitted.upstream_key) = (place.id, place.key_id);
            admitted.cost = place.cost;
            asked.route = asked.route.to(place);
        }
    }

    /// Sends a body that is still coming, and admits it before its last byte goes. The inner error is an answer
    /// that came before that.
    async fn send_flowing(
        &mut self,
        mut asked: Asked,
        flowing: Flowing,
    ) -> Result<Result<WentUp, Early>, Refusal> {
        let sound = asked.sound.take();
        let Flowing {
            body,
            mut said,
            verdict,
            ..
        } = flowing;
        let (pool, gateway) = (self.worker.pool.clone(), Arc::clone(&self.worker.gateway));
        let (route, head) = (asked.route.clone(), asked.head.clone());
        let mut sending = pin!(forward::send(&pool, &route, &head, body, false));
        let Said { facts, text } = tokio::select! {
            biased;
            said = &mut said => said.unwrap_or(Err(Refusal::ClientGone))?,
            early = &mut sending => return Ok(Err(early)),
            () = sleep_until(asked.deadline) => return Err(Refusal::UploadTimeout),
        };
        self.follow_objects(&mut asked, &facts, false).await?;
        let (hold, admitted) = self.admit(&asked, facts).await?;
        let counting = self.count(&asked, &admitted, &text, sound);
        drop(text);
        // Nobody hears it if the connection has just broken; then `sending` says so.
        let _ = verdict.send(Gate::Open);
        let sent = forward::in_time(&gateway, sending).await;
        WentUp::new(asked.metered.api, sent, hold, admitted, counting, false)
            .await
            .map(Ok)
    }

    /// Prices the request and holds the most it can cost.
    async fn admit(
        &mut self,
        asked: &Asked,
        mut facts: RequestFacts,
    ) -> Result<(Hold, Admitted), Refusal> {
        let Asked {
            metered,
            deployment,
            token,
            catalog,
            route,
            ..
        } = asked;
        let gateway = Arc::clone(&self.worker.gateway);
        let record = self.record();
        record.request_bytes = facts.body_bytes;
        let since = Instant::now();
        if let Some(deployment) = deployment {
            // What the body says beside it, no upstream reads.
            facts.model = Some(deployment.clone());
        }
        let model = admission::model(token, metered.api, &facts)?;
        record.model = Some(model.clone());
        if lacks_usage(metered, &facts) {
            match gateway.settings.stream_usage {
                StreamUsage::Require => return Err(admission::usage_required()),
                // An image's tokens cannot be counted here: left uncounted they would be free for the asking.
                StreamUsage::Estimate if facts.refers_outside => {
                    return Err(admission::usage_not_countable());
                }
                StreamUsage::Estimate | StreamUsage::Inject => {}
            }
        }
        if facts.background && route.own.is_some() {
            return Err(admission::own_key_in_background());
        }
        let quote = admission::quote(catalog, &model, record.started_at_ms)?;
        let (input_rate, output_rate) = quote.text_rates();
        let upstream_key = route.place.key_id.filter(|_| route.own.is_none());
        let evidence = Evidence {
            model: model.clone(),
            endpoint: record.endpoint.into(),
            price: quote.default_price(),
            input_rate,
            output_rate,
            input_tokens: facts.body_bytes.div_ceil(BYTES_PER_TOKEN),
            whole: false,
            stream: facts.stream,
            started_at_ms: record.started_at_ms,
            upstream: route.place.id,
            upstream_key,
        };
        let hold = admission::hold(
            &gateway, token, record.id, metered, &facts, &quote, evidence,
        )
        .await?;
        record
            .metrics()
            .first_gate_seconds
            .observe(since.elapsed().as_secs_f64());
        record.step("hold", since.into_std());
        let keeps = objects::keeps(metered, token, &facts);
        let admitted = Admitted {
            api: metered.api,
            catalog: Arc::clone(catalog),
            quote,
            input_tokens_estimate: facts.body_bytes.div_ceil(BYTES_PER_TOKEN),
            facts,
            model,
            endpoint: record.endpoint,
            file_ms: None,
            started_at_ms: record.started_at_ms,
            cost: route.place.cost,
            upstream: route.place.id,
            upstream_key,
            keeps,
        };
        Ok((hold, admitted))
    }

    /// Starts counting what the answer will not report, away from the data plane.
    fn count(
        &self,
        asked: &Asked,
        admitted: &Admitted,
        frames: &[Bytes],
        sound: Option<OwnedSemaphorePermit>,
    ) -> Option<Counting> {
        let api = asked.metered.api;
        let (control, facts) = (&self.worker.gateway.control, &admitted.facts);
        if lacks_usage(&asked.metered, facts) || api == Api::Speech {
            return Some(Counting::tokens(
                control,
                api,
                &admitted.model,
                facts,
                frames,
            ));
        }
        if api == Api::Transcriptions && !tells_time(facts) {
            return Counting::millis(control, facts, frames, sound?);
        }
        None
    }

    fn unknown_path(&self, request: &Request<RequestBody>) -> Refusal {
        Refusal::UnknownPath {
            target: target(request),
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
        record.headed();
        record
    }
}

/// Whether a transcript in this format says how long the recording was. Only OpenAI's newer models say it in plain `json`.
fn tells_time(facts: &RequestFacts) -> bool {
    matches!(
        facts.response_format.as_deref(),
        Some("verbose_json" | "diarized_json")
    )
}

/// A request's method and path, for its refusal.
fn target(request: &Request<RequestBody>) -> String {
    format!("{} {}", request.method(), request.uri().path())
}

/// A segment of a path, as the name that it is.
fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// Whether the answer will come without usage because the request did not ask for it.
fn lacks_usage(metered: &Metered, facts: &RequestFacts) -> bool {
    metered.usage_on_request && facts.stream && facts.include_usage != Some(true)
}
