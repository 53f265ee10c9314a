//! Server, pool and header rules put together to a bare relay, with raw sockets on both ends.

mod egress;
mod faults;
mod h2;
mod http1;
mod pool;
mod relay;
mod server;
mod tls;
