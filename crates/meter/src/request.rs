//! What a request asks for, read as its body passes.

mod body;
mod error;
mod facts;
mod form;
mod keys;
mod reader;
mod scanner;

pub use body::BodyScanner;
pub use error::{BodyError, BodyErrorKind};
pub use facts::RequestFacts;
pub(crate) use keys::folds_to;
pub use scanner::RequestScanner;
