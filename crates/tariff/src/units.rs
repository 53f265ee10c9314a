//! What is used beside tokens: time, images, characters, pages, queries, calls of paid tools.

/// A tool that runs at the provider and costs a fee for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    /// A search of the web, of medium context size or of none that was named.
    WebSearch,
    /// The same of low context size.
    WebSearchLow,
    /// The same of high context size.
    WebSearchHigh,
    /// A search by OpenAI's older search tool, which has a fee of its own.
    WebSearchPreview,
    /// A search of posts on X (xAI).
    XSearch,
    /// A search of stored files.
    FileSearch,
    /// A container that code ran in, for each session and not for each call.
    Container,
    /// A question to a map (Google).
    Maps,
}

const TOOLS: usize = 8;

impl Tool {
    /// Every tool.
    pub const ALL: [Self; TOOLS] = [
        Self::WebSearch,
        Self::WebSearchLow,
        Self::WebSearchHigh,
        Self::WebSearchPreview,
        Self::XSearch,
        Self::FileSearch,
        Self::Container,
        Self::Maps,
    ];

    /// The name in `price.tool_fees`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::WebSearchLow => "web_search_low",
            Self::WebSearchHigh => "web_search_high",
            Self::WebSearchPreview => "web_search_preview",
            Self::XSearch => "x_search",
            Self::FileSearch => "file_search",
            Self::Container => "container",
            Self::Maps => "maps",
        }
    }

    /// The search of this context size.
    #[must_use]
    pub const fn search(size: SearchSize) -> Self {
        match size {
            SearchSize::Low => Self::WebSearchLow,
            SearchSize::Medium => Self::WebSearch,
            SearchSize::High => Self::WebSearchHigh,
        }
    }

    /// The tool of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}

/// How much of the web a search reads: `search_context_size`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchSize {
    /// `low`
    Low,
    /// `medium`, which providers take unless told.
    #[default]
    Medium,
    /// `high`
    High,
}

impl SearchSize {
    /// The size of this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"low" => Some(Self::Low),
            b"medium" => Some(Self::Medium),
            b"high" => Some(Self::High),
            _ => None,
        }
    }
}

/// A value for each [`Tool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerTool<T>([T; TOOLS]);

impl<T: Copy> PerTool<T> {
    /// The tool's value.
    #[must_use]
    pub fn get(&self, tool: Tool) -> T {
        let Self([search, low, high, preview, x, files, container, maps]) = *self;
        match tool {
            Tool::WebSearch => search,
            Tool::WebSearchLow => low,
            Tool::WebSearchHigh => high,
            Tool::WebSearchPreview => preview,
            Tool::XSearch => x,
            Tool::FileSearch => files,
            Tool::Container => container,
            Tool::Maps => maps,
        }
    }

    /// Changes the tool's value.
    pub fn set(&mut self, tool: Tool, value: T) {
        let Self([search, low, high, preview, x, files, container, maps]) = self;
        *match tool {
            Tool::WebSearch => search,
            Tool::WebSearchLow => low,
            Tool::WebSearchHigh => high,
            Tool::WebSearchPreview => preview,
            Tool::XSearch => x,
            Tool::FileSearch => files,
            Tool::Container => container,
            Tool::Maps => maps,
        } = value;
    }

    /// Every tool with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Tool, T)> + '_ {
        Tool::ALL.into_iter().map(|tool| (tool, self.get(tool)))
    }
}

/// Counts of what is billed by other units than tokens. An answer that reports tokens for a thing
/// has no unit for the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Audio that went up, in milliseconds.
    pub audio_in_ms: u64,
    /// Audio that came down, in milliseconds.
    pub audio_out_ms: u64,
    /// Video, in milliseconds.
    pub video_ms: u64,
    /// Images made.
    pub images: u64,
    /// Characters of a text that was read out.
    pub characters: u64,
    /// Tokens that a model was trained on.
    pub training_tokens: u64,
    /// Pages read.
    pub pages: u64,
    /// Search units: reranked queries, searches billed by themselves.
    pub queries: u64,
    /// Requests, where a price has a fee for each.
    pub requests: u64,
    /// Calls of paid tools.
    pub tools: PerTool<u64>,
}

impl Units {
    /// The counts by the names of the price columns, those that are 0 left out.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("audio_in_ms", self.audio_in_ms),
            ("audio_out_ms", self.audio_out_ms),
            ("video_ms", self.video_ms),
            ("images", self.images),
            ("characters", self.characters),
            ("training_tokens", self.training_tokens),
            ("pages", self.pages),
            ("queries", self.queries),
            ("requests", self.requests),
        ];
        let tools = self.tools;
        let tools = Tool::ALL
            .into_iter()
            .map(move |tool| (tool.name(), tools.get(tool)));
        counts
            .into_iter()
            .chain(tools)
            .filter(|(_, count)| *count > 0)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What kind of image, or video, was made, where such a kind has a price: as the request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageKind {
    /// `1024x1024`; `None` when the provider chooses.
    pub size: Option<String>,
    /// `high`; `None` when the provider chooses.
    pub quality: Option<String>,
}
