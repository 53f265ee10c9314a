//! What one event of a socket says about itself.

/// Which API's events a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// `…/realtime`: sessions that speak, or transcribe.
    Realtime,
    /// `…/realtime/translations`.
    Translations,
    /// `…/responses`.
    Responses,
}

/// What one event says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFacts {
    /// `type`; empty if there is none.
    pub kind: String,
    /// `event_id`: of a client's event, what an error names.
    pub event_id: Option<String>,
    /// `stream_id`: the lane of a response.
    pub stream_id: Option<String>,
    /// `response.id`, or `response_id`.
    pub response_id: Option<String>,
    /// `error.event_id`: which event of the client was wrong.
    pub about: Option<String>,
    /// `session.model`.
    pub model: Option<String>,
    /// The model that transcribes what is heard. The inner `None`: nothing does.
    pub transcription: Option<Option<String>>,
    /// Whether audio alone leads to a response (`turn_detection`).
    pub answers_by_itself: Option<bool>,
    /// Whether the audio is in a telephone's format: 8,000 bytes a second, not 48,000.
    pub is_telephone: Option<bool>,
    /// The limit of the response's output, in tokens.
    pub output_limit: Option<u64>,
    /// Bytes of `audio` or `delta`, as base64 of them was read.
    pub audio_bytes: u64,
    /// Bytes of `delta`, as text.
    pub delta_bytes: u64,
    /// Billed audio, in milliseconds (xAI).
    pub billed_audio_ms: Option<u64>,
    /// `audio_end_ms`: where speech ended, counted from the first audio.
    pub audio_end_ms: Option<u64>,
    /// Bytes of the whole message.
    pub bytes: u64,
}

impl EventFacts {
    /// Whether the event ends a response, and so reports its usage.
    #[must_use]
    pub fn ends_response(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "response.done"
                | "response.completed"
                | "response.incomplete"
                | "response.failed"
                | "response.cancelled"
        )
    }

    /// Whether the event ends the transcription of something heard.
    #[must_use]
    pub fn ends_transcription(&self) -> bool {
        self.kind == "conversation.item.input_audio_transcription.completed"
    }
}
