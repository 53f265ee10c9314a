//! Requests for work that goes on after them, and the files that it is made of.
//!
//! A job's answer is small and read whole: its id must be noted, and what is held for it parked, before the client hears of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request};
use ledger::{
    AccessToken, Catalog, Charge, Dialect, End, Evidence, Hold, Mark, NewJob, NewObject, Object,
};
use meter::{
    Api, BatchRequest, JobFault, JobReport, RequestFacts, TuningRequest, batch_api, message_batch,
    seconds_ms,
};
use proxy::{Gate, headers};
use tariff::{Buckets, Flags};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::{
    Exchange, Reply,
    forward::{self, Route},
    relay::own,
};
use crate::{
    admission,
    body::RequestBody,
    endpoint::{BodyKind, BoundBy, Endpoint, Kind, Metered, Work},
    gateway::Entry,
    places::Place,
    refusal::Refusal,
    upload::{self, Bounds, Need, Replay, Upload},
    work::{self, Bounded, FileFacts, JobFacts},
};

/// How long a video is, and how large, unless its request says (OpenAI's own).
const VIDEO_MS_USUAL: u64 = 4_000;
const VIDEO_SIZE_USUAL: &str = "720x1280";
/// When a job is first asked about.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// When a job is settled by what is known: batches run for a day, and training not for weeks.
const DEADLINE: Duration = Duration::from_secs(7 * 86_400);

/// What is begun: what it may cost, where, and what its settlement needs.
struct Begun {
    kind: Kind,
    /// `None`: it costs nothing.
    bounded: Option<Bounded>,
    facts: JobFacts,
    place: Arc<Place>,
    parent: Option<String>,
}

/// What begins it.
struct Asking {
    token: Arc<AccessToken>,
    catalog: Arc<Catalog>,
    head: request::Parts,
    frames: Vec<Bytes>,
    sized: bool,
    facts: RequestFacts,
}

impl Exchange {
    /// An upload, or a request for work that goes on after it.
    pub(super) async fn work(
        &mut self,
        endpoint: &Endpoint<'_>,
        work: Work,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        if token.upstream_key.is_some() {
            // Nobody could ask with that key how it ends.
            return Err(Refusal::NotOffered {
                target: super::target(&request),
            });
        }
        let (api, body) = match work {
            Work::File => return self.file(endpoint, &token, entry, request).await,
            Work::Video => (Api::Videos, BodyKind::Either),
            Work::Upload | Work::Batch | Work::MessageBatch | Work::Remix | Work::Tuning => {
                (Api::Batches, BodyKind::Json)
            }
        };
        let scanner = admission::scanner(request.headers(), &reads(api, body))?;
        let gateway = Arc::clone(&self.worker.gateway);
        let (head, body) = request.into_parts();
        let reading = upload::read(
            body,
            scanner,
            Need::Everything,
            Bounds::of(&gateway.settings),
        );
        let upload = timeout_at(self.upload_deadline(), reading)
            .await
            .unwrap_or(Err(Refusal::UploadTimeout))?;
        let Upload::Whole(whole) = upload else {
            return Err(Refusal::ClientGone);
        };
        self.record().request_bytes = whole.facts.body_bytes;
        let asking = Asking {
            catalog: gateway.ledger.catalog(),
            token,
            head,
            frames: whole.frames,
            sized: whole.sized,
            facts: whole.facts,
        };
        let begun = self.bound(endpoint, work, &asking).await?;
        self.begin(endpoint, begun, asking, entry).await
    }

    fn upload_deadline(&self) -> Instant {
        let patience = self.worker.gateway.settings.upload_seconds.get();
        Instant::now() + Duration::from_secs(patience)
    }

