//! What happens to an answer whose client has left: read on within bounds, so that hanging up pays as much as staying.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use ledger::{Disconnect, End};
use proxy::Answer;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    answer::{Left, Till},
    gateway::Gateway,
};

/// Drains every abandoned answer of one worker, until the channel closes and the last is settled.
pub(crate) async fn run(gateway: Arc<Gateway>, mut left: mpsc::Receiver<Left>) {
    let mut drains = JoinSet::new();
    loop {
        tokio::select! {
            Some(left) = left.recv() => {
                drains.spawn(drain(Arc::clone(&gateway), left));
            }
            Some(_) = drains.join_next() => {}
            else => return,
        }
    }
}

/// Reads one answer on, as its price row says (`DISCONNECT` where the row leaves it open), and settles it.
async fn drain(gateway: Arc<Gateway>, Left { mut till, mut rest }: Left) {
    let settings = &gateway.settings;
    let row = till
        .admitted()
        .and_then(|admitted| admitted.catalog.disconnect(admitted.quote.default_price()));
    // The provider goes on with it whoever listens: read until its id is known, then it is a job.
    let row = if till.is_background() {
        Some(Disconnect::Drain)
    } else {
        row
    };
    match row.unwrap_or(settings.disconnect.into()) {
        Disconnect::Void => return till.void(),
        Disconnect::Estimate => {}
        Disconnect::Drain => {
            let reading = read_on(&mut till, &mut rest, settings.drain_bytes_max);
            // Past either deadline the till settles on what it has seen.
            tokio::select! {
                _ = timeout(settings.drain(), reading) => {}
                () = gateway.hurry.cancelled() => {}
            }
        }
    }
    till.settle(End::Abandoned);
}

/// Reads until the till has settled, the answer ends, or `bytes_max` have passed.
async fn read_on(till: &mut Till, rest: &mut Answer, bytes_max: u64) {
    let mut bytes = 0_u64;
    while let Some(Ok(frame)) = rest.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        till.show(&data);
        bytes = bytes.saturating_add(data.len() as u64);
        if till.is_settled() || bytes > bytes_max {
            return;
        }
    }
}
