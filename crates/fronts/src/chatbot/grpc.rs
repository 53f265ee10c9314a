//! The three calls of the gRPC service, under both of its names.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tonic::{Code, Status, metadata::MetadataMap, server::UnaryService};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::{
    CONTEXT_TOKENS, Chatbot, GrpcBody, Trouble, deadline::deadline, dialog_name, proto,
    session::Session, whose_key,
};
use crate::{
    exchange::{Away, BoxFuture, Caller, Host},
    history::Message,
    reply::{AnswerBody, BoxError},
    turns::Whose,
};

pub(super) const PACKAGE_V2: &str = "muvtuber.chatbot.v2";
pub(super) const SERVICE_V2: &str = "ChatbotService";
pub(super) const PACKAGE_V1: &str = "muvtuber.chatbot.chatgpt_chatbot.v1";
pub(super) const SERVICE_V1: &str = "ChatGPTService";

/// The system message of a session whose maker gave none.
const PERSONA: &str = "You are a virtual streamer who chats with the audience, friendly and brief.";

/// Whether the path is one of the two services'.
pub(super) fn serves(path: &str) -> bool {
    method(path).is_some()
}

/// The method, and whether it is the older service's.
fn method(path: &str) -> Option<(&str, bool)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (package, name) = service.rsplit_once('.')?;
    match (package, name) {
        (PACKAGE_V2, SERVICE_V2) => Some((method, false)),
        (PACKAGE_V1, SERVICE_V1) => Some((method, true)),
        _ => None,
    }
}

/// Answers a call.
pub(super) async fn serve(
    chatbot: &Chatbot,
    host: &dyn Host,
    request: Request<GrpcBody>,
) -> Response<AnswerBody> {
    let calls = Calls {
        chatbot,
        host,
        deadline: deadline(&request),
    };
    let path = request.uri().path().to_owned();
    let response = match method(&path) {
        Some(("NewSession", false)) => {
            calls
                .unary(request, |this, asked: proto::NewSession, _| {
                    Box::pin(async move {
                        let asked = Wanted::v2(&asked)?;
                        this.new_session(asked).await
                    })
                })
                .await
        }
        Some(("NewSession", true)) => {
            calls
                .unary(request, |this, asked: proto::NewSessionV1, _| {
                    Box::pin(async move {
                        let asked = Wanted::v1(asked)?;
                        this.new_session(asked).await
                    })
                })
                .await
        }
        Some(("Chat", _)) => {
            calls
                .unary(request, |this, asked: proto::Chat, metadata| {
                    Box::pin(async move { this.chat(asked, metadata).await })
                })
                .await
        }
        Some(("DeleteSession", _)) => {
            calls
                .unary(request, |this, asked: proto::Session, metadata| {
                    Box::pin(async move { this.delete_session(asked, metadata).await })
                })
                .await
        }
        _ => Status::unimplemented(format!("there is no {path}")).into_http(),
    };
    response.map(|body: tonic::body::Body| {
        body.map_err(|status| Box::new(status) as BoxError)
            .boxed_unsync()
    })
}

/// What the calls have in common.
#[derive(Clone, Copy)]
struct Calls<'a> {
    chatbot: &'a Chatbot,
    host: &'a dyn Host,
    deadline: Duration,
}

/// A session as its maker wants it.
struct Wanted {
    version: i16,
    key: String,
    initial_prompt: String,
}

type Answered<A> = Result<A, Status>;
type Work<'a, Q, A> =
    Box<dyn FnOnce(Calls<'a>, Q, MetadataMap) -> BoxFuture<'a, Answered<A>> + Send + 'a>;

/// One call as tonic wants it.
struct Unary<'a, Q, A> {
    calls: Calls<'a>,
    work: Option<Work<'a, Q, A>>,
}

