//! The front doors' part of the command line: earlier systems' commands under their own names, and their importers.

use clap::Args;

/// Where to serve as chatgpt_chatbot did. Both of its modes are served at one address.
#[derive(Debug, Args)]
pub(crate) struct ChatbotMode {
    /// Where gRPC clients connect.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:50052")]
    pub(crate) grpc: String,
    /// Where HTTP clients connect; wins over --grpc.
    #[arg(long, value_name = "HOST:PORT", default_value = "")]
    pub(crate) http: String,
    /// Log more, and let the gRPC service describe itself.
    #[arg(long)]
    pub(crate) debug: bool,
}

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
