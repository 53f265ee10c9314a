//! Where a request goes: the upstream's base URL, taken apart once.

use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderValue;
use http::Uri;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;

/// An upstream's base URL: `https://api.openai.com/v1`. Cheap to clone.
///
/// A request's own path and query are appended to the path of the base, byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    inner: Arc<Inner>,
}

#[derive(PartialEq, Eq)]
struct Inner {
    is_tls: bool,
    /// Without brackets for IPv6.
    host: String,
    port: u16,
    /// Without the default port: what stands in `Host` and `:authority`.
    authority: Authority,
    host_header: HeaderValue,
    /// Without a trailing slash; empty for the root.
    base_path: String,
}

impl Target {
    /// Takes a base URL apart.
    ///
    /// # Errors
    /// If it is not `http` or `https`, has no host, or carries user info, a query or a fragment.
    pub fn parse(base_url: &str) -> Result<Self, TargetError> {
        base_url.parse()
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.inner.is_tls
    }

    /// The host name or address, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// The port, given or the scheme's.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// The path every request's path is appended to; empty for the root, never with a trailing slash.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.inner.base_path
    }

    pub(crate) fn host_header(&self) -> HeaderValue {
        self.inner.host_header.clone()
    }

    /// The address to connect to, always with a port.
    pub(crate) fn connect_uri(&self) -> Uri {
        let host = &self.inner.host;
        let authority = if host.contains(':') {
            format!("[{host}]:{}", self.inner.port)
        } else {
            format!("{host}:{}", self.inner.port)
        };
        Uri::builder()
            .scheme(self.scheme())
            .authority(authority)
            .path_and_query("/")
            .build()
            .expect("host and port come out of a parsed authority")
    }

    pub(crate) fn scheme(&self) -> Scheme {
        if self.inner.is_tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    pub(crate) fn authority(&self) -> Authority {
        self.inner.authority.clone()
    }

    /// The base path followed by the path and query of `uri`, byte for byte.
    ///
    /// `None` only if together they are longer than the `http` crate allows (64 KiB).
    pub(crate) fn path_for(&self, uri: &Uri) -> Option<PathAndQuery> {
        let own = match uri.path_and_query() {
            // The asterisk of `OPTIONS *` means the server, not a path under it.
            Some(own) if self.inner.base_path.is_empty() || own.as_str() == "*" => {
                return Some(own.clone());
            }
            Some(own) => own.as_str(),
            None => "/",
        };
        PathAndQuery::try_from(format!("{}{own}", self.inner.base_path)).ok()
    }
}

/// Hashed on the way of every request: host and port tell targets apart well enough.
impl Hash for Inner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        self.port.hash(state);
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(base_url: &str) -> Result<Self, TargetError> {
        // `http::Uri` silently drops a fragment.
        if base_url.contains('#') {
            return Err(TargetError("a base URL has no fragment"));
        }
        let uri: Uri = base_url
            .parse()
            .map_err(|_| TargetError("this is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(TargetError("a base URL starts with http:// or https://")),
        };
        let authority = uri
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or(TargetError("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(TargetError("a base URL carries no user name or password"));
        }
        if uri.query().is_some() {
            return Err(TargetError("a base URL has no query"));
        }
        let default_port = if is_tls { 443 } else { 80 };
        // `Authority` says `None` both for no port and for one that is no number.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("" | ":") => default_port,
            Some(_) => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or(TargetError("the URL's port is not a port"))?,
        };
        let shown = if port == default_port {
            authority
                .host()
                .parse()
                .unwrap_or_else(|_| authority.clone())
        } else {
            authority.clone()
        };
        Ok(Self {
            inner: Arc::new(Inner {
                is_tls,
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port,
                host_header: HeaderValue::from_str(shown.as_str())
                    .map_err(|_| TargetError("the URL's host is not a header value"))?,
                authority: shown,
                base_path: uri.path().trim_end_matches('/').to_owned(),
            }),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        write!(f, "{scheme}://{}{}", self.inner.authority, self.base_path())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// What is wrong with a URL, as a sentence for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, uri: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        let target = Target::parse(base).unwrap();
        target.path_for(&uri).unwrap().as_str().to_owned()
    }

    #[test]
    fn the_client_path_and_query_are_appended_byte_for_byte() {
        assert_eq!(
            path("https://a.example/v1", "/chat?x=%2F&&y=a+b?"),
            "/v1/chat?x=%2F&&y=a+b?"
        );
        assert_eq!(path("https://a.example/v1/", "//x/../%2e"), "/v1//x/../%2e");
        assert_eq!(path("https://a.example", "/chat?"), "/chat?");
        assert_eq!(
            path("https://a.example", "http://other.example/x?y"),
            "/x?y"
        );
        assert_eq!(path("https://a.example/v1", "*"), "*");
    }

    #[test]
    fn the_default_port_is_left_out_of_the_host_header() {
        let host = |url| Target::parse(url).unwrap().host_header();
        assert_eq!(host("https://a.example:443/v1"), "a.example");
        assert_eq!(host("http://a.example:443/v1"), "a.example:443");
        assert_eq!(host("http://[::1]:80"), "[::1]");
        assert_eq!(host("http://[::1]:81"), "[::1]:81");
    }

    #[test]
    fn addresses_always_carry_a_port() {
        let target = Target::parse("https://[::1]/v1").unwrap();
        assert_eq!((target.host(), target.port()), ("::1", 443));
        assert_eq!(target.connect_uri().to_string(), "https://[::1]:443/");
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_a_reason() {
        for url in [
            "api.openai.com/v1",
            "ftp://a.example",
            "https://",
            "https://user:pw@a.example",
            "https://a.example/v1?x=1",
            "https://a.example/v1#x",
            "https://a.example:99999/v1",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
