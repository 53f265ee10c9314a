//! Work that goes on after its request: what a file of requests may cost, what its file of answers says was used, and how far a job is.

mod answered;
mod asked;
mod members;
mod report;
mod request;

pub use answered::{Answered, BatchAnswers};
pub use asked::{BatchAsks, BatchFault, BatchGroup, BatchReader, batch_api};
pub use report::{JobReport, JobState, ModelTokens};
pub use request::{BatchRequest, JobFault, TuningRequest, message_batch, seconds_ms};
