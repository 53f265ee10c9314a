//! Turns what the lexer hears in a request into facts.

use super::{
    BodyErrorKind as K, RequestFacts,
    keys::{self, DECIDING, INCLUDE_USAGE, KEY_BYTES_MAX, Top},
};
use crate::{
    Api, StreamOptionsAt,
    lexer::{Here, Kind, Scrap, Visitor},
};

/// The longest `model` or `service_tier`, in bytes of UTF-8.
pub(super) const STRING_BYTES_MAX: usize = 512;
/// The largest output limit taken, in tokens. Readers that use doubles are exact up to here.
const OUTPUT_LIMIT_MAX: u64 = 1 << 53;
/// The largest `n` or `best_of` taken. OpenAI stops at 128.
const CHOICES_MAX: u64 = 1024;
/// Digits that any of these numbers can have.
const DIGITS_MAX: usize = 20;

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
    ContentType,
    ToolType,
}

/// What the last key, below the top level, introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nested {
    Nothing,
    IncludeUsage,
    Outside,
    Type,
    Id,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) facts: RequestFacts,
    api: Api,
    scrap: Scrap,
    want: Want,
    /// Which entries of `DECIDING` have come, one bit each.
    seen: u16,
    /// The top-level key whose value is passing, and its name if it is a deciding one.
    top: Top,
    param: &'static str,
    nested: Nested,
    /// What the object now passing in `tools` or `input` has shown.
    has_type: bool,
    has_id: bool,
}

