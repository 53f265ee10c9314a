//! The pages' files, built into the program, and the headers they go with.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use proxy::Whole;
use sha2::{Digest as _, Sha256};

/// The operator's page.
pub(super) const CONSOLE: &str = include_str!("../../console/console.html");
/// Where the operator logs in.
pub(super) const LOGIN: &str = include_str!("../../console/login.html");
/// The token holder's page.
const USAGE: &str = include_str!("../../console/usage.html");

/// Nothing but what this address serves itself; nothing inline. Styles that scripts set on an element are not inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'",
);
/// What an operator sees stays in no cache.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// A browser may keep a file, and asks each time whether it is still the same.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

struct Asset {
    name: &'static str,
    content_type: HeaderValue,
    bytes: &'static [u8],
}

const JS: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const SVG: HeaderValue = HeaderValue::from_static("image/svg+xml");

macro_rules! asset {
    ($file:literal, $content_type:expr) => {
        Asset {
            name: $file,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../console/", $file)),
        }
    };
}

static ASSETS: [Asset; 12] = [
    asset!("style.css", CSS),
    asset!("parts.css", CSS),
    asset!("console.js", JS),
    asset!("sections.js", JS),
    asset!("usage.js", JS),
    asset!("dom.js", JS),
    asset!("format.js", JS),
    asset!("plot.js", JS),
    asset!("series.js", JS),
    asset!("icon.svg", SVG),
    asset!("uplot/uPlot.iife.min.js", JS),
    asset!("uplot/uPlot.min.css", CSS),
];

/// Each asset's tag: its digest's beginning.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let digest = Sha256::digest(asset.bytes);
        let digits: String = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        HeaderValue::from_str(&format!("\"{digits}\"")).expect("hexadecimal digits are allowed")
    };
    ASSETS.iter().map(tag).collect()
});

/// A page.
pub(super) fn page(html: impl Into<bytes::Bytes>) -> Response<Whole> {
    let mut response = Response::new(Whole::from(html.into()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// A file that pages name, or word that the browser's copy is still good.
pub(super) fn file(name: &str, asked: &HeaderMap) -> Response<Whole> {
    let found = ASSETS
        .iter()
        .zip(TAGS.iter())
        .find(|(asset, _)| asset.name == name);
    let Some((asset, tag)) = found else {
        let mut response = Response::new(Whole::from("there is no such file\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let is_known = asked.get(header::IF_NONE_MATCH) == Some(tag);
    let mut response = Response::new(if is_known {
        Whole::empty()
    } else {
        Whole::from(asset.bytes)
    });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, asset.content_type.clone());
    headers.insert(header::CACHE_CONTROL, ASK_AGAIN);
    headers.insert(header::ETAG, tag.clone());
    response
}

/// The headers that every answer of the console has.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ] {
        headers.insert(name, value);
    }
}

/// The token holder's page and its files, on the clients' address: `/usage` and what is below it. They say nothing of anybody; what
/// they show comes from `/usage.json`, for whoever shows a token.
pub(crate) fn usage_page(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response<Whole>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = match path.strip_prefix("/usage")? {
        "" => page(USAGE),
        rest => {
            let name = rest.strip_prefix('/')?;
            ASSETS.iter().find(|asset| asset.name == name)?;
            file(name, headers)
        }
    };
    guard(response.headers_mut());
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_nothing_inline_and_name_no_other_host() {
        for (name, html) in [("console", CONSOLE), ("login", LOGIN), ("usage", USAGE)] {
            for forbidden in [
                " style=",
                "<style",
                " onclick=",
                " onload=",
                "javascript:",
                "http://",
                "https://",
            ] {
                assert!(!html.contains(forbidden), "{name}: {forbidden}");
            }
            for script in html.split("<script").skip(1) {
                assert!(
                    script.contains(" src=\"") && script.contains("></script>"),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn every_file_that_a_page_names_is_there() {
        for (html, prefix) in [(CONSOLE, "assets/"), (LOGIN, "assets/"), (USAGE, "usage/")] {
            let named = html.split('"').filter_map(|text| text.strip_prefix(prefix));
            let mut count = 0;
            for name in named {
                assert_eq!(
                    file(name, &HeaderMap::new()).status(),
                    StatusCode::OK,
                    "{name}"
                );
                count += 1;
            }
            assert!(count > 1);
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = file("style.css", &HeaderMap::new());
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file("style.css", &asked).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(file("icon.svg", &asked).status(), StatusCode::OK);
        for missing in ["", "../login.html", "nothing.js", "login.html"] {
            assert_eq!(
                file(missing, &HeaderMap::new()).status(),
                StatusCode::NOT_FOUND
            );
        }
    }

    #[test]
    fn the_usage_page_takes_no_other_path_from_providers() {
        let found = |method: &Method, path| usage_page(method, path, &HeaderMap::new()).is_some();
        for path in ["/usage", "/usage/style.css", "/usage/uplot/uPlot.min.css"] {
            assert!(
                found(&Method::GET, path) && found(&Method::HEAD, path),
                "{path}"
            );
            assert!(!found(&Method::POST, path), "{path}");
        }
        for path in [
            "/v1/usage",
            "/usage/",
            "/usages",
            "/usage/completions",
            "/usage.json",
            "/",
        ] {
            assert!(!found(&Method::GET, path), "{path}");
        }
    }
}
