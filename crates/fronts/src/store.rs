//! What a door asks to be kept, and to be told.

use std::time::Duration;

use crate::exchange::{Away, BoxFuture, Caller};

/// Names a dialog: its door, and the SHA-256 of what its caller calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialogName {
    /// Which door.
    pub door: &'static str,
    /// The digest.
    pub digest: [u8; 32],
}

/// A turn that has its dialog, until it says nothing for a lease's time.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The dialog's row.
    pub dialog: i64,
    /// This turn.
    pub id: u128,
    /// Who pays: whose dialog it is.
    pub payer: Caller,
    /// What was kept of it, sealed as it was; `None` in a new dialog.
    pub content: Option<Vec<u8>>,
}

/// What asking for a turn came to.
#[derive(Clone, Debug)]
pub enum TurnStart {
    /// It has the dialog.
    Begun(Turn),
    /// Another turn has it.
    Busy,
    /// There is no such dialog.
    Absent,
}

/// What a caller has left of two budgets, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Prompt tokens; below 0 where more were used.
    pub prompt: i64,
    /// Completion tokens.
    pub completion: i64,
}

/// One exchange of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The provider's id of the answer.
    pub remote_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Input and output tokens.
    pub total_tokens: i64,
    /// What it cost in USD, as a JSON number.
    pub price: String,
    /// Seconds since the epoch.
    pub timestamp: i64,
}

type Told<'a, T> = BoxFuture<'a, Result<T, Away>>;

/// Keeps what callers want kept.
pub trait Store: Send + Sync {
    /// A caller's exchanges of the last days, oldest first, at most the newest `rows_max`.
    fn used_of_late(&self, caller: Caller, days: i32, rows_max: i64) -> Told<'_, Vec<Used>>;

    /// Asks for a turn in a caller's dialog, which begins with it if there is none: never [`TurnStart::Absent`].
    fn begin_or_make(
        &self,
        caller: Caller,
        name: DialogName,
        lease: Duration,
    ) -> Told<'_, TurnStart>;

    /// Asks for a turn in a dialog that was used within `idle`, whosever it is: its name is a secret.
    fn begin(&self, name: DialogName, idle: Duration, lease: Duration) -> Told<'_, TurnStart>;

    /// Says that a turn is still under way; `false` when it has lost its dialog.
    fn keep_turn(&self, dialog: i64, turn: u128, lease: Duration) -> Told<'_, bool>;

    /// Ends a turn with what is to be kept; `false` when it had lost its dialog, and nothing was kept.
    fn end_turn(&self, dialog: i64, turn: u128, content: Vec<u8>) -> Told<'_, bool>;

    /// Ends a turn that failed: its dialog is as it was, and one that began with it is gone.
    fn abandon_turn(&self, dialog: i64, turn: u128) -> Told<'_, ()>;

    /// The same for a turn whose caller has left: soon, with nobody waiting for it.
    fn abandon_turn_soon(&self, dialog: i64, turn: u128);

    /// What was kept of a caller's dialog.
    fn dialog(&self, caller: Caller, name: DialogName) -> Told<'_, Option<Vec<u8>>>;

    /// Makes a dialog, unless the caller has `most` that were used within `idle`; returns whether it did.
    fn make_dialog(
        &self,
        caller: Caller,
        name: DialogName,
        content: Vec<u8>,
        most: i64,
        idle: Duration,
    ) -> Told<'_, bool>;

    /// Deletes a dialog that was used within `idle`, whosever it is unless `caller` says; returns whether there was one.
    fn delete_dialog(
        &self,
        caller: Option<Caller>,
        name: DialogName,
        idle: Duration,
    ) -> Told<'_, bool>;

    /// Starts a caller's cooldown, unless one is running: then its milliseconds left.
    fn start_cooldown(
        &self,
        caller: Caller,
        version: i16,
        cooldown: Duration,
    ) -> Told<'_, Option<u64>>;

    /// Takes a cooldown back: the call it was for has failed.
    fn end_cooldown(&self, caller: Caller, version: i16) -> Told<'_, ()>;

    /// Whether a caller may speak for the users of his account.
    fn is_admin(&self, caller: Caller) -> Told<'_, bool>;

    /// The user of a caller's account by his name.
    fn user<'a>(&'a self, caller: Caller, name: &'a str) -> Told<'a, Option<Caller>>;

    /// What a caller has left of both budgets.
    fn left(&self, caller: Caller) -> Told<'_, Left>;

    /// Makes a user with these budgets, unless he is there; returns his id.
    fn issue_user<'a>(&'a self, admin: Caller, name: &'a str, left: Left) -> Told<'a, i64>;

    /// Sets what a user has left; `false` when there is none of that name.
    fn set_left<'a>(&'a self, admin: Caller, name: &'a str, left: Left) -> Told<'a, bool>;
}
