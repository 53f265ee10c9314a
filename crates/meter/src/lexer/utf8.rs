//! UTF-8 validity across pieces.

/// Up to three bytes of a sequence that has begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utf8 {
    begun: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Whether no sequence is open.
    pub(crate) fn is_whole(self) -> bool {
        self.len == 0
    }

    /// Takes the next piece; the error is where the first byte stands that no UTF-8 can have there.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut from = 0;
        while self.len > 0 {
            let Some(&byte) = piece.get(from) else {
                return Ok(());
            };
            self.step(byte).map_err(|NotUtf8| from)?;
            from = from.saturating_add(1);
        }
        let rest = piece.get(from..).unwrap_or_default();
        let Err(error) = std::str::from_utf8(rest) else {
            return Ok(());
        };
        // What is left is a sequence that is not whole, or not one: find out where.
        let from = from.saturating_add(error.valid_up_to());
        for (index, byte) in piece.iter().enumerate().skip(from) {
            self.step(*byte).map_err(|NotUtf8| index)?;
        }
        Ok(())
    }

    /// Takes one byte.
    fn step(&mut self, byte: u8) -> Result<(), NotUtf8> {
        *self.begun.get_mut(usize::from(self.len)).ok_or(NotUtf8)? = byte;
        self.len = self.len.saturating_add(1);
        match std::str::from_utf8(self.begun.get(..usize::from(self.len)).unwrap_or_default()) {
            Ok(_) => self.len = 0,
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }
}

/// The byte cannot stand here.
struct NotUtf8;

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(pieces: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        pieces.iter().all(|piece| utf8.push(piece).is_ok()) && utf8.is_whole()
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let text = "aé€😀z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                assert!(accepts(&[
                    &text[..first],
                    &text[first..second],
                    &text[second..]
                ]));
            }
        }
    }

    #[test]
    fn what_from_utf8_refuses_is_refused_in_any_pieces() {
        let bad: [&[u8]; 7] = [
            b"\xff",
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
            b"a\x80",
            b"\xc3(",
        ];
        for bytes in bad {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert!(!accepts(&[bytes]) && !accepts(&single), "{bytes:?}");
        }
    }
}
