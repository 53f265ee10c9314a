//! What a door asks of the gateway: who a caller is, and an exchange in his name.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};

use crate::{reply::AnswerBody, store::Store};

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The path of every call that doors make.
const CHAT: &str = "/v1/chat/completions";

/// An access token that somebody showed, or that stands for him.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its row.
    pub token: i64,
    /// Who pays.
    pub account: i64,
    /// SHA-256 of its secret.
    pub digest: [u8; 32],
}

/// One exchange that a door wants.
pub struct Call {
    /// The door, in logs and metrics.
    pub door: &'static str,
    /// Who pays.
    pub caller: Caller,
    /// A provider key of the caller's own instead of the upstream's.
    pub upstream_key: Option<String>,
    /// The request as a client of the OpenAI API would send it, without credentials.
    pub request: Request<Bytes>,
}

/// What was asked cannot be told now: the database does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's database does not answer")]
pub struct Away;

/// Authenticates, limits, holds, forwards, meters and charges.
pub trait Exchange: Send + Sync {
    /// Whose secret this is; `None` for one that is unknown, expired or revoked.
    fn identify<'a>(&'a self, secret: &'a str) -> BoxFuture<'a, Result<Option<Caller>, Away>>;

    /// Runs an exchange. Never fails: a refusal is an answer with `x-turnpike-refusal` in its head.
    ///
    /// Dropping the future leaves the exchange as a client does that hangs up.
    fn call(&self, call: Call) -> BoxFuture<'_, Response<AnswerBody>>;

    /// The most output tokens a model gives at once; `None` where it has no price.
    fn output_max(&self, model: &str) -> Option<u64>;
}

/// All that a door needs.
pub trait Host: Exchange + Store {}

impl<T: Exchange + Store> Host for T {}

impl Call {
    /// A chat completion with this JSON body.
    #[must_use]
    pub fn chat(door: &'static str, caller: Caller, body: impl Into<Bytes>) -> Self {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(CHAT);
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Self {
            door,
            caller,
            upstream_key: None,
            request,
        }
    }

    /// The same with the caller's own headers, but for what describes the body.
    #[must_use]
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        let own = self.request.headers_mut();
        for (name, value) in headers {
            if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
                own.append(name, value.clone());
            }
        }
        self
    }

    /// The same with a provider key of the caller's own.
    #[must_use]
    pub fn with_upstream_key(mut self, key: Option<String>) -> Self {
        self.upstream_key = key;
        self
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.token)
    }
}
