//! Prices, upstreams and routes as one immutable snapshot.

pub(crate) mod load;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tariff::{Amount, Book, Pattern, Price, PriceId, ProviderCost};

use crate::{SecretSource, UpstreamId, UpstreamKeyId};

/// Everything an operator edits that concerns all tokens. A new one replaces it as a whole.
#[derive(Debug)]
pub struct Catalog {
    pub(crate) generation: u64,
    pub(crate) loaded_at: Instant,
    pub(crate) book: Book,
    pub(crate) prices: Vec<Price>,
    /// Of the rows that have a policy of their own.
    pub(crate) disconnect: HashMap<PriceId, Disconnect>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// The most specific pattern first, then by priority.
    pub(crate) routes: Vec<Route>,
}

/// Where requests may go.
#[derive(Debug)]
pub struct Upstream {
    /// The row.
    pub id: UpstreamId,
    /// Its name among operators.
    pub name: String,
    /// `https://host[:port][/path]`, without a slash at the end.
    pub base_url: String,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// Whose figure is charged for what it answers.
    pub cost: CostBy,
    /// `http://…` or `socks5://…` to go through.
    pub proxy: Option<String>,
    /// The smallest is asked first.
    pub priority: i32,
    /// The keys to choose from; none sends no credentials.
    pub keys: Vec<UpstreamKey>,
}

/// One of an upstream's keys.
#[derive(Clone, Debug)]
pub struct UpstreamKey {
    /// The row.
    pub id: UpstreamKeyId,
    /// Where the key stands.
    pub secret: SecretSource,
    /// Its share among the upstream's keys; at least 1.
    pub weight: u32,
}

/// A family of APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `api.openai.com` and what follows it.
    OpenAi,
    /// Azure OpenAI: the key in `api-key`, deployments in paths.
    Azure,
    /// `api.anthropic.com`: the key in `x-api-key`.
    Anthropic,
}

/// Whose figure is charged for what an upstream answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CostBy {
    /// Ours: usage at the model's price.
    #[default]
    Price,
    /// The provider's own, times so many thousandths, where the answer tells one; else ours.
    Provider {
        /// 1,000 is the figure as it stands.
        permille: u32,
    },
}

impl CostBy {
    /// What a cost that was told comes to. `None` past every amount.
    #[must_use]
    pub fn of(self, told: ProviderCost) -> Option<Amount> {
        match self {
            Self::Price => told.amount(),
            Self::Provider { permille } => told.times(permille),
        }
    }
}

/// A rule that sends a model to an upstream.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which models.
    pub pattern: Pattern,
    /// Where.
    pub upstream: Arc<Upstream>,
    /// The smallest is asked first, among routes of one pattern.
    pub priority: i32,
}

/// What happens to the charge when a client leaves before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Go on reading the upstream, within bounds, and charge what it reports.
    Drain,
    /// Charge an estimate of what passed.
    Estimate,
    /// Charge nothing.
    Void,
}

impl Catalog {
    /// Counts the snapshots this process has loaded, from 1.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Since when this is what Postgres said.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.loaded_at.elapsed()
    }

    /// The prices, for quotes.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// The price rows in force now or later, for lists of models.
    #[must_use]
    pub fn prices(&self) -> &[Price] {
        &self.prices
    }

    /// What a client's leaving means for an exchange priced by this row; `None` where the row leaves that to the gateway.
    #[must_use]
    pub fn disconnect(&self, price: PriceId) -> Option<Disconnect> {
        self.disconnect.get(&price).copied()
    }

    /// Every enabled upstream, by priority, then name.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The one upstream every model goes to, if there is just one: then bytes may flow before the model is known.
    #[must_use]
    pub fn only_upstream(&self) -> Option<&Arc<Upstream>> {
        match self.upstreams.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Where a model may be served, best first: the routes of its most specific pattern (an exact name, else the
    /// longest prefix); without any route, every upstream.
    #[must_use]
    pub fn candidates(&self, model: &str) -> Vec<Arc<Upstream>> {
        let mut routes = self
            .routes
            .iter()
            .filter(|route| route.pattern.matches(model))
            .peekable();
        let Some(best) = routes.peek().map(|route| &route.pattern) else {
            return self.upstreams.clone();
        };
        routes
            .take_while(|route| route.pattern == *best)
            .map(|route| Arc::clone(&route.upstream))
            .collect()
    }
}
