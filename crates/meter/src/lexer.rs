//! A push-driven JSON lexer: the one place where JSON is taken apart.
//!
//! Bytes come in any pieces; a [`Visitor`] hears of keys and values as they begin, pass and end. The
//! lexer keeps no text: its whole memory is a state, a depth, one bit per open container and up to
//! three bytes of an unfinished UTF-8 sequence.
//!
//! ```text
//!            ┌─────────── , ◄──────────┐
//!            ▼                         │
//!   Value ─► string | number | word ─► After ─► ] } ─► After … ─► Done
//!     ▲  └─► [ ─► FirstElement ─► Value
//!     │  └─► { ─► FirstKey ─► key ─► Colon ─┐
//!     └─────────────────────────────────────┘
//! ```
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the only arithmetic is on indices bounded by a slice's length, and a depth bounded by DEPTH_MAX"
)]

mod scalar;
mod scrap;
mod string;
mod utf8;

pub(crate) use scrap::Scrap;
use utf8::Utf8;

/// The deepest nesting read.
pub(crate) const DEPTH_MAX: u32 = 128;

/// What begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    String,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

/// Where something begins, or where it has ended (one past its last byte).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    /// The bytes being pushed.
    pub(crate) bytes: &'a [u8],
    /// Index in them.
    pub(crate) index: usize,
    /// Offset of their first byte in everything pushed.
    pub(crate) base: u64,
    /// Containers open around it.
    pub(crate) depth: u32,
}

impl Here<'_> {
    /// Offset in everything pushed.
    pub(crate) fn offset(&self) -> u64 {
        self.base.saturating_add(self.index as u64)
    }
}

/// Hears what the lexer reads.
pub(crate) trait Visitor {
    /// Why it may stop the lexer.
    type Stop;

    /// A key or value begins.
    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Self::Stop>;

    /// The next piece of a key, string, number or word, without escapes. May cut a UTF-8 sequence.
    fn text(&mut self, piece: &[u8]);

    /// An escape in a key or string, as a UTF-16 code unit.
    fn unit(&mut self, unit: u16);

    /// A key or value has ended.
    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Self::Stop>;
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt<S> {
    /// The bytes are not the JSON we read; the index in the pushed bytes.
    Fault(Fault, usize),
    /// The visitor stopped.
    Stop(S),
}

impl<S> From<S> for Halt<S> {
    fn from(stop: S) -> Self {
        Self::Stop(stop)
    }
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Syntax,
    Control,
    NotUtf8,
    TooDeep,
    Trailing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    After,
    Text,
    Escape,
    Hex {
        left: u8,
        unit: u16,
    },
    Number(Part),
    /// What must still come of `true`, `false` or `null`.
    Word(&'static [u8]),
    /// Lenient only: anything up to the next structural byte.
    Bare,
    Done,
}

/// How far a number is; the grammar of RFC 8259 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

/// The lexer. `STRICT` holds the bytes to RFC 8259 and UTF-8; otherwise words, numbers and string
/// bytes are taken as they come, and what follows the top-level value is ignored.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<const STRICT: bool> {
    state: State,
    /// What the text, number or word being read is.
    kind: Kind,
    depth: u32,
    /// One bit per open container, innermost lowest: set for an array.
    arrays: u128,
    base: u64,
    utf8: Utf8,
}

impl<const STRICT: bool> Default for Lexer<STRICT> {
    fn default() -> Self {
        Self {
            state: State::Value,
            kind: Kind::Null,
            depth: 0,
            arrays: 0,
            base: 0,
            utf8: Utf8::default(),
        }
    }
}

impl<const STRICT: bool> Lexer<STRICT> {
    /// Whether the top-level value has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether anything but white space has come.
    pub(crate) fn is_begun(&self) -> bool {
        self.state != State::Value || self.depth > 0
    }

    /// Offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.base
    }

