//! The program as its users meet it: the real binary, a real Postgres, scripted upstreams, raw sockets. A module per promise.

#![expect(
    clippy::unwrap_used,
    reason = "this is a test: what is not there fails it"
)]

mod support;

mod abuse;
mod admin;
mod ambiguity;
mod audio;
mod background;
mod billing;
mod certificates;
mod commands;
mod console;
mod deploy;
mod dialects;
mod doctor;
mod embedded;
mod endpoints;
mod export;
mod faults;
mod front_doors;
mod hostile;
mod jobs;
mod limits;
mod log_lines;
mod metering;
mod monitoring;
mod objects;
mod operators;
mod overload;
mod overspend;
mod pools;
mod progress;
mod promises;
mod reconcile;
mod refusals;
mod replicas;
mod restart;
mod sdk;
mod sdk_media;
mod sdk_sockets;
mod secrets;
mod shutdown;
mod sockets;
mod telemetry;
mod told_costs;
mod transparency;
mod transport;
mod upgrade;
mod upstream_faults;
mod volume;
mod webhooks;
