//! The two directions of one connection, message by message.

use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::State;

/// What the directions know of each other: which of the server's answers is to be lost.
#[derive(Debug, Default)]
pub(super) struct Talk(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Messages that the server answers with "ready": syncs and simple queries.
    asked: usize,
    /// Such answers that passed, but for the one that greets.
    answered: usize,
    /// The answer, counted from one, that is to be lost.
    doomed: Option<usize>,
}

impl Talk {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Client to server, until one of them is gone.
pub(super) async fn up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    talk: &Talk,
) {
    // The first message has no type. There is only one: the URL of a relay asks for no encryption.
    let mut is_first = true;
    while let Some(message) = read_message(&mut from, !is_first).await {
        if !is_first {
            let mut counts = talk.counts();
            let is_statement = matches!(message.first(), Some(b'P' | b'Q'));
            if is_statement && counts.doomed.is_none() && state.loses(&message) {
                counts.doomed = Some(counts.asked + 1);
            }
            if matches!(message.first(), Some(b'S' | b'Q')) {
                counts.asked += 1;
            }
        }
        is_first = false;
        state.passable().await;
        if to.write_all(&message).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Server to client, until one of them is gone or an answer is to be lost.
pub(super) async fn down(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    talk: &Talk,
) {
    let mut has_greeted = false;
    while let Some(message) = read_message(&mut from, true).await {
        let is_ready = message.first() == Some(&b'Z');
        let is_doomed = {
            let mut counts = talk.counts();
            if is_ready && has_greeted {
                counts.answered += 1;
            }
            let current = counts.answered + usize::from(!is_ready);
            has_greeted && counts.doomed == Some(current)
        };
        has_greeted |= is_ready;
        if is_doomed && is_ready {
            state.count_lost();
            return;
        }
        if is_doomed {
            continue;
        }
        state.passable().await;
        if to.write_all(&message).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// A message: its type, if it has one, its length, which counts itself, and the rest.
async fn read_message(from: &mut (impl AsyncRead + Unpin), has_type: bool) -> Option<Vec<u8>> {
    let head_bytes = if has_type { 5 } else { 4 };
    let mut message = vec![0; head_bytes];
    from.read_exact(&mut message).await.ok()?;
    let length = message.last_chunk().copied().map(u32::from_be_bytes)?;
    let rest = usize::try_from(length).ok()?.checked_sub(4)?;
    message.resize(head_bytes + rest, 0);
    from.read_exact(&mut message[head_bytes..]).await.ok()?;
    Some(message)
}