impl<'a, Q: Send + 'a, A: Send + 'a> UnaryService<Q> for Unary<'a, Q, A> {
    type Response = A;
    type Future = BoxFuture<'a, Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let (metadata, _, asked) = request.into_parts();
        let calls = self.calls;
        let work = self.work.take().map(|work| work(calls, asked, metadata));
        Box::pin(async move {
            let Some(work) = work else {
                return Err(Status::internal("a call is served once"));
            };
            // Dropped at the deadline, an exchange under way goes on to its charge, as with any client that leaves.
            match tokio::time::timeout(calls.deadline, work).await {
                Ok(answer) => answer.map(tonic::Response::new),
                Err(_) => Err(Status::deadline_exceeded("the deadline has passed")),
            }
        })
    }
}

impl<'a> Calls<'a> {
    async fn unary<Q, A>(
        self,
        request: Request<GrpcBody>,
        work: impl FnOnce(Self, Q, MetadataMap) -> BoxFuture<'a, Answered<A>> + Send + 'a,
    ) -> Response<tonic::body::Body>
    where
        Q: prost::Message + Default + Send + 'static,
        A: prost::Message + Default + Send + 'static,
    {
        let service = Unary {
            calls: self,
            work: Some(Box::new(work)),
        };
        tonic::server::Grpc::new(ProstCodec::<A, Q>::default())
            .unary(service, request)
            .await
    }

    async fn new_session(self, wanted: Wanted) -> Answered<proto::Made> {
        let Self { chatbot, host, .. } = self;
        let key = whose_key(host, [Some(wanted.key.as_str())].into_iter()).await;
        let caller = key
            .map_err(away)?
            .ok_or_else(|| Status::invalid_argument("the key is not valid"))?;
        let session = match wanted.version {
            1 => Session::v1(),
            _ if wanted.initial_prompt.is_empty() => Session::v3(PERSONA),
            _ => Session::v3(&wanted.initial_prompt),
        };
        if Message::new("system", &*wanted.initial_prompt).tokens() > CONTEXT_TOKENS {
            return Err(Status::invalid_argument(format!(
                "initial_prompt has more than {CONTEXT_TOKENS} tokens"
            )));
        }
        let session_id = Uuid::new_v4().to_string();
        let name = dialog_name(&session_id);
        let kept = chatbot
            .turns
            .close(name, &session.kept())
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (most, idle) = (chatbot.settings.sessions_max, chatbot.settings.idle);
        let made = host.make_dialog(caller, name, kept, most.into(), idle);
        if !made.await.map_err(away)? {
            return Err(Status::resource_exhausted(format!(
                "Too many sessions, max {most}"
            )));
        }
        let mut initial_response = String::new();
        if wanted.version == 1 && !wanted.initial_prompt.is_empty() {
            let said = chatbot
                .chat(
                    host,
                    Whose::Anybody(idle),
                    name,
                    &wanted.initial_prompt,
                    false,
                )
                .await;
            match said {
                Ok(said) => initial_response = said,
                Err(trouble) => {
                    // Nobody was told its id.
                    let _ = host.delete_dialog(Some(caller), name, idle).await;
                    return Err(status(&trouble, &session_id));
                }
            }
        }
        Ok(proto::Made {
            session_id,
            initial_response,
        })
    }

    async fn chat(self, asked: proto::Chat, metadata: MetadataMap) -> Answered<proto::Said> {
        let Self { chatbot, host, .. } = self;
        let id = session_id(&asked.session_id)?;
        if asked.prompt.is_empty() {
            return Err(Status::invalid_argument("prompt is required"));
        }
        let (name, idle) = (dialog_name(&id), chatbot.settings.idle);
        let whose = match self.shown(&metadata).await? {
            // Whoever shows a key reaches his own sessions alone.
            Some(caller) if host.dialog(caller, name).await.map_err(away)?.is_none() => {
                return Err(status(&Trouble::NoSession, &id));
            }
            _ => Whose::Anybody(idle),
        };
        let said = chatbot.chat(host, whose, name, &asked.prompt, true).await;
        said.map(|response| proto::Said { response })
            .map_err(|trouble| status(&trouble, &id))
    }

