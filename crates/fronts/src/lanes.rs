//! The lines in which turns of one dialog wait within this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout_at},
};

use crate::{store::DialogName, turns::NoTurn};

/// Turns of one dialog that wait in this process.
const WAITING_MAX: usize = 16;

/// Whose dialog, and which.
pub(crate) type LaneKey = (i64, DialogName);

/// The dialogs that turns of this process have or wait for.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<LaneKey, Lane>>);

/// A dialog's turns, first come first served.
#[derive(Default)]
struct Lane {
    turn: Arc<tokio::sync::Mutex<()>>,
    inside: usize,
}

/// A place in a lane; the lane goes with the last of them.
struct Place {
    lanes: Arc<Lanes>,
    key: LaneKey,
}

/// The first place in a lane.
pub(crate) struct Pass {
    // In this order: whoever waits gets the turn before the lane may go.
    _turn: OwnedMutexGuard<()>,
    _place: Place,
}

impl Lanes {
    /// Waits for the first place, as long as the deadline allows.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        key: LaneKey,
        deadline: Instant,
    ) -> Result<Pass, NoTurn> {
        let (turn, place) = self.enter(key)?;
        match timeout_at(deadline, turn.lock_owned()).await {
            Ok(turn) => Ok(Pass {
                _turn: turn,
                _place: place,
            }),
            Err(_) => Err(NoTurn::Crowded),
        }
    }

    fn enter(
        self: &Arc<Self>,
        key: LaneKey,
    ) -> Result<(Arc<tokio::sync::Mutex<()>>, Place), NoTurn> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(key).or_default();
        if lane.inside > WAITING_MAX {
            return Err(NoTurn::Crowded);
        }
        lane.inside += 1;
        let place = Place {
            lanes: Arc::clone(self),
            key,
        };
        Ok((Arc::clone(&lane.turn), place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.inside -= 1;
            if lane.inside == 0 {
                lanes.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(60);

    const NAME: DialogName = DialogName {
        door: "resale",
        digest: [0; 32],
    };

    #[tokio::test]
    async fn a_lane_is_first_come_first_served_and_bounded_and_goes_with_the_last() {
        let lanes = Arc::new(Lanes::default());
        let soon = || Instant::now() + WAIT_MAX;
        let first = lanes.pass((1, NAME), soon()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..WAITING_MAX {
            let (turn, place) = lanes.enter((1, NAME)).unwrap();
            let order = Arc::clone(&order);
            let mut lock = Box::pin(turn.lock_owned());
            // Polled once, so that they stand in line in this order.
            assert!(futures_poll(&mut lock).is_none());
            waiting.push(tokio::spawn(async move {
                let turn = lock.await;
                order.lock().unwrap().push(number);
                drop((turn, place));
            }));
        }
        assert!(matches!(lanes.enter((1, NAME)), Err(NoTurn::Crowded)));
        assert!(
            lanes.enter((2, NAME)).is_ok(),
            "another's dialog is another lane"
        );
        drop(first);
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..WAITING_MAX).collect::<Vec<_>>());
        assert!(lanes.0.lock().unwrap().is_empty());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
