//! What an access token may do.

use ipnet::IpNet;
use tariff::Pattern;

use crate::{AccountId, RateLimits, SecretSource, TokenId};

/// An access token's settings as they stand in Postgres. What it has spent is Postgres' business (see [`crate::Ledger::take`]).
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The row.
    pub id: TokenId,
    /// Who pays.
    pub account: AccountId,
    /// The beginning of the token, for display.
    pub prefix: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// Not valid from this instant, milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// Revoked for good.
    pub revoked: bool,
    /// Models it may use; `None` for all.
    pub models: Option<Vec<Pattern>>,
    /// Endpoints it may use, by short name (`chat/completions`); `None` for all.
    pub endpoints: Option<Vec<String>>,
    /// Networks it may be used from; `None` for all.
    pub addresses: Option<Vec<IpNet>>,
    /// Requests in a second.
    pub requests_per_second: Option<u32>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Requests in an hour.
    pub requests_per_hour: Option<u32>,
    /// Input and output tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Exchanges open at once.
    pub concurrent_exchanges: Option<u32>,
    /// Whether it has a cap of its own, on money or tokens: then nothing is assumed about what a request can cost.
    pub capped: bool,
    /// The key its requests carry to the upstream instead of the upstream's own.
    pub upstream_key: Option<SecretSource>,
}

impl AccessToken {
    /// Whether it is neither revoked nor expired at `now_ms`, milliseconds since the epoch.
    #[must_use]
    pub fn is_valid(&self, now_ms: i64) -> bool {
        !self.revoked && self.expires_at_ms.is_none_or(|expiry| now_ms < expiry)
    }

    /// How often and how much at once it may be used.
    #[must_use]
    pub const fn rates(&self) -> RateLimits {
        RateLimits {
            requests_per_second: self.requests_per_second,
            requests_per_minute: self.requests_per_minute,
            requests_per_hour: self.requests_per_hour,
            tokens_per_minute: self.tokens_per_minute,
            concurrent_exchanges: self.concurrent_exchanges,
        }
    }

    /// Whether it may use the model.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        self.models
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(model)))
    }

    /// Whether it may use the endpoint.
    #[must_use]
    pub fn allows_endpoint(&self, endpoint: &str) -> bool {
        self.endpoints
            .as_ref()
            .is_none_or(|endpoints| endpoints.iter().any(|name| name == endpoint))
    }

    /// Whether it may be used from the address. A v4 address inside v6 counts as v4.
    #[must_use]
    pub fn allows_address(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.addresses
            .as_ref()
            .is_none_or(|networks| networks.iter().any(|network| network.contains(&address)))
    }
}
