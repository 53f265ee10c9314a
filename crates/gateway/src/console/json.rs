//! JSON answers of the console.

use http::{HeaderValue, Response, StatusCode, header};
use proxy::Whole;
use serde::Serialize;

use super::assets::NO_STORE;

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
}

pub(super) fn ok(text: String) -> Response<Whole> {
    let mut response = Response::new(Whole::from(text));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

pub(super) fn error(status: StatusCode, what: &str) -> Response<Whole> {
    let mut response = ok(text(&Error { error: what }));
    *response.status_mut() = status;
    response
}

pub(super) fn too_much(retry_after_s: u64) -> Response<Whole> {
    let mut response = error(
        StatusCode::TOO_MANY_REQUESTS,
        "too many wrong tokens from this address",
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    response
}

/// Serializes what cannot fail to serialize: texts and numbers in structs.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of texts and numbers are JSON")
}
