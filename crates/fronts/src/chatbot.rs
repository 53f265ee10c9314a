//! Door `chatbot`: chatgpt_chatbot's gRPC service, and its HTTP mode.

mod deadline;
mod grpc;
mod http_mode;
mod proto;
mod reflection;
mod session;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use self::session::Session;
use crate::{
    answer::{Outcome, ask, error_message},
    exchange::{Call, Caller, Host},
    history::{Message, shorten, tokens},
    reply::AnswerBody,
    seal::Seal,
    store::DialogName,
    turns::{NoTurn, Taken, Turns, Whose},
};

/// In logs and metrics.
pub(crate) const NAME: &str = "chatbot";

/// Of a gRPC request: it is read as it comes.
pub type GrpcBody = UnsyncBoxBody<Bytes, Broken>;

/// A request's body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body broke off")]
pub struct Broken;

/// What a conversation may come to, the next answer included.
const CONTEXT_TOKENS: u64 = 3000;
/// What of it is kept for the answer.
const ANSWER_TOKENS_MIN: u64 = 256;

/// What the operator sets.
#[derive(Clone, Debug)]
pub struct ChatbotSettings {
    /// The model of every session.
    pub model: String,
    /// Between two chats of one key in sessions of version 1.
    pub cooldown: Duration,
    /// The same in sessions of version 3.
    pub cooldown_v3: Duration,
    /// Live sessions of one key.
    pub sessions_max: u32,
    /// A session that is not used for so long is over.
    pub idle: Duration,
    /// Whether the service describes itself.
    pub reflection: bool,
    /// The access token of HTTP callers who show none.
    pub token: Option<String>,
}

/// The door.
pub(crate) struct Chatbot {
    settings: ChatbotSettings,
    turns: Turns,
}

/// Why a chat came to nothing.
#[derive(Debug)]
enum Trouble {
    /// There is no such session.
    NoSession,
    /// Its key may not chat yet.
    Cooldown {
        /// Whole seconds left, cut off.
        seconds: u64,
    },
    /// A limit of the key's.
    Exhausted(String),
    /// The key is not valid any more.
    Unauthenticated(String),
    /// What was said cannot be answered.
    Unavailable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession => f.write_str("there is no such session"),
            Self::Cooldown { seconds } => write!(f, "Cooldown: {seconds} seconds"),
            Self::Exhausted(why) | Self::Unauthenticated(why) | Self::Unavailable(why) => {
                f.write_str(why)
            }
        }
    }
}

impl From<NoTurn> for Trouble {
    fn from(no_turn: NoTurn) -> Self {
        match no_turn {
            NoTurn::Absent => Self::NoSession,
            NoTurn::Crowded => Self::Exhausted(no_turn.to_string()),
            NoTurn::Away(_) | NoTurn::Sealed(_) => Self::Unavailable(no_turn.to_string()),
        }
    }
}

impl From<crate::Away> for Trouble {
    fn from(away: crate::Away) -> Self {
        Self::Unavailable(away.to_string())
    }
}

impl Chatbot {
    pub(crate) fn new(settings: ChatbotSettings, seal: Seal) -> Self {
        Self {
            settings,
            turns: Turns::new(seal),
        }
    }

    /// Whether the path is one of the gRPC services'.
    pub(crate) fn serves_grpc(&self, path: &str) -> bool {
        grpc::serves(path) || self.settings.reflection && reflection::serves(path)
    }

    /// Whether the path is one of the HTTP mode's.
    pub(crate) fn serves_http(path: &str) -> bool {
        http_mode::serves(path)
    }

    /// Answers a gRPC call.
    pub(crate) async fn serve_grpc(
        &self,
        host: &dyn Host,
        request: Request<GrpcBody>,
    ) -> Response<AnswerBody> {
        if reflection::serves(request.uri().path()) {
            return reflection::serve(request).await;
        }
        grpc::serve(self, host, request).await
    }

    /// 413 in the HTTP mode's shape.
    pub(crate) fn too_large(bytes_max: usize) -> Response<AnswerBody> {
        http_mode::too_large(bytes_max)
    }

