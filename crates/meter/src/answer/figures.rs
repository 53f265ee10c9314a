//! The figures of usage objects, as providers of the OpenAI family name them.

use tariff::{Flag, Flags, ProviderCost};

use super::decimal;

/// One count that a usage object may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// `prompt_tokens`
    Prompt,
    /// `input_tokens`
    Input,
    /// `completion_tokens`
    Completion,
    /// `output_tokens`
    Output,
    /// `total_tokens`
    Total,
    /// `prompt_cache_hit_tokens` (DeepSeek)
    CacheHit,
    /// `prompt_cache_miss_tokens` (DeepSeek)
    CacheMiss,
    /// `cached_tokens` beside the totals (Together, Moonshot)
    CachedBeside,
    /// `num_cached_tokens` (older Mistral)
    CachedCount,
    /// `reasoning_tokens` beside the totals (SGLang, Azure DeepSeek, Perplexity)
    ReasoningBeside,
    /// `audio_tokens` beside the totals
    AudioBeside,
    /// `cached_tokens` of the input details
    Cached,
    /// `cache_write_tokens` of the input details
    Written,
    /// `audio_tokens` of the input details
    InAudio,
    /// `image_tokens` of the input details
    InImage,
    /// `audio_tokens` of the cached details
    CachedAudio,
    /// `image_tokens` of the cached details
    CachedImage,
    /// `reasoning_tokens` of the output details
    Reasoning,
    /// `audio_tokens` of the output details
    OutAudio,
    /// `image_tokens` of the output details
    OutImage,
    /// `prompt_n` of llama.cpp's timings
    PromptN,
    /// `cache_n` of llama.cpp's timings
    CacheN,
    /// `predicted_n` of llama.cpp's timings
    PredictedN,
    /// `input_tokens` of Anthropic: neither read from a cache nor written to one
    Fresh,
    /// `cache_read_input_tokens` (Anthropic)
    CacheRead,
    /// `cache_creation_input_tokens` (Anthropic)
    CacheCreation,
    /// `ephemeral_5m_input_tokens` of that
    Written5m,
    /// `ephemeral_1h_input_tokens` of that
    Written1h,
    /// Searches of the web, as a usage object counts them
    WebSearches,
    /// `x_search_calls` (xAI)
    XSearches,
    /// `file_search_calls`, `document_search_calls` (xAI)
    FileSearches,
    /// `code_interpreter_calls` (xAI)
    CodeRuns,
    /// `search_units` (rerankers), `num_search_queries` (Perplexity)
    Queries,
    /// `pages_processed` (OCR)
    Pages,
}

const FIGURES: usize = Figure::Pages as usize + 1;

/// Which object the figures stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Usage,
    InDetails,
    OutDetails,
    CachedDetails,
    Timings,
    /// Anthropic's `usage`, or one of its `iterations`.
    Message,
    /// Its `cache_creation`.
    CacheCreation,
    /// `server_tool_use` and its like.
    Tools,
    /// The top level of an answer that has no usage object (Ollama, llama.cpp).
    Top,
    /// `meta.billed_units` of a reranker.
    Billed,
}

/// The figure that a key names in its object.
pub(super) fn named(part: Part, key: &[u8]) -> Option<Figure> {
    Some(match (part, key) {
        (Part::Usage, b"prompt_tokens") => Figure::Prompt,
        (Part::Usage, b"input_tokens") => Figure::Input,
        (Part::Usage, b"completion_tokens") => Figure::Completion,
        (Part::Usage, b"output_tokens") => Figure::Output,
        (Part::Usage, b"total_tokens") => Figure::Total,
        (Part::Usage, b"prompt_cache_hit_tokens") => Figure::CacheHit,
        (Part::Usage, b"prompt_cache_miss_tokens") => Figure::CacheMiss,
        (Part::Usage, b"cached_tokens") => Figure::CachedBeside,
        (Part::Usage, b"num_cached_tokens") => Figure::CachedCount,
        (Part::Usage, b"reasoning_tokens") => Figure::ReasoningBeside,
        (Part::Usage, b"audio_tokens") => Figure::AudioBeside,
        (Part::Usage, b"num_search_queries") => Figure::Queries,
        (Part::Usage, b"pages_processed") => Figure::Pages,
        (Part::Message, b"input_tokens") => Figure::Fresh,
        (Part::Message, b"cache_read_input_tokens") => Figure::CacheRead,
        (Part::Message, b"cache_creation_input_tokens") => Figure::CacheCreation,
        (Part::Message, b"output_tokens") => Figure::Output,
        (Part::CacheCreation, b"ephemeral_5m_input_tokens") => Figure::Written5m,
        (Part::CacheCreation, b"ephemeral_1h_input_tokens") => Figure::Written1h,
        (Part::Tools, b"web_search_requests" | b"web_search_calls") => Figure::WebSearches,
        (Part::Tools, b"x_search_calls") => Figure::XSearches,
        (Part::Tools, b"file_search_calls" | b"document_search_calls") => Figure::FileSearches,
        (Part::Tools, b"code_interpreter_calls") => Figure::CodeRuns,
        (Part::Top, b"prompt_eval_count" | b"tokens_evaluated") => Figure::Prompt,
        (Part::Top, b"eval_count" | b"tokens_predicted") => Figure::Completion,
        (Part::Billed, b"search_units") => Figure::Queries,
        (Part::Billed, b"input_tokens") => Figure::Input,
        (Part::InDetails, b"cached_tokens") => Figure::Cached,
        (Part::InDetails, b"cache_write_tokens") => Figure::Written,
        (Part::InDetails, b"audio_tokens") => Figure::InAudio,
        (Part::InDetails, b"image_tokens") => Figure::InImage,
        (Part::CachedDetails, b"audio_tokens") => Figure::CachedAudio,
        (Part::CachedDetails, b"image_tokens") => Figure::CachedImage,
        (Part::OutDetails, b"reasoning_tokens" | b"thinking_tokens") => Figure::Reasoning,
        (Part::OutDetails, b"audio_tokens") => Figure::OutAudio,
        (Part::OutDetails, b"image_tokens") => Figure::OutImage,
        (Part::Timings, b"prompt_n") => Figure::PromptN,
        (Part::Timings, b"cache_n") => Figure::CacheN,
        (Part::Timings, b"predicted_n") => Figure::PredictedN,
        _ => return None,
    })
}

