//! The gateway's own questions to a provider, about jobs it has begun.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty};
use proxy::{Answer, Pool};
use tokio::time::timeout;

use crate::places::Place;

/// How long a provider may take for an object, and how long it may be silent in the middle of a file, however long that is.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(2);
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
    let reading = async {
        let answer = get(pool, place, path).await?;
        read_small(answer.into_body()).await.map_err(Asked::Failed)
    };
    in_time(reading).await?
}

/// Gets a file, and shows each piece of it as it comes.
pub(super) async fn file(
    pool: &Pool,
    place: &Place,
    path: &str,
    show: impl FnMut(&[u8]),
) -> Result<(), Asked> {
    let answer = in_time(get(pool, place, path)).await??;
    read_file(answer.into_body(), show).await
}

async fn read_file<B>(mut body: B, mut show: impl FnMut(&[u8])) -> Result<(), Asked>
where
    B: Body<Data = Bytes, Error: fmt::Display> + Unpin,
{
    let mut bytes = 0_u64;
    while let Some(frame) = in_time(body.frame()).await? {
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

/// Not longer than a provider may be silent.
pub(crate) async fn in_time<F: Future>(asking: F) -> Result<F::Output, Asked> {
    let asked = timeout(SILENCE_MAX, asking).await;
    asked.map_err(|_| Asked::Failed(format!("it was silent for {SILENCE_MAX:?}")))
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

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A file that comes in so many pieces, each after so long.
    fn file(pieces: u32, each_after: Duration) -> impl Body<Data = Bytes, Error = String> + Unpin {
        let pieces = stream::unfold(0, move |at| {
            Box::pin(async move {
                sleep(each_after).await;
                let piece = Ok(Frame::data(Bytes::from_static(b"x")));
                (at < pieces).then_some((piece, at + 1))
            })
        });
        StreamBody::new(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_may_take_long_while_it_moves() {
        let mut seen = 0;
        let begun = Instant::now();
        let slow = file(100, SILENCE_MAX * 9 / 10);
        let read = read_file(slow, |bytes| seen += bytes.len()).await;
        assert_eq!((read, seen), (Ok(()), 100));
        assert!(begun.elapsed() > SILENCE_MAX * 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_falls_silent_in_a_file_is_not_waited_for() {
        let begun = Instant::now();
        let read = read_file(file(1, SILENCE_MAX * 2), |_| ()).await;
        assert!(matches!(read, Err(Asked::Failed(why)) if why.contains("silent")));
        assert_eq!(begun.elapsed(), SILENCE_MAX);
    }
}
