//! Turns of a dialog, one after the other: in this process in the order they came, among replicas by lease.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    exchange::{Away, Caller, Host},
    lanes::{Lanes, Pass},
    seal::{Seal, SealError},
    store::{DialogName, Turn, TurnStart},
};

/// How long a turn has its dialog without saying so again: after a crash, the next one waits no longer.
const LEASE: Duration = Duration::from_secs(30);
/// How often it says so.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// How long a turn waits for those before it.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The first pause before asking again for a dialog that a turn elsewhere has, and the longest.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(500);

/// Hands out turns, and seals what they leave.
#[derive(Default)]
pub(crate) struct Turns {
    seal: Seal,
    lanes: Arc<Lanes>,
}

/// Whose dialog a turn is in.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// This caller's; it begins with the turn if there is none.
    Caller(Caller),
    /// Whoever's it is that was used within this time.
    Anybody(Duration),
}

/// Why there is no turn, or no end to one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTurn {
    #[error("there is no such dialog")]
    Absent,
    #[error("too many turns of this dialog are under way")]
    Crowded,
    #[error(transparent)]
    Away(#[from] Away),
    #[error("the dialog cannot be read: {0}")]
    Sealed(#[from] SealError),
}

/// A turn that has its dialog. Dropped without an end, it leaves nothing.
pub(crate) struct Taken<'a> {
    host: &'a dyn Host,
    seal: Seal,
    name: DialogName,
    turn: Turn,
    is_over: bool,
    /// What was said so far; `None` in a new dialog.
    pub(crate) content: Option<Vec<u8>>,
    _pass: Pass,
}

impl Turns {
    pub(crate) fn new(seal: Seal) -> Self {
        Self {
            seal,
            lanes: Arc::default(),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn take<'a>(
        &self,
        host: &'a dyn Host,
        whose: Whose,
        name: DialogName,
    ) -> Result<Taken<'a>, NoTurn> {
        let deadline = Instant::now() + WAIT_MAX;
        let owner = match whose {
            Whose::Caller(caller) => caller.token,
            Whose::Anybody(_) => 0,
        };
        let pass = self.lanes.pass((owner, name), deadline).await?;
        let mut pause = ASK_AGAIN;
        let turn = loop {
            let start = match whose {
                Whose::Caller(caller) => host.begin_or_make(caller, name, LEASE).await?,
                Whose::Anybody(idle) => host.begin(name, idle, LEASE).await?,
            };
            match start {
                TurnStart::Begun(turn) => break turn,
                TurnStart::Absent => return Err(NoTurn::Absent),
                TurnStart::Busy if Instant::now() + pause > deadline => {
                    return Err(NoTurn::Crowded);
                }
                TurnStart::Busy => sleep(pause).await,
            }
            pause = pause.saturating_mul(2).min(ASK_AGAIN_MAX);
        };
        let mut taken = Taken {
            host,
            seal: self.seal.clone(),
            name,
            turn,
            is_over: false,
            content: None,
            _pass: pass,
        };
        if let Some(kept) = taken.turn.content.take() {
            match taken.seal.open(name, &kept) {
                Ok(content) => taken.content = Some(content),
                Err(error) => {
                    taken.abandon().await;
                    return Err(error.into());
                }
            }
        }
        Ok(taken)
    }

    /// What was said in a caller's dialog.
    pub(crate) async fn read(
        &self,
        host: &dyn Host,
        caller: Caller,
        name: DialogName,
    ) -> Result<Option<Vec<u8>>, NoTurn> {
        match host.dialog(caller, name).await? {
            Some(kept) => Ok(Some(self.seal.open(name, &kept)?)),
            None => Ok(None),
        }
    }

    /// What to keep of a dialog that begins without a turn.
    pub(crate) fn close(&self, name: DialogName, content: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal.close(name, content)
    }
}

impl Taken<'_> {
    /// Whose dialog it is.
    pub(crate) const fn payer(&self) -> Caller {
        self.turn.payer
    }

    /// Does the turn's work, saying now and then that it is under way.
    pub(crate) async fn while_kept<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut keep = interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep.tick().await;
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = keep.tick() => {
                    // A turn that has lost its dialog still answers its caller; only its end keeps nothing.
                    let _ = self.host.keep_turn(self.turn.dialog, self.turn.id, LEASE).await;
                }
            }
        }
    }

    /// Ends the turn with what is to be kept.
    pub(crate) async fn end(mut self, content: &[u8]) -> Result<(), NoTurn> {
        let kept = self.seal.close(self.name, content)?;
        let had = self
            .host
            .end_turn(self.turn.dialog, self.turn.id, kept)
            .await?;
        self.is_over = true;
        if !had {
            tracing::warn!(
                door = self.name.door,
                "dialog.lost: a turn took too long and was not kept"
            );
        }
        Ok(())
    }

    /// Ends a turn that failed: its dialog is as it was.
    pub(crate) async fn abandon(mut self) {
        let abandoned = self.host.abandon_turn(self.turn.dialog, self.turn.id).await;
        self.is_over = abandoned.is_ok();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.host.abandon_turn_soon(self.turn.dialog, self.turn.id);
        }
    }
}
