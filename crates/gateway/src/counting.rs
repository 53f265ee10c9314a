//! What is found out about a request while its answer comes: work that must not hold up a worker.

use bytes::Bytes;
use meter::{Api, RequestFacts};
use tokio::{
    runtime::Handle,
    sync::OwnedSemaphorePermit,
    task::{JoinError, JoinHandle},
};

use crate::sound;

/// A count under way.
pub(crate) struct Counting(JoinHandle<Counted>);

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Tokens of the request's text.
    Tokens(u64),
    /// Milliseconds that its recording plays, if that can be told.
    Millis(Option<u64>),
}

impl Counting {
    /// Counts the tokens of a body that begins with these frames.
    pub(crate) fn tokens(
        control: &Handle,
        api: Api,
        model: &str,
        facts: &RequestFacts,
        frames: &[Bytes],
    ) -> Self {
        let (model, frames) = (model.to_owned(), frames.to_vec());
        let body_bytes = facts.body_bytes;
        Self(control.spawn_blocking(move || {
            Counted::Tokens(meter::request_text_tokens(api, &model, &frames, body_bytes))
        }))
    }

    /// Times the recording that a form carries. The permit is for keeping it until then.
    pub(crate) fn millis(
        control: &Handle,
        facts: &RequestFacts,
        frames: &[Bytes],
        permit: OwnedSemaphorePermit,
    ) -> Option<Self> {
        let range = facts.file_at.clone()?;
        let frames = frames.to_vec();
        Some(Self(control.spawn_blocking(move || {
            let counted = Counted::Millis(sound::duration_ms(frames, &range));
            drop(permit);
            counted
        })))
    }

    /// Waits for it, which is long done when the answer's head comes.
    pub(crate) async fn finish(self) -> Result<Counted, JoinError> {
        self.0.await
    }
}
