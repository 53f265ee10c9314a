//! How a background response is asked about.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use ledger::{Catalog, CostBy, Dialect, OpenJob};
use meter::{AnswerMeter, Api, RequestFacts};
use proxy::{Pool, headers};
use serde::{Deserialize, Serialize};

use super::{Verdict, charge, passage, priced};
use crate::{
    endpoint::Kind,
    gateway::Gateway,
    places::Place,
    reckon::{Admitted, Keeps},
    work::in_time,
};

/// The most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the settlement of a background response needs, beside what stands in its job.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Facts {
    #[serde(default)]
    pub(super) price: i64,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    service_tier: Option<String>,
}

impl Facts {
    /// Those of a job; empty where they are another program's.
    pub(super) fn of(job: &OpenJob) -> Self {
        serde_json::from_str(&job.facts).unwrap_or_default()
    }
}

/// The facts of an exchange that becomes a job.
pub(super) fn facts(admitted: &Admitted) -> String {
    let facts = Facts {
        price: admitted.quote.default_price().0,
        stream: admitted.facts.stream,
        input_tokens: admitted.input_tokens_estimate,
        service_tier: admitted.facts.service_tier.clone(),
    };
    serde_json::to_string(&facts).expect("numbers and words are always JSON")
}

/// What a job was admitted with. `None`: nothing prices it any more.
pub(crate) fn admitted(catalog: &Arc<Catalog>, job: &OpenJob) -> Option<Admitted> {
    let facts = Facts::of(job);
    Some(Admitted {
        api: Api::Responses,
        catalog: Arc::clone(catalog),
        quote: priced(catalog, job)?,
        facts: RequestFacts {
            stream: facts.stream,
            service_tier: facts.service_tier,
            background: true,
            ..RequestFacts::default()
        },
        model: job.model.clone(),
        endpoint: "responses",
        input_tokens_estimate: facts.input_tokens,
        file_ms: None,
        started_at_ms: job.started_at_ms,
        cost: catalog
            .upstreams()
            .iter()
            .find(|upstream| Some(upstream.id) == job.upstream)
            .map_or_else(CostBy::default, |upstream| upstream.cost),
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        keeps: Some(Keeps {
            kind: Kind::Response,
            only_parts: false,
            account: job.account,
            token: job.token,
        }),
    })
}

/// Gets the response.
pub(super) async fn ask(gateway: &Gateway, pool: &Pool, job: &OpenJob) -> Verdict {
    let unknown = |what: &dyn std::fmt::Display| Verdict::Unknown(what.to_string());
    let catalog = gateway.ledger.catalog();
    let Ok(place) = gateway
        .places
        .home(&catalog, job.upstream, job.upstream_key)
    else {
        return unknown(&"its upstream is gone, or not set up properly");
    };
    let Some(admitted) = admitted(&catalog, job) else {
        return unknown(&"its model has no price any more");
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    let Some(uri) = uri(&place, &job.object_id) else {
        return unknown(&"its id is none that a path can have");
    };
    *request.uri_mut() = uri;
    *request.headers_mut() =
        headers::upstream_request_headers(&HeaderMap::new(), place.credential.as_ref());
    let sending = pool.send(&place.target, &place.egress, request);
    let response = match in_time(sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return unknown(&error),
        Err(error) => return unknown(&error),
    };
    let (head, mut body) = response.into_parts();
    if head.status == StatusCode::NOT_FOUND {
        return Verdict::Gone;
    }
    if !head.status.is_success() {
        return unknown(&head.status);
    }
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut meter = AnswerMeter::new(
        Api::Responses,
        head.status.as_u16(),
        text(header::CONTENT_TYPE),
        text(header::CONTENT_ENCODING),
    );
    let mut bytes = 0_usize;
    loop {
        let frame = match in_time(body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => return unknown(&error),
        };
        let data = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_)) => continue,
            Err(error) => return unknown(&error),
        };
        bytes = bytes.saturating_add(data.len());
        if bytes > ANSWER_BYTES_MAX {
            return unknown(&"its answer is too long");
        }
        meter.push(&data);
    }
    let reading = meter.finish();
    if reading.lost {
        return unknown(&"its answer cannot be read");
    }
    if !reading.finished {
        return Verdict::Open;
    }
    let charge = charge(&admitted, reading, job, passage(job));
    Verdict::Ended(charge.into_iter().collect())
}

/// Where a response is, in its provider's dialect.
fn uri(place: &Place, id: &str) -> Option<Uri> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    if !id.bytes().all(is_plain) {
        return None;
    }
    let below = match place.dialect {
        Dialect::Azure => "/v1/responses/",
        Dialect::OpenAi | Dialect::Anthropic => "/responses/",
    };
    let query = place.query.as_deref().map(|query| format!("?{query}"));
    format!("{below}{id}{}", query.unwrap_or_default())
        .parse()
        .ok()
}
