//! The families of endpoints whose bodies can be read.

/// Which endpoint's bodies these are. Chosen by the suffix of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `…/chat/completions`
    ChatCompletions,
    /// `…/completions` (legacy)
    Completions,
    /// `…/embeddings`
    Embeddings,
    /// `…/responses`, `…/responses/compact`
    Responses,
    /// `…/messages` (Anthropic)
    Messages,
    /// `…/images/generations`, `…/images/edits`, `…/images/variations`
    Images,
    /// `…/audio/speech`
    Speech,
    /// `…/audio/transcriptions`, `…/audio/translations`
    Transcriptions,
    /// `…/rerank`
    Rerank,
    /// `…/api/chat`, `…/api/generate` (Ollama), `…/completion` (llama.cpp)
    Generate,
    /// `…/ocr` (Mistral)
    Ocr,
    /// `…/batches/{id}`
    Batches,
    /// `…/threads/{id}/runs` (Assistants)
    Runs,
    /// `…/files`, `…/uploads`
    Files,
    /// `…/videos`
    Videos,
}

impl Api {
    /// Every family.
    pub const ALL: [Self; 15] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::Images,
        Self::Speech,
        Self::Transcriptions,
        Self::Rerank,
        Self::Generate,
        Self::Ocr,
        Self::Batches,
        Self::Runs,
        Self::Files,
        Self::Videos,
    ];
}
