//! Numbers and words.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the only arithmetic is on indices bounded by a slice's length"
)]

use super::{Fault, Halt, Lexer, Part, State, Visitor};

impl<const STRICT: bool> Lexer<STRICT> {
    /// The rest of a number (strict).
    #[inline]
    pub(super) fn number<V: Visitor>(
        &mut self,
        mut part: Part,
        bytes: &[u8],
        from: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let mut index = from;
        let ended = loop {
            let Some(&byte) = bytes.get(index) else {
                break false;
            };
            part = match (part, byte) {
                (Part::Minus, b'0') => Part::Zero,
                (Part::Minus | Part::Whole, b'0'..=b'9') => Part::Whole,
                (Part::Zero | Part::Whole, b'.') => Part::Point,
                (Part::Point | Part::Fraction, b'0'..=b'9') => Part::Fraction,
                (Part::Zero | Part::Whole | Part::Fraction, b'e' | b'E') => Part::Exponent,
                (Part::Exponent, b'+' | b'-') => Part::Sign,
                (Part::Exponent | Part::Sign | Part::Power, b'0'..=b'9') => Part::Power,
                (Part::Zero | Part::Whole | Part::Fraction | Part::Power, _) => break true,
                _ => return Err(Halt::Fault(Fault::Syntax, index)),
            };
            index += 1;
        };
        self.state = State::Number(part);
        visitor.text(bytes.get(from..index).unwrap_or_default());
        if ended {
            self.ended(bytes, index, visitor)?;
        }
        Ok(index)
    }

    /// The rest of `true`, `false` or `null` (strict).
    #[inline]
    pub(super) fn word<V: Visitor>(
        &mut self,
        left: &'static [u8],
        bytes: &[u8],
        index: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let have = bytes.get(index..).unwrap_or_default();
        let len = left.len().min(have.len());
        if let Some(at) = left.iter().zip(have).position(|(want, byte)| want != byte) {
            return Err(Halt::Fault(Fault::Syntax, index + at));
        }
        self.state = State::Word(left.get(len..).unwrap_or_default());
        if len == left.len() {
            self.ended(bytes, index + len, visitor)?;
        }
        Ok(index + len)
    }

    /// The rest of a number or word (lenient): up to the next byte that cannot be in one.
    #[inline]
    pub(super) fn bare<V: Visitor>(
        &mut self,
        bytes: &[u8],
        from: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let rest = bytes.get(from..).unwrap_or_default();
        let end = rest.iter().position(|&byte| ends_bare(byte));
        let piece = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        visitor.text(piece);
        let index = from + piece.len();
        if end.is_some() {
            self.ended(bytes, index, visitor)?;
        }
        Ok(index)
    }
}

/// Whether a byte cannot be in a number or word.
#[inline]
fn ends_bare(byte: u8) -> bool {
    #[expect(clippy::indexing_slicing, reason = "evaluated when compiled")]
    const ENDS: [bool; 256] = {
        let bytes = b",}] \n\r\t:\"{[";
        let mut ends = [false; 256];
        let mut index = 0;
        while index < bytes.len() {
            ends[bytes[index] as usize] = true;
            index += 1;
        }
        ends
    };
    ENDS.get(usize::from(byte)).copied().unwrap_or(true)
}
