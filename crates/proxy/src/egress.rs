//! The way out to an upstream: straight, or through a proxy.

use std::fmt;

use http::Uri;

use crate::TargetError;

/// The way out to an upstream.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Egress {
    /// Straight to the upstream.
    #[default]
    Direct,
    /// Through an HTTP proxy by `CONNECT`: `http://[user:password@]host:port`.
    HttpProxy(Uri),
    /// Through a SOCKS5 proxy, which also resolves the name: `socks5://[user:password@]host:port`.
    Socks5(Uri),
}

impl Egress {
    /// Takes a proxy's URL: `http://`, `socks5://` or `socks5h://`, with or without user and password.
    ///
    /// # Errors
    /// For any other scheme, and if no host is named.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError("this is not a URL"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(TargetError("the URL names no host"));
        }
        match uri.scheme_str() {
            Some("http") => Ok(Self::HttpProxy(uri)),
            Some("socks5" | "socks5h") => Ok(Self::Socks5(uri)),
            _ => Err(TargetError(
                "a proxy's URL starts with http://, socks5:// or socks5h://",
            )),
        }
    }
}

/// Hides user and password.
impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, uri) = match self {
            Self::Direct => return f.write_str("Direct"),
            Self::HttpProxy(uri) => ("HttpProxy", uri),
            Self::Socks5(uri) => ("Socks5", uri),
        };
        let host = uri.host().unwrap_or_default();
        match uri.port_u16() {
            Some(port) => write!(f, "{name}({host}:{port})"),
            None => write!(f, "{name}({host})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_password_is_not_shown() {
        let egress = Egress::parse("socks5h://me:secret@proxy.example:1080").unwrap();
        assert_eq!(format!("{egress:?}"), "Socks5(proxy.example:1080)");
        assert!(Egress::parse("https://proxy.example").is_err());
    }
}
