//! The command line, and the help that teaches it.

mod books;
mod export;
mod fronts;
mod health;
mod limits;
mod price;
mod upstreams;
mod usage;
mod webhooks;

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use tariff::Amount;

pub(crate) use self::fronts::{ChatbotMode, Importing, TokenGen};
pub(crate) use self::health::Health;
use crate::fatal::{Code, Fatal};

pub(crate) use self::{
    books::{Audit, Doctor, KeyOf, OurKey, Percent, Reconcile},
    export::{Export, Format, Subject},
    limits::{Caps, Rates},
    price::SetPrice,
    upstreams::{AddUpstream, Cost, Route, Upstream},
    usage::{Usage, UsageBy},
    webhooks::{AddWebhook, Webhook},
};

/// A transparent, pass-through metering gateway for OpenAI-compatible APIs.
///
/// Whoever has an access token calls Turnpike as he would call OpenAI: OPENAI_BASE_URL and
/// OPENAI_API_KEY are all that changes. Every call is counted, priced and charged, and nobody can
/// spend more than he has.
#[derive(Debug, Parser)]
#[command(
    name = "turnpike",
    version,
    subcommand_required = false,
    after_help = "Settings come from the environment: DATABASE_URL, OPENAI_URL, OPENAI_API_KEY, PORT and others \
(config/example.env has them all). Without DATABASE_URL, Turnpike runs a private Postgres of its own; without OPENAI_URL, \
OPENAI_API_KEY or a row in turnpike.upstream, a built-in sandbox model answers.\n\n\
First steps:\n  \
turnpike                                             serve; the first start prints a token and how to call\n  \
turnpike account top-up alice 20 --note 'invoice 17' --create\n  \
turnpike token issue alice --budget 20 --models 'gpt-4o*'\n  \
turnpike usage --by model"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve clients (the default).
    ///
    /// SIGTERM or SIGINT ends it: no new work is taken, open exchanges finish, and every charge becomes durable.
    Serve,
    /// Bring the database to this program's version.
    ///
    /// Applies the migrations that the database lacks and says which. Run it as the database's owner. Running it again
    /// changes nothing. `serve` does it by itself, unless MIGRATE=false.
    Migrate,
    /// Access tokens: what clients show.
    #[command(subcommand)]
    Token(Token),
    /// Accounts: who pays.
    #[command(subcommand)]
    Account(Account),
    /// Prices: what models cost. Never updated, only superseded.
    #[command(subcommand)]
    Price(Price),
    /// Upstreams: who answers, and with which keys.
    #[command(subcommand)]
    Upstream(Upstream),
    /// Routes: which models go to which upstream.
    #[command(subcommand)]
    Route(Route),
    /// What was used and charged, by day, model, access token or account.
    Usage(Usage),
    /// Write charges for other programs: CSV, JSON lines, Parquet or CloudEvents.
    ///
    /// In the order of charge_seq, whose last one is told at the end: `--after` goes on behind it. Money stands in nano-USD and, exactly, in USD.
    /// A Parquet file appears when it is whole; lines may be gone on with by `--resume`.
    Export(Export),
    /// Webhooks: who is told that a budget runs out, a token ends or a key is refused.
    #[command(subcommand)]
    Webhook(Webhook),
    /// Check the books from the ground up: balances, budgets, holds, prices.
    ///
    /// Prints the rows of view turnpike.audit and ends with exit code 1 if there is any.
    Audit(Audit),
    /// Look for what is wrong or about to be, and say what to do about it: worst first.
    ///
    /// Looks at the database, prices, upstream keys, open exchanges, charges, the books, DATA_DIR, file descriptors and the
    /// certificate, and asks each upstream with each key for its models; all with the settings of its own environment: run it where
    /// the gateway runs. Changes nothing, prints no secret.
    /// Exit code 0: nothing to do, 1: someone must act.
    Doctor(Doctor),
    /// Ask the gateway that runs here whether it is well: for a container's health check.
    ///
    /// Asks at ADMIN_ADDRESS of its own environment. Exit code 0: it is well, 1: it is not, 69: nobody answers.
    Health(Health),
    /// Compare a provider's usage or cost export with what was charged, by day (UTC), key and model.
    ///
    /// Reads OpenAI's organization usage and costs (the JSON of /v1/organization/usage/… and /v1/organization/costs; also several
    /// pages, one after the other) and CSV with a header: the exports of its dashboard, or any file with the columns day, model,
    /// key, requests, input_tokens, cached_tokens, output_tokens, usd, or some of them. Which it is, is seen from its content.
    /// Changes nothing. Exit code 0: no differences, 1: differences.
    Reconcile(Reconcile),
    /// Make a token as resale-chatgpt-azure's script did: with an end and two budgets.
    TokenGen(TokenGen),
    /// Serve as chatgpt_chatbot did: its door open, at its address.
    Chatbot(ChatbotMode),
    /// Take over what an earlier system had. Run it as the database's owner; running it again changes nothing.
    #[command(subcommand)]
    Import(Importing),
    /// Print what makes a shell complete these commands: `turnpike completions bash > /etc/bash_completion.d/turnpike`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual: a page for the program and one for each command.
    Man {
        /// Into this directory, /usr/local/share/man/man1 say; without it, the program's own page to standard output.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Access tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make an access token. Its secret is shown once and stored nowhere.
    Issue(Box<Issue>),
    /// List access tokens with what they have spent; secrets cannot be shown again.
    List {
        /// Of this account only.
        #[arg(long)]
        account: Option<String>,
    },
    /// Give an access token a new secret; the old one is refused from now on, on every replica.
    Rotate {
        /// Its prefix as `token list` shows it, or the whole token.
        token: String,
    },
    /// Refuse an access token from now on, on every replica.
    Revoke {
        /// Its prefix as `token list` shows it, or the whole token.
        token: String,
    },
}

