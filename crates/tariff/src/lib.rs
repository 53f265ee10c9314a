//! What was used, what it costs, what it could cost at most: pure integer arithmetic.
//!
//! Money is `i64` nano-USD ([`Amount`]), a price is nano-USD per 1,000,000 units, products are
//! `i128`, and there is one rounding per charge, up, in [`Quote::charge`] and [`Tab::charged`]. No floats, no clock, no I/O.

#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod amount;
mod batch;
mod book;
mod bound;
mod charge;
mod fees;
mod price;
mod provider;
mod units;
mod usage;

pub use amount::{Amount, AmountError};
pub use batch::Many;
pub use book::{Book, Quote, undated};
pub use bound::{Ask, Bound, BoundError, OutputLimit};
pub use charge::{ChargeError, Charged, Served, Tab, text_cost};
pub use fees::Fees;
pub use price::{Pattern, Price, PriceId, Rates, Tier};
pub use provider::ProviderCost;
pub use units::{ImageKind, PerTool, SearchSize, Tool, Units};
pub use usage::{Buckets, Flag, Flags, Line, Usage};
