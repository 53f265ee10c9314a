//! Accounts, access tokens, prices, holds and charges in Postgres: the only SQL in Rust.
//!
//! The gateway asks four things of it while it serves: the [`Catalog`] of prices and routes, an [`AccessToken`] by
//! its digest, a [`Hold`] before an upstream is asked, and its settlement before the client has its last byte.
//! The first two are answered from memory and kept fresh by `LISTEN`. A hold comes out of a purse, an allowance leased from
//! Postgres ahead of need, and touches memory only; settlements are statements, each for many exchanges at once, or records of a
//! local journal while Postgres is away. What happens inside Postgres (locks, counters, idempotency) stands in `/migrations`.

mod access_token;
pub mod admin;
pub mod blackbox;
mod catalog;
mod charge;
pub mod cluster;
mod config;
mod connect;
mod error;
mod events;
mod fronts;
mod gauges;
mod hold;
mod ids;
mod jobs;
pub mod journal;
mod ledger;
mod link;
mod listen;
mod means;
pub mod migrate;
mod numbers;
mod objects;
mod purse;
mod purses;
mod rates;
pub mod recorder;
mod recover;
pub mod report;
mod secret;
mod settle;
mod tls;
mod tokens;
mod trail;

pub use access_token::AccessToken;
pub use catalog::{Catalog, CostBy, Dialect, Disconnect, Route, Upstream, UpstreamKey};
pub use charge::{Charge, End, Mark};
pub use config::{Config, Parts};
pub use error::LedgerError;
pub use events::{Delivery, Event, Recorded, Told, UpstreamEvent, WebhookForm};
pub use fronts::{Budgets, DialogName, Payer, Turn, TurnStart, UsedRow};
pub use hold::{Evidence, Hold, HoldRequest, Limit, Period, Settling, TakeError};
pub use ids::{AccountId, InstanceId, TokenId, UpstreamId, UpstreamKeyId};
pub use jobs::{NewJob, OpenJob, Seen};
pub use ledger::{Ledger, Stats};
pub use means::Means;
pub use objects::{NewObject, Object};
pub use rates::{Excess, Pass, Rate, RateLimits, Rates, Standing, Subject};
pub use recover::Orphans;
pub use secret::{Secret, SecretSource};
