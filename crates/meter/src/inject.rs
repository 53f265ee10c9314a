//! Asks a stream for its usage by changing one key of the request and no other byte.

use std::ops::Range;

use bytes::Bytes;

use crate::RequestFacts;

/// Where `stream_options` stands in a request body. Ranges are offsets in the whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOptionsAt {
    /// It is `null`; the range of the word.
    Null(Range<u64>),
    /// It is an object.
    Object {
        /// Offset of its opening brace.
        open: u64,
        /// It has no members.
        is_empty: bool,
        /// The value of `include_usage` (`true`, `false` or `null`), when the key is there.
        include_usage: Option<Range<u64>>,
    },
}

/// One edit of a request body: these bytes give way to those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Offsets in the original body; empty for an insertion.
    pub at: Range<u64>,
    /// What stands there instead.
    pub with: &'static str,
}

impl Splice {
    /// The edit after which `stream_options.include_usage` is `true`; `None` when it is already.
    #[must_use]
    pub fn include_usage(facts: &RequestFacts) -> Option<Self> {
        let _ = facts;
        None
    }

    /// How many bytes longer the edited body is (may be negative): for `content-length`.
    #[must_use]
    pub fn growth(&self) -> i64 {
        0
    }

    /// Applies the edit to consecutive frames of the body, of which the first starts at `offset`.
    /// Copies nothing: frames are cut and the new bytes stand between them.
    #[must_use]
    pub fn apply(&self, offset: u64, frames: Vec<Bytes>) -> Vec<Bytes> {
        let _ = offset;
        frames
    }
}
