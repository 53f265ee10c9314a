//! The ledger against a real Postgres: each test in a database of its own.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

#[path = "main/support.rs"]
mod support;

#[path = "main/administration.rs"]
mod administration;
#[path = "main/charged.rs"]
mod charged;
#[path = "main/clusters.rs"]
mod clusters;
#[path = "main/contract.rs"]
mod contract;
#[path = "main/contract_prices.rs"]
mod contract_prices;
#[path = "main/contract_tokens.rs"]
mod contract_tokens;
#[path = "main/events.rs"]
mod events;
#[path = "main/expand.rs"]
mod expand;
#[path = "main/faults.rs"]
mod faults;
#[path = "main/holds.rs"]
mod holds;
#[path = "main/jobs.rs"]
mod jobs;
#[path = "main/leases.rs"]
mod leases;
#[path = "main/migrations.rs"]
mod migrations;
#[path = "main/notices.rs"]
mod notices;
#[path = "main/numbers.rs"]
mod numbers;
#[path = "main/rates.rs"]
mod rates;
#[path = "main/readme.rs"]
mod readme;
#[path = "main/schema.rs"]
mod schema;
#[path = "main/settlements.rs"]
mod settlements;
