//! One item of a response's `input`: whether the provider looks up by its id what the model is to read.

use crate::{
    lexer::Kind,
    request::keys::{ItemId, item_id},
};

/// What an item has shown so far. Of keys that stand there twice both count.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) ids: Vec<String>,
    has_type: bool,
    is_reference: bool,
    needs_seal: bool,
    is_sealed: bool,
    is_unsealed: bool,
    has_role: bool,
    has_content: bool,
}

impl Item {
    /// The value of one of its keys begins.
    pub(super) fn value(&mut self, key: ItemKey, kind: Kind) {
        match key {
            // What is no text is no type that anybody knows.
            ItemKey::Type => {
                self.has_type = true;
                self.is_reference |= kind != Kind::String;
            }
            ItemKey::Seal if kind == Kind::String => self.is_sealed = true,
            ItemKey::Seal => self.is_unsealed = true,
            ItemKey::Role => self.has_role |= kind == Kind::String,
            ItemKey::Content => self.has_content |= kind != Kind::Null,
        }
    }

    /// Its type has passed.
    pub(super) fn of_type(&mut self, kind: &[u8]) {
        match item_id(kind) {
            ItemId::Label => {}
            ItemId::Sealed => self.needs_seal = true,
            ItemId::Reference => self.is_reference = true,
        }
    }

    /// The ids by which something is looked up, once the item has passed.
    pub(super) fn references(&mut self) -> Vec<String> {
        let item = std::mem::take(self);
        let is_sealed = item.is_sealed && !item.is_unsealed;
        let is_message = item.has_role && item.has_content;
        let is_reference =
            item.is_reference || (item.needs_seal && !is_sealed) || (!item.has_type && !is_message);
        if is_reference { item.ids } else { Vec::new() }
    }
}

/// A key of an item that tells what its id means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKey {
    Type,
    /// `encrypted_content`.
    Seal,
    Role,
    Content,
}

impl ItemKey {
    pub(super) fn named(key: &[u8]) -> Option<Self> {
        match key {
            b"type" => Some(Self::Type),
            b"encrypted_content" => Some(Self::Seal),
            b"role" => Some(Self::Role),
            b"content" => Some(Self::Content),
            _ => None,
        }
    }
}