    async fn delete_session(
        self,
        asked: proto::Session,
        metadata: MetadataMap,
    ) -> Answered<proto::Session> {
        let Self { chatbot, host, .. } = self;
        let session_id = session_id(&asked.session_id)?;
        let caller = self.shown(&metadata).await?;
        let (name, idle) = (dialog_name(&session_id), chatbot.settings.idle);
        let deleted = host.delete_dialog(caller, name, idle);
        if deleted.await.map_err(away)? {
            Ok(proto::Session { session_id })
        } else {
            Err(status(&Trouble::NoSession, &session_id))
        }
    }

    /// The key in a call's metadata, if its caller shows one: a session's id alone is enough.
    async fn shown(&self, metadata: &MetadataMap) -> Answered<Option<Caller>> {
        let Some(shown) = metadata.get("authorization") else {
            return Ok(None);
        };
        let secret = shown
            .to_str()
            .ok()
            .and_then(|shown| shown.strip_prefix("Bearer "))
            .unwrap_or_default();
        match self.host.identify(secret.trim()).await.map_err(away)? {
            Some(caller) => Ok(Some(caller)),
            None => Err(Status::unauthenticated("the key is not valid")),
        }
    }
}

impl Wanted {
    fn v2(asked: &proto::NewSession) -> Answered<Self> {
        let config: Value = serde_json::from_str(&asked.config)
            .map_err(|error| Status::invalid_argument(format!("config is not JSON: {error}")))?;
        let version = match config.get("version").and_then(Value::as_i64) {
            Some(1) => 1,
            Some(3) => 3,
            _ => {
                let version = config.get("version").unwrap_or(&Value::Null);
                return Err(Status::invalid_argument(format!(
                    "{version} is not a valid version: 1 or 3"
                )));
            }
        };
        let key = ["access_token", "api_key"]
            .iter()
            .filter_map(|name| config.get(*name)?.as_str())
            .find(|key| !key.is_empty());
        Ok(Self {
            version,
            key: key
                .ok_or_else(|| Status::invalid_argument("access_token or api_key is required"))?
                .to_owned(),
            initial_prompt: asked.initial_prompt.clone(),
        })
    }

    fn v1(asked: proto::NewSessionV1) -> Answered<Self> {
        if asked.access_token.is_empty() {
            return Err(Status::invalid_argument("access_token is required"));
        }
        Ok(Self {
            version: 1,
            key: asked.access_token,
            initial_prompt: asked.initial_prompt,
        })
    }
}

/// A session's id as it was given out; nothing else names a session.
fn session_id(given: &str) -> Answered<String> {
    if given.is_empty() {
        return Err(Status::invalid_argument("session_id is required"));
    }
    match Uuid::try_parse(given) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(status(&Trouble::NoSession, given)),
    }
}

fn status(trouble: &Trouble, session_id: &str) -> Status {
    match trouble {
        Trouble::NoSession => Status::not_found(format!("Session {session_id} not found")),
        Trouble::Cooldown { .. } | Trouble::Exhausted(_) => {
            Status::resource_exhausted(trouble.to_string())
        }
        Trouble::Unauthenticated(why) => Status::unauthenticated(why),
        Trouble::Unavailable(why) => Status::unavailable(why),
    }
}

fn away(away: Away) -> Status {
    Status::new(Code::Unavailable, away.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_services_are_found_and_no_other() {
        assert_eq!(
            method("/muvtuber.chatbot.v2.ChatbotService/Chat"),
            Some(("Chat", false))
        );
        assert_eq!(
            method("/muvtuber.chatbot.chatgpt_chatbot.v1.ChatGPTService/Chat"),
            Some(("Chat", true))
        );
        for path in [
            "/chat",
            "/muvtuber.chatbot.v2.ChatGPTService/Chat",
            "/v1/chat/completions",
        ] {
            assert_eq!(method(path), None, "{path}");
        }
    }
}
