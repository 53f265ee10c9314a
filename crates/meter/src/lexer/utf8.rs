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

    /// Takes the next piece; false when the bytes cannot be UTF-8.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return true;
            };
            piece = rest;
            let Some(slot) = self.begun.get_mut(usize::from(self.len)) else {
                return false;
            };
            *slot = byte;
            self.len = self.len.saturating_add(1);
            let begun = self.begun.get(..usize::from(self.len)).unwrap_or_default();
            match std::str::from_utf8(begun) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        let Err(error) = std::str::from_utf8(piece) else {
            return true;
        };
        if error.error_len().is_some() {
            return false;
        }
        let open = piece.get(error.valid_up_to()..).unwrap_or_default();
        for (slot, byte) in self.begun.iter_mut().zip(open) {
            *slot = *byte;
            self.len = self.len.saturating_add(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(pieces: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        pieces.iter().all(|piece| utf8.push(piece)) && utf8.is_whole()
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
