//! The sandbox's own errors, in OpenAI's words and shape.

use hyper::{Method, Response, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use super::script::Script;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    headers: &'static [(&'static str, &'static str)],
}

impl Fault {
    pub(super) fn new(
        status: u16,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            headers: &[],
        }
    }

    pub(super) fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// A request that is wrong at one field.
    pub(super) fn field(
        param: &str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(param.to_owned()),
            ..Self::new(400, "invalid_request_error", code, message)
        }
    }

    pub(super) fn wrong_type(param: &str, wanted: &str) -> Self {
        Self::field(
            param,
            Some("invalid_type"),
            format!("Invalid type for '{param}': expected {wanted}."),
        )
    }

    pub(super) fn no_json() -> Self {
        let message =
            "We could not parse the JSON body of your request. The API expects a JSON object.";
        Self::new(400, "invalid_request_error", None, message)
    }

    pub(super) fn body_too_large() -> Self {
        Self::new(
            413,
            "invalid_request_error",
            None,
            "The request body is too large, or did not arrive whole.",
        )
    }

    pub(super) fn unknown_url(method: &Method, path: &str) -> Self {
        Self::new(
            404,
            "invalid_request_error",
            Some("unknown_url"),
            format!("Invalid URL ({method} {path})"),
        )
    }

    /// The error object alone, as it stands in answers and in streams.
    pub(super) fn error(&self) -> Value {
        json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code})
    }

    pub(super) fn into_response(self) -> Response<Script> {
        let mut response = Response::new(Script::json(&json!({"error": self.error()})));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            response
                .headers_mut()
                .insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}
