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
}
