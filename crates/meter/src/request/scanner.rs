//! Reads the top-level fields of a JSON request without building it.

use super::{
    BodyError, BodyErrorKind as K, RequestFacts,
    reader::{Reader, Refusal},
};
use crate::{
    Api,
    lexer::{Fault, Halt, Lexer},
};

/// Reads a JSON request body as it passes; keeps none of it but the fields of [`RequestFacts`].
///
/// The body must be one JSON object by RFC 8259 in valid UTF-8, must name each key that decides the
/// cost at most once (however escaped, and with no look-alike in another case), and must give those
/// keys the right types. Everything else in it passes unread.
#[derive(Debug)]
pub struct RequestScanner {
    lexer: Lexer<true>,
    reader: Reader,
    error: Option<BodyError>,
}

impl RequestScanner {
    /// A scanner at the start of a body.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self {
            lexer: Lexer::default(),
            reader: Reader::new(api),
            error: None,
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`BodyError`] as soon as the body is known to be invalid or ambiguous, and from then on the
    /// same one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let base = self.lexer.offset();
        let begun = self.lexer.is_begun();
        let Err(halt) = self.lexer.push(bytes, &mut self.reader) else {
            return Ok(());
        };
        let error = match halt {
            Halt::Stop(Refusal { kind, param, at }) => BodyError::new(kind, param, at),
            Halt::Fault(fault, index) => {
                let at = base.saturating_add(index as u64);
                let kind = match fault {
                    // No JSON begins so; the rest of the mark may still be under way.
                    Fault::Syntax if at == 0 && !begun && bytes.first() == Some(&0xef) => {
                        K::ByteOrderMark
                    }
                    Fault::Syntax => K::Syntax,
                    Fault::Control => K::ControlCharacter,
                    Fault::NotUtf8 => K::NotUtf8,
                    Fault::TooDeep => K::TooDeep,
                    Fault::Trailing => K::TrailingBytes,
                };
                BodyError::new(kind, None, at)
            }
        };
        self.error = Some(error);
        Err(error)
    }

    /// Offset of the top-level closing brace, once it has passed: the last byte before which the
    /// body is not yet a request.
    #[must_use]
    pub fn closed_at(&self) -> Option<u64> {
        self.lexer.is_done().then_some(self.reader.facts.closed_at)
    }

    /// The `model`, as soon as it has passed.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.reader.facts.model.as_deref()
    }

    /// The facts, at the end of the body.
    ///
    /// # Errors
    /// [`BodyError`] when the body was invalid, ambiguous or unfinished.
    pub fn finish(self) -> Result<RequestFacts, BodyError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let body_bytes = self.lexer.offset();
        if !self.lexer.is_begun() {
            return Err(BodyError::new(K::Empty, None, body_bytes));
        }
        if !self.lexer.is_done() {
            return Err(BodyError::new(K::Unfinished, None, body_bytes));
        }
        Ok(self.reader.finish(body_bytes))
    }
}