/// What usage objects said so far: per figure, the last that was not null.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    counts: [Option<u64>; FIGURES],
    /// `seconds` of audio, in milliseconds.
    seconds_ms: Option<u64>,
    /// OpenRouter's `cost`, Perplexity's `cost.total_cost`: USD.
    cost: Option<ProviderCost>,
    /// xAI's `cost_in_usd_ticks`.
    ticks_cost: Option<ProviderCost>,
    /// OpenRouter's `is_byok`: the client's own key pays, and `cost` is 0 without meaning free.
    is_byok: Option<bool>,
    flags: Flags,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            counts: [None; FIGURES],
            seconds_ms: None,
            cost: None,
            ticks_cost: None,
            is_byok: None,
            flags: Flags::default(),
        }
    }
}

impl Figures {
    pub(super) fn get(&self, figure: Figure) -> Option<u64> {
        self.counts.get(figure as usize).copied().flatten()
    }

    /// Takes a number or numeric string; anything that is no count is absent, and flagged.
    pub(super) fn set(&mut self, figure: Figure, text: &[u8]) {
        match (decimal::count(text), self.counts.get_mut(figure as usize)) {
            (Some(count), Some(slot)) => *slot = Some(count),
            _ => self.flags.set(Flag::BadNumber),
        }
    }

    pub(super) fn flag_bad_number(&mut self) {
        self.flags.set(Flag::BadNumber);
    }

    pub(super) fn set_seconds(&mut self, text: &[u8]) {
        self.seconds_ms = decimal::millis(text);
        if self.seconds_ms.is_none() {
            self.flags.set(Flag::BadNumber);
        }
    }

    pub(super) fn seconds_ms(&self) -> Option<u64> {
        self.seconds_ms
    }

    pub(super) fn set_cost(&mut self, text: &[u8]) {
        self.cost = decimal::cost(text, 0);
        if self.cost.is_none() {
            self.flags.set(Flag::BadNumber);
        }
    }

    pub(super) fn set_ticks(&mut self, text: &[u8]) {
        self.ticks_cost = decimal::cost(text, 10);
        if self.ticks_cost.is_none() {
            self.flags.set(Flag::BadNumber);
        }
    }

    pub(super) fn set_byok(&mut self, is_byok: bool) {
        self.is_byok = Some(is_byok);
    }

    /// What the provider says the answer cost, if it said so and means it.
    pub(super) fn provider_cost(&self) -> Option<ProviderCost> {
        let openrouter = self.cost.filter(|_| self.is_byok != Some(true));
        openrouter.or(self.ticks_cost)
    }

    pub(super) fn flags(&self) -> Flags {
        self.flags
    }

    /// Whether anything to charge by was said.
    pub(super) fn is_some(&self) -> bool {
        self.counts.iter().any(Option::is_some)
            || self.seconds_ms.is_some()
            || self.cost.is_some()
            || self.ticks_cost.is_some()
    }

    /// The figures of an answer's top level as the usage object that it has not got.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let named = [
            ("prompt_tokens", Figure::Prompt),
            ("completion_tokens", Figure::Completion),
        ];
        let members = named.into_iter().filter_map(|(name, figure)| {
            let count = self.get(figure)?;
            Some(format!("\"{name}\":{count}"))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
    }

    /// Lays a later object over this one, figure by figure.
    pub(super) fn overlay(&mut self, later: &Self) {
        for (slot, count) in self.counts.iter_mut().zip(later.counts) {
            *slot = count.or(*slot);
        }
        self.seconds_ms = later.seconds_ms.or(self.seconds_ms);
        self.cost = later.cost.or(self.cost);
        self.ticks_cost = later.ticks_cost.or(self.ticks_cost);
        self.is_byok = later.is_byok.or(self.is_byok);
        self.flags |= later.flags;
    }
}
