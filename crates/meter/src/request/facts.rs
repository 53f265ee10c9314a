//! What a request body says about itself.

use std::ops::Range;

use tariff::SearchSize;

use crate::{BatchAsks, StreamOptionsAt};

/// Something a body names that the provider keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What kind of thing it is, by where it stands.
    pub what: What,
    /// Its id.
    pub id: String,
}

/// A kind of thing that providers keep and bodies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `previous_response_id`.
    Response,
    /// `conversation`, itself or its `id`.
    Conversation,
    /// `file_id`, `file_ids`, wherever they stand.
    File,
    /// `vector_store_ids`.
    VectorStore,
    /// `container`, itself or its `id`.
    Container,
    /// An item of `input` whose content stands at the provider: `item_reference` and its like.
    Item,
    /// `audio.id` of a chat's earlier message.
    Recording,
}

impl What {
    /// The field that names it.
    #[must_use]
    pub const fn param(self) -> &'static str {
        match self {
            Self::Response => "previous_response_id",
            Self::Conversation => "conversation",
            Self::File => "file_id",
            Self::VectorStore => "vector_store_ids",
            Self::Container => "container",
            Self::Item => "input",
            Self::Recording => "audio.id",
        }
    }
}

/// The facts admission needs, from a body that was valid and unambiguous.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// `model`; never empty. `None` when the key is absent or null.
    pub model: Option<String>,
    /// `stream`, or `stream_format: sse` of speech; absent and null are false, but for Ollama's own endpoints.
    pub stream: bool,
    /// `stream_options.include_usage`; absent and null are `None`.
    pub include_usage: Option<bool>,
    /// The largest limit given that the endpoint knows, in tokens: `max_tokens` and `max_completion_tokens` of
    /// chats, `max_tokens` of completions and messages, `max_output_tokens` of responses. Never 0: one of 0 is no limit.
    pub output_limit: Option<u64>,
    /// How many answers may be generated: the larger of `n` and `best_of`, at least 1.
    pub choices: u64,
    /// How many inputs the request has, each answered by itself: the prompts of completions, the inputs of embeddings
    /// where they are an array of texts or of token lists; else 1.
    pub inputs: u64,
    /// `service_tier` as written.
    pub service_tier: Option<String>,
    /// The body names things outside itself (images, files, earlier answers) or hosted tools, so its
    /// length does not bound its tokens.
    pub refers_outside: bool,
    /// The answer may be other than text (`modalities`, `audio`). Sets `refers_outside` too.
    pub other_modalities: bool,
    /// The body offers tools that run at the provider, each call of which may have a fee.
    pub hosted_tools: bool,
    /// The most calls of such tools that the request allows: `max_tool_calls` of responses, the sum of `max_uses` of
    /// messages where every hosted tool has one. `None`: no limit of its own.
    pub tool_calls_max: Option<u64>,
    /// The largest `search_context_size` that the request gives its searches; [`SearchSize::Medium`] where one of several
    /// has none. `None`: it gives none at all.
    pub search_size: Option<SearchSize>,
    /// How many pages the request picks from a document (`pages` of OCR). `None`: all of them, however many.
    pub pages: Option<u64>,
    /// Pages shall be annotated (OCR), which has a price of its own.
    pub annotates: bool,
    /// `speed` of messages.
    pub speed: Option<String>,
    /// `size` of images.
    pub size: Option<String>,
    /// `quality` of images.
    pub quality: Option<String>,
    /// `response_format` of audio.
    pub response_format: Option<String>,
    /// `seconds` of videos, as written.
    pub seconds: Option<String>,
    /// `purpose` of an uploaded file.
    pub purpose: Option<String>,
    /// What the requests in an uploaded file ask for, where its purpose is `batch`.
    pub batch: Option<Box<BatchAsks>>,
    /// Characters of `input` of speech.
    pub characters: u64,
    /// Bytes of the files that a form carries.
    pub file_bytes: u64,
    /// Where in the body the content of the first file of a form stands.
    pub file_at: Option<Range<u64>>,
    /// `models`, `route` or `preset` (OpenRouter) let the upstream choose another model than `model`.
    pub may_reroute: bool,
    /// `background`; absent and null are false.
    pub background: bool,
    /// `store`; of several the true one counts. `None` when the key is absent or null.
    pub stores: Option<bool>,
    /// What it names that the provider keeps, in the order it stands there; each id once.
    pub named: Vec<Named>,
    /// Length of the body in bytes, white space included.
    pub body_bytes: u64,
    /// Offset of the closing brace of the top-level object.
    pub closed_at: u64,
    /// Whether the top-level object has no members.
    pub is_empty: bool,
    /// Where `stream_options` stands; `None` when the key is absent.
    pub stream_options: Option<StreamOptionsAt>,
}
