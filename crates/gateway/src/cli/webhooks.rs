//! What `webhook` takes.

use clap::{Args, Subcommand, ValueEnum};
use ledger::WebhookForm;

use super::upstreams::parse_place;

/// Webhooks: who is told of events.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Make a webhook, or change the one of that name. What happened before is not told.
    Add(AddWebhook),
    /// List webhooks, and how their deliveries fare.
    List,
    /// Send an event of kind webhook.test there now, and say what was answered.
    ///
    /// Run it as a database user that may read secrets: the database's owner, or a member of turnpike_gateway; where the secret stands in the
    /// environment or in a file, run it where the gateway runs. Exit code 1 if it is not taken.
    Test {
        /// Its name.
        name: String,
    },
    /// Remove a webhook, with what was still to be delivered to it.
    Remove {
        /// Its name.
        name: String,
    },
}

/// A webhook.
#[derive(Debug, Args)]
pub(crate) struct AddWebhook {
    /// Its name among operators.
    pub(crate) name: String,
    /// Where events are posted to: `https://example.com/hooks/turnpike`. `-` reads it from standard input: Slack's are secrets.
    pub(crate) url: String,
    /// Where the secret stands that signs: env:NAME or file:PATH, both read by the gateway, or `-` to read it from standard input.
    /// It is whsec_ and the base64 of 24 to 64 bytes. Without it one is made and shown this once; a webhook that has one keeps it.
    #[arg(long, value_name = "PLACE", value_parser = parse_place)]
    pub(crate) secret: Option<String>,
    /// What is posted.
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) form: Form,
    /// Only events of these kinds: budget.reached, token.expiring, upstream.key_ejected, upstream.pool_out.
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub(crate) events: Option<Vec<String>>,
    /// Only events of this account; those of upstreams are of none.
    #[arg(long)]
    pub(crate) account: Option<String>,
}

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// An object after Standard Webhooks: {"type": …, "timestamp": …, "data": {…}}.
    Json,
    /// {"text": …}, for Slack and what takes the same.
    Slack,
}

impl From<Form> for WebhookForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Json => Self::Json,
            Form::Slack => Self::Slack,
        }
    }
}