/// A new access token's limits. Without any, it may spend whatever its account has.
#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The account that pays.
    pub(crate) account: String,
    /// The most it may spend in its life, in USD.
    #[arg(long, value_name = "USD")]
    pub(crate) budget: Option<Amount>,
    /// When it ends: 2027-01-01 (midnight UTC) or 2027-01-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) expires: Option<Timestamp>,
    /// Models it may use, exact or with a trailing '*'; may be given several times or separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) caps: Caps,
    #[command(flatten)]
    pub(crate) rates: Rates,
    /// Networks it may be used from, such as 10.0.0.0/8.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) addresses: Option<Vec<String>>,
    /// Endpoints it may use: chat/completions, completions, embeddings, responses, models, free.
    #[arg(long, value_delimiter = ',')]
    pub(crate) endpoints: Option<Vec<String>>,
    /// What it is for.
    #[arg(long)]
    pub(crate) label: Option<String>,
}

/// Accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Make an account.
    Create {
        /// Its name.
        name: String,
        /// How far below zero its balance may go, in USD; `unlimited` for as far as it likes.
        #[arg(long, value_name = "USD", default_value = "0", value_parser = parse_limit)]
        credit_limit: CreditLimit,
    },
    /// List accounts with what they have and what is held.
    List,
    /// Show one account: what it has, its access tokens, its latest credits, and what it used in the last 30 days.
    Show {
        /// Its name.
        name: String,
    },
    /// Credit an account. A negative amount corrects an earlier credit.
    TopUp {
        /// Its name.
        name: String,
        /// How much, in USD.
        #[arg(allow_negative_numbers = true)]
        amount: Amount,
        /// Why: an invoice, say.
        #[arg(long, default_value = "")]
        note: String,
        /// Make the account first if there is none.
        #[arg(long)]
        create: bool,
    },
}

/// How far below zero a balance may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreditLimit {
    /// So far.
    Of(Amount),
    /// As far as it likes.
    Unlimited,
}

