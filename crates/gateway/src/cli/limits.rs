//! The limits a new access token may get.

use clap::Args;
use tariff::Amount;

/// How much it may use.
#[derive(Debug, Args)]
pub(crate) struct Caps {
    /// The most it may spend in a day (UTC), in USD.
    #[arg(long, value_name = "USD")]
    pub(crate) budget_day: Option<Amount>,
    /// The most it may spend in a month (UTC), in USD.
    #[arg(long, value_name = "USD")]
    pub(crate) budget_month: Option<Amount>,
    /// Input tokens in its life.
    #[arg(long, value_name = "N")]
    pub(crate) prompt_tokens: Option<i64>,
    /// Input tokens in a day (UTC).
    #[arg(long, value_name = "N")]
    pub(crate) prompt_tokens_day: Option<i64>,
    /// Input tokens in a month (UTC).
    #[arg(long, value_name = "N")]
    pub(crate) prompt_tokens_month: Option<i64>,
    /// Output tokens in its life.
    #[arg(long, value_name = "N")]
    pub(crate) completion_tokens: Option<i64>,
    /// Output tokens in a day (UTC).
    #[arg(long, value_name = "N")]
    pub(crate) completion_tokens_day: Option<i64>,
    /// Output tokens in a month (UTC).
    #[arg(long, value_name = "N")]
    pub(crate) completion_tokens_month: Option<i64>,
}

/// How fast it may go. Held across replicas.
#[derive(Debug, Args)]
pub(crate) struct Rates {
    /// Requests in any second.
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_second: Option<i32>,
    /// Requests in any minute.
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<i32>,
    /// Requests in any hour.
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_hour: Option<i32>,
    /// Input and output tokens in any minute.
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_minute: Option<i64>,
    /// Exchanges open at once.
    #[arg(long, value_name = "N")]
    pub(crate) concurrent_exchanges: Option<i32>,
}

impl From<Caps> for ledger::admin::Caps {
    fn from(caps: Caps) -> Self {
        Self {
            budget_day: caps.budget_day,
            budget_month: caps.budget_month,
            prompt_tokens: caps.prompt_tokens,
            prompt_tokens_day: caps.prompt_tokens_day,
            prompt_tokens_month: caps.prompt_tokens_month,
            completion_tokens: caps.completion_tokens,
            completion_tokens_day: caps.completion_tokens_day,
            completion_tokens_month: caps.completion_tokens_month,
        }
    }
}
