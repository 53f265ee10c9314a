//! The certificate that clients are shown, and how a new one takes its place.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::TlsError;
use super::certificates_in;
use super::provider;
use super::read;

/// A certificate chain and its private key, from two PEM files. Handshakes get what was read last; connections keep what they have.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    shown: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// If a file cannot be read, does not hold what it should, or the two do not belong together.
    pub fn read(chain: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            shown: ArcSwap::from_pointee(certified(chain, key)?),
            chain: chain.to_owned(),
            key: key.to_owned(),
        }))
    }

    /// Reads both files again, and whether the certificate is another: from now on handshakes get it.
    ///
    /// # Errors
    /// As [`Certificate::read`]. Handshakes go on with the certificate they had.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let fresh = certified(&self.chain, &self.key)?;
        // The key belongs to the certificate, so that the chain tells all that has changed.
        if fresh.cert == self.shown.load().cert {
            return Ok(false);
        }
        self.shown.store(Arc::new(fresh));
        Ok(true)
    }

    /// The server's own certificate, in DER.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        let shown = self.shown.load();
        shown
            .cert
            .first()
            .map(|leaf| leaf.to_vec())
            .unwrap_or_default()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.chain)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn certified(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates_in(chain)?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| TlsError::Content {
            path: key.to_owned(),
            expected: "a private key in PEM form",
            source: Some(source),
        })?;
    CertifiedKey::from_der(certificates, key_der, &provider()).map_err(|source| TlsError::Pair {
        certificate: chain.to_owned(),
        key: key.to_owned(),
        source,
    })
}
