//! The doors of five earlier systems, each a translation onto the same exchange.
//!
//! Whoever called chatgpt-agent, resale-chatgpt-azure, docker-chatgpt, chat_gpt_proxy or chatgpt_chatbot changes the address
//! and nothing else. A door knows the shape of its system's calls and answers and no more: it does not see a socket,
//! a price or a database. What it needs done it asks of an [`Exchange`], which authenticates, limits, holds, forwards, meters
//! and charges as for any client, and of a [`Store`], which keeps what callers want kept.

mod agent;
mod answer;
mod chatbot;
mod complete;
mod exchange;
mod fronts;
mod history;
mod lanes;
mod reply;
mod resale;
mod seal;
mod simple;
mod store;
mod turns;

pub use chatbot::{Broken, ChatbotSettings, GrpcBody};
pub use complete::CompleteSettings;
pub use exchange::{Away, BoxFuture, Call, Caller, Exchange, Host};
pub use fronts::{Door, Fronts, Settings};
pub use reply::{AnswerBody, BoxError};
pub use resale::{ResaleSettings, imported_dialog};
pub use seal::{Seal, SealError};
pub use simple::{Language, SimpleSettings};
pub use store::{DialogName, Left, Store, Turn, TurnStart, Used};
