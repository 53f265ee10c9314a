//! Reads the fields of a multipart form as it passes, and the length of the files in it.
//!
//! ```text
//! --BOUNDARY CRLF headers CRLF CRLF content CRLF --BOUNDARY CRLF … CRLF --BOUNDARY--
//! ```
//!
//! RFC 2046 and 7578 leave a reader much freedom. What two readers could take differently is refused:
//! bytes before the first boundary and behind the last, blanks behind a boundary, lines that end in a
//! bare LF, folded headers, transfer codings, a field that has no name or two, and a field that decides
//! the cost twice.

mod part;

use memchr::memmem;

use self::part::{Part, boundary_of};
use super::{BodyError, BodyErrorKind as K, RequestFacts};
use crate::Api;

/// Longest headers of one part.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Most parts of a form.
const PARTS_MAX: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Start,
    /// Behind a boundary: a line end, or `--`.
    AfterBoundary,
    Headers,
    Content,
    /// Behind the last boundary: a line end may follow.
    End,
    /// Behind that: nothing may.
    Over,
}

/// Reads a form; keeps none of it but the fields of [`RequestFacts`].
#[derive(Debug)]
pub(super) struct FormScanner {
    /// `CRLF --BOUNDARY`.
    delimiter: Vec<u8>,
    state: State,
    /// What could not be judged yet: less than a delimiter, or the headers of a part. While bytes are
    /// pushed, they as well.
    held: Vec<u8>,
    /// Offset in the body of what comes after `held`.
    offset: u64,
    part: Part,
    /// Offset in the body of the part's content.
    content_at: u64,
    parts: u32,
    facts: RequestFacts,
    closed_at: Option<u64>,
}

impl FormScanner {
    /// A scanner for a form with this content type.
    ///
    /// # Errors
    /// When the content type has no boundary, or one that two readers could read differently.
    pub(super) fn new(api: Api, content_type: &str) -> Result<Self, BodyError> {
        let boundary = boundary_of(content_type).ok_or(BodyError::new(K::FormBoundary, None, 0))?;
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            state: State::Start,
            held: Vec::new(),
            offset: 0,
            part: Part::new(api),
            content_at: 0,
            parts: 0,
            facts: RequestFacts::default(),
            closed_at: None,
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let mut from = 0_usize;
        let result = loop {
            let rest = held.get(from..).unwrap_or_default();
            match self.step(rest) {
                Ok(0) => break Ok(()),
                Ok(used) => from = from.saturating_add(used),
                Err(error) => break Err(error),
            }
        };
        held.drain(..from.min(held.len()));
        self.held = held;
        result
    }

    /// Reads on from here; how many bytes were used, 0 when more must come first.
    fn step(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        let bare = self.delimiter.get(2..).unwrap_or_default();
        match self.state {
            State::Start => {
                if rest.len() < bare.len() {
                    return if bare.starts_with(rest) {
                        Ok(0)
                    } else {
                        Err(self.error(K::FormSyntax))
                    };
                }
                if !rest.starts_with(bare) {
                    return Err(self.error(K::FormSyntax));
                }
                let used = bare.len();
                self.state = State::AfterBoundary;
                Ok(used)
            }
            State::AfterBoundary => match rest {
                [b'\r', b'\n', ..] => {
                    self.parts = self.parts.saturating_add(1);
                    if self.parts > PARTS_MAX {
                        return Err(self.error(K::TooManyParts));
                    }
                    self.state = State::Headers;
                    Ok(2)
                }
                [b'-', b'-', ..] => {
                    let behind = (rest.len() as u64).saturating_sub(1);
                    self.closed_at = Some(self.offset.saturating_sub(behind));
                    self.state = State::End;
                    Ok(2)
                }
                [] | [b'\r' | b'-'] => Ok(0),
                _ => Err(self.error(K::FormSyntax)),
            },
            State::Headers => self.headers(rest),
            State::Content => self.content(rest),
            State::End => match rest {
                [] => Ok(0),
                [b'\r'] => Ok(0),
                [b'\r', b'\n', ..] => {
                    self.state = State::Over;
                    Ok(2)
                }
                _ => Err(self.error(K::TrailingBytes)),
            },
            State::Over if rest.is_empty() => Ok(0),
            State::Over => Err(self.error(K::TrailingBytes)),
        }
    }

    fn headers(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        if rest.starts_with(b"\r\n") {
            return Err(self.error(K::FormSyntax));
        }
        let Some(end) = memmem::find(rest, b"\r\n\r\n") else {
            return if rest.len() > HEADERS_BYTES_MAX {
                Err(self.error(K::FormSyntax))
            } else {
                Ok(0)
            };
        };
        let head = rest.get(..end).unwrap_or_default();
        if head.len() > HEADERS_BYTES_MAX {
            return Err(self.error(K::FormSyntax));
        }
        self.part
            .begin(head)
            .map_err(|(kind, param)| BodyError::new(kind, param, self.offset))?;
        self.state = State::Content;
        self.content_at = self
            .begins(rest)
            .saturating_add(end as u64)
            .saturating_add(4);
        // The line end in front of a delimiter may be the one that ends the headers.
        Ok(end.saturating_add(2))
    }

    /// Reads content up to the next delimiter. The first two bytes are the line end of the headers.
    fn content(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        if let Some(end) = memmem::find(rest, &self.delimiter) {
            self.show(rest.get(..end).unwrap_or_default())?;
            let ends = self.begins(rest).saturating_add(end as u64);
            if self.part.is_file() && self.facts.file_at.is_none() {
                self.facts.file_at = Some(self.content_at..ends.max(self.content_at));
            }
            self.part
                .end(&mut self.facts)
                .map_err(|(kind, param)| BodyError::new(kind, param, self.offset))?;
            self.state = State::AfterBoundary;
            return Ok(end.saturating_add(self.delimiter.len()));
        }
        let safe = rest.len().saturating_sub(self.delimiter.len());
        self.show(rest.get(..safe).unwrap_or_default())?;
        Ok(safe)
    }

    /// Offset in the body of what is left to read.
    fn begins(&self, rest: &[u8]) -> u64 {
        self.offset.saturating_sub(rest.len() as u64)
    }

    fn show(&mut self, content: &[u8]) -> Result<(), BodyError> {
        self.part
            .content(content)
            .map_err(|(kind, param)| BodyError::new(kind, param, self.offset))
    }

    fn error(&self, kind: K) -> BodyError {
        BodyError::new(kind, None, self.offset)
    }

    /// Offset of the last dash of the last boundary, once it has passed.
    pub(super) fn closed_at(&self) -> Option<u64> {
        self.closed_at
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.facts.model.as_deref()
    }

    pub(super) fn finish(mut self) -> Result<RequestFacts, BodyError> {
        let Some(closed_at) = self.closed_at else {
            let kind = if self.offset == 0 {
                K::Empty
            } else {
                K::Unfinished
            };
            return Err(self.error(kind));
        };
        if !matches!(self.held.as_slice(), b"" | b"\r") {
            return Err(self.error(K::TrailingBytes));
        }
        let batch = self.part.take_requests(&self.facts);
        Ok(RequestFacts {
            batch,
            body_bytes: self.offset,
            closed_at,
            choices: self.facts.choices.max(1),
            inputs: 1,
            is_empty: self.parts == 0,
            ..self.facts
        })
    }
}
