//! What `upstream` and `route` take.

use clap::{Args, Subcommand, ValueEnum};

/// Upstreams: who answers.
#[derive(Debug, Subcommand)]
pub(crate) enum Upstream {
    /// Make an upstream, or change the one of that name. Running gateways follow at once.
    Add(AddUpstream),
    /// List upstreams with their keys' weights and their models; keys are never shown.
    List,
    /// Ask each upstream, with each of its keys, for its list of models; costs nothing.
    ///
    /// Keys in the environment or in files are looked for here: run it where the gateway runs, as a database user that may read keys (its
    /// owner, or a member of turnpike_gateway). Exit code 1 if any key or upstream fails.
    Test {
        /// Of this upstream only.
        name: Option<String>,
    },
    /// Send no more requests there; open exchanges finish.
    Disable {
        /// Its name.
        name: String,
    },
    /// Send requests there again.
    Enable {
        /// Its name.
        name: String,
    },
}

/// An upstream.
#[derive(Debug, Args)]
pub(crate) struct AddUpstream {
    /// Its name among operators.
    pub(crate) name: String,
    /// Its base URL, such as `https://api.openai.com/v1`.
    pub(crate) url: String,
    /// Where a key stands: env:NAME or file:PATH, both read by the gateway, or `-` to read the key itself from standard input.
    /// Several keys share the requests. Without any, it keeps those it has.
    #[arg(long, value_name = "PLACE", value_parser = parse_place)]
    pub(crate) key: Vec<String>,
    /// The keys' shares, one for each in their order.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', requires = "key", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) weights: Option<Vec<i32>>,
    /// How it is spoken to.
    #[arg(long, value_enum, default_value = "openai")]
    pub(crate) dialect: Dialect,
    /// Whose figure is charged: ours (usage at the model's price), or the cost that the provider tells in its answers.
    #[arg(long, value_enum, default_value = "price")]
    pub(crate) cost: Cost,
    /// With --cost provider: what is charged for each 1,000 of that cost; 1200 is a fifth more.
    #[arg(long, value_name = "PERMILLE", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) cost_permille: u32,
    /// Go through this proxy: http://… or socks5://….
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// The smallest is asked first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
}

/// Whose figure is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cost {
    /// Usage at the model's price.
    Price,
    /// The cost that the answer tells; by price where it tells none.
    Provider,
}

/// A family of APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// OpenAI and what follows it.
    Openai,
    /// Azure OpenAI, such as `https://NAME.openai.azure.com/openai`.
    Azure,
    /// Anthropic, such as `https://api.anthropic.com/v1`.
    Anthropic,
}

impl Dialect {
    /// The word in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
        }
    }
}

/// Routes: which models go where.
#[derive(Debug, Subcommand)]
pub(crate) enum Route {
    /// Send a model to an upstream. Models without a route go to the first upstream.
    Add {
        /// A model's name, or a beginning with a trailing '*'.
        model: String,
        /// The upstream's name.
        upstream: String,
        /// The smallest is asked first, among routes of one model.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i32,
    },
    /// List routes in the order in which they are looked at.
    List,
    /// Take routes back.
    Remove {
        /// The model or pattern, as `route list` shows it.
        model: String,
        /// Only the one to this upstream.
        #[arg(long)]
        upstream: Option<String>,
    },
}

/// A place, never the key itself: command lines are seen by everybody on the machine.
pub(super) fn parse_place(text: &str) -> Result<String, String> {
    let names = |prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|name: &str| !name.is_empty())
    };
    if text == "-" || names("env:") || names("file:") {
        return Ok(text.to_owned());
    }
    Err("give env:NAME, file:PATH, or - for standard input; a key itself would be seen in the list of processes".into())
}
