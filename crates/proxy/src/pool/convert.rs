//! A request as the protocol of its connection wants it.

use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use http::Version;
use http::header;
use http_body::Body;

use super::error::SendError;
use super::error::SendErrorKind;
use crate::Target;
use crate::headers;

/// Puts the target's base path before the request's own, once and for any protocol.
pub(super) fn under_base<B>(request: &mut Request<B>, target: &Target) -> Result<(), SendError> {
    // Its target is no path, and its answer no body: a tunnel is not what this pool is for.
    if *request.method() == Method::CONNECT {
        return Err(SendError::new(
            SendErrorKind::Protocol,
            "CONNECT is not relayed",
        ));
    }
    let path = target.path_for(request.uri()).ok_or_else(|| {
        let reason = "the path under the upstream's base is too long";
        SendError::new(SendErrorKind::Protocol, reason)
    })?;
    *request.uri_mut() = Uri::from(path);
    drop_expect(request);
    Ok(())
}

/// For an HTTP/1.1 connection: origin-form, with `Host`, framed as the body says.
pub(super) fn for_h1<B: Body>(request: &mut Request<B>, target: &Target) {
    if request.uri().scheme().is_some()
        && let Some(path) = request.uri().path_and_query().cloned()
    {
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    // In place: position and case stay the client's.
    request
        .headers_mut()
        .insert(header::HOST, target.host_header());
    keep_body_of_unknown_length(request);
}

/// For an HTTP/2 connection: scheme and authority as pseudo-headers, nothing about the connection.
pub(super) fn for_h2<B>(request: &mut Request<B>, target: &Target) -> Result<(), SendError> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder()
        .scheme(target.scheme())
        .authority(target.authority())
        .path_and_query(path)
        .build()
        .map_err(|error| SendError::new(SendErrorKind::Protocol, error))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers::for_h2(request.headers());
    Ok(())
}

/// hyper swallows the upstream's 100, so nobody would wait for it.
fn drop_expect<B>(request: &mut Request<B>) {
    if request.headers().contains_key(header::EXPECT) {
        let kept = headers::without(request.headers(), |name| *name == header::EXPECT);
        *request.headers_mut() = kept;
    }
}

/// hyper takes a GET or HEAD without a length for one without a body. One that has a body says so.
fn keep_body_of_unknown_length<B: Body>(request: &mut Request<B>) {
    let is_doubted = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = request.body();
    if is_doubted && !body.is_end_stream() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        request
            .headers_mut()
            .insert(header::TRANSFER_ENCODING, chunked);
    }
}
