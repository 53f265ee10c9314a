//! Accounts, access tokens, prices, holds and charges in Postgres: the only SQL in Rust.
//!
//! The gateway asks four things of it while it serves: the [`Catalog`] of prices and routes, an [`AccessToken`] by
//! its digest, a [`Hold`] before an upstream is asked, and its settlement before the client has its last byte.
//! The first two are answered from memory and kept fresh by `LISTEN`; the other two are statements, each for many
//! exchanges at once. What happens inside Postgres (locks, counters, idempotency) stands in `/migrations`.

mod access_token;
pub mod admin;
mod catalog;
mod charge;
pub mod cluster;
mod config;
mod connect;
mod error;
mod gauges;
mod hold;
mod ids;
mod ledger;
mod link;
mod listen;
pub mod migrate;
mod rates;
mod secret;
mod settle;
mod take;
mod tls;
mod tokens;

pub use access_token::AccessToken;
pub use catalog::{Catalog, Dialect, Disconnect, Route, Upstream, UpstreamKey};
pub use charge::{Charge, End, Mark};
pub use config::{Config, Parts};
pub use error::LedgerError;
pub use hold::{Hold, HoldRequest, Limit, Settling, TakeError};
pub use ids::{AccountId, InstanceId, TokenId, UpstreamId, UpstreamKeyId};
pub use ledger::{Ledger, Stats};
pub use rates::{Excess, Pass, Rate, RateLimits, Rates, Standing, Subject};
pub use secret::{Secret, SecretSource};
