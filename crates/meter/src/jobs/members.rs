//! The members of a JSON object, each key that matters once and as it is.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::JobFault;
use crate::request::folds_to;

/// The members in their order, their values unread.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object; `param` is at fault if it is none.
    pub(super) fn read(json: &'a [u8], param: &'static str) -> Result<Self, JobFault> {
        serde_json::from_slice(json).map_err(|_| JobFault {
            param,
            message: format!("'{param}' must stand in a JSON object."),
        })
    }

    /// The value of a key; null is as good as none.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<&'a RawValue>, JobFault> {
        let mut alike = self
            .0
            .iter()
            .filter(|(key, _)| folds_to(key.as_bytes(), name));
        match (alike.next(), alike.next()) {
            (None, _) => Ok(None),
            (Some((key, value)), None) if key == name => {
                Ok(Some(*value).filter(|value| value.get() != "null"))
            }
            _ => Err(JobFault {
                param: name,
                message: format!("The request body must give '{name}' once, written so."),
            }),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;

        /// A key, borrowed where it has no escapes.
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &RawValue>()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Collect)
    }
}
