//! The inside of strings: where nearly all bytes of a body are, so this is where speed is won.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the only arithmetic is on indices bounded by a slice's length"
)]

use memchr::memchr2;

use super::{Fault, Halt, Lexer, State, Visitor};

/// How much text outside ASCII is taken at once, so that both checks find it in the cache.
const WINDOW_BYTES: usize = 8 * 1024;

impl<const STRICT: bool> Lexer<STRICT> {
    /// The inside of a string, up to its end, an escape or the end of the bytes.
    #[inline]
    pub(super) fn text<V: Visitor>(
        &mut self,
        bytes: &[u8],
        from: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let rest = bytes.get(from..).unwrap_or_default();
        let mut len = if STRICT && !self.utf8.is_whole() {
            0
        } else {
            plain_len(rest)
        };
        if !matches!(rest.get(len), None | Some(b'"' | b'\\')) || STRICT && !self.utf8.is_whole() {
            len = self
                .other_text(rest, len)
                .map_err(|(fault, at)| Halt::Fault(fault, from + at))?;
        }
        if len > 0 {
            visitor.text(rest.get(..len).unwrap_or_default());
        }
        match rest.get(len) {
            None => Ok(from + len),
            Some(b'"') => {
                self.ended(bytes, from + len + 1, visitor)?;
                Ok(from + len + 1)
            }
            Some(_) => {
                self.state = State::Escape;
                Ok(from + len + 1)
            }
        }
    }

    /// Length of the text in `rest`, of which the first `plain` bytes need no check, where there are
    /// bytes outside printable ASCII.
    #[cold]
    fn other_text(&mut self, rest: &[u8], plain: usize) -> Result<usize, (Fault, usize)> {
        let mut len = plain;
        loop {
            let left = rest.get(len..).unwrap_or_default();
            let window = left.get(..WINDOW_BYTES).unwrap_or(left);
            let hit = memchr2(b'"', b'\\', window);
            let piece = hit.and_then(|end| window.get(..end)).unwrap_or(window);
            if STRICT {
                // The first fault counts, so that the verdict does not depend on the cuts.
                match (control(piece), self.utf8.push(piece)) {
                    (Some(at), Err(other)) if other < at => {
                        return Err((Fault::NotUtf8, len + other));
                    }
                    (Some(at), _) => return Err((Fault::Control, len + at)),
                    (None, Err(at)) => return Err((Fault::NotUtf8, len + at)),
                    (None, Ok(())) if hit.is_some() && !self.utf8.is_whole() => {
                        return Err((Fault::NotUtf8, len + piece.len()));
                    }
                    (None, Ok(())) => {}
                }
            }
            len += piece.len();
            if hit.is_some() || len == rest.len() {
                return Ok(len);
            }
        }
    }

    #[inline]
    pub(super) fn escape<V: Visitor>(
        &mut self,
        byte: u8,
        index: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let unit = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Hex { left: 4, unit: 0 };
                return Ok(index + 1);
            }
            _ if STRICT => return Err(Halt::Fault(Fault::Syntax, index)),
            _ => byte,
        };
        visitor.unit(u16::from(unit));
        self.state = State::Text;
        Ok(index + 1)
    }

    pub(super) fn hex<V: Visitor>(
        &mut self,
        left: u8,
        unit: u16,
        byte: u8,
        index: usize,
        visitor: &mut V,
    ) -> Result<usize, Halt<V::Stop>> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(Halt::Fault(Fault::Syntax, index)),
        };
        let unit = unit << 4 | u16::from(digit);
        self.state = if left == 1 {
            visitor.unit(unit);
            State::Text
        } else {
            State::Hex {
                left: left - 1,
                unit,
            }
        };
        Ok(index + 1)
    }
}

/// Whether a byte in a string needs a look: the end, an escape, a control character, or UTF-8.
#[inline]
fn is_special(byte: u8) -> bool {
    !matches!(byte, 0x20..=0x7f) || byte == b'"' || byte == b'\\'
}

/// How many bytes from the start need no look.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    // Most strings are short: the end is in the first few words.
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(BLOCK / 8).enumerate() {
        if let Some(at) = special_in(*word) {
            return index * 8 + at;
        }
    }
    // Blocks without a branch inside, so that the compiler makes vector code of them.
    let plain = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |found, &byte| found | is_special(byte))
        })
        .count();
    let from = plain * BLOCK;
    let rest = bytes.get(from..).unwrap_or_default();
    let (words, last) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if let Some(at) = special_in(*word) {
            return from + index * 8 + at;
        }
    }
    let last_at = bytes.len() - last.len();
    last_at
        + last
            .iter()
            .position(|&byte| is_special(byte))
            .unwrap_or(last.len())
}

/// Where the first special byte of a word stands. The subtractions may borrow into bytes above a
/// special one, never below: the lowest mark is true.
#[inline]
fn special_in(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let marks = word & HIGH | below(word, 0x20) | below(quote, 1) | below(backslash, 1);
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// Where the first raw control character stands.
fn control(piece: &[u8]) -> Option<usize> {
    // Blocks without a branch inside, so that the compiler makes vector code of them.
    let found = piece.chunks(64).any(|block| {
        block
            .iter()
            .fold(false, |found, &byte| found | (byte < 0x20))
    });
    if found {
        piece.iter().position(|&byte| byte < 0x20)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for len in 0..120 {
            assert_eq!(plain_len(&vec![b'a'; len]), len);
            for at in 0..len {
                for special in [b'"', b'\\', 0, 0x1f, 0x80, 0xff] {
                    let mut bytes = vec![b' '; len];
                    bytes[at] = special;
                    // What follows it changes nothing.
                    bytes[at + 1..].fill(b'!');
                    assert_eq!(plain_len(&bytes), at);
                    bytes[at + 1..].fill(special);
                    assert_eq!(plain_len(&bytes), at);
                }
            }
        }
    }
}
