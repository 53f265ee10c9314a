//! How much of what a client said aloud is still to be written down. Positions are milliseconds since the socket's first.

use std::collections::VecDeque;

/// A client's commits that may wait at once for the upstream to tell of them. Of more it is not known how far they reach.
const COMMITS_MAX: usize = 256;

/// What was heard and what became of it.
#[derive(Debug, Default)]
pub(super) struct Audio {
    heard_ms: u64,
    /// Audio since the last of it was charged.
    listened_ms: u64,
    /// Up to where utterances are cut out of it.
    cut_at: u64,
    /// Where the client cut, and the upstream has not said so yet.
    commits: VecDeque<u64>,
    /// Where the upstream last heard speech end.
    speech_end: Option<u64>,
    /// Utterances that are being written down.
    utterances: u64,
}

impl Audio {
    pub(super) fn hears(&mut self, ms: u64) {
        self.heard_ms = self.heard_ms.saturating_add(ms);
        self.listened_ms = self.listened_ms.saturating_add(ms);
    }

    pub(super) const fn listened_ms(&self) -> u64 {
        self.listened_ms
    }

    /// All but so much is charged.
    pub(super) const fn charged_but(&mut self, ms: u64) {
        self.listened_ms = ms;
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.utterances > 0
    }

    /// The client cuts here.
    pub(super) fn commits(&mut self) {
        if self.commits.len() < COMMITS_MAX {
            self.commits.push_back(self.heard_ms);
        }
    }

    pub(super) const fn speech_ends(&mut self, at: u64) {
        self.speech_end = Some(at);
    }

    /// The upstream cut, and where something is held for it writes down what it cut out.
    pub(super) fn committed(&mut self, is_written: bool) {
        // Its own cut may stand before what the client said since.
        let at = self.speech_end.take();
        let at = at.or_else(|| self.commits.pop_front());
        let at = at.unwrap_or_default().min(self.heard_ms);
        self.cut_at = self.cut_at.max(at);
        if is_written {
            self.utterances = self.utterances.saturating_add(1);
        } else if self.utterances == 0 {
            // Nobody writes down what was cut out.
            let left = self.heard_ms.saturating_sub(self.cut_at);
            self.listened_ms = self.listened_ms.min(left);
        }
    }

    /// What is still to be written down, or may yet be, once an utterance of this length is.
    pub(super) fn left_after(&self, ms: u64) -> u64 {
        let left = self.listened_ms.saturating_sub(ms);
        match self.utterances {
            // An upstream that tells of no commits.
            0 => 0,
            1 => left.min(self.heard_ms.saturating_sub(self.cut_at)),
            _ => left,
        }
    }

    /// An utterance of this length is written down, or nothing of it will be.
    pub(super) fn written(&mut self, ms: u64) {
        self.listened_ms = self.left_after(ms);
        self.utterances = self.utterances.saturating_sub(1);
    }
}