    /// Reads the next bytes.
    pub(crate) fn push<V: Visitor>(
        &mut self,
        bytes: &[u8],
        visitor: &mut V,
    ) -> Result<(), Halt<V::Stop>> {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            index = match self.state {
                State::Text => self.text(bytes, index, visitor)?,
                State::Number(part) => self.number(part, bytes, index, visitor)?,
                State::Word(left) => self.word(left, bytes, index, visitor)?,
                State::Bare => self.bare(bytes, index, visitor)?,
                State::Escape => self.escape(byte, index, visitor)?,
                State::Hex { left, unit } => self.hex(left, unit, byte, index, visitor)?,
                State::Done if !STRICT => break,
                _ if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') => index + 1,
                State::Done => return Err(Halt::Fault(Fault::Trailing, index)),
                _ => self.structure(byte, bytes, index, visitor)?,
            };
        }
        self.base = self.base.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn here<'a>(&self, bytes: &'a [u8], index: usize) -> Here<'a> {
        Here {
            bytes,
            index,
            base: self.base,
            depth: self.depth,
        }
    }

    /// A byte between values.
    #[inline]
    fn structure<V: Visitor>(
        &mut self,
        byte: u8,
        bytes: &[u8],
        index: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let in_array = self.arrays & 1 == 1;
        match (self.state, byte) {
            (State::FirstKey | State::Key, b'"') => {
                self.kind = Kind::Key;
                self.state = State::Text;
                visitor.begin(Kind::Key, self.here(bytes, index))?;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::After, b',') => self.state = if in_array { State::Value } else { State::Key },
            (State::After | State::FirstElement, b']') if in_array => {
                self.close(Kind::Array, bytes, index, visitor)?
            }
            (State::After | State::FirstKey, b'}') if !in_array => {
                self.close(Kind::Object, bytes, index, visitor)?
            }
            (State::Value | State::FirstElement, _) => {
                return self.value(byte, bytes, index, visitor);
            }
            _ => return Err(Halt::Fault(Fault::Syntax, index)),
        }
        Ok(index + 1)
    }

    /// The first byte of a value.
    #[inline]
    fn value<V: Visitor>(
        &mut self,
        byte: u8,
        bytes: &[u8],
        index: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let (kind, state) = match byte {
            b'"' => (Kind::String, State::Text),
            b'{' => (Kind::Object, State::FirstKey),
            b'[' => (Kind::Array, State::FirstElement),
            b't' => (Kind::True, State::Word(b"true")),
            b'f' => (Kind::False, State::Word(b"false")),
            b'n' => (Kind::Null, State::Word(b"null")),
            b'-' => (Kind::Number, State::Number(Part::Minus)),
            b'0' => (Kind::Number, State::Number(Part::Zero)),
            b'1'..=b'9' => (Kind::Number, State::Number(Part::Whole)),
            b',' | b':' | b']' | b'}' => return Err(Halt::Fault(Fault::Syntax, index)),
            _ if STRICT => return Err(Halt::Fault(Fault::Syntax, index)),
            _ => (Kind::Number, State::Bare),
        };
        visitor.begin(kind, self.here(bytes, index))?;
        self.kind = kind;
        self.state = state;
        match state {
            State::FirstKey | State::FirstElement => {
                if self.depth == DEPTH_MAX {
                    return Err(Halt::Fault(Fault::TooDeep, index));
                }
                self.depth += 1;
                self.arrays = self.arrays << 1 | u128::from(kind == Kind::Array);
                Ok(index + 1)
            }
            State::Text => Ok(index + 1),
            // The first byte of a number or word is part of its text.
            State::Number(_) if STRICT => {
                visitor.text(bytes.get(index..=index).unwrap_or_default());
                Ok(index + 1)
            }
            State::Word(_) if STRICT => Ok(index),
            _ => {
                self.state = State::Bare;
                Ok(index)
            }
        }
    }

    fn close<V: Visitor>(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        index: usize,
        visitor: &mut V,
    ) -> Result<(), Halt<V::Stop>> {
        self.depth -= 1;
        self.arrays >>= 1;
        self.after();
        visitor.end(kind, self.here(bytes, index + 1))?;
        Ok(())
    }

    /// A value has ended.
    fn after(&mut self) {
        self.state = if self.depth == 0 {
            State::Done
        } else {
            State::After
        };
    }

    /// A key, string, number or word has ended before `index`.
    #[inline]
    fn ended<V: Visitor>(
        &mut self,
        bytes: &[u8],
        index: usize,
        visitor: &mut V,
    ) -> Result<(), Halt<V::Stop>> {
        if self.kind == Kind::Key {
            self.state = State::Colon;
        } else {
            self.after();
        }
        visitor.end(self.kind, self.here(bytes, index))?;
        Ok(())
    }
}
