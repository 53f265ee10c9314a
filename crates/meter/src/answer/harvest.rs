//! Gathers what is wanted from one JSON answer, or from the events of a stream, as the lexer hears it.

use std::convert::Infallible;

use super::{
    event::Event,
    figures::{Figures, Part},
    key::Key,
    places::{Place, Source, Value},
    tally::Tally,
    used::{Passing, Used},
};
use crate::{
    Api,
    lexer::{Here, Kind, Scrap, Visitor},
};

/// How deep the places we look at lie; below is [`Place::Other`].
const PLACES_DEEP: usize = 12;
/// The longest value kept: an id, a model, a number.
const SCRAP_BYTES_MAX: usize = 512;
/// Models of one answer that are told apart. A breakdown of more adds up to less than the whole,
/// and the whole counts.
const SPLIT_MODELS_MAX: usize = 16;

/// What was found so far.
#[derive(Debug)]
pub(super) struct Harvest {
    api: Api,
    /// Whether the bytes are events of a stream, or one answer.
    is_stream: bool,
    /// The container now open, and those around it.
    place: Place,
    places: [Place; PLACES_DEEP],
    key: Key,
    /// What the text now passing is wanted for; `None` while it is a key's.
    value: Option<Value>,
    scrap: Scrap,
    passing: Option<Box<Passing>>,
    tally: Tally,
    saw_reasoning_content: bool,
    pub(super) event: Event,
    pub(super) own: Used,
    pub(super) spare: Used,
    /// The usage by model, where more than one answered.
    pub(super) split: Vec<(Option<String>, Figures)>,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    pub(super) service_tier: Option<String>,
    pub(super) usage_tier: Option<String>,
    pub(super) is_error: bool,
    pub(super) is_finished: bool,
    pub(super) tool_calls: u64,
}

