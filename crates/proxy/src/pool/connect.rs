//! From a target's name to a connection ready for requests: TCP, then a proxy, then TLS.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::service::Service;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::SendError;
use super::error::SendErrorKind;
use super::stream::Stream;
use crate::BoxError;
use crate::Egress;
use crate::Target;
use crate::tls;

/// Asks a silent peer whether it is still there: a stream of answers may pause for minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Where SOCKS proxies listen when their URL names no port (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// Makes connections.
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    /// Offers HTTP/1.1 alone.
    tls_http1: TlsConnector,
}

/// A connection without an exchange on it yet, and what is spoken on it.
pub(super) struct Connected {
    pub(super) stream: Stream,
    pub(super) is_h2: bool,
}

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        // It is asked for https and socks5 addresses too, and only connects.
        tcp.enforce_http(false);
        let mut http1 = ClientConfig::clone(&tls);
        http1.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec()];
        Self {
            tcp,
            tls: TlsConnector::from(tls),
            tls_http1: TlsConnector::from(Arc::new(http1)),
        }
    }

    /// Connects. The caller bounds the time.
    pub(super) async fn connect(
        &self,
        target: &Target,
        egress: &Egress,
    ) -> Result<Connected, SendError> {
        self.connect_by(&self.tls, target, egress).await
    }

    /// Connects for HTTP/1.1. The caller bounds the time.
    pub(super) async fn connect_http1(
        &self,
        target: &Target,
        egress: &Egress,
    ) -> Result<Stream, SendError> {
        let connected = self.connect_by(&self.tls_http1, target, egress).await?;
        Ok(connected.stream)
    }

    async fn connect_by(
        &self,
        connector: &TlsConnector,
        target: &Target,
        egress: &Egress,
    ) -> Result<Connected, SendError> {
        let tcp = self
            .reach(target.connect_uri(), egress)
            .await
            .map_err(|error| SendError::new(SendErrorKind::Connect, error))?;
        if !target.is_tls() {
            return Ok(Connected {
                stream: Stream::Plain(tcp),
                is_h2: false,
            });
        }
        let name = ServerName::try_from(target.host().to_owned())
            .map_err(|error| SendError::new(SendErrorKind::Tls, error))?;
        let stream = connector
            .connect(name, tcp)
            .await
            .map_err(|error| SendError::new(SendErrorKind::Tls, error))?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_H2);
        Ok(Connected {
            stream: Stream::Tls(Box::new(stream)),
            is_h2,
        })
    }

    /// A TCP connection that ends at `upstream`, whatever is in between.
    async fn reach(&self, upstream: Uri, egress: &Egress) -> Result<TcpStream, BoxError> {
        let tcp = self.tcp.clone();
        let io = match egress {
            Egress::Direct => TowerToHyperService::new(tcp).call(upstream).await?,
            Egress::HttpProxy(uri) => {
                let proxy = intercept(uri)?;
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(basic) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(basic.clone());
                }
                TowerToHyperService::new(tunnel).call(upstream).await?
            }
            Egress::Socks5(uri) => {
                let proxy = intercept(uri)?;
                let mut socks = SocksV5::new(with_port(proxy.uri(), SOCKS_PORT)?, tcp);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                TowerToHyperService::new(socks).call(upstream).await?
            }
        };
        Ok(TokioIo::into_inner(io))
    }
}

/// Takes user and password out of a proxy's URL, decoded as its protocol wants them.
fn intercept(proxy: &Uri) -> Result<Intercept, BoxError> {
    let anywhere = Uri::from_static("http://anywhere.invalid");
    Matcher::builder()
        .all(proxy.to_string())
        .build()
        .intercept(&anywhere)
        .ok_or_else(|| "the proxy's URL cannot be used".into())
}

fn with_port(uri: &Uri, default: u16) -> Result<Uri, BoxError> {
    if uri.port().is_some() {
        return Ok(uri.clone());
    }
    let host = uri.host().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    Ok(format!("{scheme}://{host}:{default}").parse()?)
}
