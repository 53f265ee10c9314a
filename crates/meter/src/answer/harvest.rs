//! Gathers what is wanted from one JSON answer, or from the events of a stream, as the lexer hears it.

mod take;

use std::convert::Infallible;

use super::{
    assemble::Iteration,
    event::Event,
    figures::{Figures, Part},
    key::Key,
    places::{Place, Source, Value},
    tally::Tally,
    tools::Calls,
    used::{Passing, Used},
};
use crate::{
    Api,
    lexer::{Here, Kind, Scrap, Visitor},
    tokens::call_tokens,
};

/// How deep the places we look at lie; below is [`Place::Other`].
const PLACES_DEEP: usize = 12;
/// The longest value kept: an id, a model, a number.
const SCRAP_BYTES_MAX: usize = 512;
/// Models of one answer that are told apart. A breakdown of more adds up to less than the whole,
/// and the whole counts.
const SPLIT_MODELS_MAX: usize = 16;
/// Parts of one answer whose ids are told.
const PARTS_MAX: usize = 256;
/// Iterations of one answer that are told apart.
const ITERATIONS_MAX: usize = 512;

/// What was found so far.
#[derive(Debug)]
pub(super) struct Harvest {
    api: Api,
    /// Whether the bytes are events of a stream, or one answer.
    is_stream: bool,
    /// This event tells nothing of the answer as a whole.
    is_beside: bool,
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
    /// What the top level of an answer without a usage object says.
    pub(super) top: Figures,
    pub(super) image_tool: Used,
    pub(super) image_model: Option<String>,
    pub(super) iterations: Vec<Iteration>,
    pub(super) calls: Calls,
    pub(super) images: u64,
    pub(super) duration_ms: Option<u64>,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    /// What is kept of the answer under ids of their own, each once.
    pub(super) parts: Vec<String>,
    pub(super) service_tier: Option<String>,
    pub(super) usage_tier: Option<String>,
    pub(super) region: Option<String>,
    pub(super) speed: Option<String>,
    /// The last line says that it is the last.
    pub(super) is_done: bool,
    pub(super) is_error: bool,
    pub(super) is_finished: bool,
    pub(super) tool_calls: u64,
}

impl Harvest {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            is_stream: false,
            is_beside: false,
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
            top: Figures::default(),
            image_tool: Used::default(),
            image_model: None,
            iterations: Vec::new(),
            calls: Calls::default(),
            images: 0,
            duration_ms: None,
            model: None,
            id: None,
            parts: Vec::new(),
            service_tier: None,
            usage_tier: None,
            region: None,
            speed: None,
            is_done: false,
            is_error: false,
            is_finished: false,
            tool_calls: 0,
        }
    }

    /// The answer, or the next event of a stream, begins. What was cut off in the last one is dropped.
    pub(super) fn begin_document(&mut self, is_stream: bool, is_beside: bool) {
        self.is_stream = is_stream;
        self.is_beside = is_beside;
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

    /// Tokens of the text that passed and of what frames calls of tools, by tokenizer.
    pub(super) fn text_tokens(&mut self) -> u64 {
        let model = self.model.as_deref().unwrap_or_default();
        let framing = call_tokens(model, self.tool_calls);
        self.tally.tokens(model).saturating_add(framing)
    }

    /// The figures that the container now open speaks of.
    fn figures_mut(&mut self) -> Option<&mut Figures> {
        match self.place {
            Place::Root => Some(&mut self.top),
            Place::Iteration | Place::IterationFigures(_) => {
                self.iterations.last_mut().map(|it| &mut it.figures)
            }
            _ => self.passing.as_mut().map(|passing| &mut passing.figures),
        }
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
                if let Some(figures) = self.figures_mut() {
                    figures.set_byok(kind == Kind::True);
                }
            }
            (Value::IsDone, _) => self.is_done = kind == Kind::True,
            (Value::Figure(_), Kind::True | Kind::False) => {
                if let Some(figures) = self.figures_mut() {
                    figures.flag_bad_number();
                }
            }
            (Value::Error, Kind::Number | Kind::True) => self.is_error = true,
            (Value::Model, _) if self.model.is_some() => {}
            // Events may have ids of their own; the answer's is in `response`.
            (Value::Id, _) if self.id.is_some() || self.is_event_root() => {}
            (
                Value::Figure(_)
                | Value::Cost
                | Value::Ticks
                | Value::Seconds
                | Value::Duration
                | Value::SearchesReported,
                Kind::Number,
            )
            | (_, Kind::String) => {
                self.want(value);
            }
            _ => {}
        }
    }

    fn note_part(&mut self, id: Option<String>) {
        if let Some(id) = id
            && self.parts.len() < PARTS_MAX
            && !self.parts.contains(&id)
        {
            self.parts.push(id);
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

    /// A container begins.
    fn open(&mut self, kind: Kind, here: Here<'_>) {
        let is_array = kind == Kind::Array;
        let inside = match self.place {
            Place::Other => Place::Other,
            // Events of a stream repeat the item whole, after its deltas.
            Place::Item if self.is_stream && self.key.bytes() != b"action" => Place::Other,
            Place::Outside if self.is_beside => Place::Other,
            place => place.enter(self.api, self.key.bytes(), is_array),
        };
        let is_figure = inside == Place::Other
            && self.place != Place::Other
            && matches!(
                self.place.value(self.api, self.key.bytes()),
                Value::Figure(_)
            );
        if is_figure && let Some(figures) = self.figures_mut() {
            figures.flag_bad_number();
        }
        match inside {
            Place::Error => self.is_error = true,
            // What is listed again replaces what was listed before.
            Place::Iterations => self.iterations.clear(),
            Place::Iteration => {
                self.iterations.truncate(ITERATIONS_MAX);
                self.iterations.push(Iteration::default());
            }
            Place::Output | Place::ListedOutput => self.calls.begin_list(),
            Place::Item | Place::ListedItem => self.calls.begin_item(),
            Place::Images => self.images = 0,
            Place::Image => self.images = self.images.saturating_add(1),
            // The last breakdown wins; it repeats the one before.
            Place::SplitModels => self.split.clear(),
            Place::SplitModel => {
                self.split.truncate(SPLIT_MODELS_MAX);
                self.split.push((None, Figures::default()));
            }
            Place::Usage(source) | Place::Figures(source, Part::Timings | Part::Billed)
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
        match self.place {
            Place::Item if self.is_stream && self.event == Event::ItemDone => {
                self.calls.end_item(false);
            }
            Place::Item if self.is_stream => {}
            Place::Item | Place::ListedItem => self.calls.end_item(true),
            _ => {}
        }
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
            Source::Own => self.own.add(*passing, self.api == Api::Messages),
            Source::Spare => self.spare.add(*passing, false),
            Source::ImageTool => self.image_tool.add(*passing, false),
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
