//! The ledger against a real Postgres: each test in a database of its own.

#[path = "main/support.rs"]
mod support;

#[path = "main/clusters.rs"]
mod clusters;
#[path = "main/contract.rs"]
mod contract;
#[path = "main/holds.rs"]
mod holds;
#[path = "main/migrations.rs"]
mod migrations;
#[path = "main/notices.rs"]
mod notices;
#[path = "main/schema.rs"]
mod schema;
#[path = "main/settlements.rs"]
mod settlements;
