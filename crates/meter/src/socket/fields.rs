//! The few fields of an event that are read, by where they stand.

use super::facts::EventFacts;
use crate::{
    lexer::{Here, Kind, Scrap, Visitor},
    request::folds_to,
};

/// The longest key that can be one of ours; folding may take three bytes for a letter.
const KEY_BYTES_MAX: usize = 84;
/// The longest value kept: an id, a model, a number.
const VALUE_BYTES_MAX: usize = 256;
/// How deep the objects lie that are looked into.
const NODES_DEEP: usize = 6;

/// An object that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Outside,
    Root,
    Response,
    Session,
    SessionAudio,
    SessionInput,
    Transcription,
    TurnDetection,
    Format,
    Error,
    Usage,
    Other,
}

/// What a field is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Into(Node),
    Type,
    EventId,
    StreamId,
    ResponseId,
    About,
    Model,
    TranscriptionModel,
    CreateResponse,
    FormatName,
    OutputLimit,
    Audio,
    Delta,
    BilledSeconds,
    AudioEnd,
}

/// Where each field stands.
const TABLE: [(Node, &str, Want); 30] = [
    (Node::Root, "type", Want::Type),
    (Node::Root, "event_id", Want::EventId),
    (Node::Root, "stream_id", Want::StreamId),
    (Node::Root, "response_id", Want::ResponseId),
    (Node::Root, "response", Want::Into(Node::Response)),
    (Node::Root, "session", Want::Into(Node::Session)),
    (Node::Root, "error", Want::Into(Node::Error)),
    (Node::Root, "usage", Want::Into(Node::Usage)),
    (Node::Root, "audio", Want::Audio),
    (Node::Root, "delta", Want::Delta),
    (Node::Root, "billable_audio_seconds", Want::BilledSeconds),
    (Node::Root, "audio_end_ms", Want::AudioEnd),
    (Node::Response, "id", Want::ResponseId),
    (Node::Response, "max_output_tokens", Want::OutputLimit),
    (
        Node::Response,
        "max_response_output_tokens",
        Want::OutputLimit,
    ),
    (Node::Session, "model", Want::Model),
    (Node::Session, "audio", Want::Into(Node::SessionAudio)),
    (
        Node::Session,
        "input_audio_transcription",
        Want::Into(Node::Transcription),
    ),
    (
        Node::Session,
        "turn_detection",
        Want::Into(Node::TurnDetection),
    ),
    (Node::Session, "input_audio_format", Want::FormatName),
    (Node::SessionAudio, "input", Want::Into(Node::SessionInput)),
    (
        Node::SessionInput,
        "transcription",
        Want::Into(Node::Transcription),
    ),
    (
        Node::SessionInput,
        "turn_detection",
        Want::Into(Node::TurnDetection),
    ),
    (Node::SessionInput, "format", Want::Into(Node::Format)),
    (Node::Format, "type", Want::FormatName),
    (Node::Transcription, "model", Want::TranscriptionModel),
    (Node::TurnDetection, "create_response", Want::CreateResponse),
    (Node::Error, "event_id", Want::About),
    (Node::Usage, "billable_audio_seconds", Want::BilledSeconds),
    (
        Node::Usage,
        "input_audio_seconds_billed",
        Want::BilledSeconds,
    ),
];

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Duplicate(&'static str),
    LookAlike(&'static str),
    Value(&'static str),
    NoObject,
}

/// Hears an event and keeps its facts. Where `is_strict`, what two readers could take differently stops it.
#[derive(Debug)]
pub(super) struct Fields {
    is_strict: bool,
    node: Node,
    nodes: [Node; NODES_DEEP],
    key: Scrap,
    /// The text passing is a key's.
    in_key: bool,
    /// What the next value is for.
    want: Option<(Want, &'static str)>,
    /// What the text now passing is for.
    taking: Option<(Want, &'static str)>,
    value: Scrap,
    /// One bit for each row of the table that has stood in this event.
    seen: u64,
    pub(super) facts: EventFacts,
}

impl Fields {
    pub(super) fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            node: Node::Outside,
            nodes: [Node::Other; NODES_DEEP],
            key: Scrap::new(KEY_BYTES_MAX),
            in_key: false,
            want: None,
            taking: None,
            value: Scrap::new(VALUE_BYTES_MAX),
            seen: 0,
            facts: EventFacts::default(),
        }
    }

    /// A key has passed whole.
    fn key(&mut self) -> Result<(), Wrong> {
        self.key.settle();
        self.want = None;
        for (index, (node, name, want)) in TABLE.iter().enumerate() {
            if *node != self.node {
                continue;
            }
            if self.key.bytes() == name.as_bytes() && !self.key.is_cut() {
                let bit = u32::try_from(index)
                    .ok()
                    .and_then(|index| 1_u64.checked_shl(index))
                    .unwrap_or(0);
                if self.is_strict && self.seen & bit != 0 {
                    return Err(Wrong::Duplicate(name));
                }
                self.seen |= bit;
                self.want = Some((*want, name));
                return Ok(());
            }
            if self.is_strict && folds_to(self.key.bytes(), name) {
                return Err(Wrong::LookAlike(name));
            }
        }
        Ok(())
    }

    /// A value begins that is no container.
    fn scalar(&mut self, kind: Kind) -> Result<(), Wrong> {
        self.taking = None;
        let Some((want, name)) = self.want.take() else {
            return if self.node == Node::Outside {
                Err(Wrong::NoObject)
            } else {
                Ok(())
            };
        };
        match (want, kind) {
            (Want::Into(Node::Transcription), Kind::Null) => self.facts.transcription = Some(None),
            (Want::Into(Node::TurnDetection), Kind::Null) => {
                self.facts.answers_by_itself = Some(false);
            }
            (_, Kind::Null) => {}
            (Want::CreateResponse, Kind::True) => self.facts.answers_by_itself = Some(true),
            (Want::CreateResponse, Kind::False) => self.facts.answers_by_itself = Some(false),
            // `inf`: no limit of its own.
            (Want::OutputLimit, Kind::String) => {}
            (Want::OutputLimit | Want::BilledSeconds | Want::AudioEnd, Kind::Number)
            | (
                Want::Type
                | Want::EventId
                | Want::StreamId
                | Want::ResponseId
                | Want::About
                | Want::Model
                | Want::TranscriptionModel
                | Want::FormatName
                | Want::Audio
                | Want::Delta,
                Kind::String,
            ) => {
                self.value.clear();
                self.taking = Some((want, name));
            }
            (Want::Delta | Want::EventId | Want::BilledSeconds | Want::AudioEnd, _) => {}
            _ if self.is_strict => return Err(Wrong::Value(name)),
            _ => {}
        }
        Ok(())
    }

    /// A container begins.
    fn open(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Wrong> {
        self.taking = None;
        let inside = match (self.node, self.want.take(), kind) {
            (Node::Outside, _, Kind::Object) => Node::Root,
            (Node::Outside, _, _) => return Err(Wrong::NoObject),
            (_, Some((Want::Into(node), _)), Kind::Object) => node,
            (_, Some((Want::Delta, _)), _) => Node::Other,
            (_, Some((_, name)), _) if self.is_strict => return Err(Wrong::Value(name)),
            _ => Node::Other,
        };
        match inside {
            Node::TurnDetection => self.facts.answers_by_itself = Some(true),
            // Which model is said inside; unsaid it stays as it was.
            Node::Transcription => {}
            _ => {}
        }
        let depth = usize::try_from(here.depth).unwrap_or(usize::MAX);
        if let Some(slot) = self.nodes.get_mut(depth) {
            *slot = self.node;
            self.node = inside;
        } else {
            self.node = Node::Other;
        }
        Ok(())
    }

    fn close(&mut self, here: Here<'_>) {
        let depth = usize::try_from(here.depth).unwrap_or(usize::MAX);
        if let Some(node) = self.nodes.get(depth) {
            self.node = *node;
        }
        self.want = None;
    }

    /// A wanted value has passed whole.
    fn take(&mut self, want: Want, name: &'static str) -> Result<(), Wrong> {
        self.value.settle();
        let is_whole = !self.value.is_cut();
        let text = std::str::from_utf8(self.value.bytes()).ok();
        let text = || {
            text.filter(|text| is_whole && !text.is_empty())
                .map(str::to_owned)
        };
        let facts = &mut self.facts;
        match want {
            Want::Type => facts.kind = text().unwrap_or_default(),
            Want::EventId => facts.event_id = text(),
            Want::StreamId => facts.stream_id = text(),
            Want::ResponseId => facts.response_id = text(),
            Want::About => facts.about = text(),
            Want::Model | Want::TranscriptionModel => {
                let text = text();
                if self.is_strict && text.is_none() {
                    return Err(Wrong::Value(name));
                }
                match want {
                    Want::Model => facts.model = text,
                    _ => facts.transcription = Some(text),
                }
            }
            Want::FormatName => {
                let name = text().unwrap_or_default();
                facts.is_telephone =
                    Some(!name.contains("pcm") || name.contains("pcmu") || name.contains("pcma"));
            }
            Want::OutputLimit => match text().and_then(|text| text.parse().ok()) {
                // Of two names for it the larger counts.
                Some(limit) => facts.output_limit = facts.output_limit.max(Some(limit)),
                None if self.is_strict => return Err(Wrong::Value(name)),
                None => {}
            },
            Want::BilledSeconds => {
                let seconds = text();
                facts.billed_audio_ms = seconds
                    .and_then(|text| crate::answer::millis(text.as_bytes()))
                    .or(facts.billed_audio_ms);
            }
            Want::AudioEnd => facts.audio_end_ms = text().and_then(|text| text.parse().ok()),
            Want::Into(_) | Want::CreateResponse | Want::Audio | Want::Delta => {}
        }
        Ok(())
    }

    /// Counts text that is only measured.
    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.facts.delta_bytes = self.facts.delta_bytes.saturating_add(bytes);
    }
}

impl Visitor for Fields {
    type Stop = Wrong;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Wrong> {
        match kind {
            Kind::Key => {
                self.in_key = self.node != Node::Other;
                self.key.clear();
                self.taking = None;
                Ok(())
            }
            Kind::Object | Kind::Array => self.open(kind, here),
            _ => self.scalar(kind),
        }
    }

    fn text(&mut self, piece: &[u8]) {
        if self.in_key {
            return self.key.text(piece);
        }
        match self.taking {
            None => {}
            Some((Want::Audio | Want::Delta, _)) => self.count(piece.len()),
            Some(_) => self.value.text(piece),
        }
    }

    fn unit(&mut self, unit: u16) {
        if self.in_key {
            return self.key.unit(unit);
        }
        match self.taking {
            None => {}
            Some((Want::Audio | Want::Delta, _)) => self.count(1),
            Some(_) => self.value.unit(unit),
        }
    }

    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Wrong> {
        match kind {
            Kind::Key => {
                if std::mem::take(&mut self.in_key) {
                    self.key()?;
                }
                Ok(())
            }
            Kind::Object | Kind::Array => {
                self.close(here);
                Ok(())
            }
            _ => match self.taking.take() {
                Some((want, name)) => self.take(want, name),
                None => Ok(()),
            },
        }
    }
}
