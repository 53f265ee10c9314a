//! The front doors' part of the command line: earlier systems' commands under their own names, and their importers.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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

/// Importers.
#[derive(Debug, Subcommand)]
pub(crate) enum Importing {
    /// chatgpt-agent: users with their tokens and provider keys, prices, usage; out of its own tables.
    Agent {
        /// URL of its database. Without it: the database of the settings, where its tables stand beside ours.
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        /// The account that pays; made if there is none, to spend as it likes.
        #[arg(long, default_value = "agent")]
        account: String,
    },
    /// resale-chatgpt-azure: tokens with what is left of their limits, dialogs; out of its JSON files.
    Resale {
        /// src/db/tokens.json
        #[arg(long, value_name = "FILE")]
        tokens: PathBuf,
        /// src/db/dialogs.json. There dialogs were everybody's; here they get an owner.
        #[arg(long, value_name = "FILE", requires = "owner")]
        dialogs: Option<PathBuf>,
        /// The token that gets the dialogs: one of the file's.
        #[arg(long, value_name = "TOKEN")]
        owner: Option<String>,
        /// The tokens are admin tokens, as in the generation with user names.
        #[arg(long)]
        admin: bool,
        /// The account that pays; made if there is none, to spend as it likes.
        #[arg(long, default_value = "resale")]
        account: String,
    },
    /// chat_gpt_proxy: the shared access key becomes an access token; from its environment file or rebuild.sh.
    Complete {
        /// The file with ACCESS_KEY=…
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The account that pays; made if there is none, to spend as it likes.
        #[arg(long, default_value = "complete")]
        account: String,
        /// Take a key that is easy to guess: shorter than 16 characters, or the one that everybody knows.
        #[arg(long)]
        allow_weak: bool,
    },
}
