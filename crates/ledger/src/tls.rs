//! TLS to Postgres with libpq's meaning of `sslmode`.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::LedgerError;

/// How the server's certificate is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsMode {
    pub(crate) verify: Verify,
    /// PEM file with the roots to trust (`sslrootcert`) instead of the system's.
    pub(crate) roots: Option<PathBuf>,
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

impl TlsMode {
    /// Takes out of a URL (or of libpq's `key=value` notation) what tokio-postgres does not know: `sslmode=verify-…`
    /// and `sslrootcert`.
    pub(crate) fn take_from(url: &str) -> Result<(String, Self), LedgerError> {
        let mut mode = Self::default();
        let mut keep = |setting: &str| match setting.split_once('=') {
            Some(("sslmode", "verify-ca")) => {
                mode.verify = Verify::Chain;
                false
            }
            Some(("sslmode", "verify-full")) => {
                mode.verify = Verify::Full;
                false
            }
            Some(("sslrootcert", path)) => {
                // As libpq: naming roots asks for them to be used.
                mode.roots = (path != "system").then(|| path.into());
                if mode.verify == Verify::Nothing {
                    mode.verify = Verify::Chain;
                }
                false
            }
            _ => true,
        };
        let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            match url.split_once('?') {
                Some((base, query)) => {
                    let kept: Vec<_> = query.split('&').filter(|setting| keep(setting)).collect();
                    if kept.is_empty() {
                        base.to_owned()
                    } else {
                        format!("{base}?{}", kept.join("&"))
                    }
                }
                None => url.to_owned(),
            }
        } else if url.contains("://") {
            return Err(LedgerError::config(
                "the database URL does not begin with postgres://",
            ));
        } else {
            url.split_whitespace()
                .filter(|setting| keep(setting))
                .collect::<Vec<_>>()
                .join(" ")
        };
        Ok((rest, mode))
    }

    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, LedgerError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self.verify {
            Verify::Nothing => Arc::new(Lenient {
                provider: Arc::clone(&provider),
                chain: None,
            }),
            Verify::Chain => Arc::new(Lenient {
                chain: Some(self.chain(&provider)?),
                provider: Arc::clone(&provider),
            }),
            Verify::Full => self.chain(&provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| LedgerError::config("TLS cannot be set up").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    fn chain(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, LedgerError> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(path) => {
                let unreadable = || {
                    LedgerError::config(format!(
                        "sslrootcert {} holds no certificates",
                        path.display()
                    ))
                };
                let certificates = CertificateDer::pem_file_iter(path)
                    .map_err(|error| unreadable().because(error))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| unreadable().because(error))?;
                    roots
                        .add(certificate)
                        .map_err(|error| unreadable().because(error))?;
                }
                if roots.is_empty() {
                    return Err(unreadable());
                }
            }
            None => match rustls_platform_verifier::Verifier::new(Arc::clone(provider)) {
                Ok(verifier) => return Ok(Arc::new(verifier)),
                // An image without a certificate bundle.
                Err(_) => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            },
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| {
                    LedgerError::config("the TLS roots cannot be used").because(error)
                })?;
        Ok(verifier)
    }
}

/// Forgives a name that does not fit, or (`chain` is `None`) any certificate at all. Signatures are always checked.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<dyn ServerCertVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
