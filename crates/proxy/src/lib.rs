//! hyper, rustls, sockets, pools and body adapters: everything that moves bytes, nothing that reads them.
//!
//! This crate is blind to content. It cannot parse a body (there is no JSON in its manifest), knows
//! no price and no ledger. What wants to watch a body hands in an [`Observer`]; what must hold back
//! the last bytes of one does so through the observer's gate. The adapter between the two,
//! [`Observed`], is the heart of the crate.
//!
//! * [`server`]: listeners and [`Doors`], which accept HTTP/1 and HTTP/2, with and without TLS.
//! * [`Pool`]: connections to upstreams, one pool per worker runtime.
//! * [`socket`]: connections that have changed their protocol, watched both ways.
//! * [`headers`]: which header names do not cross, in either direction, and why.
//! * [`tls`]: rustls configurations with an explicit crypto provider.

mod body;
mod egress;
pub mod headers;
mod pool;
pub mod server;
pub mod socket;
mod target;
pub mod tls;

pub use crate::body::{
    BodyError, BoxError, COALESCED_BYTES, End, Gate, Observed, Observer, Split, WITHHELD_BYTES_MAX,
    Whole,
};
pub use crate::egress::Egress;
pub use crate::pool::{Answer, AnswerError, Pool, PoolLimits, SendError, SendErrorKind, Stage};
pub use crate::server::{Abort, Doors, DoorsLimits, Drained, Handler};
pub use crate::target::{Target, TargetError};
