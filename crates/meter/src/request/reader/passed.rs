//! What a passed key or value comes to.

use tariff::SearchSize;

use super::{ItemKey, NAMED_MAX, Nested, Reader, Refusal, Want};
use crate::{
    Api, StreamOptionsAt,
    lexer::Here,
    request::{
        BodyErrorKind as K, Named,
        facts::What,
        keys::{self, DECIDING, INCLUDE_USAGE, Top},
    },
};

/// The largest output limit taken, in tokens. Readers that use doubles are exact up to here.
const OUTPUT_LIMIT_MAX: u64 = 1 << 53;
/// The largest `n` or `best_of` taken. OpenAI stops at 128.
const CHOICES_MAX: u64 = 1024;
/// Digits that any of these numbers can have.
const DIGITS_MAX: usize = 20;

impl Reader {
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
        let max = match self.top {
            Top::Choices => CHOICES_MAX,
            _ => OUTPUT_LIMIT_MAX,
        };
        let number = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() <= DIGITS_MAX)
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|number| *number <= max);
        let Some(number) = number else {
            return Err(self.refuse(K::NumberTooLarge, here));
        };
        match self.top {
            Top::Choices => self.facts.choices = self.facts.choices.max(number),
            _ if !keys::limits_output(self.api, self.param) => {}
            _ if number == 0 => self.is_unlimited = true,
            _ => self.facts.output_limit = self.facts.output_limit.max(Some(number)),
        }
        Ok(())
    }

    /// A count of calls; `None` for anything else.
    fn small_count(&self) -> Option<u64> {
        let digits = std::str::from_utf8(self.scrap.bytes()).ok()?;
        let count = digits.parse::<u64>().ok()?;
        (count <= CHOICES_MAX).then_some(count)
    }

    /// A wanted key or value has passed.
    pub(super) fn take(&mut self, here: Here<'_>) -> Result<(), Refusal> {
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
            Want::Word => {
                let word = Some(self.take_string(here)?);
                match self.param {
                    "size" => self.facts.size = word,
                    "seconds" => self.facts.seconds = word,
                    "quality" => self.facts.quality = word,
                    "speed" => self.facts.speed = word,
                    _ => self.facts.response_format = word,
                }
            }
            Want::StreamFormat => {
                let format = self.take_string(here)?;
                self.facts.stream |= format == "sse";
            }
            Want::Characters => {}
            Want::ToolCalls => {
                // What is no count limits nothing.
                let calls = self.small_count().unwrap_or(u64::MAX);
                self.facts.tool_calls_max = self.facts.tool_calls_max.max(Some(calls));
            }
            Want::MaxUses => self.max_uses = self.small_count(),
            Want::SearchSize => {
                // A size that nobody knows may be the largest.
                let size = SearchSize::named(self.scrap.bytes()).unwrap_or(SearchSize::High);
                if self.top == Top::Tools {
                    self.search_size = self.search_size.max(Some(size));
                } else {
                    self.facts.search_size = self.facts.search_size.max(Some(size));
                }
            }
            Want::Modality => {
                let is_other = self.scrap.bytes() != b"text";
                self.facts.other_modalities |= is_other;
                self.facts.refers_outside |= is_other;
            }
            Want::ContentType => {
                self.facts.refers_outside |= !keys::is_text_type(self.scrap.bytes());
                if self.top == Top::Input && here.depth == 3 {
                    self.item.of_type(self.scrap.bytes());
                }
            }
            Want::OtherType => {
                self.facts.refers_outside |= keys::is_outside_type(self.scrap.bytes())
            }
            Want::Named(what) => {
                self.param = what.param();
                let id = self.take_string(here)?;
                self.name(what, id, here)?;
            }
            Want::ItemId => {
                self.param = What::Item.param();
                let id = self.take_string(here)?;
                // Each may be another's, whichever of them is read.
                if self.item.ids.len() >= NAMED_MAX {
                    return Err(self.refuse(K::TooManyNamed, here));
                }
                self.item.ids.push(id);
            }
            Want::ToolType => {
                let name = self.scrap.bytes();
                self.is_hosted |= !keys::is_client_tool(name);
                self.is_search |= name.starts_with(b"web_search");
            }
        }
        Ok(())
    }

    /// Something that the provider keeps is named.
    pub(super) fn name(&mut self, what: What, id: String, here: Here<'_>) -> Result<(), Refusal> {
        let named = Named { what, id };
        if self.facts.named.contains(&named) {
            return Ok(());
        }
        if self.facts.named.len() >= NAMED_MAX {
            self.param = what.param();
            return Err(self.refuse(K::TooManyNamed, here));
        }
        self.facts.named.push(named);
        Ok(())
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
            if !deciding.is_for(self.api) || !keys::folds_to(key, deciding.name) {
                continue;
            }
            self.param = deciding.name;
            let bit = 1_u32.wrapping_shl(u32::try_from(index).unwrap_or(0));
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
        // What a conversation is given.
        if self.api == Api::Responses && keys::folds_to(key, "items") {
            self.top = Top::Input;
        }
        Ok(())
    }

    /// A key below the top level has passed.
    fn nested_key(&mut self, here: Here<'_>) -> Result<(), Refusal> {
        let key = self.scrap.bytes();
        self.nested = Nested::Nothing;
        if let Some(naming) = self.naming.last_mut()
            && naming.depth == here.depth
        {
            naming.is_id = keys::folds_to(key, "id");
        }
        self.item_key = None;
        if self.top == Top::Input && here.depth == 3 {
            self.item_key = ItemKey::named(key);
        }
        match (self.top, here.depth) {
            (Top::Input, 3) if keys::folds_to(key, "id") => self.nested = Nested::Id,
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
            (Top::Tools, 3) if key == b"max_uses" => self.nested = Nested::MaxUses,
            (Top::Content, 5) if self.api == Api::Messages && key == b"input" => {
                self.nested = Nested::OwnKeys;
            }
            _ if self.own_keys.is_none()
                && let Some(what) = keys::names_kept(key) =>
            {
                self.nested = Nested::Names(what);
            }
            (Top::Tools, 3) | (Top::Search, 2)
                if keys::folds_to(key, keys::SEARCH_CONTEXT_SIZE) =>
            {
                self.nested = Nested::SearchSize;
            }
            (Top::Tools, _) => {}
            _ if keys::names_outside(key) => self.nested = Nested::Outside,
            _ if keys::folds_to(key, "type") => self.nested = Nested::Type,
            _ => {}
        }
        Ok(())
    }
}
