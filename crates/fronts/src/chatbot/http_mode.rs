//! The HTTP mode: `POST /renew` and `POST /ask`, with one conversation for each key.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use serde_json::Value;

use super::{Chatbot, Trouble, dialog_name, whose_key};
use crate::{
    exchange::{Caller, Host},
    reply::{self, AnswerBody},
    turns::Whose,
};

/// What the conversation of a key is called. No session's id is: those are UUIDs.
const CONVERSATION: &str = "/ask";

/// Whether the path is one of the two.
pub(super) fn serves(path: &str) -> bool {
    matches!(path, "/renew" | "/ask")
}

/// Answers a call.
pub(super) async fn serve(
    chatbot: &Chatbot,
    host: &dyn Host,
    request: Request<Bytes>,
) -> Response<AnswerBody> {
    if *request.method() != Method::POST {
        return reply::not_allowed("POST");
    }
    let Ok(body) = serde_json::from_slice::<Value>(request.body()) else {
        return reply::text(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    let served = match request.uri().path() {
        "/renew" => renew(chatbot, host, &body).await,
        _ => ask(chatbot, host, request.headers(), &body).await,
    };
    served.unwrap_or_else(|error| error)
}

type Served = Result<Response<AnswerBody>, Response<AnswerBody>>;

/// Begins a new conversation for this key.
async fn renew(chatbot: &Chatbot, host: &dyn Host, body: &Value) -> Served {
    if member(body, "access_token").is_none() {
        return Err(required("access_token"));
    }
    let caller = caller(host, [member(body, "access_token")]).await?;
    let name = dialog_name(CONVERSATION);
    let deleted = host
        .delete_dialog(Some(caller), name, chatbot.settings.idle)
        .await;
    deleted.map_err(|away| error(StatusCode::SERVICE_UNAVAILABLE, &away.to_string()))?;
    Ok(reply::text(StatusCode::OK, "ok"))
}

/// The next answer of this key's conversation.
async fn ask(chatbot: &Chatbot, host: &dyn Host, headers: &HeaderMap, body: &Value) -> Served {
    let prompt = member(body, "prompt").ok_or_else(|| required("prompt"))?;
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|shown| shown.to_str().ok()?.strip_prefix("Bearer "))
        .map(str::trim);
    let keys = [
        bearer,
        member(body, "access_token"),
        chatbot.settings.token.as_deref(),
    ];
    let caller = caller(host, keys).await?;
    let said = chatbot
        .chat(
            host,
            Whose::Caller(caller),
            dialog_name(CONVERSATION),
            prompt,
            true,
        )
        .await;
    said.map(|text| reply::text(StatusCode::OK, text))
        .map_err(|trouble| {
            let status = match trouble {
                Trouble::Cooldown { .. } | Trouble::Exhausted(_) => StatusCode::TOO_MANY_REQUESTS,
                Trouble::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
                Trouble::NoSession | Trouble::Unavailable(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            error(status, &trouble.to_string())
        })
}

async fn caller<const N: usize>(
    host: &dyn Host,
    keys: [Option<&str>; N],
) -> Result<Caller, Response<AnswerBody>> {
    match whose_key(host, keys.into_iter()).await {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => Err(error(
            StatusCode::UNAUTHORIZED,
            "access_token is missing or not valid",
        )),
        Err(away) => Err(error(StatusCode::SERVICE_UNAVAILABLE, &away.to_string())),
    }
}

/// A text member that is not empty.
fn member<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn required(name: &str) -> Response<AnswerBody> {
    reply::text(StatusCode::BAD_REQUEST, format!("{name} is required"))
}

fn error(status: StatusCode, why: &str) -> Response<AnswerBody> {
    reply::text(status, format!("error: {why}"))
}

/// 413 in this door's shape.
pub(super) fn too_large(bytes_max: usize) -> Response<AnswerBody> {
    error(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the body is longer than {bytes_max} bytes"),
    )
}
