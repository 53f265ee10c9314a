//! Answers that doors make themselves.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::Value;

/// Why an answer's body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer, streaming or whole.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// A whole body.
pub(crate) fn body(bytes: impl Into<Bytes>) -> AnswerBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    typed(status, "application/json; charset=utf-8", value.to_string())
}

/// A plain-text answer.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<AnswerBody> {
    typed(status, "text/plain; charset=utf-8", text.into())
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(body(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// 405, naming what would do.
pub(crate) fn not_allowed(allow: &'static str) -> Response<AnswerBody> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// An answer of this type.
pub(crate) fn typed(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<AnswerBody> {
    let mut response = Response::new(body(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Whether a request says that its body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let essence = content_type
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}
