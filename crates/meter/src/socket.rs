//! WebSockets that carry JSON events, read as their bytes pass: what a client asks for, what an upstream answers.
//!
//! ```text
//! bytes as relayed ─► FrameReader ─► one message ─┬─► Fields ────────────────► EventFacts
//!                                                 ├─► RequestScanner (Responses) ─► RequestFacts
//!                                                 └─► AnswerMeter (upstream) ─────► Reading
//! ```
//!
//! Nothing of a message is kept but its [`EventFacts`]. Whoever relays withholds a message's last byte until he has judged it.

mod client;
mod facts;
mod fields;
mod frames;
mod upstream;

pub use self::{
    client::{ClientEvent, ClientSocket, ClientStep, SocketError},
    facts::{EventFacts, Speech},
    frames::{FrameError, FrameReader, Message, Side, Step},
    upstream::{UpstreamEvent, UpstreamSocket, UpstreamStep},
};
