//! What the events of a stream are called.

use crate::Api;

/// What an event of a stream means for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Event {
    #[default]
    Other,
    /// Some audio in text form: no text of the model.
    Audio,
    /// An item has begun.
    ItemAdded,
    /// An item is whole.
    ItemDone,
    /// An image is whole, with the usage. More images may follow.
    ImageDone,
    /// Something went wrong; not the last one.
    Error,
    /// The last one, with the usage.
    Terminal,
}

impl Event {
    pub(super) fn named(api: Api, name: &[u8]) -> Self {
        match (api, name) {
            (
                Api::Responses,
                b"response.completed"
                | b"response.incomplete"
                | b"response.failed"
                | b"response.cancelled",
            )
            | (Api::Messages, b"message_stop")
            | (Api::Speech, b"speech.audio.done")
            | (Api::Transcriptions, b"transcript.text.done") => Self::Terminal,
            (_, b"response.audio.delta" | b"response.output_audio.delta") => Self::Audio,
            (_, b"response.output_item.added") => Self::ItemAdded,
            (_, b"response.output_item.done") => Self::ItemDone,
            (Api::Images, b"image_generation.completed" | b"image_edit.completed") => {
                Self::ImageDone
            }
            (_, b"error") => Self::Error,
            _ => Self::Other,
        }
    }

    /// Whether events of this name tell nothing of the answer as a whole: the steps of a run repeat its usage.
    pub(super) fn is_beside(api: Api, name: &[u8]) -> bool {
        api == Api::Runs
            && (!name.starts_with(b"thread.run.") || name.starts_with(b"thread.run.step."))
            && name != b"error"
    }
}
