//! The header names that do not cross, as tables, each with its reason.
//!
//! "RFC 9110" is HTTP Semantics. What OpenAI, Azure, Anthropic and Cloudflare send was recorded from
//! their answers and from their SDKs.

use std::sync::LazyLock;

use http::HeaderName;

/// Names, and beginnings of names, in lower case.
pub(super) struct Rules {
    pub(super) names: &'static [&'static str],
    pub(super) prefixes: &'static [&'static str],
}

/// Meant for one connection (RFC 9110 7.6.1, and its older names), in both directions.
///
/// `transfer-encoding` is judged by its value, elsewhere. `trailer` crosses: hyper sends only trailers that were announced.
pub(super) const HOP_BY_HOP: Rules = Rules {
    names: &[
        "connection",
        "http2-settings",
        "keep-alive",
        "te",
        "upgrade",
    ],
    // proxy-authorization, proxy-authenticate, proxy-authentication-info, proxy-connection.
    prefixes: &["proxy-"],
};

/// Without these a message would be framed or addressed otherwise: `Connection` may not take them out.
pub(super) const NOT_FOR_CONNECTION_TO_LIST: &[&str] =
    &["content-length", "host", "transfer-encoding"];

/// The client's credentials to *us*. An upstream that got one could use it here.
pub(super) const CREDENTIALS: Rules = Rules {
    names: &[
        // Azure's.
        "api-key",
        // OpenAI's, and everyone's.
        "authorization",
        // Anthropic's.
        "x-api-key",
    ],
    prefixes: &[],
};

/// What a client sends and an upstream does not get.
pub(super) const REQUEST: Rules = Rules {
    names: &[
        // Trace context: shows the client's trace ids and baggage to a third party.
        "b3",
        "baggage",
        // Loop protection of a CDN in front of us; it would make the upstream's refuse.
        "cdn-loop",
        // Clients replay Cloudflare's cookies (`__cf_bm`), which would link our clients to each other.
        "cookie",
        "cookie2",
        // hyper answers 100 itself and swallows the upstream's: forwarded it would only cost a round trip.
        "expect",
        "fastly-client-ip",
        // Who the client is and how it came (RFC 7239).
        "forwarded",
        // The account is ours, so are its organisation and project; another's gives a 401.
        "openai-organization",
        "openai-project",
        "traceparent",
        "tracestate",
        "true-client-ip",
        "via",
        "x-amzn-trace-id",
        "x-client-ip",
        "x-cloud-trace-context",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-real-ip",
    ],
    prefixes: &[
        // cf-connecting-ip, cf-ipcountry, …: of a Cloudflare in front of us.
        "cf-",
        // The handshake of a WebSocket, which has rules of its own; browsers put their access token there.
        "sec-websocket-",
        "x-b3-",
        "x-envoy-",
        "x-forwarded-",
        // Ours.
        "x-turnpike-",
    ],
};

/// The two of W3C Trace Context, which an operator may let cross. `baggage` may say anything, and stays.
pub(super) const TRACE_CONTEXT: &[&str] = &["traceparent", "tracestate"];

/// What an upstream sends and a client does not get.
pub(super) const RESPONSE: Rules = Rules {
    names: &[
        // Would send clients to the upstream by HTTP/3, past us.
        "alt-svc",
        // Our account at Anthropic.
        "anthropic-organization-id",
        "anthropic-workspace-id",
        // Where the upstream wants its browsers' reports.
        "nel",
        // Names the model behind an alias.
        "openai-model",
        // Our account at OpenAI.
        "openai-organization",
        "openai-project",
        "report-to",
        "server",
        // Cloudflare's cookies are shared by all who come through us.
        "set-cookie",
        "set-cookie2",
        // A promise about our own name, which is not the upstream's to give.
        "strict-transport-security",
        "via",
        // Speaks of our key; clients show theirs to us.
        "www-authenticate",
        // Our Azure deployments.
        "x-ms-deployment-name",
        "x-ms-is-spilled-over",
    ],
    prefixes: &[
        // Which origins a browser may call us from is ours to say.
        "access-control-",
        // Limits of our account, not of this client.
        "anthropic-ratelimit-",
        "azureml-",
        // cf-ray, cf-cache-status.
        "cf-",
        "x-envoy-",
        "x-ratelimit-",
        // Ours: an upstream could feign a refusal or another exchange.
        "x-turnpike-",
    ],
};

