//! Which parts of an answer are looked at: a path is a walk from place to place.

use super::figures::Part;
use crate::Api;

/// Which usage object: the answer's own, or one that counts only where that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Own,
    /// `x_groq.usage`, `choices[].usage`, `timings`.
    Spare,
    /// `usage_breakdown.models[].usage` (Groq): the same tokens again, by model.
    Split,
    /// `tool_usage.image_gen` (Responses): images made on the way, by another model.
    ImageTool,
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Outside the answer.
    Outside,
    /// The answer, or one event.
    Root,
    /// An array at the top: some servers wrap errors so.
    RootArray,
    /// `response` of a Responses event.
    Response,
    Error,
    XGroq,
    Choices,
    Choice,
    /// `delta` or `message`.
    Message,
    ToolCalls,
    ToolCall,
    /// `function`, `custom`, `function_call`.
    Function,
    /// `content` or `summary` where it is an array.
    Parts,
    ContentPart,
    /// `output` of a Responses answer.
    Output,
    /// One item of it, or `item` of an event.
    Item,
    Usage(Source),
    Figures(Source, Part),
    /// `usage_breakdown` (Groq), its `models` and one of them.
    Breakdown,
    SplitModels,
    SplitModel,
    /// Perplexity's `cost` object.
    Cost,
    /// `tool_usage` (Responses), and its `web_search`.
    ToolUsage,
    SearchUsage,
    /// `output` of the response that a stream's event repeats, and one item of it.
    ListedOutput,
    ListedItem,
    /// `action` of an item.
    Action,
    /// `audio` of a chat's message, `container` of a message of Anthropic's: kept under an id of its own.
    Part,
    /// `tools` as the answer repeats them, and one of them.
    Offers,
    Offer,
    /// `annotations` of a chat's message, and one of them.
    Annotations,
    Annotation,
    /// Arguments of a tool's call where they are an object: its strings are text of the model.
    Arguments,
    /// `delta` of an event (Anthropic).
    MessageDelta,
    /// `usage.iterations` (Anthropic), one of them, and what is in it.
    Iterations,
    Iteration,
    IterationFigures(Part),
    /// `data` of an answer with images.
    Images,
    Image,
    /// `meta` of a reranker.
    Meta,
    /// Nothing in here is looked at.
    Other,
}

/// What a value is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Id,
    Model,
    SplitModel,
    ServiceTier,
    UsageTier,
    EventType,
    Status,
    FinishReason,
    Error,
    /// Text the model wrote.
    Text,
    /// The same, under `reasoning`: some servers repeat `reasoning_content` there.
    Reasoning,
    ReasoningContent,
    /// Text, and the name of a tool that is called.
    ToolName,
    /// Text in the deltas of a Responses stream.
    Delta,
    Figure(super::figures::Figure),
    Cost,
    Ticks,
    IsByok,
    Seconds,
    /// `duration` of a transcript.
    Duration,
    Region,
    Speed,
    IterationType,
    IterationModel,
    ItemType,
    ActionType,
    Container,
    /// The id of an item, or of what else is kept beside the answer.
    PartId,
    OfferType,
    /// The model that an offered tool names: it makes images.
    ImageModel,
    AnnotationType,
    SearchesReported,
    /// `search_context_size` of the usage (Perplexity): a search was made, of this size.
    SearchSize,
    /// `done`, `stop`: whether this was the last line.
    IsDone,
}

