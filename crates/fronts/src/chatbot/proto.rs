//! The messages of `muvtuber/chatbot/v2/chatbot.proto`, and of its older name.

/// `NewSessionRequest` of v2.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NewSession {
    #[prost(string, tag = "1")]
    pub(super) config: String,
    #[prost(string, tag = "2")]
    pub(super) initial_prompt: String,
}

/// `NewSessionRequest` of v1.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NewSessionV1 {
    #[prost(string, tag = "1")]
    pub(super) access_token: String,
    #[prost(string, tag = "2")]
    pub(super) initial_prompt: String,
}

/// `NewSessionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Made {
    #[prost(string, tag = "1")]
    pub(super) session_id: String,
    #[prost(string, tag = "2")]
    pub(super) initial_response: String,
}

/// `ChatRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Chat {
    #[prost(string, tag = "1")]
    pub(super) session_id: String,
    #[prost(string, tag = "2")]
    pub(super) prompt: String,
}

/// `ChatResponse`; its number 1 was never used.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Said {
    #[prost(string, tag = "2")]
    pub(super) response: String,
}

/// `DeleteSessionRequest` and `DeleteSessionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Session {
    #[prost(string, tag = "1")]
    pub(super) session_id: String,
}
