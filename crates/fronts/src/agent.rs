//! Door `agent`: chatgpt-agent's `POST /chat` and `GET /data/week`.
//!
//! The body passes as it is, and so does the answer, streaming included. What goes wrong is told in plain text, in that
//! system's own words where it had some.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use serde_json::value::{RawValue, Value};

use crate::{
    answer::{Refused, carry},
    exchange::{Away, Call, Caller, Host},
    reply::{self, AnswerBody},
    store::Used,
};

/// In logs and metrics.
pub(crate) const NAME: &str = "agent";

/// The shortest credential that counted as one: `Bearer` and five more bytes.
const CREDENTIAL_BYTES_MIN: usize = 11;
/// What `GET /data/week` looks back on.
const WEEK_DAYS: i32 = 7;
/// The most exchanges `GET /data/week` tells.
const WEEK_ROWS_MAX: i64 = 10_000;

/// Whether the path is this door's.
pub(crate) fn serves(path: &str) -> bool {
    matches!(path, "/chat" | "/data/week")
}

/// Answers a call.
pub(crate) async fn serve(host: &dyn Host, request: Request<Bytes>) -> Response<AnswerBody> {
    let served = match request.uri().path() {
        "/chat" if request.method() == Method::POST => chat(host, request).await,
        "/data/week" if request.method() == Method::GET => week(host, request.headers()).await,
        "/data/week" => return reply::not_allowed("GET"),
        _ => return reply::not_allowed("POST"),
    };
    served.unwrap_or_else(|error| error)
}

/// 413 in this door's words.
pub(crate) fn too_large() -> Response<AnswerBody> {
    reply::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload reached size limit.")
}

type Served = Result<Response<AnswerBody>, Response<AnswerBody>>;

async fn chat(host: &dyn Host, request: Request<Bytes>) -> Served {
    let caller = authenticate(host, request.headers()).await?;
    let (head, body) = request.into_parts();
    let bad = |text: &str| reply::text(StatusCode::BAD_REQUEST, text);
    let text = std::str::from_utf8(&body).map_err(|_| bad("invalid param"))?;
    let model = match serde_json::from_str::<Value>(text) {
        Ok(json) => json.get("model").and_then(Value::as_str).map(str::to_owned),
        Err(_) => return Err(bad("not a json param")),
    };
    let call = Call::chat(NAME, caller, body).with_headers(&head.headers);
    let response = host.call(call).await;
    if !Refused::is(&response) {
        return Ok(response);
    }
    let refused = Refused::read(response).await;
    Err(carry(refuse(&refused, model.as_deref()), &refused.headers))
}

/// A refusal in this door's words, or else in the gateway's own.
fn refuse(refused: &Refused, model: Option<&str>) -> Response<AnswerBody> {
    match (refused.code.as_str(), model) {
        ("invalid_api_key", _) => reply::text(StatusCode::UNAUTHORIZED, "token error"),
        ("model_not_found", Some(model)) => reply::text(
            StatusCode::BAD_REQUEST,
            format!("model {model} not config. please contact administrator"),
        ),
        // Callers know this one by its status alone: its text named an address.
        ("upstream_unreachable", _) => {
            reply::text(StatusCode::INTERNAL_SERVER_ERROR, refused.message.clone())
        }
        ("request_too_large", _) => too_large(),
        _ => reply::text(refused.status, refused.message.clone()),
    }
}

async fn authenticate(
    host: &dyn Host,
    headers: &HeaderMap,
) -> Result<Caller, Response<AnswerBody>> {
    let unauthorized = |text: &str| reply::text(StatusCode::UNAUTHORIZED, text);
    let shown = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("dont have token"))?;
    let shown = shown.to_str().map_err(|_| unauthorized("token error"))?;
    let secret = match shown.strip_prefix("Bearer") {
        Some(rest) if shown.len() >= CREDENTIAL_BYTES_MIN => rest.trim(),
        _ => return Err(unauthorized("not a valid bearer token")),
    };
    match host.identify(secret).await {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => Err(unauthorized("token error")),
        Err(away) => Err(unavailable(away)),
    }
}

fn unavailable(away: Away) -> Response<AnswerBody> {
    reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{away}"))
}

async fn week(host: &dyn Host, headers: &HeaderMap) -> Served {
    let caller = authenticate(host, headers).await?;
    let used = host
        .used_of_late(caller, WEEK_DAYS, WEEK_ROWS_MAX)
        .await
        .map_err(unavailable)?;
    let rows: Vec<Row<'_>> = used.iter().map(Row::of).collect();
    let body = serde_json::to_vec(&rows).expect("rows of text and numbers are JSON");
    Ok(reply::typed(StatusCode::OK, "application/json", body))
}

/// A row of `GET /data/week`, under both names that its total had.
#[derive(serde::Serialize)]
struct Row<'a> {
    remote_id: Option<&'a str>,
    model: Option<&'a str>,
    total_tokens: i64,
    total_token: i64,
    price: &'a RawValue,
    timestamp: i64,
}

impl<'a> Row<'a> {
    fn of(used: &'a Used) -> Self {
        Self {
            remote_id: used.remote_id.as_deref(),
            model: used.model.as_deref(),
            total_tokens: used.total_tokens,
            total_token: used.total_tokens,
            price: serde_json::from_str(&used.price).unwrap_or(RawValue::NULL),
            timestamp: used.timestamp,
        }
    }
}
