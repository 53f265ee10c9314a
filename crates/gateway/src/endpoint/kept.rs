//! What providers keep for a customer, and what requests do to it.

/// A kind of object that a provider keeps under an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Response,
    ChatCompletion,
    /// Anthropic's: only its container is kept.
    Message,
    Conversation,
    File,
    Upload,
    Batch,
    MessageBatch,
    Video,
    TuningJob,
}

/// What a request does about such objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Reads one, or what belongs to it.
    Read,
    /// Changes one, or what belongs to it.
    Change,
    /// Deletes one.
    Delete,
    /// Makes one; the answer has its id.
    Create(Kind),
    /// Shows all there are: those of other customers too, since they share the provider's account.
    List(Kind),
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Response,
        Self::ChatCompletion,
        Self::Message,
        Self::Conversation,
        Self::File,
        Self::Upload,
        Self::Batch,
        Self::MessageBatch,
        Self::Video,
        Self::TuningJob,
    ];

    /// The name in paths of the table, in Postgres and in logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::ChatCompletion => "chat_completion",
            Self::Message => "message",
            Self::Conversation => "conversation",
            Self::File => "file",
            Self::Upload => "upload",
            Self::Batch => "batch",
            Self::MessageBatch => "message_batch",
            Self::Video => "video",
            Self::TuningJob => "tuning_job",
        }
    }

    /// In plain words, for refusals.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::ChatCompletion => "chat completion",
            Self::Message => "message",
            Self::Conversation => "conversation",
            Self::File => "file",
            Self::Upload => "upload",
            Self::Batch => "batch",
            Self::MessageBatch => "message batch",
            Self::Video => "video",
            Self::TuningJob => "fine-tuning job",
        }
    }

    /// The kind of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