    /// What is asked for, and what it may cost.
    async fn bound(
        &mut self,
        endpoint: &Endpoint<'_>,
        work: Work,
        asking: &Asking,
    ) -> Result<Begun, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let at_ms = self.record().started_at_ms;
        let (catalog, token) = (&*asking.catalog, &*asking.token);
        let body = asking.frames.concat();
        let begun = |kind, bounded: Option<Bounded>, place, facts: JobFacts| {
            let price = bounded.as_ref().map(|it| it.quote.default_price().0);
            Begun {
                kind,
                facts: JobFacts {
                    price: price.unwrap_or_default(),
                    ..facts
                },
                bounded,
                place,
                parent: None,
            }
        };
        let video = |model: String, ms: u64, size: Option<String>| {
            let facts = JobFacts {
                video_ms: ms,
                size: size.clone(),
                ..JobFacts::default()
            };
            work::of_video(model, ms, size, (catalog, token), at_ms).map(|it| (it, facts))
        };
        Ok(match work {
            Work::File | Work::Upload => {
                let place = gateway.places.first_of(catalog, Dialect::OpenAi)?;
                begun(Kind::Upload, None, place, JobFacts::default())
            }
            Work::Batch => {
                let asked = BatchRequest::read(&body).map_err(refuse)?;
                let file = self.owned(token, Kind::File, &asked.input_file, "input_file_id");
                let (object, file) = file.await?;
                let place = gateway
                    .places
                    .home(catalog, object.upstream, object.upstream_key)?;
                let asks = file.batch.ok_or_else(|| {
                    invalid("input_file_id", "The file was not uploaded here in one piece with the purpose \"batch\", so what its requests may cost is not known: upload it so.", "unfit_for_batch")
                })?;
                let settings = (catalog, token, &gateway.settings);
                let named = batch_api(&asked.endpoint);
                let is_free = matches!(named, Some((_, None)));
                let all_free = asks
                    .groups
                    .iter()
                    .all(|it| Some((&*it.endpoint, None)) == named);
                if is_free && all_free && asks.fault.is_none() {
                    return Ok(begun(Kind::Batch, None, place, JobFacts::default()));
                }
                let (bounded, group) = work::of_batch(&asks, "input_file_id", settings, at_ms)?;
                if named.map(|(path, _)| path) != Some(&*group.endpoint) {
                    return Err(invalid(
                        "endpoint",
                        "'endpoint' must be the one that the requests in the file name.",
                        "unfit_for_batch",
                    ));
                }
                let facts = JobFacts {
                    endpoint: Some(group.endpoint),
                    lines: group.lines,
                    body_bytes: group.body_bytes,
                    ..JobFacts::default()
                };
                begun(Kind::Batch, Some(bounded), place, facts)
            }
            Work::MessageBatch => {
                let asks = message_batch(&body).map_err(refuse)?;
                let settings = (catalog, token, &gateway.settings);
                let (bounded, group) = work::of_batch(&asks, "requests", settings, at_ms)?;
                let place = gateway.places.for_model(catalog, &bounded.model)?;
                let facts = JobFacts {
                    lines: group.lines,
                    body_bytes: group.body_bytes,
                    ..JobFacts::default()
                };
                begun(Kind::MessageBatch, Some(bounded), place, facts)
            }
            Work::Video => {
                let facts = &asking.facts;
                for named in &facts.named {
                    self.owned(token, Kind::File, &named.id, "input_reference")
                        .await?;
                }
                let model = facts.model.clone().ok_or_else(admission::missing_model)?;
                let ms = match &facts.seconds {
                    None => Some(VIDEO_MS_USUAL),
                    Some(seconds) => seconds_ms(seconds),
                };
                let ms = ms.ok_or_else(|| {
                    invalid(
                        "seconds",
                        "'seconds' must be a whole number of seconds, written as a string.",
                        "invalid_type",
                    )
                })?;
                let size = facts
                    .size
                    .clone()
                    .unwrap_or_else(|| VIDEO_SIZE_USUAL.into());
                let place = gateway.places.for_model(catalog, &model)?;
                let (bounded, facts) = video(model, ms, Some(size))?;
                begun(Kind::Video, Some(bounded), place, facts)
            }
            Work::Remix => {
                let id = endpoint
                    .objects()
                    .last()
                    .map(|(_, id)| id)
                    .unwrap_or_default();
                let (object, _) = self.owned(token, Kind::Video, id, None).await?;
                let place = gateway
                    .places
                    .home(catalog, object.upstream, object.upstream_key)?;
                let parent = work::object(&self.worker.pool, &place, Kind::Video.name(), id).await;
                let parent = parent.map_err(|error| {
                    error!(%error, "video.parent_unknown");
                    Refusal::UpstreamUnreachable { sent: false }
                })?;
                let model = parent.model.or_else(|| object.model.clone());
                let model = model.ok_or_else(admission::missing_model)?;
                let ms = parent.video_ms.unwrap_or(VIDEO_MS_USUAL);
                let (bounded, facts) = video(model, ms, parent.size)?;
                Begun {
                    parent: Some(id.to_owned()),
                    ..begun(Kind::Video, Some(bounded), place, facts)
                }
            }
            Work::Tuning => {
                let asked = TuningRequest::read(&body).map_err(refuse)?;
                let file = self.owned(token, Kind::File, &asked.training_file, "training_file");
                let (object, file) = file.await?;
                if let Some(id) = &asked.validation_file {
                    self.owned(token, Kind::File, id, "validation_file").await?;
                }
                if file.bytes == 0 {
                    return Err(invalid(
                        "training_file",
                        "The file was not uploaded here in one piece, so what training may cost is not known: upload it so.",
                        "unfit_for_training",
                    ));
                }
                let place = gateway
                    .places
                    .home(catalog, object.upstream, object.upstream_key)?;
                let bounded = work::of_training(
                    asked.model,
                    file.bytes,
                    asked.epochs,
                    (catalog, token),
                    at_ms,
                )?;
                begun(Kind::TuningJob, Some(bounded), place, JobFacts::default())
            }
        })
    }

    /// Holds, sends, and parks what was begun before the client hears of it.
    async fn begin(
        &mut self,
        endpoint: &Endpoint<'_>,
        begun: Begun,
        asking: Asking,
        entry: Entry,
    ) -> Result<Reply, Refusal> {
        let Asking {
            token,
            head,
            frames,
            sized,
            ..
        } = asking;
        let gateway = Arc::clone(&self.worker.gateway);
        let place = Arc::clone(&begun.place);
        let route = Route::new(Arc::clone(&place), true, &token, endpoint, None)?;
        self.record().upstream = Some(place.name.clone());
        let model = begun.bounded.as_ref().map(|it| it.model.clone());
        self.record().model.clone_from(&model);
        let hold = match &begun.bounded {
            Some(bounded) => Some(self.hold_for(&token, bounded, &place).await?),
            None => None,
        };
        let body = Replay::new(frames, sized);
        let sending = forward::send(&self.worker.pool, &route, &head, body, true);
        let response = match forward::in_time(&gateway, sending).await {
            Ok(response) => response,
            Err(refusal) => {
                if let Some(hold) = hold {
                    hold.release();
                }
                return Err(refusal);
            }
        };
        let status = response.status();
        if !status.is_success() {
            if let Some(hold) = hold {
                hold.release();
            }
            return match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::UpstreamAuth),
                _ => self.pass_error(response, entry).await,
            };
        }
        let (head, answer) = response.into_parts();
        let answer = work::read_small(answer).await;
        let report = answer.as_ref().ok().and_then(|json| JobReport::read(json));
        let started = self.record().started_at_ms;
        match (report, hold) {
            (Some(report), hold) => {
                let object = NewObject {
                    id: report.id.clone(),
                    kind: begun.kind.name().into(),
                    account: token.account,
                    token: token.id,
                    upstream: place.id,
                    upstream_key: place.key_id,
                    model,
                    parent: begun.parent,
                    facts: None,
                    kept: None,
                };
                let kept = match hold {
                    Some(hold) => {
                        let job = NewJob {
                            kind: begun.kind.name().into(),
                            object_id: report.id,
                            facts: serde_json::json!(begun.facts).to_string(),
                            poll_after: FIRST_LOOK,
                            deadline_after: DEADLINE,
                            object: Some(Box::new(object)),
                        };
                        gateway.ledger.park(hold, job).await
                    }
                    None => gateway.ledger.record_objects(&[object]).await,
                };
                kept.map_err(|error| {
                    error!(%error, "job.not_noted: it goes on at the provider, and its client does not know its id");
                    Refusal::Unavailable {
                        reason: "its database does not answer",
                    }
                })?;
            }
            // It may go on at the provider, where nobody can ask for it: the bound is the one figure that is not too small.
            (None, Some(hold)) => {
                error!(
                    "job.without_id: the answer to a request for a job is no job's object; charging its bound"
                );
                if let Some(bounded) = &begun.bounded {
                    let charge = unknown(bounded, &hold, &place, self.record().endpoint, started);
                    hold.settle(charge)
                        .await
                        .map_err(|_| Refusal::Unavailable {
                            reason: "its database does not answer",
                        })?;
                }
            }
            (None, None) => {}
        }
        let answer = answer.map_err(|error| {
            error!(error, "job.answer_unread");
            Refusal::UpstreamUnreachable { sent: true }
        })?;
        Ok(self.answer_whole(head, answer.into(), entry))
    }

    async fn hold_for(
        &mut self,
        token: &AccessToken,
        bounded: &Bounded,
        place: &Place,
    ) -> Result<Hold, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let record = self.record();
        let (input_rate, output_rate) = bounded.quote.text_rates();
        let evidence = Evidence {
            model: bounded.model.clone(),
            endpoint: record.endpoint.into(),
            price: bounded.quote.default_price(),
            input_rate,
            output_rate,
            input_tokens: bounded.input_tokens,
            // The provider goes on without this process.
            whole: true,
            stream: false,
            started_at_ms: record.started_at_ms,
            upstream: place.id,
            upstream_key: place.key_id,
        };
        let nothing_fits = |_| None;
        admission::take(
            &gateway,
            token,
            record.id,
            &bounded.bound,
            evidence,
            None,
            nothing_fits,
        )
        .await
    }

    /// A file on its way up: read as it passes, whatever it is for, and noted before the client hears its id.
    async fn file(
        &mut self,
        endpoint: &Endpoint<'_>,
        token: &AccessToken,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        let scanner = admission::scanner(request.headers(), &reads(Api::Files, BodyKind::Form))?;
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let place = gateway.places.first_of(&catalog, Dialect::OpenAi)?;
        let route = Route::new(Arc::clone(&place), true, token, endpoint, None)?;
        self.record().upstream = Some(place.name.clone());
        let deadline = self.upload_deadline();
        let (head, body) = request.into_parts();
        let mut bounds = Bounds::of(&gateway.settings);
        bounds.kept_bytes_max = 0;
        let reading = upload::read(body, scanner, Need::Nothing, bounds);
        let upload = timeout_at(deadline, reading)
            .await
            .unwrap_or(Err(Refusal::UploadTimeout))?;
        let pool = self.worker.pool.clone();
        let (facts, response) = match upload {
            Upload::Whole(whole) => {
                let body = Replay::new(whole.frames, whole.sized);
                let sending = forward::send(&pool, &route, &head, body, true);
                (whole.facts, forward::in_time(&gateway, sending).await?)
            }
            Upload::Flowing(flowing) => {
                let mut sending = Box::pin(forward::send(&pool, &route, &head, flowing.body, true));
                let said = tokio::select! {
                    biased;
                    said = flowing.said => said.unwrap_or(Err(Refusal::ClientGone))?,
                    early = &mut sending => return self.answered_early(early, entry).await,
                    () = tokio::time::sleep_until(deadline) => return Err(Refusal::UploadTimeout),
                };
                // Nobody hears it if the connection has just broken; then `sending` says so.
                let _ = flowing.verdict.send(Gate::Open);
                (said.facts, forward::in_time(&gateway, sending).await?)
            }
        };
        self.record().request_bytes = facts.body_bytes;
        let status = response.status();
        if !status.is_success() {
            return match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::UpstreamAuth),
                _ => self.pass_error(response, entry).await,
            };
        }
        let file = FileFacts {
            bytes: facts.file_bytes,
            batch: facts.batch.map(|it| *it),
        };
        let (head, answer) = response.into_parts();
        let answer = work::read_small(answer).await;
        let id = answer.as_ref().ok().and_then(|json| work::id_of(json));
        if let Some(id) = id {
            let object = NewObject {
                id,
                kind: Kind::File.name().into(),
                account: token.account,
                token: token.id,
                upstream: place.id,
                upstream_key: place.key_id,
                model: None,
                parent: None,
                facts: Some(serde_json::json!(file).to_string()),
                kept: None,
            };
            let kept = gateway.ledger.record_objects(&[object]).await;
            kept.map_err(|error| {
                error!(%error, "file.not_noted");
                Refusal::Unavailable {
                    reason: "its database does not answer",
                }
            })?;
        }
        let answer = answer.map_err(|error| {
            error!(error, "file.answer_unread");
            Refusal::UpstreamUnreachable { sent: true }
        })?;
        Ok(self.answer_whole(head, answer.into(), entry))
    }

    /// An object of this kind that is the account's, and what was noted of it.
    pub(super) async fn owned(
        &mut self,
        token: &AccessToken,
        kind: Kind,
        id: &str,
        param: impl Into<Option<&'static str>>,
    ) -> Result<(Object, FileFacts), Refusal> {
        let owned = self.worker.gateway.ledger.owned(token.account, &[id]).await;
        let owned = owned.map_err(|error| {
            error!(%error, "object.lookup_failed");
            Refusal::Unavailable {
                reason: "its database does not answer",
            }
        })?;
        let object = owned.into_iter().find(|it| it.kind == kind.name());
        let object = object.ok_or_else(|| Refusal::ObjectNotFound {
            kind: kind.words(),
            id: id.to_owned(),
            param: param.into(),
        })?;
        let facts = object.facts.as_deref().map(serde_json::from_str);
        let facts = facts.and_then(Result::ok).unwrap_or_default();
        Ok((object, facts))
    }

    /// An answer that was read whole, its bytes as they came.
    pub(super) fn answer_whole(
        &mut self,
        mut head: http::response::Parts,
        body: Bytes,
        entry: Entry,
    ) -> Reply {
        head.headers = headers::client_response_headers(&head.headers);
        let mut record = self.take_record(head.status);
        record.passed(body.len());
        record.end = "complete";
        drop(entry);
        Response::from_parts(head, own(body))
    }
}

