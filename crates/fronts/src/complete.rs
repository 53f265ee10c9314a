//! Door `complete`: chat_gpt_proxy's `POST /chat_complete`.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    answer::{Completed, Outcome, ask, carry, error_message},
    exchange::{Call, Caller, Host},
    reply::{self, AnswerBody},
};

/// In logs and metrics.
pub(crate) const NAME: &str = "complete";

const FORBIDDEN: &str = "Доступ запрещен, токен не верный";
const MODEL: &str = "gpt-4o-mini";
const ALLOW: &str = "GET, POST";

/// What the operator sets.
#[derive(Clone, Debug, Default)]
pub struct CompleteSettings {
    /// A shared key that callers may show instead of an access token, and the access token its calls are charged to.
    pub shared: Option<(String, String)>,
}

/// The door.
pub(crate) struct Complete {
    settings: CompleteSettings,
}

impl Complete {
    pub(crate) const fn new(settings: CompleteSettings) -> Self {
        Self { settings }
    }

    /// Answers a call.
    pub(crate) async fn serve(
        &self,
        host: &dyn Host,
        request: Request<Bytes>,
    ) -> Response<AnswerBody> {
        match *request.method() {
            Method::POST => self
                .complete(host, request)
                .await
                .unwrap_or_else(|error| error),
            Method::GET => reply::typed(StatusCode::OK, "text/html; charset=utf-8", HELP),
            _ => reply::not_allowed(ALLOW),
        }
    }

    async fn complete(
        &self,
        host: &dyn Host,
        request: Request<Bytes>,
    ) -> Result<Response<AnswerBody>, Response<AnswerBody>> {
        let (head, body) = request.into_parts();
        let caller = self.authenticate(host, &head.headers).await?;
        let own_key = shown(&head.headers, "openai-token").map(str::to_owned);
        if !reply::is_json(&head.headers) {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "The body should be JSON, sent with Content-Type: application/json.",
            ));
        }
        let body = upstream_body(&body).map_err(|why| error(StatusCode::BAD_REQUEST, &why))?;
        let call = Call::chat(NAME, caller, body).with_upstream_key(own_key);
        match ask(host, call).await {
            Outcome::Completed(completed) => Ok(carry(
                reply::typed(StatusCode::OK, "application/json", with_text(&completed)),
                &completed.headers,
            )),
            Outcome::Refused(refused) if refused.code == "invalid_api_key" => {
                Err(carry(forbidden(), &refused.headers))
            }
            Outcome::Refused(refused) => Err(carry(
                error(
                    caller_status(refused.status, &refused.code),
                    &refused.message,
                ),
                &refused.headers,
            )),
            Outcome::Failed {
                status,
                body,
                headers,
            } => Err(carry(error(status, &error_message(&body)), &headers)),
            Outcome::Broken { headers } => Err(carry(
                error(
                    StatusCode::BAD_GATEWAY,
                    "The provider's answer is no chat completion.",
                ),
                &headers,
            )),
        }
    }

    async fn authenticate(
        &self,
        host: &dyn Host,
        headers: &HeaderMap,
    ) -> Result<Caller, Response<AnswerBody>> {
        let key = shown(headers, "access-token").ok_or_else(forbidden)?;
        let secret = match &self.settings.shared {
            Some((shared, token)) if same(shared, key) => token,
            _ => key,
        };
        match host.identify(secret).await {
            Ok(caller) => caller.ok_or_else(forbidden),
            Err(away) => Err(error(StatusCode::SERVICE_UNAVAILABLE, &away.to_string())),
        }
    }
}

/// 413 in this door's shape.
pub(crate) fn too_large(bytes_max: usize) -> Response<AnswerBody> {
    error(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("The body is longer than the {bytes_max} bytes that this door takes."),
    )
}

/// What a caller did wrong is 400, whatever the gateway calls it.
fn caller_status(status: StatusCode, code: &str) -> StatusCode {
    match code {
        "model_not_found" => StatusCode::BAD_REQUEST,
        _ => status,
    }
}

/// A header's value, if it is there and not empty.
fn shown<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// Compares by digests, so that how long it takes tells nothing.
fn same(one: &str, other: &str) -> bool {
    use sha2::Digest as _;
    sha2::Sha256::digest(one) == sha2::Sha256::digest(other)
}

fn forbidden() -> Response<AnswerBody> {
    reply::typed(
        StatusCode::FORBIDDEN,
        "application/json",
        json!({ "text": FORBIDDEN, "status": "error" }).to_string(),
    )
}