impl Reader {
    pub(super) fn new(api: Api) -> Self {
        Self {
            facts: RequestFacts {
                is_empty: true,
                ..RequestFacts::default()
            },
            api,
            scrap: Scrap::new(STRING_BYTES_MAX),
            want: Want::Nothing,
            seen: 0,
            top: Top::Other,
            param: "",
            nested: Nested::Nothing,
            has_type: false,
            has_id: false,
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

    /// A top-level key has passed.
    fn top_key(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        self.facts.is_empty = false;
        self.param = "";
        if self.scrap.has_lone_surrogate() {
            return Err(self.refuse(K::LoneSurrogate, here));
        }
        let key = self.scrap.bytes();
        for (index, deciding) in DECIDING.iter().enumerate() {
            if !keys::folds_to(key, deciding.name) {
                continue;
            }
            self.param = deciding.name;
            let bit = 1_u16.wrapping_shl(u32::try_from(index).unwrap_or(0));
            if key != deciding.name.as_bytes() {
                return Err(self.refuse(K::LookalikeKey, here));
            }
            if self.seen & bit != 0 {
                return Err(self.refuse(K::DuplicateKey, here));
            }
            self.seen |= bit;
            self.top = deciding.top;
            return Ok(());
        }
        self.top = keys::other(key);
        // In Responses `text` holds the schema of the answer.
        if self.api == Api::Responses && key == b"text" {
            self.top = Top::Exempt;
        }
        Ok(())
    }

    /// A key below the top level has passed.
    fn nested_key(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        let key = self.scrap.bytes();
        self.nested = Nested::Nothing;
        match (self.top, here.depth) {
            (Top::StreamOptions, 2) => {
                self.param = "stream_options.include_usage";
                if self.scrap.has_lone_surrogate() {
                    return Err(self.refuse(K::LoneSurrogate, here));
                }
                if keys::folds_to(key, INCLUDE_USAGE) {
                    if key != INCLUDE_USAGE.as_bytes() {
                        return Err(self.refuse(K::LookalikeKey, here));
                    }
                    if matches!(
                        self.facts.stream_options,
                        Some(StreamOptionsAt::Object {
                            include_usage: Some(_),
                            ..
                        })
                    ) {
                        return Err(self.refuse(K::DuplicateKey, here));
                    }
                    self.nested = Nested::IncludeUsage;
                }
                if let Some(StreamOptionsAt::Object { is_empty, .. }) =
                    &mut self.facts.stream_options
                {
                    *is_empty = false;
                }
            }
            (Top::Tools, 3) if keys::folds_to(key, "type") => self.nested = Nested::Type,
            (Top::Tools, _) => {}
            _ if keys::names_outside(key) => self.nested = Nested::Outside,
            _ if keys::folds_to(key, "type") => self.nested = Nested::Type,
            (Top::Input, 3) if key == b"id" => self.nested = Nested::Id,
            _ => {}
        }
        Ok(())
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
            Top::Outside => self.facts.refers_outside |= !is_null && kind != Kind::False,
            Top::Reroute => self.facts.may_reroute |= !is_null,
            Top::Prompt => self.facts.refers_outside |= kind == Kind::Object,
            Top::Audio => {
                self.facts.other_modalities |= !is_null;
                self.facts.refers_outside |= !is_null;
            }
            Top::Modalities if kind == Kind::String => self.want(Want::Modality),
            Top::Tools => self.facts.refers_outside |= !matches!(kind, Kind::Null | Kind::Array),
            _ => {}
        }
        Ok(())
    }

    /// A value below the top level begins.
    fn nested_value(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        let nested = std::mem::replace(&mut self.nested, Nested::Nothing);
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
            (Top::Tools | Top::Input, 2) => {
                self.has_type = false;
                self.has_id = false;
                if self.top == Top::Tools && kind != Kind::Object {
                    self.facts.refers_outside = true;
                }
            }
            _ => {}
        }
        match nested {
            Nested::Outside => self.facts.refers_outside |= kind != Kind::Null,
            Nested::Id => self.has_id = true,
            Nested::Type if kind == Kind::String => {
                let is_tool = self.top == Top::Tools;
                self.has_type |= is_tool || here.depth == 3;
                self.want(if is_tool {
                    Want::ToolType
                } else {
                    Want::ContentType
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// A wanted string has passed; `Model` and `ServiceTier` must be decent.
    fn take_string(&self, here: Here<'_>) -> Result<String, Refusal> {
        if self.scrap.has_lone_surrogate() {
            return Err(self.refuse(K::LoneSurrogate, here));
        }
        if self.scrap.is_cut() {
            return Err(self.refuse(K::StringTooLong, here));
        }
        let text = String::from_utf8_lossy(self.scrap.bytes()).into_owned();
        if text.chars().any(char::is_control) {
            return Err(self.refuse(K::ControlInValue, here));
        }
        Ok(text)
    }

    fn take_number(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        let digits = self.scrap.bytes();
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.refuse(K::ExpectedWholeNumber, here));
        }
        let (field, max) = match self.top {
            Top::Choices => (None, CHOICES_MAX),
            _ => (Some(&mut self.facts.output_limit), OUTPUT_LIMIT_MAX),
        };
        let number = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() <= DIGITS_MAX)
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|number| *number <= max);
        let Some(number) = number else {
            return Err(self.refuse(K::NumberTooLarge, here));
        };
        match field {
            Some(limit) => *limit = Some(limit.unwrap_or(0).max(number)),
            None => self.facts.choices = self.facts.choices.max(number),
        }
        Ok(())
    }

    /// A wanted value has passed.
    fn take(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        self.scrap.settle();
        match std::mem::replace(&mut self.want, Want::Nothing) {
            Want::Nothing => {}
            Want::Key if here.depth == 1 => self.top_key(here)?,
            Want::Key => self.nested_key(here)?,
            Want::Model => {
                let model = self.take_string(here)?;
                if model.is_empty() {
                    return Err(self.refuse(K::EmptyString, here));
                }
                self.facts.model = Some(model);
            }
            Want::ServiceTier => self.facts.service_tier = Some(self.take_string(here)?),
            Want::Number => self.take_number(here)?,
            Want::Modality => {
                let is_other = self.scrap.bytes() != b"text";
                self.facts.other_modalities |= is_other;
                self.facts.refers_outside |= is_other;
            }
            Want::ContentType => {
                self.facts.refers_outside |= keys::is_outside_type(self.scrap.bytes())
            }
            Want::ToolType => {
                self.facts.refers_outside |= !keys::is_client_tool(self.scrap.bytes())
            }
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
            // A longer key is none of ours: do not copy it.
            Want::Key if self.scrap.bytes().len() > KEY_BYTES_MAX => {}
            _ => self.scrap.text(piece),
        }
    }

    #[inline]
    fn unit(&mut self, unit: u16) {
        if self.want != Want::Nothing {
            self.scrap.unit(unit);
        }
    }

    #[inline]
    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Refusal> {
        match (kind, here.depth) {
            (Kind::Object, 0) => self.facts.closed_at = here.offset().saturating_sub(1),
            (Kind::Object, 2) => match self.top {
                Top::Tools => self.facts.refers_outside |= !self.has_type,
                Top::Input => self.facts.refers_outside |= self.has_id && !self.has_type,
                _ => {}
            },
            (Kind::Object | Kind::Array, _) => {}
            _ if self.want != Want::Nothing => self.take(here)?,
            _ => {}
        }
        Ok(())
    }
}
