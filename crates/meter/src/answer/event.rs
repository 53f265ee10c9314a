//! What the events of a Responses stream are called.

/// What an event of a Responses stream means for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Event {
    #[default]
    Other,
    /// Some audio in text form: no text of the model.
    Audio,
    /// An item has begun.
    ItemAdded,
    /// Something went wrong; not the last one.
    Error,
    /// The last one, with the usage.
    Terminal,
}

impl Event {
    pub(super) fn named(name: &[u8]) -> Self {
        match name {
            b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"response.cancelled" => Self::Terminal,
            b"response.audio.delta" | b"response.output_audio.delta" => Self::Audio,
            b"response.output_item.added" => Self::ItemAdded,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}
