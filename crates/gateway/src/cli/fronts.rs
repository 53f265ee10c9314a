//! The front doors' part of the command line: earlier systems' commands under their own names, and their importers.

use clap::Args;

/// A token as resale-chatgpt-azure's script made it.
#[derive(Debug, Args)]
pub(crate) struct TokenGen {
    /// When it ends: 2027-01-01 (midnight UTC) or 2027-01-01T12:00:00Z.
    #[arg(short, long, value_name = "TIME", value_parser = super::parse_time)]
    pub(crate) expires: jiff::Timestamp,
    /// The most prompt tokens it may use in its life.
    #[arg(short, long = "userTokenLimit", visible_alias = "ut", value_name = "TOKENS", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) user_token_limit: i64,
    /// The most completion tokens it may use in its life.
    #[arg(short, long = "chatGptTokenLimit", visible_alias = "ct", value_name = "TOKENS", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) chat_gpt_token_limit: i64,
    /// Make an admin token: it makes users and sets their budgets, and has none of its own.
    #[arg(long)]
    pub(crate) admin: bool,
    /// The account that pays; made if there is none, to spend as it likes.
    #[arg(long, default_value = "resale")]
    pub(crate) account: String,
}
