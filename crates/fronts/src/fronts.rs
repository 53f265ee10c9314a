//! The doors that are open, and which of them a request is for.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Request, Response};

use crate::{
    agent,
    chatbot::{self, Chatbot, ChatbotSettings, GrpcBody},
    complete::{self, Complete, CompleteSettings},
    exchange::Host,
    reply::AnswerBody,
    resale::{self, Resale, ResaleSettings},
    seal::Seal,
    simple::{self, Simple, SimpleSettings},
};

/// Which doors are open, and how each is set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Door `agent`.
    pub agent: bool,
    /// Door `resale`.
    pub resale: Option<ResaleSettings>,
    /// Door `simple`.
    pub simple: Option<SimpleSettings>,
    /// Door `complete`.
    pub complete: Option<CompleteSettings>,
    /// Door `chatbot`.
    pub chatbot: Option<ChatbotSettings>,
    /// How dialogs are kept.
    pub seal: Seal,
}

/// The doors that are open.
pub struct Fronts {
    agent: bool,
    resale: Option<Resale>,
    simple: Option<Simple>,
    complete: Option<Complete>,
    chatbot: Option<Chatbot>,
}

/// A door that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// chatgpt-agent's.
    Agent,
    /// resale-chatgpt-azure's.
    Resale,
    /// docker-chatgpt's.
    Simple,
    /// chat_gpt_proxy's.
    Complete,
    /// chatgpt_chatbot's HTTP mode.
    Chatbot,
    /// Its gRPC service: the request is read as it comes.
    ChatbotGrpc,
}

impl Door {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => agent::NAME,
            Self::Resale => resale::NAME,
            Self::Simple => simple::NAME,
            Self::Complete => complete::NAME,
            Self::Chatbot | Self::ChatbotGrpc => chatbot::NAME,
        }
    }
}

impl Fronts {
    /// The open doors; `None` where all are shut.
    #[must_use]
    pub fn new(settings: Settings) -> Option<Self> {
        let fronts = Self {
            agent: settings.agent,
            resale: settings
                .resale
                .map(|resale| Resale::new(resale, settings.seal.clone())),
            simple: settings.simple.map(Simple::new),
            complete: settings.complete.map(Complete::new),
            chatbot: settings
                .chatbot
                .map(|chatbot| Chatbot::new(chatbot, settings.seal)),
        };
        let is_any = fronts.agent
            || fronts.resale.is_some()
            || fronts.simple.is_some()
            || fronts.complete.is_some()
            || fronts.chatbot.is_some();
        is_any.then_some(fronts)
    }

    /// The door that a path belongs to.
    #[must_use]
    pub fn door(&self, path: &str) -> Option<Door> {
        if self.agent && agent::serves(path) {
            return Some(Door::Agent);
        }
        if self.resale.is_some() && resale::serves(path) {
            return Some(Door::Resale);
        }
        if let Some(chatbot) = &self.chatbot {
            if chatbot.serves_grpc(path) {
                return Some(Door::ChatbotGrpc);
            }
            if Chatbot::serves_http(path) {
                return Some(Door::Chatbot);
            }
        }
        if self.complete.is_some() && path == "/chat_complete" {
            return Some(Door::Complete);
        }
        if self
            .simple
            .as_ref()
            .is_some_and(|simple| simple.serves(path))
        {
            return Some(Door::Simple);
        }
        (self.complete.is_some() && path == "/").then_some(Door::Complete)
    }

    /// Answers a request that came in by a door, from this address.
    pub async fn serve(
        &self,
        door: Door,
        host: &dyn Host,
        address: IpAddr,
        request: Request<Bytes>,
    ) -> Response<AnswerBody> {
        if let (Door::Chatbot, Some(chatbot)) = (door, &self.chatbot) {
            return chatbot.serve_http(host, request).await;
        }
        match (door, &self.resale, &self.simple, &self.complete) {
            (Door::Resale, Some(resale), ..) => resale.serve(host, request).await,
            (Door::Simple, _, Some(simple), _) => simple.serve(host, address, request).await,
            (Door::Complete, .., Some(complete)) => complete.serve(host, request).await,
            _ => agent::serve(host, request).await,
        }
    }

    /// Answers a gRPC call; `None` where its door is shut.
    pub async fn serve_grpc(
        &self,
        host: &dyn Host,
        request: Request<GrpcBody>,
    ) -> Option<Response<AnswerBody>> {
        let chatbot = self.chatbot.as_ref()?;
        Some(chatbot.serve_grpc(host, request).await)
    }

    /// 413 in the shape of a door.
    #[must_use]
    pub fn too_large(&self, door: Door, bytes_max: usize) -> Response<AnswerBody> {
        match (door, &self.simple) {
            (Door::Simple, Some(simple)) => simple.too_large(bytes_max),
            (Door::Complete, _) => complete::too_large(bytes_max),
            (Door::Chatbot, _) => Chatbot::too_large(bytes_max),
            (Door::Resale, _) => resale::too_large(bytes_max),
            _ => agent::too_large(),
        }
    }
}
