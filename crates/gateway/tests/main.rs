//! The program as its users meet it: the real binary, a real Postgres, scripted upstreams, raw sockets. A module per promise.

mod support;

mod embedded;
mod metering;
mod operators;
mod overspend;
mod refusals;
mod sdk;
mod shutdown;
mod transparency;
mod transport;
mod volume;
