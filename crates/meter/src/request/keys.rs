//! The keys of a request that are read, and how names are compared.

use super::facts::What;
use crate::Api;

/// The longest key that can be one of ours, in bytes. Folding may take three bytes for a letter.
pub(super) const KEY_BYTES_MAX: usize = 72;

/// What a top-level key introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Top {
    Model,
    Stream,
    StreamOptions,
    /// `max_tokens`, `max_completion_tokens`, `max_output_tokens`; see [`limits_output`].
    OutputLimit,
    /// `n`, `best_of`.
    Choices,
    ServiceTier,
    Background,
    /// `size`, `quality`, `response_format`, `speed`.
    Word,
    /// `pages` of OCR.
    Pages,
    /// A value other than null asks for annotations of pages.
    Annotations,
    /// `stream_format`.
    StreamFormat,
    /// `max_tool_calls`.
    ToolCalls,
    /// `input` of speech: its characters are billed.
    Speech,
    /// Searches and their like, other than in `tools`: outside, and hosted tools.
    Search,
    /// A value other than null refers outside the body.
    Outside,
    /// Names what the provider keeps, and so refers outside the body.
    Names(What),
    /// `store`.
    Store,
    /// A value other than null lets the upstream choose another model.
    Reroute,
    /// An object refers outside the body, text does not.
    Prompt,
    Modalities,
    Audio,
    Tools,
    /// Items; one that only has an id refers outside.
    Input,
    /// What else the model reads: messages and their like.
    Content,
    /// Schemas and labels, where a key named `file` means nothing.
    Exempt,
    Other,
}

/// A top-level key whose value decides what an exchange may cost: it must stand there once.
pub(super) struct Deciding {
    pub(super) name: &'static str,
    pub(super) top: Top,
    /// The only endpoints where it decides; empty for all.
    apis: &'static [Api],
}

impl Deciding {
    pub(super) fn is_for(&self, api: Api) -> bool {
        self.apis.is_empty() || self.apis.contains(&api)
    }
}

const fn deciding(name: &'static str, top: Top) -> Deciding {
    deciding_for(&[], name, top)
}

const fn deciding_for(apis: &'static [Api], name: &'static str, top: Top) -> Deciding {
    Deciding { name, top, apis }
}

/// Of images `background` is a word.
const NOT_IMAGES: &[Api] = &[
    Api::ChatCompletions,
    Api::Completions,
    Api::Embeddings,
    Api::Responses,
    Api::Messages,
    Api::Speech,
    Api::Transcriptions,
    Api::Rerank,
    Api::Generate,
    Api::Batches,
    Api::Runs,
    Api::Files,
    Api::Videos,
];

/// One bit of the reader's memory for each.
pub(super) const DECIDING: [Deciding; 18] = [
    deciding("model", Top::Model),
    deciding("stream", Top::Stream),
    deciding("stream_options", Top::StreamOptions),
    deciding("max_tokens", Top::OutputLimit),
    deciding("max_completion_tokens", Top::OutputLimit),
    deciding("max_output_tokens", Top::OutputLimit),
    deciding("n", Top::Choices),
    deciding("best_of", Top::Choices),
    deciding("service_tier", Top::ServiceTier),
    deciding_for(NOT_IMAGES, "background", Top::Background),
    deciding_for(&[Api::Images, Api::Videos], "size", Top::Word),
    deciding_for(&[Api::Videos], "seconds", Top::Word),
    deciding_for(&[Api::Images, Api::Speech], "response_format", Top::Word),
    deciding_for(&[Api::Images], "quality", Top::Word),
    deciding_for(&[Api::Speech], "stream_format", Top::StreamFormat),
    deciding_for(&[Api::Speech], "input", Top::Speech),
    deciding_for(&[Api::Messages], "speed", Top::Word),
    deciding_for(&[Api::Ocr], "pages", Top::Pages),
];

/// Limits the calls of hosted tools. Not among [`DECIDING`]: of two the larger counts.
pub(super) const MAX_TOOL_CALLS: &str = "max_tool_calls";

pub(super) const INCLUDE_USAGE: &str = "include_usage";

