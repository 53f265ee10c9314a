//! What watches a flowing request body, and keeps its gate.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use meter::{BodyScanner, RequestFacts};
use proxy::{End, Gate, Observer, Split};
use tokio::sync::oneshot;

use super::{Ahead, Bounds, Said, refuse};
use crate::refusal::Refusal;

/// Scans a flowing body and keeps its last byte until the verdict.
pub(crate) struct Watch {
    /// Gone once the facts, or a refusal, have been told.
    scanner: Option<Box<BodyScanner>>,
    /// Leading bytes that the scanner has already seen.
    scanned_ahead: usize,
    /// Bytes passed so far.
    bytes: u64,
    bytes_max: u64,
    kept: Vec<Bytes>,
    kept_bytes_max: u64,
    /// Taken when the facts, or the refusal, have been told.
    tell: Option<oneshot::Sender<Result<Said, Refusal>>>,
    verdict: oneshot::Receiver<Gate>,
}

impl Watch {
    /// Watches a body of which `ahead` has been scanned already.
    pub(super) fn new(
        scanner: BodyScanner,
        ahead: &[Bytes],
        bounds: Bounds,
        tell: oneshot::Sender<Result<Said, Refusal>>,
        verdict: oneshot::Receiver<Gate>,
    ) -> Self {
        Self {
            scanner: Some(Box::new(scanner)),
            scanned_ahead: ahead.iter().map(Bytes::len).sum(),
            bytes: 0,
            bytes_max: bounds.bytes_max,
            kept: Vec::new(),
            kept_bytes_max: bounds.kept_bytes_max as u64,
            tell: Some(tell),
            verdict,
        }
    }

    fn tell(&mut self, facts: Result<RequestFacts, Refusal>) {
        self.scanner = None;
        if let Some(tell) = self.tell.take() {
            // Nobody listens once the upstream has answered early: then there is nothing to tell.
            let text = std::mem::take(&mut self.kept);
            let _ = tell.send(facts.map(|facts| Said { facts, text }));
        }
    }
}

impl Observer<Ahead> for Watch {
    fn frame(&mut self, data: Bytes) -> Split {
        let start = self.bytes;
        self.bytes = start.saturating_add(data.len() as u64);
        let Some(scanner) = &mut self.scanner else {
            return Split::withhold(data);
        };
        if start < self.kept_bytes_max {
            self.kept.push(data.clone());
        }
        let fresh = data
            .get(self.scanned_ahead.min(data.len())..)
            .unwrap_or_default();
        self.scanned_ahead = self.scanned_ahead.saturating_sub(data.len());
        let refusal = match scanner.push(fresh) {
            Err(error) => Some(refuse(&error)),
            Ok(()) if self.bytes > self.bytes_max => Some(Refusal::BodyTooLarge {
                bytes_max: self.bytes_max,
            }),
            Ok(()) => None,
        };
        if let Some(refusal) = refusal {
            self.tell(Err(refusal));
            return Split::withhold(data);
        }
        match scanner.closed_at().map(|at| at.saturating_sub(start)) {
            Some(at) => Split::at(data, usize::try_from(at).unwrap_or(0)),
            None => Split::pass(data),
        }
    }

    fn end(&mut self, end: End<Ahead>) {
        match (end, self.scanner.take()) {
            (End::Complete, Some(scanner)) => {
                self.tell(scanner.finish().map_err(|error| refuse(&error)));
            }
            (End::Complete, None) => {}
            (End::Failed(_) | End::Abandoned(_), _) => self.tell(Err(Refusal::ClientGone)),
        }
    }

    fn full(&mut self) {
        self.tell(Err(Refusal::BodyTooLarge {
            bytes_max: self.bytes_max,
        }));
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        // A sender that is gone decided nothing: the gate stays shut.
        Pin::new(&mut self.verdict)
            .poll(cx)
            .map(|verdict| verdict.unwrap_or(Gate::Shut))
    }
}