impl Place {
    /// The place of a container under `key` (empty in an array).
    pub(super) fn enter(self, api: Api, key: &[u8], is_array: bool) -> Self {
        let responses = api == Api::Responses;
        let messages = api == Api::Messages;
        match (self, key, is_array) {
            (Self::Outside, _, true) => Self::RootArray,
            (Self::Outside | Self::RootArray, _, false) => Self::Root,
            (Self::Root | Self::Response, b"usage", false) => Self::Usage(Source::Own),
            (Self::Root | Self::Response | Self::Choice, b"error", false) => Self::Error,
            (Self::Root, b"usage_info", false) if api == Api::Ocr => Self::Usage(Source::Own),
            (Self::Root, b"response", false) if responses => Self::Response,
            (Self::Root, b"message", false) if messages => Self::Response,
            (Self::Root, b"delta", false) if messages => Self::MessageDelta,
            (Self::Root, b"content_block", false) if messages => Self::ContentPart,
            (Self::Root, b"content", true) if messages => Self::Parts,
            (Self::Root, b"message", false) if api == Api::Generate => Self::Message,
            (Self::Root, b"data", true) if api == Api::Images => Self::Images,
            (Self::Images, _, false) => Self::Image,
            (Self::Root, b"meta", false) if api == Api::Rerank => Self::Meta,
            (Self::Meta, b"billed_units", false) => Self::Figures(Source::Spare, Part::Billed),
            (Self::Root | Self::Response, b"tool_usage", false) if responses => Self::ToolUsage,
            (Self::ToolUsage, b"web_search", false) => Self::SearchUsage,
            (Self::ToolUsage, b"image_gen", false) => Self::Usage(Source::ImageTool),
            (Self::Response, b"output", true) if responses => Self::ListedOutput,
            (Self::ListedOutput, _, false) => Self::ListedItem,
            (Self::Item | Self::ListedItem, b"action", false) => Self::Action,
            (Self::Root | Self::Response, b"tools", true) if responses => Self::Offers,
            (Self::Offers, _, false) => Self::Offer,
            (Self::Message, b"annotations", true) => Self::Annotations,
            (Self::Annotations, _, false) => Self::Annotation,
            (Self::Usage(Source::Own), b"iterations", true) if messages => Self::Iterations,
            (Self::Iterations, _, false) => Self::Iteration,
            (Self::Iteration, b"cache_creation", false) => {
                Self::IterationFigures(Part::CacheCreation)
            }
            (Self::Iteration, b"output_tokens_details", false) => {
                Self::IterationFigures(Part::OutDetails)
            }
            (Self::Root, b"output", true) if responses => Self::Output,
            (Self::Root, b"item", false) if responses => Self::Item,
            (Self::Root, b"choices", true) => Self::Choices,
            (Self::Root, b"x_groq", false) => Self::XGroq,
            (Self::Root, b"timings", false) => Self::Figures(Source::Spare, Part::Timings),
            (Self::Root | Self::XGroq, b"usage_breakdown", false) => Self::Breakdown,
            (Self::Breakdown, b"models", true) => Self::SplitModels,
            (Self::SplitModels, _, false) => Self::SplitModel,
            (Self::SplitModel, b"usage", false) => Self::Usage(Source::Split),
            (Self::XGroq | Self::Choice, b"usage", false) => Self::Usage(Source::Spare),
            (Self::Choices, _, false) => Self::Choice,
            (Self::Choice, b"delta" | b"message", false) => Self::Message,
            (Self::Message, b"tool_calls", true) => Self::ToolCalls,
            (Self::Message, b"function_call", false) => Self::Function,
            (Self::ToolCalls, _, false) => Self::ToolCall,
            (Self::ToolCall, b"function" | b"custom", false) => Self::Function,
            (Self::Message | Self::Item, b"content" | b"summary", true) => Self::Parts,
            // Mistral's thinking is a content part made of content parts.
            (Self::ContentPart, b"thinking", true) => Self::Parts,
            (Self::ContentPart, b"input", false) if messages => Self::Arguments,
            (Self::Function, b"arguments", false) => Self::Arguments,
            (Self::Arguments, ..) => Self::Arguments,
            (Self::Parts, _, false) => Self::ContentPart,
            (Self::Output, _, false) => Self::Item,
            (Self::Message, b"audio", false) if api == Api::ChatCompletions => Self::Part,
            (Self::Root | Self::Response, b"container", false) if messages => Self::Part,
            (Self::MessageDelta, b"container", false) => Self::Part,
            (Self::Usage(source), key, false) => match key {
                b"prompt_tokens_details"
                | b"prompt_token_details"
                | b"input_tokens_details"
                | b"input_token_details" => Self::Figures(source, Part::InDetails),
                b"completion_tokens_details"
                | b"completion_token_details"
                | b"output_tokens_details"
                | b"output_token_details" => Self::Figures(source, Part::OutDetails),
                b"cost" => Self::Cost,
                b"cache_creation" if messages => Self::Figures(source, Part::CacheCreation),
                b"server_tool_use"
                | b"server_tool_use_details"
                | b"server_side_tool_usage_details" => Self::Figures(source, Part::Tools),
                _ => Self::Other,
            },
            (Self::Figures(source, Part::InDetails), b"cached_tokens_details", false) => {
                Self::Figures(source, Part::CachedDetails)
            }
            _ => Self::Other,
        }
    }

