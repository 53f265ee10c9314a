//! What a request asks for, read as its body passes.

mod error;
mod facts;
mod keys;
mod reader;
mod scanner;

pub use error::{BodyError, BodyErrorKind};
pub use facts::RequestFacts;
pub use scanner::RequestScanner;
