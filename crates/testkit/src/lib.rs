//! What tests lean on: a scripted upstream, raw ends of wires, scripted bodies. For tests only.

pub mod body;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(feature = "postgres")]
pub mod cluster;
mod disk;
mod head;
pub mod jobs;
#[cfg(feature = "postgres")]
pub mod pgbouncer;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod raw;
#[cfg(feature = "postgres")]
pub mod relay;
#[cfg(feature = "tls")]
pub mod tls;
pub mod upstream;

#[cfg(target_os = "linux")]
pub use clock::Clock;
pub use disk::SmallDisk;
