//! Turns what the lexer hears in a request into facts.

mod item;
mod passed;

use tariff::SearchSize;

use self::item::{Item, ItemKey};
use super::{
    BodyErrorKind as K, RequestFacts,
    facts::What,
    keys::{self, KEY_BYTES_MAX, Top},
};
use crate::{
    Api, StreamOptionsAt,
    lexer::{Here, Kind, Scrap, Visitor},
};

/// The longest `model` or `service_tier`, in bytes of UTF-8.
pub(super) const STRING_BYTES_MAX: usize = 512;

/// The most things that a body may name which the provider keeps.
pub(super) const NAMED_MAX: usize = 100;

/// Why the reader stops the lexer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) kind: K,
    pub(super) param: Option<&'static str>,
    pub(super) at: u64,
}

/// What the text of the value now passing is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Nothing,
    Key,
    Model,
    ServiceTier,
    Number,
    Modality,
    Word,
    StreamFormat,
    Characters,
    ToolCalls,
    MaxUses,
    SearchSize,
    /// `type` inside what the model reads.
    ContentType,
    /// `type` elsewhere.
    OtherType,
    ToolType,
    /// An id of something that the provider keeps.
    Named(What),
    /// The id of an item, which may be one.
    ItemId,
}

/// What the last key, below the top level, introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nested {
    Nothing,
    /// What a tool of the client's is called with.
    OwnKeys,
    IncludeUsage,
    Outside,
    Type,
    Id,
    MaxUses,
    /// Names what the provider keeps: by a string, by strings in an array, by an object's `id`.
    Names(What),
    SearchSize,
}

/// An array of ids, or an object with one.
#[derive(Clone, Copy, Debug)]
struct Naming {
    what: What,
    /// Where its strings, or its `id`, stand.
    depth: u32,
    /// The next string there is an id.
    is_id: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) facts: RequestFacts,
    api: Api,
    scrap: Scrap,
    want: Want,
    /// Which entries of `DECIDING` have come, one bit each.
    seen: u32,
    /// The top-level key whose value is passing, and its name if it is a deciding one.
    top: Top,
    param: &'static str,
    nested: Nested,
    /// The arrays and objects now passing that name what the provider keeps, the innermost last. Bounded by the lexer's depth.
    naming: Vec<Naming>,
    /// At which depth the object stands whose keys are a client's own: what a tool is called with.
    own_keys: Option<u32>,
    /// The item now passing in `input`, and which of its keys.
    item: Item,
    item_key: Option<ItemKey>,
    /// What the object now passing in `tools` or `input` has shown.
    has_type: bool,
    has_id: bool,
    is_hosted: bool,
    is_search: bool,
    /// Some search was asked for outside `tools`.
    has_search: bool,
    search_size: Option<SearchSize>,
    max_uses: Option<u64>,
    /// `max_uses` of all hosted tools so far; `None` once one has none.
    uses_max: Option<u64>,
    /// Some limit of the output was 0, which upstreams take for none.
    is_unlimited: bool,
}

impl Reader {
    pub(super) fn new(api: Api) -> Self {
        Self {
            facts: RequestFacts {
                is_empty: true,
                stream: api == Api::Generate,
                ..RequestFacts::default()
            },
            api,
            scrap: Scrap::new(STRING_BYTES_MAX),
            want: Want::Nothing,
            seen: 0,
            top: Top::Other,
            param: "",
            nested: Nested::Nothing,
            naming: Vec::new(),
            own_keys: None,
            item: Item::default(),
            item_key: None,
            has_type: false,
            has_id: false,
            is_hosted: false,
            is_search: false,
            has_search: false,
            search_size: None,
            max_uses: None,
            uses_max: Some(0),
            is_unlimited: false,
        }
    }

    /// The facts, once the body has ended.
    pub(super) fn finish(self, body_bytes: u64) -> RequestFacts {
        let Self {
            facts,
            is_unlimited,
            uses_max,
            api,
            ..
        } = self;
        let by_tool = uses_max.filter(|_| api == Api::Messages);
        RequestFacts {
            body_bytes,
            tool_calls_max: facts.tool_calls_max.or(by_tool),
            output_limit: facts.output_limit.filter(|_| !is_unlimited),
            // An empty list picks nothing, and so perhaps all.
            pages: facts.pages.filter(|pages| *pages > 0),
            choices: facts.choices.max(1),
            inputs: facts.inputs.max(1),
            ..facts
        }
    }

    fn want(&mut self, want: Want) {
        self.scrap.clear();
        self.want = want;
    }

    fn refuse(&self, kind: K, here: Here<'_>) -> Refusal {
        Refusal {
            kind,
            param: (!self.param.is_empty()).then_some(self.param),
            at: here.offset(),
        }
    }

