//! The observer of an answer that costs nothing: it counts bytes and never closes the gate.

use std::task::{Context, Poll};

use bytes::Bytes;
use proxy::{End, Gate, Observer, Split};

use crate::{gateway::Entry, record::Record};

/// Keeps an exchange open, and its record, for as long as the answer passes.
pub(crate) struct Passing {
    record: Record,
    _entry: Entry,
}

impl Passing {
    pub(crate) const fn new(record: Record, entry: Entry) -> Self {
        Self {
            record,
            _entry: entry,
        }
    }
}

impl<B: 'static> Observer<B> for Passing {
    fn frame(&mut self, data: Bytes) -> Split {
        self.record.passed(data.len());
        Split::pass(data)
    }

    fn end(&mut self, end: End<B>) {
        match end {
            End::Complete => {}
            End::Failed(_) => self.record.end = "failed",
            End::Abandoned(_) => self.record.end = "abandoned",
        }
    }

    fn poll_gate(&mut self, _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }
}
