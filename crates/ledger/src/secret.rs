//! Secrets that do not print themselves.

use std::{fmt, path::PathBuf};

/// A secret text. `Debug` hides it; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where an upstream's key stands, as the table says it: `env:NAME`, `file:PATH`, anything else literal.
///
/// The ledger reads neither environment nor files: who sends the key resolves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The key itself.
    Literal(Secret),
    /// In this environment variable.
    Env(String),
    /// In this file, less its trailing newline.
    File(PathBuf),
}

impl SecretSource {
    /// Reads the notation of `turnpike.upstream_key.secret`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.split_once(':') {
            Some(("env", name)) => Self::Env(name.to_owned()),
            Some(("file", path)) => Self::File(path.into()),
            _ => Self::Literal(Secret::new(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let source = SecretSource::new("sk-1234");
        assert!(!format!("{source:?}").contains("1234"));
    }

    #[test]
    fn sources_are_told_apart_by_their_scheme() {
        assert_eq!(
            SecretSource::new("env:KEY"),
            SecretSource::Env("KEY".into())
        );
        assert_eq!(
            SecretSource::new("file:/run/key"),
            SecretSource::File("/run/key".into())
        );
        assert_eq!(
            SecretSource::new("sk:x"),
            SecretSource::Literal(Secret::new("sk:x"))
        );
    }
}