    /// What a scalar under `key` is wanted for.
    pub(super) fn value(self, api: Api, key: &[u8]) -> Value {
        match (self, key) {
            (Self::Root | Self::Response, b"id") => Value::Id,
            (Self::Root | Self::Response, b"model") => Value::Model,
            (Self::SplitModel, b"model") => Value::SplitModel,
            (Self::Root | Self::Response, b"service_tier") => Value::ServiceTier,
            (Self::Root | Self::Response, b"status") => Value::Status,
            (Self::Root | Self::Response | Self::XGroq | Self::Choice, b"error") => Value::Error,
            (Self::Root, b"type") => Value::EventType,
            (Self::Root, b"delta") if matches!(api, Api::Responses | Api::Transcriptions) => {
                Value::Delta
            }
            (Self::Root, b"text") if api == Api::Transcriptions => Value::Text,
            (Self::Root, b"duration") if api == Api::Transcriptions => Value::Duration,
            (Self::Root | Self::MessageDelta, b"stop_reason") => Value::FinishReason,
            (Self::MessageDelta, b"text" | b"thinking" | b"partial_json") => Value::Text,
            (Self::Arguments, _) | (Self::ContentPart, b"thinking") => Value::Text,
            (Self::ContentPart, b"name") if api == Api::Messages => Value::ToolName,
            (Self::Root, b"done" | b"stop") if api == Api::Generate => Value::IsDone,
            (Self::Root, b"done_reason") => Value::FinishReason,
            (Self::Root, b"response" | b"thinking" | b"content") if api == Api::Generate => {
                Value::Text
            }
            (Self::Message, b"thinking") if api == Api::Generate => Value::Text,
            (Self::Root, key) if api == Api::Generate => named(Part::Top, key),
            (Self::Choice, b"finish_reason") => Value::FinishReason,
            (Self::Choice, b"text") => Value::Text,
            (Self::Message, b"content" | b"refusal") => Value::Text,
            (Self::Message, b"reasoning_content") => Value::ReasoningContent,
            (Self::Message, b"reasoning") => Value::Reasoning,
            (Self::Function | Self::Item, b"name") => Value::ToolName,
            (Self::Function | Self::Item, b"arguments" | b"input" | b"code") => Value::Text,
            (Self::ContentPart, b"text" | b"refusal") => Value::Text,
            (Self::Item | Self::ListedItem, b"type") => Value::ItemType,
            (Self::Item | Self::ListedItem, b"container_id") => Value::Container,
            (Self::Item | Self::ListedItem | Self::Part, b"id") => Value::PartId,
            (Self::Action, b"type") => Value::ActionType,
            (Self::Offer, b"type") => Value::OfferType,
            (Self::Offer, b"model") => Value::ImageModel,
            (Self::Annotation, b"type") => Value::AnnotationType,
            (Self::SearchUsage, b"num_requests") => Value::SearchesReported,
            (Self::Usage(_), b"seconds") => Value::Seconds,
            (Self::Usage(_), b"search_context_size") => Value::SearchSize,
            (Self::Usage(_), b"inference_geo") => Value::Region,
            (Self::Usage(_), b"speed") => Value::Speed,
            (Self::Iteration, b"type") => Value::IterationType,
            (Self::Iteration, b"model") => Value::IterationModel,
            (Self::Iteration, key) => named(Part::Message, key),
            (Self::IterationFigures(part), key) => named(part, key),
            (Self::Usage(_), b"cost") => Value::Cost,
            (Self::Usage(_), b"cost_in_usd_ticks") => Value::Ticks,
            (Self::Usage(_), b"is_byok") => Value::IsByok,
            (Self::Usage(_), b"service_tier") => Value::UsageTier,
            (Self::Usage(_), key) if api == Api::Messages => named(Part::Message, key),
            (Self::Usage(_), key) => named(Part::Usage, key),
            (Self::Figures(_, part), key) => named(part, key),
            (Self::Cost, b"total_cost") => Value::Cost,
            _ => Value::Nothing,
        }
    }
}

fn named(part: Part, key: &[u8]) -> Value {
    super::figures::named(part, key).map_or(Value::Nothing, Value::Figure)
}
