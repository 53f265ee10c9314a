//! rustls configurations for both sides, each with an explicit crypto provider.
//!
//! Never the process-wide default provider: with two providers in the dependency tree it would panic.

mod certificate;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

pub use self::certificate::Certificate;

/// HTTP/2 by ALPN.
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 by ALPN.
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Whom to believe when an upstream shows a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The platform's store, and Mozilla's roots for images without one.
    Platform,
    /// The certificates in this PEM file and no others (what `SSL_CERT_FILE` names).
    File(PathBuf),
}

/// Why a TLS configuration could not be made. Names the file at fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file at fault.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} does not hold {expected}")]
    Content {
        /// The file at fault.
        path: PathBuf,
        /// What should have been in it.
        expected: &'static str,
        /// What the parser says.
        #[source]
        source: Option<pem::Error>,
    },
    /// rustls refuses the certificate together with the key.
    #[error("{certificate} and {key} do not make a server")]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No usable configuration, or no root certificates at all.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// How to speak to upstreams: HTTP/2 if they can, HTTP/1.1 otherwise.
///
/// # Errors
/// If the file of roots cannot be used, or the platform's verifier cannot be set up.
pub fn client_config(roots: &Roots) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match roots {
        Roots::Platform => {
            let mozilla = TLS_SERVER_ROOT_CERTS.iter().cloned();
            let verifier =
                Verifier::new_with_extra_roots(mozilla, provider).map_err(TlsError::Setup)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
        Roots::File(path) => builder.with_root_certificates(roots_in(path)?),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// How to serve clients with the certificate chain and private key of two PEM files.
///
/// # Errors
/// As [`Certificate::read`].
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    showing(Certificate::read(certificate, key)?)
}

/// How to serve clients with a certificate that may be renewed meanwhile.
///
/// # Errors
/// If rustls does not know the provider's versions of TLS.
pub fn showing(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// The one place that names the provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots_in(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates_in(path)?);
    if added == 0 {
        return Err(no_certificates(path, None));
    }
    Ok(roots)
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| no_certificates(path, Some(source)))?;
    if certificates.is_empty() {
        return Err(no_certificates(path, None));
    }
    Ok(certificates)
}

fn no_certificates(path: &Path, source: Option<pem::Error>) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        expected: "a certificate in PEM form",
        source,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
