//! Bytes to facts: what a request asks for and what an answer used, read as the bytes pass by.
//!
//! Everything here is sans-I/O: bytes are pushed in whatever pieces they come, facts are asked for
//! afterwards, and the facts are the same however the bytes were cut. Nothing is buffered but small
//! named amounts; no document is ever built; nothing panics on bytes from the network.
//!
//! The two directions differ in temper. A **request** is judged: [`RequestScanner`] refuses what an
//! upstream could read otherwise than we do. An **answer** is only watched: [`AnswerMeter`] never
//! fails, and where it loses its footing it says "unknown" and the bytes go on.
//!
//! - [`BodyScanner`] ([`RequestScanner`] for JSON alone) → [`RequestFacts`] or [`BodyError`]
//! - [`Splice`] asks for usage on a stream that did not; [`UsageFrameFilter`] hides the answer to that
//! - [`AnswerMeter`] → [`Progress`] while bytes pass, [`Reading`] at the end
//! - [`ClientSocket`] and [`UpstreamSocket`] read the two sides of a WebSocket, event by event
//! - [`BatchReader`], [`BatchAnswers`] and [`JobReport`] for work that goes on after its request
//! - [`request_text_tokens`] estimates the input where no usage came

#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod answer;
mod api;
mod filter;
mod inject;
mod jobs;
mod lexer;
mod request;
mod socket;
mod sse;
mod tokens;

#[cfg(fuzzing)]
pub use answer::opened;
pub use answer::{AnswerMeter, Progress, Reading};
pub use api::Api;
pub use filter::UsageFrameFilter;
pub use inject::{Splice, StreamOptionsAt};
pub use jobs::{
    Answered, BatchAnswers, BatchAsks, BatchFault, BatchGroup, BatchReader, BatchRequest, JobFault,
    JobReport, JobState, ModelTokens, TuningRequest, batch_api, message_batch, seconds_ms,
};
pub use request::{BodyError, BodyErrorKind, BodyScanner, RequestFacts, RequestScanner};
pub use socket::{
    ClientEvent, ClientSocket, ClientStep, EventFacts, FrameError, FrameReader, Message, Side,
    SocketError, Speech, Step, UpstreamEvent, UpstreamSocket, UpstreamStep,
};
pub use tokens::{family, request_text_tokens, text_tokens, warm_tokenizer};
