//! Rebuilds header maps without what must not cross, in either direction.
//!
//! A map is rebuilt rather than edited because `HeaderMap::remove` moves the last entry into the gap
//! and so changes the order on the wire. The case of the names lives in the message's extensions,
//! where hyper put it: carry those over and it is kept.

mod rules;

use std::fmt;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use http::header::InvalidHeaderValue;

use self::rules::Verdict;

/// What we show an upstream in place of what the client showed us.
#[derive(Clone)]
pub struct Credential {
    name: HeaderName,
    value: HeaderValue,
}

impl Credential {
    /// `Authorization: Bearer <key>`.
    ///
    /// # Errors
    /// If the key has bytes a header value cannot have.
    pub fn bearer(key: &str) -> Result<Self, InvalidHeaderValue> {
        Self::named(header::AUTHORIZATION, &format!("Bearer {key}"))
    }

    /// A key in a header of its own, such as Azure's `api-key`.
    ///
    /// # Errors
    /// If the key has bytes a header value cannot have.
    pub fn named(name: HeaderName, key: &str) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::from_str(key)?;
        // Keeps it out of `Debug`, and out of the table HTTP/2 compresses headers with.
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

impl Credential {
    /// Whether a word of an upstream's quotes this key: all of it, its beginning, or its end behind a mask (`sk-…***abcd`).
    #[must_use]
    pub fn is_quoted_by(&self, word: &str) -> bool {
        let shown = self.value.to_str().unwrap_or_default();
        let key = shown.strip_prefix("Bearer ").unwrap_or(shown);
        let (Some(begin), Some(end)) = (
            key.get(..QUOTED_BEGIN_CHARS),
            key.len()
                .checked_sub(QUOTED_END_CHARS)
                .and_then(|at| key.get(at..)),
        ) else {
            return false;
        };
        word.contains(key)
            || word.starts_with(begin)
            || word.contains('*') && (word.ends_with(end) || word.starts_with("sk-"))
    }
}

/// How much of a key's beginning gives it away, and of its end. Shorter keys are no keys.
const QUOTED_BEGIN_CHARS: usize = 8;
const QUOTED_END_CHARS: usize = 4;

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.name)
    }
}

/// The headers a request goes to an upstream with.
///
/// `credential` takes the place of the first of the client's own, or comes last if it showed none. `Host` keeps
/// its place; the pool puts the upstream's name there. `transfer-encoding: chunked` keeps its place too,
/// so that a chunked body stays one.
#[must_use]
pub fn upstream_request_headers(client: &HeaderMap, credential: Option<&Credential>) -> HeaderMap {
    upstream_headers(client, credential, Tracing::Stays)
}

/// Whether the W3C trace context of a client (`traceparent`, `tracestate`) goes up. Only where the operator says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// It stays here.
    #[default]
    Stays,
    /// It goes up as it is, in its place.
    Crosses,
}

/// [`upstream_request_headers`] with or without the client's trace context.
#[must_use]
pub fn upstream_headers(
    client: &HeaderMap,
    credential: Option<&Credential>,
    tracing: Tracing,
) -> HeaderMap {
    let index = &*rules::REQUEST_INDEX;
    let listed = listed_by_connection(client);
    let mut pending = credential;
    let mut kept = HeaderMap::with_capacity(client.len() + 1);
    for (name, value) in client {
        match index.verdict(name) {
            Verdict::Stays
                if tracing == Tracing::Crosses
                    && rules::TRACE_CONTEXT.contains(&name.as_str())
                    && crosses(name, value, &listed) =>
            {
                kept.append(name, value.clone());
            }
            Verdict::Stays => {}
            Verdict::Credential => {
                if let Some(Credential { name, value }) = pending.take() {
                    kept.append(name, value.clone());
                }
            }
            Verdict::Crosses if *name == header::ACCEPT_ENCODING => {
                kept.append(name, accepted_codings(value));
            }
            Verdict::Crosses if crosses(name, value, &listed) => {
                kept.append(name, value.clone());
            }
            Verdict::Crosses => {}
        }
    }
    if let Some(Credential { name, value }) = pending {
        kept.append(name, value.clone());
    }
    kept
}

/// The beginning of the subprotocol that browsers, which cannot set headers, carry an access token in.
pub const TOKEN_PROTOCOL: &str = "openai-insecure-api-key.";