/// Prices.
#[derive(Debug, Subcommand)]
pub(crate) enum Price {
    /// Read a public price list (litellm's model_prices_and_context_window.json). Running it again changes nothing.
    Import(Import),
    /// Set one model's price from now on, in USD per 1,000,000 tokens.
    Set(Box<SetPrice>),
    /// List the prices in force.
    List {
        /// Only models that start so.
        prefix: Option<String>,
    },
}

/// What to take from a price list.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; without it, the list that comes with the program.
    pub(crate) file: Option<PathBuf>,
    /// Only these providers, as the list names them (openai, anthropic, xai, …).
    #[arg(long, value_delimiter = ',')]
    pub(crate) provider: Vec<String>,
    /// Cut these prefixes off model names: with `xai`, `xai/grok-4` becomes `grok-4`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) strip_prefix: Vec<String>,
    /// Take prices above 1,000 USD per 1,000,000 tokens too. They are nearly always mistakes of the list.
    #[arg(long)]
    pub(crate) allow_absurd: bool,
    /// Say what would be imported, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Reads the command line. Help and version are printed and end the process.
///
/// # Errors
/// Exit code 64 with what is wrong and what would be right.
pub(crate) fn parse() -> Result<Command, Fatal> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command.unwrap_or(Command::Serve)),
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            Err(Fatal::new(
                Code::Usage,
                text.trim_start_matches("error: ").trim_end(),
            ))
        }
        Err(help) => help.exit(),
    }
}

/// Writes what makes a shell complete the commands.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        "turnpike",
        &mut std::io::stdout(),
    );
}

/// Writes the manual into a directory, or its first page to standard output.
///
/// # Errors
/// Exit code 74 when it cannot be written.
pub(crate) fn manual(dir: Option<&Path>) -> Result<(), Fatal> {
    let written = match dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir),
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()),
    };
    written.map_err(|error| Fatal::because(Code::Io, "the manual cannot be written", &error))
}

fn parse_limit(text: &str) -> Result<CreditLimit, String> {
    if text == "unlimited" {
        return Ok(CreditLimit::Unlimited);
    }
    text.parse()
        .map(CreditLimit::Of)
        .map_err(|error: tariff::AmountError| {
            format!("{error}; give USD such as 20 or 0.5, or 'unlimited'")
        })
}

/// A date (its midnight, UTC) or an instant with an offset.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let date = || {
        text.parse::<jiff::civil::Date>()
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
    };
    text.parse()
        .or_else(|_: jiff::Error| date().map(|midnight| midnight.timestamp()))
        .map_err(|_| {
            "give a date such as 2027-01-01 or an instant such as 2027-01-01T12:00:00Z".into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_given_means_serve() {
        assert!(Cli::try_parse_from(["turnpike"]).unwrap().command.is_none());
    }

    #[test]
    fn money_and_times_are_read_exactly() {
        let cli = Cli::try_parse_from([
            "turnpike",
            "token",
            "issue",
            "alice",
            "--budget",
            "0.5",
            "--expires",
            "2027-01-01",
            "--models",
            "gpt-4o*,o3",
        ])
        .unwrap();
        let Some(Command::Token(Token::Issue(issue))) = cli.command else {
            panic!("another command")
        };
        assert_eq!(
            (
                issue.budget,
                issue.expires.map(|instant| instant.to_string()).as_deref()
            ),
            (
                Some(Amount::from_nano(500_000_000)),
                Some("2027-01-01T00:00:00Z")
            )
        );
        assert_eq!(
            issue.models,
            Some(vec!["gpt-4o*".to_owned(), "o3".to_owned()])
        );
    }

    #[test]
    fn a_wrong_value_is_explained() {
        let error = Cli::try_parse_from([
            "turnpike",
            "token",
            "issue",
            "alice",
            "--expires",
            "tomorrow",
        ])
        .unwrap_err()
        .to_string();
        assert!(error.contains("2027-01-01"), "{error}");
    }
}
