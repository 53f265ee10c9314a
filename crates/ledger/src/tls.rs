//! TLS to Postgres with libpq's meaning of `sslmode`.

/// How the server's certificate is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsMode {
    pub(crate) verify: Verify,
    /// PEM file with further roots (`sslrootcert`).
    pub(crate) roots: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Encrypted, whoever answers (`prefer`, `require`).
    #[default]
    Nothing,
    /// The chain leads to a root (`verify-ca`).
    Chain,
    /// And the name fits (`verify-full`).
    Full,
}