impl Harvest {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            is_stream: false,
            place: Place::Outside,
            places: [Place::Other; PLACES_DEEP],
            key: Key::default(),
            value: Some(Value::Nothing),
            scrap: Scrap::new(SCRAP_BYTES_MAX),
            passing: None,
            tally: Tally::default(),
            saw_reasoning_content: false,
            event: Event::Other,
            own: Used::default(),
            spare: Used::default(),
            split: Vec::new(),
            model: None,
            id: None,
            service_tier: None,
            usage_tier: None,
            is_error: false,
            is_finished: false,
            tool_calls: 0,
        }
    }

    /// The answer, or the next event of a stream, begins. What was cut off in the last one is dropped.
    pub(super) fn begin_document(&mut self, is_stream: bool) {
        self.is_stream = is_stream;
        self.place = Place::Outside;
        self.value = Some(Value::Nothing);
        self.passing = None;
        self.event = Event::Other;
    }

    /// The lexer is about to read `bytes`, and has read them.
    pub(super) fn after(&mut self, bytes: &[u8]) {
        if let Some(passing) = &mut self.passing {
            passing.keep(bytes);
        }
    }

    /// Tokens of the text that passed, roughly.
    pub(super) fn text_tokens_roughly(&self) -> u64 {
        self.tally.tokens_roughly()
    }

    /// Tokens of the text that passed, by tokenizer.
    pub(super) fn text_tokens(&mut self) -> u64 {
        self.tally.tokens(self.model.as_deref().unwrap_or_default())
    }

    /// A scalar begins: decides what its text is for.
    fn scalar(&mut self, kind: Kind) {
        let value = match self.place {
            Place::Other => Value::Nothing,
            place => place.value(self.api, self.key.bytes()),
        };
        self.value = Some(Value::Nothing);
        match (value, kind) {
            (_, Kind::Null) | (Value::Nothing, _) => {}
            (Value::IsByok, _) => {
                if let Some(passing) = &mut self.passing {
                    passing.figures.set_byok(kind == Kind::True);
                }
            }
            (Value::Figure(_), Kind::True | Kind::False) => {
                if let Some(passing) = &mut self.passing {
                    passing.figures.flag_bad_number();
                }
            }
            (Value::Error, Kind::Number | Kind::True) => self.is_error = true,
            (Value::Model, _) if self.model.is_some() => {}
            // Events may have ids of their own; the answer's is in `response`.
            (Value::Id, _) if self.id.is_some() || self.is_event_root() => {}
            (Value::Figure(_) | Value::Cost | Value::Ticks, Kind::Number | Kind::String)
            | (_, Kind::String) => {
                self.want(value);
            }
            _ => {}
        }
    }

    fn is_event_root(&self) -> bool {
        self.is_stream && self.api == Api::Responses && self.place == Place::Root
    }

    fn want(&mut self, value: Value) {
        let value = match value {
            Value::Delta if self.event == Event::Audio => Value::Nothing,
            Value::Delta => Value::Text,
            Value::Reasoning if self.saw_reasoning_content => Value::Nothing,
            Value::Reasoning => Value::Text,
            Value::ReasoningContent => {
                self.saw_reasoning_content = true;
                Value::Text
            }
            // Later events repeat the item whole, after its deltas.
            Value::Text | Value::ToolName if self.place == Place::Item && self.is_stream => {
                match value {
                    Value::ToolName if self.event == Event::ItemAdded => Value::ToolName,
                    _ => Value::Nothing,
                }
            }
            value => value,
        };
        self.scrap.clear();
        self.value = Some(value);
    }

    /// A wanted value has passed whole.
    fn take(&mut self, value: Value) {
        self.scrap.settle();
        let bytes = self.scrap.bytes();
        let text = || {
            let is_whole = !bytes.is_empty() && !self.scrap.is_cut();
            is_whole.then(|| String::from_utf8_lossy(bytes).into_owned())
        };
        match value {
            Value::Id => self.id = text(),
            Value::Model => self.model = text(),
            Value::SplitModel => {
                let name = text();
                if let Some((model, _)) = self.split.last_mut() {
                    *model = name;
                }
            }
            Value::ServiceTier => self.service_tier = text().or(self.service_tier.take()),
            Value::UsageTier => self.usage_tier = text().or(self.usage_tier.take()),
            Value::EventType => self.event = Event::named(bytes),
            Value::Status => {
                self.is_finished |= matches!(
                    bytes,
                    b"completed" | b"incomplete" | b"failed" | b"cancelled"
                )
            }
            Value::FinishReason => self.is_finished |= !bytes.is_empty(),
            Value::Error => self.is_error |= !bytes.is_empty(),
            Value::ToolName if !bytes.is_empty() => {
                self.tool_calls = self.tool_calls.saturating_add(1)
            }
            Value::Figure(figure) => {
                if let Some(passing) = &mut self.passing {
                    passing.figures.set(figure, bytes);
                }
            }
            Value::Cost => {
                if let Some(passing) = &mut self.passing {
                    passing.figures.set_cost(bytes);
                }
            }
            Value::Ticks => {
                if let Some(passing) = &mut self.passing {
                    passing.figures.set_ticks(bytes);
                }
            }
            _ => {}
        }
    }

    /// A container begins.
    fn open(&mut self, kind: Kind, here: Here<'_>) {
        let is_array = kind == Kind::Array;
        let inside = match self.place {
            Place::Other => Place::Other,
            // Events of a stream repeat the item whole, after its deltas.
            Place::Item if self.is_stream => Place::Other,
            place => place.enter(self.api, self.key.bytes(), is_array),
        };
        if let (Some(passing), Place::Other) = (&mut self.passing, inside)
            && matches!(
                self.place.value(self.api, self.key.bytes()),
                Value::Figure(_)
            )
        {
            passing.figures.flag_bad_number();
        }
        match inside {
            Place::Error => self.is_error = true,
            // The last breakdown wins; it repeats the one before.
            Place::SplitModels => self.split.clear(),
            Place::SplitModel => {
                self.split.truncate(SPLIT_MODELS_MAX);
                self.split.push((None, Figures::default()));
            }
            Place::Usage(source) | Place::Figures(source, Part::Timings)
                if self.passing.is_none() =>
            {
                self.passing = Some(Box::new(Passing::new(source, here.depth, here.index)));
            }
            _ => {}
        }
        if let Some(slot) = usize::try_from(here.depth)
            .ok()
            .and_then(|depth| self.places.get_mut(depth))
        {
            *slot = self.place;
            self.place = inside;
        } else {
            self.place = Place::Other;
        }
        self.key.clear();
    }

    /// A container has ended.
    fn close(&mut self, here: Here<'_>) {
        if let Some(place) = usize::try_from(here.depth)
            .ok()
            .and_then(|depth| self.places.get(depth))
        {
            self.place = *place;
        }
        // In an array the next element has no key.
        self.key.clear();
        let Some(mut passing) = self.passing.take_if(|passing| passing.depth == here.depth) else {
            return;
        };
        passing.keep(here.bytes.get(..here.index).unwrap_or_default());
        match passing.source {
            Source::Own => self.own.add(*passing),
            Source::Spare => self.spare.add(*passing),
            Source::Split => {
                if let Some((_, figures)) = self.split.last_mut() {
                    *figures = passing.figures;
                }
            }
        }
    }
}

impl Visitor for Harvest {
    type Stop = Infallible;

    #[inline]
    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        match kind {
            Kind::Key if self.place == Place::Other => self.value = Some(Value::Nothing),
            Kind::Key => {
                self.key.clear();
                self.value = None;
            }
            Kind::Object | Kind::Array => self.open(kind, here),
            _ if self.place == Place::Other => {}
            _ => self.scalar(kind),
        }
        Ok(())
    }

    #[inline]
    fn text(&mut self, piece: &[u8]) {
        match self.value {
            Some(Value::Nothing) => {}
            None => self.key.text(piece),
            Some(Value::Text) => self
                .tally
                .text(piece, self.model.as_deref().unwrap_or_default()),
            Some(value) => {
                self.scrap.text(piece);
                if value == Value::ToolName {
                    self.tally
                        .text(piece, self.model.as_deref().unwrap_or_default());
                }
            }
        }
    }

    #[inline]
    fn unit(&mut self, unit: u16) {
        match self.value {
            Some(Value::Nothing) => {}
            None => self.key.text(&[u8::try_from(unit).unwrap_or(u8::MAX)]),
            Some(Value::Text) => self
                .tally
                .unit(unit, self.model.as_deref().unwrap_or_default()),
            Some(_) => self.scrap.unit(unit),
        }
    }

    #[inline]
    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        match kind {
            Kind::Object | Kind::Array => self.close(here),
            _ => match self.value.replace(Value::Nothing) {
                Some(Value::Nothing | Value::Text) | None => {}
                Some(value) => self.take(value),
            },
        }
        Ok(())
    }
}
