//! Pieces of a body that wait, and how they are put together when they go.

use std::collections::VecDeque;

use bytes::Bytes;
use bytes::BytesMut;

/// Frames that are ready together are yielded as one of up to this many bytes.
///
/// hyper writes and flushes what a body yields before it asks again; on a burst of small events that
/// is a system call each, ten times the cost of passing them on together.
pub const COALESCED_BYTES: usize = 16 * 1024;

/// Pieces of a body in order, with their sum. Empty pieces never enter.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
    pub(super) bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.pieces.append(&mut other.pieces);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first piece, together with those after it as long as all fit into [`COALESCED_BYTES`].
    pub(super) fn pop_batch(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let mut batch_bytes = first.len();
        let mut followers = 0;
        for piece in &self.pieces {
            if batch_bytes + piece.len() > COALESCED_BYTES {
                break;
            }
            batch_bytes += piece.len();
            followers += 1;
        }
        self.bytes -= batch_bytes;
        if followers == 0 {
            return Some(first);
        }
        let mut batch = BytesMut::with_capacity(batch_bytes);
        batch.extend_from_slice(&first);
        for piece in self.pieces.drain(..followers) {
            batch.extend_from_slice(&piece);
        }
        Some(batch.freeze())
    }
}
