//! The ledger against a real Postgres: each test in a database of its own.

#[path = "main/support.rs"]
mod support;

#[path = "main/holds.rs"]
mod holds;
#[path = "main/settlements.rs"]
mod settlements;