/// Content codings the meters open. A client's `Accept-Encoding` is limited to these.
pub(super) const CODINGS: &[&str] = &["gzip", "deflate", "br", "zstd", "identity"];

/// What becomes of a header, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Crosses,
    Stays,
    Credential,
}

/// For requests on their way up.
pub(super) static REQUEST_INDEX: LazyLock<Index> = LazyLock::new(|| {
    Index::new(&[
        (&HOP_BY_HOP, Verdict::Stays),
        (&CREDENTIALS, Verdict::Credential),
        (&REQUEST, Verdict::Stays),
    ])
});

/// For answers on their way down.
pub(super) static RESPONSE_INDEX: LazyLock<Index> =
    LazyLock::new(|| Index::new(&[(&HOP_BY_HOP, Verdict::Stays), (&RESPONSE, Verdict::Stays)]));

/// For what has crossed and goes on over HTTP/2.
pub(super) static HOP_BY_HOP_INDEX: LazyLock<Index> =
    LazyLock::new(|| Index::new(&[(&HOP_BY_HOP, Verdict::Stays)]));

/// The tables by length and first letter: every header of every message is looked up, and most are in none.
pub(super) struct Index {
    /// At a name's length.
    names: Vec<Vec<(&'static str, Verdict)>>,
    prefixes: Vec<(&'static str, Verdict)>,
    /// A bit for each letter a prefix begins with.
    first_letters: u32,
}

impl Index {
    fn new(tables: &[(&Rules, Verdict)]) -> Self {
        let mut index = Self {
            names: Vec::new(),
            prefixes: Vec::new(),
            first_letters: 0,
        };
        for (rules, verdict) in tables {
            for name in rules.names {
                if index.names.len() <= name.len() {
                    index.names.resize(name.len() + 1, Vec::new());
                }
                index.names[name.len()].push((*name, *verdict));
            }
            for prefix in rules.prefixes {
                index.prefixes.push((*prefix, *verdict));
                index.first_letters |= letter_bit(prefix);
            }
        }
        index
    }

    pub(super) fn verdict(&self, name: &HeaderName) -> Verdict {
        let name = name.as_str();
        let same_len = self.names.get(name.len()).map_or(&[][..], Vec::as_slice);
        if let Some((_, verdict)) = same_len.iter().find(|(own, _)| *own == name) {
            return *verdict;
        }
        if self.first_letters & letter_bit(name) == 0 {
            return Verdict::Crosses;
        }
        let prefix = self
            .prefixes
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        prefix.map_or(Verdict::Crosses, |(_, verdict)| *verdict)
    }
}

/// Zero for what is no lower-case letter.
fn letter_bit(name: &str) -> u32 {
    match name.as_bytes() {
        [letter @ b'a'..=b'z', ..] => 1 << (letter - b'a'),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_can_match() {
        for rules in [HOP_BY_HOP, CREDENTIALS, REQUEST, RESPONSE] {
            assert!(rules.names.is_sorted() && rules.prefixes.is_sorted());
            for name in rules.names.iter().chain(rules.prefixes) {
                assert_eq!(*name, name.to_ascii_lowercase());
                assert_ne!(letter_bit(name), 0);
            }
        }
    }

    #[test]
    fn a_name_that_merely_resembles_one_crosses() {
        for name in [
            "cooki",
            "cookies",
            "xx-forwarded-for",
            "proxy",
            "-",
            "0",
            "1cf-ray",
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(REQUEST_INDEX.verdict(&name), Verdict::Crosses, "{name}");
        }
    }
}
