//! What a client says on a socket. Judged: what could be read in two ways is an error.

use super::{
    facts::{EventFacts, Speech},
    fields::{Fields, Wrong},
    frames::{FrameError, FrameReader, Message, Side, Step},
};
use crate::{
    Api, BodyError, RequestFacts, RequestScanner,
    lexer::{Halt, Lexer},
};

/// Why a client's bytes are not passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// No frames that everybody reads alike.
    #[error("{0}")]
    Frame(FrameError),
    /// A message that is no JSON object in UTF-8, however it is sent.
    #[error("a message is not one JSON object in UTF-8")]
    NotJson,
    /// An object without `type`.
    #[error("a message has no \"type\" that is a string")]
    NoType,
    /// A field that stands twice.
    #[error("a message has the field \"{0}\" twice")]
    Duplicate(&'static str),
    /// A field that some readers take for another.
    #[error("a message has a field that some would read as \"{0}\": write it so, or leave it out")]
    LookAlike(&'static str),
    /// A field with a value it cannot have.
    #[error("a message has the field \"{0}\" with a value that it cannot have")]
    Value(&'static str),
    /// A request that is refused as it would be over HTTP.
    #[error("{0}")]
    Request(BodyError),
}

/// A client's event, whole but for the passing of its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    /// What it says.
    pub facts: EventFacts,
    /// Of a `response.create` of Responses: the request in it.
    pub request: Option<Box<RequestFacts>>,
}

/// How far reading got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// All bytes are read.
    More,
    /// A control frame ended.
    Control {
        /// How many bytes are read.
        at: usize,
        /// It closes the client's side.
        is_close: bool,
    },
    /// An event ended: its last byte is the one before `at`.
    Event {
        /// How many bytes are read.
        at: usize,
        /// What it is.
        event: Box<ClientEvent>,
    },
}

/// Reads a client's side of a socket as it passes.
#[derive(Debug)]
pub struct ClientSocket {
    speech: Speech,
    frames: FrameReader,
    message: Reading,
}

#[derive(Debug)]
struct Reading {
    lexer: Lexer<true>,
    fields: Fields,
    scanner: Option<RequestScanner>,
    bytes: u64,
    wrong: Option<SocketError>,
}

impl Reading {
    fn new(speech: Speech) -> Self {
        Self {
            lexer: Lexer::default(),
            fields: Fields::new(true),
            scanner: (speech == Speech::Responses).then(|| RequestScanner::new(Api::Responses)),
            bytes: 0,
            wrong: None,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.wrong.is_some() {
            return;
        }
        if let Err(halt) = self.lexer.push(bytes, &mut self.fields) {
            self.wrong = Some(match halt {
                Halt::Fault(..) | Halt::Stop(Wrong::NoObject) => SocketError::NotJson,
                Halt::Stop(Wrong::Duplicate(name)) => SocketError::Duplicate(name),
                Halt::Stop(Wrong::LookAlike(name)) => SocketError::LookAlike(name),
                Halt::Stop(Wrong::Value(name)) => SocketError::Value(name),
            });
        } else if let Some(scanner) = &mut self.scanner
            && let Err(error) = scanner.push(bytes)
        {
            self.wrong = Some(SocketError::Request(error));
        }
    }

    fn finish(self) -> Result<ClientEvent, SocketError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if !self.lexer.is_done() {
            return Err(SocketError::NotJson);
        }
        let mut facts = self.fields.facts;
        if facts.kind.is_empty() {
            return Err(SocketError::NoType);
        }
        facts.bytes = self.bytes;
        facts.audio_bytes = decoded(facts.delta_bytes);
        let request = match self.scanner {
            Some(scanner) if facts.kind == "response.create" => {
                Some(Box::new(scanner.finish().map_err(SocketError::Request)?))
            }
            _ => None,
        };
        Ok(ClientEvent { facts, request })
    }
}

/// Bytes that so many characters of base64 stand for.
pub(super) const fn decoded(characters: u64) -> u64 {
    characters.div_euclid(4).saturating_mul(3)
}

impl ClientSocket {
    /// At the start of a client's frames.
    #[must_use]
    pub fn new(speech: Speech) -> Self {
        Self {
            speech,
            frames: FrameReader::new(Side::Client),
            message: Reading::new(speech),
        }
    }

    /// Reads up to the end of the next frame that says something.
    ///
    /// # Errors
    /// [`SocketError`]: the message's last byte must not go up.
    pub fn read(&mut self, bytes: &[u8]) -> Result<ClientStep, SocketError> {
        let message = &mut self.message;
        let step = self.frames.read(bytes, &mut |piece| message.push(piece));
        // Before a control frame between its fragments, too: what is wrong is told at the same byte however they are cut.
        if let Some(wrong) = &self.message.wrong {
            return Err(wrong.clone());
        }
        match step.map_err(SocketError::Frame)? {
            Step::More => Ok(ClientStep::More),
            Step::Ends {
                at,
                message: Message::Data,
            } => {
                let message = std::mem::replace(&mut self.message, Reading::new(self.speech));
                let event = Box::new(message.finish()?);
                Ok(ClientStep::Event { at, event })
            }
            Step::Ends { at, message } => Ok(ClientStep::Control {
                at,
                is_close: message == Message::Close,
            }),
        }
    }
}
