//! What an upstream says on a socket. Only watched: where reading loses its footing it says so, and the bytes go on.

use super::{
    client::decoded,
    facts::EventFacts,
    fields::Fields,
    frames::{FrameReader, Message, Side, Step},
};
use crate::{AnswerMeter, Api, Reading, lexer::Lexer};

/// An upstream's event, whole but for the passing of its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEvent {
    /// What it says.
    pub facts: EventFacts,
    /// What was used, by an event that ends something.
    pub reading: Option<Box<Reading>>,
}

/// How far reading got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamStep {
    /// All bytes are read.
    More,
    /// A control frame ended.
    Control {
        /// How many bytes are read.
        at: usize,
        /// It closes the upstream's side.
        is_close: bool,
    },
    /// An event ended: its last byte is the one before `at`.
    Event {
        /// How many bytes are read.
        at: usize,
        /// What it is.
        event: Box<UpstreamEvent>,
    },
}

/// Reads an upstream's side of a socket as it passes.
#[derive(Debug)]
pub struct UpstreamSocket {
    frames: FrameReader,
    message: Watching,
    is_lost: bool,
}

#[derive(Debug)]
struct Watching {
    lexer: Lexer<false>,
    fields: Fields,
    meter: AnswerMeter,
    bytes: u64,
    is_lost: bool,
}

impl Watching {
    fn new() -> Self {
        Self {
            lexer: Lexer::default(),
            fields: Fields::new(false),
            meter: AnswerMeter::new(Api::Responses, 200, Some("application/json"), None),
            bytes: 0,
            is_lost: false,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if !self.is_lost {
            self.is_lost = self.lexer.push(bytes, &mut self.fields).is_err();
            self.meter.push(bytes);
        }
    }

    fn finish(mut self) -> UpstreamEvent {
        let mut facts = self.fields.facts;
        facts.bytes = self.bytes;
        facts.audio_bytes = decoded(facts.delta_bytes);
        let ends = facts.ends_response() || facts.ends_transcription();
        let reading = ends.then(|| Box::new(self.meter.finish()));
        UpstreamEvent { facts, reading }
    }
}

impl Default for UpstreamSocket {
    fn default() -> Self {
        Self {
            frames: FrameReader::new(Side::Upstream),
            message: Watching::new(),
            is_lost: false,
        }
    }
}

impl UpstreamSocket {
    /// Whether its frames could not be read to here: what it says from now on is unknown.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether a frame of another's could stand here.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        !self.is_lost && self.frames.is_between_frames()
    }

    /// Whether only a control frame could stand here.
    #[must_use]
    pub const fn is_in_message(&self) -> bool {
        self.frames.is_in_message()
    }

    /// Reads up to the end of the next frame that says something.
    pub fn read(&mut self, bytes: &[u8]) -> UpstreamStep {
        if self.is_lost {
            return UpstreamStep::More;
        }
        let message = &mut self.message;
        match self.frames.read(bytes, &mut |piece| message.push(piece)) {
            Err(_) => {
                self.is_lost = true;
                UpstreamStep::More
            }
            Ok(Step::More) => UpstreamStep::More,
            Ok(Step::Ends {
                at,
                message: Message::Data,
            }) => {
                let message = std::mem::replace(&mut self.message, Watching::new());
                let event = Box::new(message.finish());
                UpstreamStep::Event { at, event }
            }
            Ok(Step::Ends { at, message }) => UpstreamStep::Control {
                at,
                is_close: message == Message::Close,
            },
        }
    }
}