fn error(status: StatusCode, why: &str) -> Response<AnswerBody> {
    reply::typed(
        status,
        "application/json",
        json!({ "text": format!("Error. {why}"), "status": "error" }).to_string(),
    )
}

/// The call in OpenAI's shape, or what is wrong with it.
fn upstream_body(body: &[u8]) -> Result<Vec<u8>, String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        format!(
            "The body is not JSON ({error}); send an object with Content-Type: application/json."
        )
    })?;
    let Value::Object(mut body) = body else {
        return Err("The body should be a JSON object.".to_owned());
    };
    let messages = match (body.remove("prompt"), body.remove("messages")) {
        (Some(Value::String(prompt)), _) if !prompt.is_empty() => {
            json!([{ "role": "user", "content": prompt }])
        }
        (None | Some(Value::Null | Value::String(_)), Some(messages @ Value::Array(_))) => messages,
        (None | Some(Value::Null | Value::String(_)), None | Some(Value::Null)) => {
            return Err("'prompt' or 'messages' is needed.".to_owned());
        }
        (None | Some(Value::Null | Value::String(_)), Some(_)) => {
            return Err("'messages' should be an array.".to_owned());
        }
        (Some(_), _) => return Err("'prompt' should be a string.".to_owned()),
    };
    let params = match body.remove("generate_params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err("generate_params should be dict".to_owned()),
    };
    let mut call = with_params(params)?;
    call.insert("messages".to_owned(), messages);
    Ok(Value::Object(call).to_string().into_bytes())
}

/// The parameters as they go up.
fn with_params(mut params: Map<String, Value>) -> Result<Map<String, Value>, String> {
    for name in [
        "messages",
        "model",
        "client",
        "extra_headers",
        "extra_query",
    ] {
        if params.contains_key(name) {
            return Err(format!(
                "'{name}' does not belong into generate_params{}.",
                if name == "model" {
                    "; the model is 'model_name'"
                } else {
                    ""
                }
            ));
        }
    }
    let model = match params.remove("model_name") {
        None | Some(Value::Null) => MODEL.to_owned(),
        Some(Value::String(model)) if !model.is_empty() => model,
        Some(_) => return Err("'model_name' should be a string.".to_owned()),
    };
    // Of the library that used to be between: how long it waited is the gateway's to say.
    params.remove("timeout");
    match params.remove("extra_body") {
        None | Some(Value::Null) => {}
        Some(Value::Object(extra)) => {
            if extra.contains_key("messages") || extra.contains_key("model") {
                return Err("'extra_body' may not hold the model or the messages.".to_owned());
            }
            params.extend(extra);
        }
        Some(_) => return Err("'extra_body' should be dict.".to_owned()),
    }
    if params.get("temperature").is_some_and(Value::is_null) {
        params.remove("temperature");
    }
    if params
        .get("stream")
        .is_some_and(|stream| *stream != Value::Bool(false) && !stream.is_null())
    {
        return Err("'stream' is not offered here: use /v1/chat/completions.".to_owned());
    }
    params.insert("model".to_owned(), Value::String(model));
    Ok(params)
}

/// The provider's object as it is, with two members more.
fn with_text(completed: &Completed) -> Bytes {
    let object = completed.body.trim_ascii_end();
    let object = object.strip_suffix(b"}").unwrap_or(object);
    let text = json!(completed.text);
    let more = format!(",\"text\":{text},\"status\":\"ok\"}}");
    let mut body = BytesMut::with_capacity(object.len() + more.len());
    body.put_slice(object);
    body.put_slice(more.as_bytes());
    body.freeze()
}

const HELP: &str = "<!doctype html>\n<html lang=\"en\"><title>chat_complete</title>\n<h1>POST /chat_complete</h1>\n\
<p>Headers: <code>access-token</code> (an access token of this gateway), <code>openai-token</code> (optional: a provider key of \
your own), <code>Content-Type: application/json</code>.</p>\n\
<p>Body: <code>{\"prompt\": \"Hello\"}</code> or <code>{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}</code>, and \
optionally <code>\"generate_params\": {\"model_name\": \"gpt-4o-mini\", \"temperature\": 0.2}</code> with any other parameter of \
chat/completions.</p>\n\
<p>Answer: the provider's completion, with <code>text</code> and <code>\"status\": \"ok\"</code>. Errors: <code>{\"text\": \"Error. \u{2026}\", \
\"status\": \"error\"}</code>: 403 for the access token, 400 for the call, the provider's own status for what it refuses.</p>\n</html>\n";