/// How such a body is read.
const fn reads(api: Api, body: BodyKind) -> Metered {
    Metered {
        api,
        body,
        usage_on_request: false,
        bound: BoundBy::Input,
        creates: None,
    }
}

fn invalid(param: &'static str, message: &str, code: &'static str) -> Refusal {
    Refusal::InvalidBody {
        message: message.into(),
        param: Some(param.into()),
        code,
    }
}

fn refuse(fault: JobFault) -> Refusal {
    invalid(fault.param, &fault.message, "invalid_job")
}

/// The charge for a job that nobody can ask for.
fn unknown(
    bounded: &Bounded,
    hold: &Hold,
    place: &Place,
    endpoint: &'static str,
    started_at_ms: i64,
) -> Charge {
    Charge {
        price: bounded.quote.default_price(),
        amount: hold.amount(),
        mark: Mark::Bounded,
        model_requested: bounded.model.clone(),
        model_answered: None,
        endpoint: endpoint.into(),
        service_tier: None,
        stream: false,
        buckets: Buckets::default(),
        usage_raw: None,
        flags: Flags::default(),
        provider_cost: None,
        status: 200,
        end: End::Failed,
        upstream: place.id,
        upstream_key: place.key_id,
        response_id: None,
        key: None,
        object: None,
        started_at_ms,
        head_after_ms: None,
        first_byte_after_ms: None,
        ended_after_ms: 0,
    }
}
