//! A certificate authority of a test's own, and upstreams that speak TLS with its certificates.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::server::TlsStream;

use crate::raw::Io;
use crate::raw::Wire;
use crate::raw::patiently;
use crate::upstream::Upstream;

/// A server's certificate and key, and the authority that signed it, as PEM files.
pub struct Identity {
    directory: TempDir,
}

impl Identity {
    /// A certificate for these names or addresses.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// The same, whose time is over.
    #[must_use]
    pub fn expired(names: &[&str]) -> Self {
        Self::with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    /// A certificate that no authority has signed.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let identity = Self::new(names);
        let key = KeyPair::generate().expect("a key can be made");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate signs itself");
        let write = |path: PathBuf, pem: String| {
            std::fs::write(path, pem).expect("there is room for a certificate");
        };
        write(identity.certificate(), certificate.pem());
        write(identity.key(), key.serialize_pem());
        identity
    }

    fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let directory = tempfile::tempdir().expect("there is room for a certificate");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With the default name on both, OpenSSL takes the server's certificate for self-signed.
        authority
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key can be made");
        let authority =
            CertifiedIssuer::self_signed(authority, key).expect("an authority signs itself");
        let key = KeyPair::generate().expect("a key can be made");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("these are names");
        change(&mut params);
        let certificate = params
            .signed_by(&key, &authority)
            .expect("an authority signs others");
        let write = |name: &str, pem: &str| {
            std::fs::write(directory.path().join(name), pem)
                .expect("there is room for a certificate");
        };
        write("roots.pem", &authority.pem());
        write("certificate.pem", &certificate.pem());
        write("key.pem", &key.serialize_pem());
        Self { directory }
    }

    /// The authority: what a client must trust.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.path("roots.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// The server's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server's configuration with these protocols.
    #[must_use]
    pub fn server_config(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let read = |path: &Path| std::fs::read(path).expect("it was just written");
        let certificate = CertificateDer::from_pem_slice(&read(&self.certificate()));
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("it was written as PEM")],
                key.expect("it was written as PEM"),
            )
            .expect("the certificate belongs to the key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Wire {
    /// Connects as a client that believes this identity's authority and no other.
    ///
    /// # Errors
    /// If the handshake fails: the server shows another certificate.
    pub async fn connect_tls(address: SocketAddr, identity: &Identity) -> io::Result<Self> {
        let roots = std::fs::read(identity.roots()).expect("it was just written");
        let mut store = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(&roots).expect("it was written as PEM");
        store.add(root).expect("an authority's certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let tcp = patiently("a connection", TcpStream::connect(address)).await?;
        let name = ServerName::from(address.ip());
        let tls = patiently("a handshake", connector.connect(name, tcp)).await?;
        Ok(Self::new(tls))
    }
}

impl Io for client::TlsStream<TcpStream> {
    fn set_reset(&self) {
        self.get_ref().0.set_reset();
    }
}

impl Io for TlsStream<TcpStream> {
    fn set_reset(&self) {
        self.get_ref().0.set_reset();
    }
}

impl Upstream {
    /// Runs the script for every connection, behind a TLS handshake.
    pub async fn scripted_tls<S, F>(config: Arc<ServerConfig>, script: S) -> Self
    where
        S: Fn(Wire) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(config);
        let script = Arc::new(script);
        Self::accepting(move |stream, received| {
            let (acceptor, script) = (acceptor.clone(), script.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    script(Wire::recording(stream, received)).await;
                }
            }
        })
        .await
    }
}
