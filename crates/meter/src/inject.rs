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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where the replaced bytes start in the original body.
    pub start: u64,
    /// Where they end; equal to `start` for an insertion.
    pub end: u64,
    /// What stands there instead.
    pub with: &'static str,
}

impl Splice {
    /// The edit after which `stream_options.include_usage` is `true`; `None` when it is already.
    ///
    /// Where `stream_options` is absent it goes in before the top-level closing brace, so that a
    /// body whose end is withheld can be edited though its beginning has gone up.
    #[must_use]
    pub fn include_usage(facts: &RequestFacts) -> Option<Self> {
        if facts.include_usage == Some(true) {
            return None;
        }
        let insert = |at: u64, with| Self {
            start: at,
            end: at,
            with,
        };
        Some(match &facts.stream_options {
            None if facts.is_empty => insert(
                facts.closed_at,
                r#""stream_options":{"include_usage":true}"#,
            ),
            None => insert(
                facts.closed_at,
                r#","stream_options":{"include_usage":true}"#,
            ),
            Some(StreamOptionsAt::Null(at)) => Self {
                start: at.start,
                end: at.end,
                with: r#"{"include_usage":true}"#,
            },
            Some(StreamOptionsAt::Object {
                include_usage: Some(at),
                ..
            }) => Self {
                start: at.start,
                end: at.end,
                with: "true",
            },
            Some(StreamOptionsAt::Object { open, is_empty, .. }) => insert(
                open.saturating_add(1),
                if *is_empty {
                    r#""include_usage":true"#
                } else {
                    r#""include_usage":true,"#
                },
            ),
        })
    }

    /// How many bytes longer the edited body is (`-1` where `false` becomes `true`): for
    /// `content-length`.
    #[must_use]
    pub fn growth(&self) -> i64 {
        let replaced = self.end.saturating_sub(self.start);
        let with = i64::try_from(self.with.len()).unwrap_or(0);
        with.saturating_sub(i64::try_from(replaced).unwrap_or(0))
    }

    /// Applies the edit to consecutive frames of the body, of which the first starts at `offset`.
    /// The edit must lie within them. Copies nothing: frames are cut, and the new bytes stand between.
    #[must_use]
    pub fn apply(&self, offset: u64, frames: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
        let mut edited = Vec::new();
        let mut keep = |bytes: Bytes| {
            if !bytes.is_empty() {
                edited.push(bytes);
            }
        };
        let mut at = offset;
        let mut is_written = false;
        for frame in frames {
            let cut = |offset: u64| {
                usize::try_from(offset.saturating_sub(at))
                    .unwrap_or(usize::MAX)
                    .min(frame.len())
            };
            let (start, end) = (cut(self.start), cut(self.end));
            keep(frame.slice(..start));
            if !is_written && at.saturating_add(frame.len() as u64) > self.start {
                keep(Bytes::from_static(self.with.as_bytes()));
                is_written = true;
            }
            keep(frame.slice(end..));
            at = at.saturating_add(frame.len() as u64);
        }
        edited
    }
}
