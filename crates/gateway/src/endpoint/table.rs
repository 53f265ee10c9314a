//! Every endpoint that is known: what its body is, which meter reads its answer, what bounds its cost.
//!
//! A path is found by its end, so that any base path works (`/v1`, `/openai/v1`, `/api/v1`, none). Where it has a name in
//! braces stands one segment: that of a [`Kind`] is the id of such an object, which must be the caller's; `{id}` is any other.
//! `tests/endpoints.rs` reads this table and fails for a row that it has no exchange for.

use http::Method;
use meter::{Api, Speech};

use super::kept::{Act, Kind};

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) method: Method,
    /// The end of the path: `/responses/{response}/cancel`.
    pub(crate) path: &'static str,
    /// The name in charges, logs, metrics and the endpoints of access tokens.
    pub(crate) name: &'static str,
    pub(crate) does: Does,
}

/// What an endpoint means for metering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Costs money.
    Metered(Metered),
    /// Costs nothing at the provider; relayed as it is.
    Free,
    /// Costs nothing either, and is about what the provider keeps: relayed if it is the caller's.
    Kept(Act),
    /// A WebSocket, each turn on which costs money.
    Socket(Speech),
    /// An upload, or work that goes on after its request.
    Work(Work),
    /// Would let a client spend where nobody meters: never relayed, whatever `UNKNOWN_PATHS` says.
    Refused,
    /// The same, but relayed uncharged where `ALLOW_UNMETERED_REALTIME=on`.
    Unmetered,
    /// The models this access token may use: answered by ourselves.
    Models,
    /// What it has spent and may spend: answered by ourselves.
    Billing(Billing),
}

/// A question about money that client tools ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Billing {
    /// How much the token may spend in all, and until when.
    Subscription,
    /// What the token has spent, by day and model, in cents.
    Usage,
    /// How much there was to spend, how much was spent and how much is left.
    Grants,
    /// The account's usage in buckets of a day.
    OrganizationUsage,
    /// The account's costs in buckets of a day.
    OrganizationCosts,
    /// What the page `/usage` shows: balance, caps, and the token's usage by day and model.
    Holder,
}

/// How an endpoint that costs money is metered. Its model is the field `model` of its body, or a deployment's
/// name in its path; its answer is a stream if the field `stream` asks so (`stream_format` of speech).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metered {
    /// Who reads request and answer.
    pub(crate) api: Api,
    pub(crate) body: BodyKind,
    /// A stream reports usage only if the request asks for it in `stream_options`.
    pub(crate) usage_on_request: bool,
    pub(crate) bound: BoundBy,
    /// What the provider may keep of it under the answer's id, which is then the caller's.
    pub(crate) creates: Option<Kind>,
}

/// What is uploaded, or begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A file in one piece.
    File,
    /// A file in parts.
    Upload,
    /// A batch of the requests in a file.
    Batch,
    /// A batch of the messages in its body (Anthropic).
    MessageBatch,
    Video,
    /// A video made of another.
    Remix,
    /// Fine-tuning.
    Tuning,
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Json,
    Form,
    Either,
}

/// What bounds an exchange's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoundBy {
    /// The request's length, or the model's context window; and the request's limit of the output, or the model's.
    Tokens,
    /// As `Tokens`; and so much audio as a turn can have, where that has a price of its own.
    Turn,
    /// As `Tokens`, without output.
    Input,
    /// `n` images.
    Images,
    /// The characters of the text to read out.
    Characters,
    /// The time that the uploaded audio can play at most.
    Time,
    /// The pages that the request picks, or the most that a document has.
    Pages,
}

pub(super) const fn row(method: Method, path: &'static str, name: &'static str, does: Does) -> Row {
    Row {
        method,
        path,
        name,
        does,
    }
}

/// A metered POST whose name is its path.
const fn post(path: &'static str, api: Api, body: BodyKind, bound: BoundBy) -> Row {
    let usage_on_request = matches!(api, Api::ChatCompletions | Api::Completions);
    let (_, name) = path.split_at(1);
    let metered = Metered {
        api,
        body,
        usage_on_request,
        bound,
        creates: creates(path),
    };
    row(Method::POST, path, name, Does::Metered(metered))
}

/// What the metered endpoints' answers are kept as.
const fn creates(path: &str) -> Option<Kind> {
    match path.as_bytes() {
        b"/responses" => Some(Kind::Response),
        b"/chat/completions" => Some(Kind::ChatCompletion),
        b"/messages" => Some(Kind::Message),
        _ => None,
    }
}

/// About what the provider keeps.
pub(super) const fn kept(method: Method, path: &'static str, name: &'static str, act: Act) -> Row {
    row(method, path, name, Does::Kept(act))
}

const fn free(path: &'static str) -> Row {
    row(Method::POST, path, "free", Does::Free)
}

const fn billing(path: &'static str, billing: Billing) -> Row {
    row(Method::GET, path, "billing", Does::Billing(billing))
}

const fn unmetered(path: &'static str) -> Row {
    row(Method::POST, path, "unmetered", Does::Unmetered)
}

const fn socket(path: &'static str, speech: Speech) -> Row {
    let (_, name) = path.split_at(1);
    row(Method::GET, path, name, Does::Socket(speech))
}

const fn refused(path: &'static str) -> Row {
    row(Method::POST, path, "refused", Does::Refused)
}

