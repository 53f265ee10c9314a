//! A conversation as it is kept.

use serde::{Deserialize, Serialize};

use crate::history::Message;

/// A conversation as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session {
    /// What its maker asked for, 1 or 3: that chooses its cooldown.
    pub(super) version: i16,
    pub(super) messages: Vec<Message>,
}

impl Session {
    /// A new one of version 3: the initial prompt is the system message.
    pub(super) fn v3(system: &str) -> Self {
        Self {
            version: 3,
            messages: vec![Message::new("system", system)],
        }
    }

    /// A new one of version 1: the initial prompt will be its first turn.
    pub(super) const fn v1() -> Self {
        Self {
            version: 1,
            messages: Vec::new(),
        }
    }

    /// The conversation of HTTP callers.
    pub(super) const fn of_http() -> Self {
        Self::v1()
    }

    /// What was kept. What cannot be read was written by nobody here.
    pub(super) fn read(kept: &[u8]) -> Self {
        serde_json::from_slice(kept).unwrap_or_else(|_| Self::of_http())
    }

    /// What to keep.
    pub(super) fn kept(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("messages of text are JSON")
    }
}
