//! Which requests a web page elsewhere could have caused: they are refused.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};

/// Says why a request is refused.
///
/// # Errors
/// For a request that another site caused; and, where nobody logs in, for one to a name that need not be ours: a page elsewhere may
/// have pointed its own name at this address.
pub(super) fn check(
    method: &Method,
    headers: &HeaderMap,
    uri: &Uri,
    is_open: bool,
) -> Result<(), &'static str> {
    let host = host(headers, uri);
    if is_open && !host.is_some_and(is_local) {
        return Err(
            "without ADMIN_TOKEN this address is only for 127.0.0.1, [::1] and localhost: ask for it by one of these, or set ADMIN_TOKEN\n",
        );
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let elsewhere = match text(headers, "sec-fetch-site") {
        Some("same-origin" | "none") => false,
        // Following a link from elsewhere to a page is no harm: what it shows, it shows to whoever follows.
        Some(_) => !(is_read && text(headers, "sec-fetch-mode") == Some("navigate")),
        None if is_read => false,
        // Browsers that do not say the one say the other. What is no browser says neither.
        None => text(headers, header::ORIGIN.as_str()).is_some_and(|origin| {
            let of_origin = origin.split_once("://").map(|(_, host)| host);
            of_origin.is_none() || of_origin != host
        }),
    };
    if elsewhere {
        return Err("this came from another site\n");
    }
    Ok(())
}

/// Whether the browser sees us by TLS.
pub(super) fn is_tls(headers: &HeaderMap) -> bool {
    text(headers, header::ORIGIN.as_str()).is_some_and(|origin| origin.starts_with("https://"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    authority.or_else(|| text(headers, header::HOST.as_str()))
}

/// An address, or a name that browsers never ask anybody about.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &Method, is_open: bool, lines: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, value.parse().unwrap());
        }
        check(method, &headers, &Uri::from_static("/"), is_open).is_ok()
    }

    #[test]
    fn without_a_login_only_addresses_and_localhost_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:9090", true),
            ("127.0.0.1", true),
            ("[::1]:9090", true),
            ("localhost:9090", true),
            ("LOCALHOST", true),
            ("rebound.example:9090", false),
            ("127.0.0.1.rebound.example", false),
            ("localhost.rebound.example:9090", false),
            ("", false),
        ] {
            let lines = [("host", host)];
            assert_eq!(checked(&Method::GET, true, &lines), expected, "{host}");
            assert!(checked(&Method::GET, false, &lines), "{host}");
        }
        assert!(!checked(&Method::GET, true, &[]));
    }

    #[test]
    fn what_another_site_causes_is_refused() {
        for (method, name, value, expected) in [
            (Method::POST, "origin", "http://127.0.0.1:9090", true),
            (Method::POST, "origin", "http://127.0.0.1:9091", false),
            (Method::POST, "origin", "http://evil.example", false),
            (Method::POST, "origin", "null", false),
            (Method::POST, "sec-fetch-site", "same-origin", true),
            (Method::POST, "sec-fetch-site", "none", true),
            (Method::POST, "sec-fetch-site", "same-site", false),
            (Method::POST, "sec-fetch-site", "cross-site", false),
            (Method::GET, "sec-fetch-site", "cross-site", false),
            (Method::GET, "sec-fetch-site", "same-origin", true),
            (Method::GET, "accept", "*/*", true),
            (Method::POST, "accept", "*/*", true),
        ] {
            let lines = [("host", "127.0.0.1:9090"), (name, value)];
            assert_eq!(checked(&method, false, &lines), expected, "{name}: {value}");
        }
        let link = [
            ("host", "127.0.0.1:9090"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(checked(&Method::GET, false, &link));
        assert!(!checked(&Method::POST, false, &link));
    }
}
