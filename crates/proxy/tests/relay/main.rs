//! Server, pool and header rules put together to a bare relay, with raw sockets on both ends.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod egress;
mod faults;
mod gates;
mod h2;
mod http1;
mod pool;
mod relay;
mod server;
mod tls;
