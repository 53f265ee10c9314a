//! A push-driven JSON lexer: the one place where JSON is taken apart.

/// The deepest nesting read.
pub(crate) const DEPTH_MAX: u32 = 128;
