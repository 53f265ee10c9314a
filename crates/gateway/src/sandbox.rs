//! The built-in sandbox model: an OpenAI-shaped upstream on the loopback address, for when no provider is set up.
//!
//! It answers `POST …/chat/completions`, `…/completions`, `…/embeddings`, `…/responses` and
//! `GET …/models` in the shapes the openai SDKs parse, JSON and SSE, for any model name. The text says
//! that this is the sandbox and how to reach a real provider. Usage is counted by one rule: a token is
//! a word with the white space before it ([`words`]). What [`directive`] lists can be asked for by name:
//! errors, cut streams, slowness.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response,
    body::Body,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tracing::{debug, warn};
use uuid::Uuid;

use self::{ask::Ask, directive::Directives, fault::Fault, script::Script};

mod ask;
mod chat;
mod completions;
mod directive;
mod embeddings;
mod fault;
mod responses;
mod script;
mod words;

/// The name under which the model lists itself; any other is answered as well.
pub(crate) const MODEL: &str = "sandbox";
/// No answer is longer, in tokens of each choice.
pub(crate) const OUTPUT_TOKENS_MAX: u64 = 256;

/// The largest request body.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// For the request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file handles left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The running sandbox; it stops taking connections when this is dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Sandbox {
    /// Where it listens, on loopback. Its base path is `/v1`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Starts the sandbox on a free loopback port, on the calling runtime.
///
/// # Errors
/// When no port can be bound.
pub(crate) async fn start() -> io::Result<Sandbox> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok(Sandbox {
        address,
        listening: tokio::spawn(listen(listener)),
    })
}

async fn listen(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    serve(stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "sandbox.accept failed"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream) {
    let service =
        service_fn(|request| async { Ok::<_, std::convert::Infallible>(answer(request).await) });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // Clients hang up, and cut streams end so on purpose.
        debug!(
            error = &error as &dyn std::error::Error,
            "sandbox.connection ended"
        );
    }
}

/// The answer to any request.
async fn answer<B>(request: Request<B>) -> Response<Script>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = match route(request).await {
        Ok(script) => Response::new(script),
        Err(fault) => fault.into_response(),
    };
    let kind = response.body().content_type();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::try_from(id("req_")) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn route<B>(request: Request<B>) -> Result<Script, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    // The path below `/v1`, or below whatever base the client was given.
    let path = head.uri.path().trim_end_matches('/').to_owned();
    if head.method == Method::GET {
        return match path.rsplit_once("/models") {
            Some((_, "")) => Ok(Script::json(
                &json!({"object": "list", "data": [model(MODEL)]}),
            )),
            Some((_, name)) if name.len() > 1 && !name[1..].contains('/') => {
                Ok(Script::json(&model(&name[1..])))
            }
            _ => Err(Fault::unknown_url(&head.method, &path)),
        };
    }
    type Answer = fn(&Ask) -> Result<Script, Fault>;
    let answer: Answer = match path.as_str() {
        path if head.method != Method::POST => return Err(Fault::unknown_url(&head.method, path)),
        path if path.ends_with("/chat/completions") => chat::answer,
        path if path.ends_with("/completions") => completions::answer,
        path if path.ends_with("/embeddings") => embeddings::answer,
        path if path.ends_with("/responses") => responses::answer,
        path => return Err(Fault::unknown_url(&head.method, path)),
    };
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| Fault::body_too_large())?
        .to_bytes();
    let ask = Ask::new(serde_json::from_slice(&body).map_err(|_| Fault::no_json())?)?;
    let directives = Directives::of(&ask)?;
    Ok(directives.apply(answer(&ask)?))
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "turnpike"})
}

/// A fresh id with the prefix of its kind.
fn id(prefix: &str) -> String {
    format!("{prefix}{}", Uuid::now_v7().simple())
}

/// Seconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests;