/// The headers of a request that asks for a WebSocket, as it goes to an upstream.
///
/// Those of [`upstream_request_headers`] and the handshake's own, each in its place, but for two things: no
/// extension is offered, since an observer could not read what one changes, and an access token among the
/// subprotocols stays here.
#[must_use]
pub fn upstream_socket_headers(
    client: &HeaderMap,
    credential: Option<&Credential>,
    tracing: Tracing,
) -> HeaderMap {
    let plain = upstream_headers(client, credential, tracing);
    let mut kept = HeaderMap::with_capacity(plain.len() + 6);
    let mut is_named = false;
    for (name, value) in client {
        match name {
            &header::CONNECTION if !is_named => {
                is_named = true;
                kept.append(name, HeaderValue::from_static("Upgrade"));
            }
            &header::CONNECTION | &header::SEC_WEBSOCKET_EXTENSIONS => {}
            &header::UPGRADE | &header::SEC_WEBSOCKET_KEY | &header::SEC_WEBSOCKET_VERSION => {
                kept.append(name, value.clone());
            }
            &header::SEC_WEBSOCKET_PROTOCOL => {
                if let Some(value) = without_token(value) {
                    kept.append(name, value);
                }
            }
            // All of a name at its first: a map groups them so on the wire as well.
            _ if kept.contains_key(name) => {}
            _ if rules::CREDENTIALS.names.contains(&name.as_str()) => {
                if let Some(Credential { name, value }) = credential
                    && !kept.contains_key(name)
                {
                    kept.append(name, value.clone());
                }
            }
            _ => {
                for value in plain.get_all(name) {
                    kept.append(name, value.clone());
                }
            }
        }
    }
    if let Some(Credential { name, value }) = credential
        && !kept.contains_key(name)
    {
        kept.append(name, value.clone());
    }
    kept
}

/// A list of subprotocols less an access token among them; `None` if nothing is left.
fn without_token(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    if !text.contains(TOKEN_PROTOCOL) {
        return Some(value.clone());
    }
    let kept: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(TOKEN_PROTOCOL))
        .collect();
    let kept = HeaderValue::from_str(&kept.join(", ")).ok()?;
    (!kept.is_empty()).then_some(kept)
}

/// The headers an upstream's 101 goes to the client with: the handshake's own as well.
#[must_use]
pub fn client_socket_headers(upstream: &HeaderMap) -> HeaderMap {
    let plain = client_response_headers(upstream);
    let mut kept = HeaderMap::with_capacity(plain.len() + 2);
    for (name, value) in upstream {
        let is_own = matches!(*name, header::CONNECTION | header::UPGRADE);
        if is_own || plain.contains_key(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// The headers an upstream's answer goes to the client with.
#[must_use]
pub fn client_response_headers(upstream: &HeaderMap) -> HeaderMap {
    let index = &*rules::RESPONSE_INDEX;
    let listed = listed_by_connection(upstream);
    let mut kept = HeaderMap::with_capacity(upstream.len() + 1);
    for (name, value) in upstream {
        if index.verdict(name) == Verdict::Crosses && crosses(name, value, &listed) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Drops what HTTP/2 has no place for, keeping the order of the rest. `Host` is a pseudo-header there.
pub(crate) fn for_h2(headers: &HeaderMap) -> HeaderMap {
    let index = &*rules::HOP_BY_HOP_INDEX;
    without(headers, |name| {
        matches!(*name, header::TRANSFER_ENCODING | header::HOST)
            || index.verdict(name) != Verdict::Crosses
    })
}

/// Drops some names, keeping the order of the rest.
pub(crate) fn without(headers: &HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !is_dropped(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Whether a header that no table holds back crosses.
fn crosses(name: &HeaderName, value: &HeaderValue, listed: &[&str]) -> bool {
    if *name == header::TRANSFER_ENCODING {
        return ends_in_chunked(value);
    }
    !listed
        .iter()
        .any(|listed| name.as_str().eq_ignore_ascii_case(listed))
}

/// The names `Connection` declares to be for this hop only.
///
/// RFC 9110 7.6.1. The few that frame or address the message are not for a peer to take out.
fn listed_by_connection(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| {
            !rules::NOT_FOR_CONNECTION_TO_LIST
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own))
        })
        .collect()
}

fn ends_in_chunked(value: &HeaderValue) -> bool {
    let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Limits `Accept-Encoding` to codings a meter can open; a value that names no other is not touched.
fn accepted_codings(value: &HeaderValue) -> HeaderValue {
    let Ok(text) = value.to_str() else {
        return HeaderValue::from_static("identity");
    };
    let opens = |element: &&str| {
        let coding = element.split(';').next().unwrap_or_default().trim();
        coding.is_empty()
            || rules::CODINGS
                .iter()
                .any(|own| coding.eq_ignore_ascii_case(own))
    };
    if text.split(',').all(|element| opens(&element)) {
        return value.clone();
    }
    let kept: Vec<_> = text.split(',').filter(opens).map(str::trim).collect();
    if kept.is_empty() {
        return HeaderValue::from_static("identity");
    }
    HeaderValue::from_str(&kept.join(", "))
        .expect("parts of a header value, joined by a comma, are a header value")
}
