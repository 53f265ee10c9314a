//! Postgres, the disk or the program itself goes away in the middle of things, and the books stay right.

mod away;
#[cfg(target_os = "linux")]
mod clock;
mod full;
mod hanging_up;
mod killed;
mod load;
mod soak;
