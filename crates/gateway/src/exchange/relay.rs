//! The way down: the upstream's answer, watched, or one of our own.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use ledger::{AccessToken, Dialect};
use meter::{AnswerMeter, UsageFrameFilter};
use proxy::{Answer, BoxError, Observed, headers};
use tracing::error;

use super::{
    Early, Exchange, Reply, WentUp,
    forward::{self, Route},
};
use crate::{
    answer::{AtAnswer, Parts, Till},
    body::RequestBody,
    endpoint::Endpoint,
    gateway::Entry,
    passing::Passing,
    refusal::Refusal,
};

impl Exchange {
    /// Passes the answer on, metered if it is one that costs.
    pub(super) fn relay(&mut self, went_up: WentUp, entry: Entry) -> Result<Reply, Refusal> {
        let WentUp {
            api,
            response,
            hold,
            admitted,
            injected,
        } = went_up;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && !self.shows_own_key()
        {
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
    pub(super) async fn unmetered(
        &mut self,
        endpoint: &Endpoint<'_>,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let only = gateway.places.only(&catalog)?;
        let is_only = only.is_some();
        let place = match only {
            Some(place) => place,
            // Several upstreams, and no model that would choose.
            None if endpoint.is_anthropic() => {
                gateway.places.first_of(&catalog, Dialect::Anthropic)?
            }
            None => gateway.places.first_of(&catalog, Dialect::OpenAi)?,
        };
        let route = Route::new(place, is_only, &token, endpoint, None)?;
        self.record().upstream = Some(route.place.name.clone());
        let (head, body) = request.into_parts();
        let bytes_max = gateway.settings.body_bytes_max;
        if body.size_hint().lower() > bytes_max {
            return Err(Refusal::BodyTooLarge { bytes_max });
        }
        let sending = forward::send(&self.worker.pool, &route, &head, body, false);
        let response = forward::in_time(&gateway, sending).await?;
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Err(Refusal::UpstreamAuth);
        }
        Ok(self.pass(response, "complete", entry))
    }

    /// The upstream has answered before it had the request's last byte. Only an error can be meant: nothing was held.
    pub(super) fn answered_early(&mut self, early: Early, entry: Entry) -> Result<Reply, Refusal> {
        let response = early.map_err(|error| forward::unanswered(&error))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !self.shows_own_key() => {
                Err(Refusal::UpstreamAuth)
            }
            status if status.is_client_error() || status.is_server_error() => {
                Ok(self.pass(response, "upstream_error", entry))
            }
            _ => Err(Refusal::UpstreamUnreachable { sent: false }),
        }
    }

    /// Whether the caller of a front door brought a provider key of his own: then it is for him to know that it is refused.
    fn shows_own_key(&self) -> bool {
        self.through
            .as_ref()
            .is_some_and(|through| through.upstream_key.is_some())
    }

    /// Passes an answer on that costs nothing.
    pub(super) fn pass(
        &mut self,
        response: Response<Answer>,
        end: &'static str,
        entry: Entry,
    ) -> Reply {
        let (mut head, answer) = response.into_parts();
        head.headers = headers::client_response_headers(&head.headers);
        let mut record = self.take_record(head.status);
        record.end = end;
        let body = Observed::new(answer, Passing::new(record, entry));
        Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
    }

    /// An answer of our own that is no refusal.
    pub(super) fn answer_own(&mut self, json: String) -> Reply {
        let mut response = Response::new(Bytes::from(json));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let mut record = self.take_record(StatusCode::OK);
        record.end = "complete";
        response.map(own)
    }
}

/// A body of our own.
pub(crate) fn own(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}
