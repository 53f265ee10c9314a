//! An exchange's answer as doors read it that answer in a shape of their own.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    exchange::{Call, Host},
    reply::AnswerBody,
};

/// Names the refusal in the head of an answer of the gateway's own.
const REFUSAL: HeaderName = HeaderName::from_static("x-turnpike-refusal");
/// Names the exchange, and so its charge.
const EXCHANGE: HeaderName = HeaderName::from_static("x-turnpike-exchange");
/// What a refusal says besides, and callers should see whatever its shape.
const CARRIED: [HeaderName; 5] = [
    EXCHANGE,
    REFUSAL,
    header::RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
];

/// The longest answer that is read whole to be put into another shape.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an exchange came to.
pub(crate) enum Outcome {
    /// The provider's completion.
    Completed(Completed),
    /// The gateway did not take or finish it.
    Refused(Refused),
    /// The provider's error, as it said it.
    Failed {
        /// Its status.
        status: StatusCode,
        /// Its body.
        body: Bytes,
        /// See [`carry`].
        headers: HeaderMap,
    },
    /// The answer broke off, or is no completion.
    Broken {
        /// See [`carry`].
        headers: HeaderMap,
    },
}

/// A completion, and what doors want to know of it.
pub(crate) struct Completed {
    /// As the provider sent it.
    pub(crate) body: Bytes,
    /// The first choice's text; `None` where it has none (a tool call, a filter).
    pub(crate) text: Option<String>,
    /// Input tokens, as far as reported.
    pub(crate) prompt_tokens: u64,
    /// Output tokens, as far as reported.
    pub(crate) completion_tokens: u64,
    /// See [`carry`].
    pub(crate) headers: HeaderMap,
}

/// A refusal of the gateway's own.
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// Stable.
    pub(crate) code: String,
    /// For the caller.
    pub(crate) message: String,
    /// See [`carry`].
    pub(crate) headers: HeaderMap,
}

/// Runs an exchange and reads its answer whole.
pub(crate) async fn ask(host: &dyn Host, call: Call) -> Outcome {
    let response = host.call(call).await;
    if response.headers().contains_key(REFUSAL) {
        return Outcome::Refused(Refused::read(response).await);
    }
    let (head, body) = response.into_parts();
    let headers = carried(&head.headers);
    let Some(body) = whole(body).await else {
        return Outcome::Broken { headers };
    };
    if !head.status.is_success() {
        return Outcome::Failed {
            status: head.status,
            body,
            headers,
        };
    }
    match serde_json::from_slice::<Completion>(&body) {
        // A struct would be read from an array as well.
        Ok(completion) if body.trim_ascii_start().starts_with(b"{") => {
            Outcome::Completed(completion.told(body, headers))
        }
        _ => Outcome::Broken { headers },
    }
}

impl Refused {
    /// Reads a refusal, if the answer is one.
    pub(crate) fn is(response: &Response<AnswerBody>) -> bool {
        response.headers().contains_key(REFUSAL)
    }

    /// Reads a refusal.
    pub(crate) async fn read(response: Response<AnswerBody>) -> Self {
        let (head, body) = response.into_parts();
        let code = head
            .headers
            .get(REFUSAL)
            .and_then(|code| code.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let said: Option<Value> = whole(body)
            .await
            .and_then(|body| serde_json::from_slice(&body).ok());
        let message = said
            .as_ref()
            .and_then(|said| said.pointer("/error/message")?.as_str())
            .unwrap_or(&code)
            .to_owned();
        Self {
            status: head.status,
            code,
            message,
            headers: carried(&head.headers),
        }
    }
}

/// Gives an answer in another shape the headers that hold for any.
pub(crate) fn carry(
    mut response: Response<AnswerBody>,
    headers: &HeaderMap,
) -> Response<AnswerBody> {
    for (name, value) in headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Reads a body to its end; `None` when it broke off, or is longer than anybody should keep.
async fn whole(mut body: AnswerBody) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if read.len().saturating_add(data.len()) > ANSWER_BYTES_MAX {
                return None;
            }
            read.extend_from_slice(&data);
        }
    }
    Some(read.freeze())
}

fn carried(headers: &HeaderMap) -> HeaderMap {
    CARRIED
        .iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
        .collect()
}

/// An upstream's JSON error in one line for people.
pub(crate) fn error_message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|value| {
        value
            .pointer("/error/message")
            .or_else(|| value.get("message"))?
            .as_str()
    });
    match message {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl Completion {
    fn told(self, body: Bytes, headers: HeaderMap) -> Completed {
        let usage = self.usage.unwrap_or_default();
        let content = self
            .choices
            .into_iter()
            .next()
            .and_then(|choice| choice.message?.content);
        Completed {
            body,
            text: match content {
                Some(Value::String(text)) => Some(text),
                _ => None,
            },
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            headers,
        }
    }
}
