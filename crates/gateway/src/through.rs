//! What is known of an exchange that came through a front door.

use ledger::SecretSource;

/// What is known of an exchange that came through a front door.
pub(crate) struct Through {
    /// Which, in logs and metrics.
    pub(crate) door: &'static str,
    /// SHA-256 of the access token that pays.
    pub(crate) digest: [u8; 32],
    /// The provider key its caller brought; never one that names a file or a variable.
    pub(crate) upstream_key: Option<SecretSource>,
}

impl Through {
    /// The provider key its caller brought.
    pub(crate) const fn upstream_key(&self) -> Option<&SecretSource> {
        self.upstream_key.as_ref()
    }
}