    /// Answers an HTTP call.
    pub(crate) async fn serve_http(
        &self,
        host: &dyn Host,
        request: Request<Bytes>,
    ) -> Response<AnswerBody> {
        http_mode::serve(self, host, request).await
    }

    /// One turn of a conversation: what the model says to this prompt. What fails leaves the conversation as it was, and its
    /// key's cooldown where it stood.
    async fn chat(
        &self,
        host: &dyn Host,
        whose: Whose,
        name: DialogName,
        prompt: &str,
        is_cooled: bool,
    ) -> Result<String, Trouble> {
        let turn = self.turns.take(host, whose, name).await?;
        let mut session = turn
            .content
            .as_deref()
            .map_or_else(Session::of_http, Session::read);
        let cooldown = self.cooldown(session.version).filter(|_| is_cooled);
        if let Some(cooldown) = cooldown
            && let Some(left_ms) = host
                .start_cooldown(turn.payer(), session.version, cooldown)
                .await?
        {
            turn.abandon().await;
            return Err(Trouble::Cooldown {
                seconds: left_ms / 1000,
            });
        }
        session.messages.push(Message::new("user", prompt));
        shorten(
            &mut session.messages,
            CONTEXT_TOKENS.saturating_sub(ANSWER_TOKENS_MIN),
        );
        let said = self.say(host, &turn, &session.messages).await;
        match said {
            Ok(text) => {
                session.messages.push(Message::new("assistant", &*text));
                turn.end(&session.kept()).await?;
                Ok(text)
            }
            Err(trouble) => {
                if cooldown.is_some() {
                    let _ = host.end_cooldown(turn.payer(), session.version).await;
                }
                turn.abandon().await;
                Err(trouble)
            }
        }
    }

    /// What the model says.
    async fn say(
        &self,
        host: &dyn Host,
        turn: &Taken<'_>,
        messages: &[Message],
    ) -> Result<String, Trouble> {
        let max_tokens = CONTEXT_TOKENS
            .saturating_sub(tokens(messages))
            .max(ANSWER_TOKENS_MIN);
        let body = json!({
            "model": self.settings.model,
            "messages": messages,
            "temperature": 0.5,
            "top_p": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "n": 1,
            "user": "user",
            "max_tokens": max_tokens,
        });
        let call = Call::chat(NAME, turn.payer(), body.to_string());
        match turn.while_kept(ask(host, call)).await {
            Outcome::Completed(completed) => completed
                .text
                .filter(|text| !text.is_empty())
                .ok_or_else(|| Trouble::Unavailable("ChatGPT response is None".to_owned())),
            Outcome::Refused(refused) => Err(match refused.status {
                StatusCode::TOO_MANY_REQUESTS => Trouble::Exhausted(refused.message),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Trouble::Unauthenticated(refused.message)
                }
                _ => Trouble::Unavailable(refused.message),
            }),
            Outcome::Failed { status, body, .. } => Err(Trouble::Unavailable(format!(
                "{status} {}",
                error_message(&body)
            ))),
            Outcome::Broken { .. } => Err(Trouble::Unavailable(
                "the provider's answer is no chat completion".to_owned(),
            )),
        }
    }

    fn cooldown(&self, version: i16) -> Option<Duration> {
        let cooldown = match version {
            1 => self.settings.cooldown,
            _ => self.settings.cooldown_v3,
        };
        (!cooldown.is_zero()).then_some(cooldown)
    }
}

fn dialog_name(name: &str) -> DialogName {
    DialogName {
        door: NAME,
        digest: Sha256::digest(name).into(),
    }
}

/// Whose key this is, among several members of which the first that is not empty counts.
async fn whose_key<'a>(
    host: &dyn Host,
    mut keys: impl Iterator<Item = Option<&'a str>> + Send,
) -> Result<Option<Caller>, crate::Away> {
    match keys.find_map(|key| key.filter(|key| !key.is_empty())) {
        Some(key) => host.identify(key).await,
        None => Ok(None),
    }
}
