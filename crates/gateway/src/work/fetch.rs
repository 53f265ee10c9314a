//! The gateway's own questions to a provider, about jobs it has begun.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use proxy::{Answer, Pool};

use crate::places::Place;

/// The longest object that is read.
const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// The most that is read of a file with answers.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// Why there is no answer to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Asked {
    /// The provider knows no such thing, or no longer.
    #[error("the provider has no such thing any more")]
    Gone,
    /// Asking again may help.
    #[error("the provider did not answer: {0}")]
    Failed(String),
}

/// Reads a whole small answer.
///
/// # Errors
/// When it breaks off, or is longer than any object.
pub(crate) async fn read_small(mut body: Answer) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(data) = frame.into_data() {
            if bytes.len().saturating_add(data.len()) > OBJECT_BYTES_MAX {
                return Err(format!("it is longer than {OBJECT_BYTES_MAX} bytes"));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Gets a small object.
pub(super) async fn object(pool: &Pool, place: &Place, path: &str) -> Result<Vec<u8>, Asked> {
    let answer = get(pool, place, path).await?;
    read_small(answer.into_body()).await.map_err(Asked::Failed)
}

/// Gets a file, and shows each piece of it as it comes.
pub(super) async fn file(
    pool: &Pool,
    place: &Place,
    path: &str,
    mut show: impl FnMut(&[u8]),
) -> Result<(), Asked> {
    let mut body = get(pool, place, path).await?.into_body();
    let mut bytes = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Asked::Failed(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes = bytes.saturating_add(data.len() as u64);
        if bytes > FILE_BYTES_MAX {
            return Err(Asked::Failed(format!(
                "its file is longer than {FILE_BYTES_MAX} bytes"
            )));
        }
        show(&data);
    }
    Ok(())
}

async fn get(pool: &Pool, place: &Place, path: &str) -> Result<Response<Answer>, Asked> {
    let failed = |why: &dyn std::fmt::Display| Asked::Failed(why.to_string());
    let path = match &place.query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| failed(&error))?;
    let mut own = HeaderMap::new();
    own.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    *request.headers_mut() =
        proxy::headers::upstream_request_headers(&own, place.credential.as_ref());
    let answer = pool.send(&place.target, &place.egress, request).await;
    let answer = answer.map_err(|error| failed(&error))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Asked::Gone),
        status => Err(failed(&status)),
    }
}