/// How much of the web a search reads, which may have a price: in `web_search_options`, and in an entry of `tools`.
pub(super) const SEARCH_CONTEXT_SIZE: &str = "search_context_size";

/// Other top-level keys. Compared with [`folds_to`], since they can only make a bound larger, but for
/// the exempt ones, which must match exactly.
const OTHERS: [(&str, Top); 30] = [
    ("previous_response_id", Top::Names(What::Response)),
    ("conversation", Top::Names(What::Conversation)),
    ("container", Top::Names(What::Container)),
    ("file_ids", Top::Names(What::File)),
    ("store", Top::Store),
    ("mcp_servers", Top::Outside),
    ("web_search_options", Top::Search),
    // Searches and file readers of OpenRouter, xAI and others.
    ("plugins", Top::Search),
    ("search_parameters", Top::Search),
    ("enable_search", Top::Search),
    (MAX_TOOL_CALLS, Top::ToolCalls),
    ("bbox_annotation_format", Top::Annotations),
    ("document_annotation_format", Top::Annotations),
    ("models", Top::Reroute),
    ("route", Top::Reroute),
    ("preset", Top::Reroute),
    ("prompt", Top::Prompt),
    ("modalities", Top::Modalities),
    ("audio", Top::Audio),
    ("tools", Top::Tools),
    ("input", Top::Input),
    ("messages", Top::Content),
    ("content", Top::Content),
    ("contents", Top::Content),
    ("instructions", Top::Content),
    ("system", Top::Content),
    ("prediction", Top::Content),
    ("functions", Top::Exempt),
    ("response_format", Top::Exempt),
    ("metadata", Top::Exempt),
];

/// What a top-level key that decides nothing introduces.
pub(super) fn other(key: &[u8]) -> Top {
    OTHERS
        .iter()
        .find(|(name, top)| match top {
            Top::Exempt => key == name.as_bytes(),
            _ => folds_to(key, name),
        })
        .map(|(_, top)| *top)
        .or_else(|| names_outside(key).then_some(Top::Outside))
        .unwrap_or(Top::Other)
}

/// Whether the endpoint takes its output limit from `name`. What its upstream passes over limits nothing.
pub(super) fn limits_output(api: Api, name: &str) -> bool {
    match api {
        Api::ChatCompletions => matches!(name, "max_tokens" | "max_completion_tokens"),
        Api::Completions | Api::Messages => name == "max_tokens",
        Api::Responses => name == "max_output_tokens",
        Api::Embeddings
        | Api::Images
        | Api::Speech
        | Api::Transcriptions
        | Api::Rerank
        | Api::Generate
        | Api::Ocr
        | Api::Batches
        | Api::Runs
        | Api::Files
        | Api::Videos => false,
    }
}

/// Keys whose values are not text, or stand elsewhere: these, and all that end in `_url` or `_urls`.
pub(super) fn names_outside(key: &[u8]) -> bool {
    const NAMES: [&str; 12] = [
        "file_id",
        "file_ids",
        "file_data",
        "input_audio",
        "image",
        "images",
        "file",
        "audio",
        "vector_store_ids",
        "document",
        "video",
        "media",
    ];
    // How much of a longer key was kept depends on how the body was cut.
    if key.len() > KEY_BYTES_MAX {
        return false;
    }
    let last = key.iter().rposition(|&byte| byte == b'_').unwrap_or(0);
    let tail = key.get(last..).unwrap_or_default();
    folds_to(tail, "_url")
        || folds_to(tail, "_urls")
        || NAMES.iter().any(|name| folds_to(key, name))
}

/// Whether a provider keeps anything that bodies of this family could name. In others the same keys are a client's own.
pub(super) const fn may_name_kept(api: Api) -> bool {
    matches!(
        api,
        Api::ChatCompletions
            | Api::Responses
            | Api::Messages
            | Api::Images
            | Api::Batches
            | Api::Runs
    )
}

/// Whether the entries of `input` may be items that the provider looks up.
pub(super) const fn has_items(api: Api) -> bool {
    matches!(api, Api::Responses | Api::Batches)
}

