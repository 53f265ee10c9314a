//! How long an answer may keep its reader waiting once its head is here.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::Sleep;

use super::PoolLimits;

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection broke, or what came over it was no HTTP.
    #[error("the upstream broke the answer off")]
    Broken(#[source] hyper::Error),
    /// Not a byte came for [`PoolLimits::silence_timeout`].
    #[error("the upstream said nothing for too long")]
    Silent,
    /// The answer did not end within [`PoolLimits::answer_timeout`].
    #[error("the answer took too long in all")]
    Overlong,
}

/// The two clocks of one answer. Time in which nobody asks for more is the reader's, not the upstream's.
pub(super) struct Patience {
    silence: Duration,
    /// When the answer as a whole must have ended.
    until: Option<Instant>,
    /// Since when the reader has asked in vain.
    asked_since: Option<Instant>,
    /// Made when it is first needed: most answers that are short never wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(limits: &PoolLimits) -> Self {
        Self {
            silence: limits.silence_timeout,
            until: limits.answer_timeout.map(|whole| Instant::now() + whole),
            asked_since: None,
            alarm: None,
        }
    }

    /// Something came.
    ///
    /// # Errors
    /// When it came after the answer's time.
    pub(super) fn heard(&mut self) -> Result<(), AnswerError> {
        self.asked_since = None;
        match self.until {
            Some(until) if Instant::now() >= until => Err(AnswerError::Overlong),
            _ => Ok(()),
        }
    }

    /// Nothing has come. Ready once it is too late.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<AnswerError> {
        let silent_at = *self.asked_since.get_or_insert_with(Instant::now) + self.silence;
        let (at, error) = match self.until {
            Some(until) if until < silent_at => (until, AnswerError::Overlong),
            _ => (silent_at, AnswerError::Silent),
        };
        // An alarm that was set for an earlier silence rings early and is set again: cheaper than setting it anew each time.
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(error);
            }
            alarm.as_mut().reset(at);
        }
        Poll::Pending
    }
}
