//! The names a client gives its events. An error names one, so that a name must not stand for two where one asks for a response.

use std::collections::VecDeque;

/// Events whose ids are remembered.
pub(super) const IDS_MAX: usize = 256;

/// The ids of a client's last events.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Each with whether its event asked for a response.
    last: VecDeque<(String, bool)>,
    has_forgotten: bool,
}

impl Ids {
    /// Notes an event's id. `false`: it stands for another already, and one of them asks for a response.
    pub(super) fn take(&mut self, id: &str, is_asking: bool) -> bool {
        let is_used = self
            .last
            .iter()
            .any(|(own, asked)| own == id && (is_asking || *asked));
        if is_used {
            return false;
        }
        if self.last.len() >= IDS_MAX {
            self.last.pop_front();
            self.has_forgotten = true;
        }
        self.last.push_back((id.to_owned(), is_asking));
        true
    }

    /// Whether an id that was new when it came may yet have been an earlier event's.
    pub(super) const fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }
}