    /// The value of a top-level key begins.
    fn top_value(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        let is_null = kind == Kind::Null;
        match self.top {
            Top::Model | Top::ServiceTier => match kind {
                Kind::String => self.want(if self.top == Top::Model {
                    Want::Model
                } else {
                    Want::ServiceTier
                }),
                Kind::Null => {}
                _ => return Err(self.refuse(K::ExpectedString, here)),
            },
            Top::OutputLimit | Top::Choices => match kind {
                Kind::Number => self.want(Want::Number),
                Kind::Null => {}
                _ => return Err(self.refuse(K::ExpectedWholeNumber, here)),
            },
            Top::Stream | Top::Background => match kind {
                Kind::True if self.top == Top::Stream => self.facts.stream = true,
                Kind::True => self.facts.background = true,
                Kind::False if self.top == Top::Stream => self.facts.stream = false,
                Kind::False | Kind::Null => {}
                _ => return Err(self.refuse(K::ExpectedBool, here)),
            },
            Top::StreamOptions => {
                let at = here.offset();
                self.facts.stream_options = Some(match kind {
                    Kind::Null => StreamOptionsAt::Null(at..at.saturating_add(4)),
                    Kind::Object => StreamOptionsAt::Object {
                        open: at,
                        is_empty: true,
                        include_usage: None,
                    },
                    _ => return Err(self.refuse(K::ExpectedObject, here)),
                });
            }
            Top::Word | Top::StreamFormat | Top::Speech => match kind {
                Kind::String => self.want(match self.top {
                    Top::Word => Want::Word,
                    Top::Speech => Want::Characters,
                    _ => Want::StreamFormat,
                }),
                Kind::Null => {}
                _ => return Err(self.refuse(K::ExpectedString, here)),
            },
            Top::ToolCalls if kind == Kind::Number => self.want(Want::ToolCalls),
            Top::Search if !is_null && kind != Kind::False => {
                self.facts.refers_outside = true;
                self.facts.hosted_tools = true;
                self.uses_max = None;
                // Of two, the upstream may read either.
                if std::mem::replace(&mut self.has_search, true) {
                    self.facts.search_size = Some(SearchSize::High);
                }
            }
            Top::Outside => self.facts.refers_outside |= !is_null && kind != Kind::False,
            Top::Names(what) => {
                self.facts.refers_outside |= !is_null && kind != Kind::False;
                self.names(what, kind, here);
            }
            Top::Store => match kind {
                Kind::Null => {}
                Kind::False => self.facts.stores = self.facts.stores.or(Some(false)),
                // What is no boolean may still count as true.
                _ => self.facts.stores = Some(true),
            },
            // All pages, unless it is a list of them.
            Top::Pages => self.facts.pages = (kind == Kind::Array).then_some(0),
            Top::Annotations => self.facts.annotates |= !is_null,
            Top::Reroute => self.facts.may_reroute |= !is_null,
            Top::Prompt => self.facts.refers_outside |= kind == Kind::Object,
            Top::Audio => {
                self.facts.other_modalities |= !is_null;
                self.facts.refers_outside |= !is_null;
            }
            Top::Modalities if kind == Kind::String => self.want(Want::Modality),
            Top::Tools if !matches!(kind, Kind::Null | Kind::Array) => {
                self.facts.refers_outside = true;
                self.facts.hosted_tools = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The value of a key that names what the provider keeps begins.
    fn names(&mut self, what: What, kind: Kind, here: Here<'_>) {
        if !keys::may_name_kept(self.api) {
            return;
        }
        match kind {
            // Elsewhere it is the sound itself, or how it shall be.
            Kind::String | Kind::Array if what == What::Recording => {}
            Kind::String => self.want(Want::Named(what)),
            Kind::Array | Kind::Object => self.naming.push(Naming {
                what,
                depth: here.depth.saturating_add(1),
                is_id: kind == Kind::Array,
            }),
            _ => {}
        }
    }

    /// An entry of `tools` has passed. Those of Anthropic's clients have no type.
    fn end_tool(&mut self) {
        let is_hosted = self.is_hosted || (!self.has_type && self.api != Api::Messages);
        self.facts.refers_outside |= is_hosted;
        self.facts.hosted_tools |= is_hosted;
        if self.is_search || self.search_size.is_some() {
            let size = self.search_size.unwrap_or_default();
            self.facts.search_size = self.facts.search_size.max(Some(size));
        }
        if is_hosted {
            self.uses_max = self
                .uses_max
                .zip(self.max_uses)
                .and_then(|(all, own)| all.checked_add(own));
        }
    }

    /// An element of `input` has passed.
    fn end_item(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        self.facts.refers_outside |= self.has_id && !self.has_type;
        for id in self.item.references() {
            self.facts.refers_outside = true;
            self.name(What::Item, id, here)?;
        }
        Ok(())
    }

    /// Counts the characters that begin in `piece`.
    fn count_characters(&mut self, piece: &[u8]) {
        let begun = piece.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64;
        self.facts.characters = self.facts.characters.saturating_add(begun);
    }

    /// An element of an array of inputs: a text or a list of tokens is an input, a number is part of one.
    fn count_input(&mut self, kind: Kind) {
        if matches!(kind, Kind::String | Kind::Array) {
            self.facts.inputs = self.facts.inputs.saturating_add(1);
        }
    }

    /// A value below the top level begins.
    fn nested_value(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        let nested = std::mem::replace(&mut self.nested, Nested::Nothing);
        if let Some(key) = self.item_key.take() {
            self.item.value(key, kind);
        }
        if let Some(naming) = self.naming.last()
            && naming.depth == here.depth
            && naming.is_id
            && kind == Kind::String
        {
            let what = naming.what;
            self.want(Want::Named(what));
            return Ok(());
        }
        match (self.top, here.depth) {
            (Top::StreamOptions, 2) if nested == Nested::IncludeUsage => {
                self.facts.include_usage = match kind {
                    Kind::True => Some(true),
                    Kind::False => Some(false),
                    Kind::Null => None,
                    _ => return Err(self.refuse(K::ExpectedBool, here)),
                };
                let at = here.offset();
                let len = if kind == Kind::False { 5 } else { 4 };
                if let Some(StreamOptionsAt::Object { include_usage, .. }) =
                    &mut self.facts.stream_options
                {
                    *include_usage = Some(at..at.saturating_add(len));
                }
            }
            (Top::Modalities, 2) if kind == Kind::String => self.want(Want::Modality),
            (Top::Pages, 2) => {
                self.facts.pages = match kind {
                    Kind::Number => self.facts.pages.map(|pages| pages.saturating_add(1)),
                    _ => None,
                };
            }
            (Top::Prompt, 2) if self.api == Api::Completions => self.count_input(kind),
            (Top::Input, 2) if self.api == Api::Embeddings => self.count_input(kind),
            (Top::Tools | Top::Input, 2) => {
                self.item = Item::default();
                self.has_type = false;
                self.has_id = false;
                self.is_hosted = false;
                self.is_search = false;
                self.search_size = None;
                self.max_uses = None;
                if self.top == Top::Tools && kind != Kind::Object {
                    self.facts.refers_outside = true;
                    self.facts.hosted_tools = true;
                }
            }
            _ => {}
        }
        match nested {
            Nested::Outside => self.facts.refers_outside |= kind != Kind::Null,
            Nested::Id => {
                self.has_id = true;
                if kind == Kind::String && keys::has_items(self.api) {
                    self.want(Want::ItemId);
                }
            }
            Nested::OwnKeys if kind == Kind::Object => self.own_keys = Some(here.depth),
            Nested::Names(what) => {
                self.facts.refers_outside |= kind != Kind::Null;
                self.names(what, kind, here);
            }
            Nested::MaxUses if kind == Kind::Number => self.want(Want::MaxUses),
            Nested::SearchSize if kind == Kind::String => self.want(Want::SearchSize),
            Nested::Type if kind == Kind::String => {
                self.has_type |= self.top == Top::Tools || here.depth == 3;
                self.want(match self.top {
                    Top::Tools => Want::ToolType,
                    Top::Prompt | Top::Input | Top::Content => Want::ContentType,
                    _ => Want::OtherType,
                });
            }
            Nested::Type if matches!(self.top, Top::Prompt | Top::Input | Top::Content) => {
                self.facts.refers_outside |= kind != Kind::Null;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Visitor for Reader {
    type Stop = Refusal;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        match (kind, here.depth) {
            (Kind::Object, 0) => Ok(()),
            (_, 0) => Err(self.refuse(K::NotAnObject, here)),
            (Kind::Key, 1) => {
                self.want(Want::Key);
                Ok(())
            }
            (Kind::Key, _) => {
                if self.top != Top::Exempt {
                    self.want(Want::Key);
                }
                Ok(())
            }
            (_, 1) => self.top_value(kind, here),
            _ => self.nested_value(kind, here),
        }
    }

    #[inline]
    fn text(&mut self, piece: &[u8]) {
        match self.want {
            Want::Nothing => {}
            Want::Characters => self.count_characters(piece),
            // A longer key is none of ours: do not copy it.
            Want::Key if self.scrap.bytes().len() > KEY_BYTES_MAX => {}
            _ => self.scrap.text(piece),
        }
    }

    #[inline]
    fn unit(&mut self, unit: u16) {
        if self.want == Want::Characters {
            // The second half of a pair is no character of its own.
            let is_second = unit & 0xfc00 == 0xdc00;
            let one = u64::from(!is_second);
            self.facts.characters = self.facts.characters.saturating_add(one);
        } else if self.want != Want::Nothing {
            self.scrap.unit(unit);
        }
    }

    #[inline]
    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        if matches!(kind, Kind::Object | Kind::Array) {
            let inside = here.depth.saturating_add(1);
            self.naming.pop_if(|naming| naming.depth == inside);
            self.own_keys.take_if(|depth| *depth == here.depth);
        }
        match (kind, here.depth) {
            (Kind::Object, 0) => self.facts.closed_at = here.offset().saturating_sub(1),
            (Kind::Object, 2) => match self.top {
                Top::Tools => self.end_tool(),
                Top::Input => self.end_item(here)?,
                _ => {}
            },
            (Kind::Object | Kind::Array, _) => {}
            _ if self.want != Want::Nothing => self.take(here)?,
            _ => {}
        }
        Ok(())
    }
}
