//! What a door asks to be kept, and to be told.

use crate::exchange::{Away, BoxFuture, Caller};

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

/// Keeps what callers want kept.
pub trait Store: Send + Sync {
    /// A caller's exchanges of the last days, oldest first, at most the newest `rows_max`.
    fn used_of_late(
        &self,
        caller: Caller,
        days: i32,
        rows_max: i64,
    ) -> BoxFuture<'_, Result<Vec<Used>, Away>>;
}