pub(crate) static TABLE: &[Row] = &[
    post(
        "/chat/completions",
        Api::ChatCompletions,
        BodyKind::Json,
        BoundBy::Tokens,
    ),
    post(
        "/completions",
        Api::Completions,
        BodyKind::Json,
        BoundBy::Tokens,
    ),
    post(
        "/embeddings",
        Api::Embeddings,
        BodyKind::Json,
        BoundBy::Input,
    ),
    post("/rerank", Api::Rerank, BodyKind::Json, BoundBy::Input),
    post("/score", Api::Rerank, BodyKind::Json, BoundBy::Input),
    post("/ocr", Api::Ocr, BodyKind::Json, BoundBy::Pages),
    post(
        "/responses",
        Api::Responses,
        BodyKind::Json,
        BoundBy::Tokens,
    ),
    post(
        "/responses/compact",
        Api::Responses,
        BodyKind::Json,
        BoundBy::Tokens,
    ),
    // Free, and counts what its body names.
    kept(Method::POST, "/responses/input_tokens", "free", Act::Change),
    post("/messages", Api::Messages, BodyKind::Json, BoundBy::Tokens),
    kept(Method::POST, "/messages/count_tokens", "free", Act::Change),
    free("/moderations"),
    post(
        "/images/generations",
        Api::Images,
        BodyKind::Json,
        BoundBy::Images,
    ),
    post(
        "/images/edits",
        Api::Images,
        BodyKind::Either,
        BoundBy::Images,
    ),
    post(
        "/images/variations",
        Api::Images,
        BodyKind::Form,
        BoundBy::Images,
    ),
    post(
        "/audio/speech",
        Api::Speech,
        BodyKind::Json,
        BoundBy::Characters,
    ),
    post(
        "/audio/transcriptions",
        Api::Transcriptions,
        BodyKind::Form,
        BoundBy::Time,
    ),
    post(
        "/audio/translations",
        Api::Transcriptions,
        BodyKind::Form,
        BoundBy::Time,
    ),
    // Ollama's own.
    post("/api/chat", Api::Generate, BodyKind::Json, BoundBy::Tokens),
    post(
        "/api/generate",
        Api::Generate,
        BodyKind::Json,
        BoundBy::Tokens,
    ),
    // llama.cpp's own names no model, and several prompts get several answers: its `/completions` are metered.
    refused("/completion"),
    // What a check costs, nobody tells.
    refused("/content_provenance_checks"),
    // These hand the client a key, or a connection, to the provider itself.
    unmetered("/realtime/client_secrets"),
    unmetered("/realtime/sessions"),
    unmetered("/realtime/transcription_sessions"),
    unmetered("/realtime/translations/client_secrets"),
    unmetered("/realtime/translations/calls"),
    unmetered("/realtime/calls"),
    unmetered("/realtime/calls/{id}/accept"),
    unmetered("/realtime/calls/{id}/reject"),
    unmetered("/realtime/calls/{id}/refer"),
    unmetered("/realtime/calls/{id}/hangup"),
    socket("/realtime", Speech::Realtime),
    socket("/realtime/translations", Speech::Translations),
    socket("/responses", Speech::Responses),
    refused("/chatkit/sessions"),
    row(Method::GET, "/models", "models", Does::Models),
    // Not in OpenAI's API, and yet asked by many tools.
    billing("/dashboard/billing/subscription", Billing::Subscription),
    billing("/dashboard/billing/usage", Billing::Usage),
    billing("/dashboard/billing/credit_grants", Billing::Grants),
    billing(
        "/organization/usage/completions",
        Billing::OrganizationUsage,
    ),
    billing("/organization/costs", Billing::OrganizationCosts),
    // For our own page `/usage`.
    billing("/usage.json", Billing::Holder),
    // What is kept of responses, chats and conversations.
    kept(
        Method::GET,
        "/responses/{response}",
        "responses/get",
        Act::Read,
    ),
    kept(
        Method::DELETE,
        "/responses/{response}",
        "responses/delete",
        Act::Delete,
    ),
    kept(
        Method::POST,
        "/responses/{response}/cancel",
        "responses/cancel",
        Act::Change,
    ),
    kept(
        Method::GET,
        "/responses/{response}/input_items",
        "responses/input_items",
        Act::Read,
    ),
    kept(
        Method::GET,
        "/chat/completions",
        "chat/completions/list",
        Act::List(Kind::ChatCompletion),
    ),
    kept(
        Method::GET,
        "/chat/completions/{chat_completion}",
        "chat/completions/get",
        Act::Read,
    ),
    kept(
        Method::GET,
        "/chat/completions/{chat_completion}/messages",
        "chat/completions/messages",
        Act::Read,
    ),
    kept(
        Method::POST,
        "/chat/completions/{chat_completion}",
        "chat/completions/update",
        Act::Change,
    ),
    kept(
        Method::DELETE,
        "/chat/completions/{chat_completion}",
        "chat/completions/delete",
        Act::Delete,
    ),
    kept(
        Method::POST,
        "/conversations",
        "conversations",
        Act::Create(Kind::Conversation),
    ),
    kept(
        Method::GET,
        "/conversations/{conversation}",
        "conversations/get",
        Act::Read,
    ),
    kept(
        Method::POST,
        "/conversations/{conversation}",
        "conversations/update",
        Act::Change,
    ),
    kept(
        Method::DELETE,
        "/conversations/{conversation}",
        "conversations/delete",
        Act::Delete,
    ),
    kept(
        Method::GET,
        "/conversations/{conversation}/items",
        "conversations/items",
        Act::Read,
    ),
    kept(
        Method::POST,
        "/conversations/{conversation}/items",
        "conversations/items",
        Act::Change,
    ),
    kept(
        Method::GET,
        "/conversations/{conversation}/items/{id}",
        "conversations/items",
        Act::Read,
    ),
    kept(
        Method::DELETE,
        "/conversations/{conversation}/items/{id}",
        "conversations/items",
        Act::Change,
    ),
];
