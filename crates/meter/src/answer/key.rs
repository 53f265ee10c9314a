//! A small buffer for a key.

/// The longest key we look for, and some.
const KEY_BYTES_MAX: usize = 32;

/// The last key, unescaped. One that is too long, or not ASCII, is none of ours.
#[derive(Debug, Default)]
pub(super) struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    len: usize,
}

impl Key {
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        let end = self.len.saturating_add(piece.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(piece);
        }
        self.len = end;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