/// What a key below the top level names, wherever it stands. Compared as servers might read it: one too many costs an error, one too few
/// would show a stranger's.
pub(super) fn names_kept(key: &[u8]) -> Option<What> {
    const NAMES: [(&str, What); 6] = [
        ("audio", What::Recording),
        ("file_id", What::File),
        ("file_ids", What::File),
        ("vector_store_ids", What::VectorStore),
        ("previous_response_id", What::Response),
        ("container", What::Container),
    ];
    let found = NAMES.iter().find(|(name, _)| folds_to(key, name));
    found.map(|(_, what)| *what)
}

/// Values of `type` inside what the model reads whose content is text that stands in the body. All
/// others, known or yet to come, are taken to stand elsewhere: that only makes a hold larger.
pub(super) fn is_text_type(value: &[u8]) -> bool {
    const TYPES: [&[u8]; 24] = [
        // Blocks of messages.
        b"tool_use",
        b"tool_result",
        b"redacted_thinking",
        // Parts of content.
        b"text",
        b"input_text",
        b"output_text",
        b"refusal",
        b"summary_text",
        b"reasoning_text",
        // Items of Responses.
        b"message",
        b"reasoning",
        b"function_call",
        b"function_call_output",
        b"custom_tool_call",
        b"custom_tool_call_output",
        // Members of `tool_calls`.
        b"function",
        b"custom",
        // `prediction`, and where an answer got a sentence from.
        b"content",
        b"url_citation",
        // `cache_control` of a part.
        b"ephemeral",
        // What other providers give back of their reasoning.
        b"thinking",
        b"reasoning.text",
        b"reasoning.summary",
        b"reasoning.encrypted",
    ];
    TYPES.contains(&value)
}

/// What the id of an item in `input` means, by the item's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemId {
    /// A label: what the model reads stands in the item.
    Label,
    /// A label where the item is sealed (`encrypted_content`), else what the model reads is looked up by it.
    Sealed,
    /// What the model reads is looked up by it. Also of types that nobody knows yet.
    Reference,
}

pub(super) fn item_id(kind: &[u8]) -> ItemId {
    const LABELS: [&[u8]; 13] = [
        b"message",
        b"function_call",
        b"function_call_output",
        b"custom_tool_call",
        b"custom_tool_call_output",
        b"computer_call",
        b"computer_call_output",
        b"local_shell_call",
        b"local_shell_call_output",
        b"shell_call",
        b"shell_call_output",
        b"apply_patch_call",
        b"apply_patch_call_output",
    ];
    const SEALED: [&[u8]; 2] = [b"reasoning", b"compaction"];
    if LABELS.contains(&kind) {
        ItemId::Label
    } else if SEALED.contains(&kind) {
        ItemId::Sealed
    } else {
        ItemId::Reference
    }
}

/// Values of `type` elsewhere whose content is not text, or does not stand in the body.
pub(super) fn is_outside_type(value: &[u8]) -> bool {
    const TYPES: [&str; 10] = [
        "input_image",
        "input_file",
        "input_audio",
        "input_video",
        "item_reference",
        "image_url",
        "video_url",
        "file",
        "computer_screenshot",
        "image_generation_call",
    ];
    TYPES.iter().any(|name| folds_to(value, name))
}

/// Tools that run at the client and cost nothing but their text.
pub(super) fn is_client_tool(value: &[u8]) -> bool {
    value == b"function" || value == b"custom"
}

/// Whether a case-insensitive reader would take `key` for `name` (lower case ASCII): Go's
/// `encoding/json` does, and it also folds U+017F to `s` and U+212A to `k`.
pub(crate) fn folds_to(key: &[u8], name: &str) -> bool {
    let mut rest = key;
    for want in name.bytes() {
        rest = match (rest, want) {
            ([byte, rest @ ..], _) if byte.to_ascii_lowercase() == want => rest,
            ([0xc5, 0xbf, rest @ ..], b's') => rest,
            ([0xe2, 0x84, 0xaa, rest @ ..], b'k') => rest,
            _ => return false,
        };
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_is_that_of_go() {
        assert!(folds_to(b"max_tokens", "max_tokens"));
        assert!(folds_to("MAX_to\u{212a}en\u{17f}".as_bytes(), "max_tokens"));
        assert!(!folds_to(b"max_token", "max_tokens"));
        assert!(!folds_to(b"max_tokenss", "max_tokens"));
    }
}
