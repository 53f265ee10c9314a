//! The header names that do not cross, as tables, each with its reason.
//!
//! "RFC 9110" is HTTP Semantics. What OpenAI, Azure, Anthropic and Cloudflare send was recorded from
//! their answers and from their SDKs.

use http::HeaderName;

/// Names and beginnings of names, in lower case; `names` is sorted.
pub(super) struct Rules {
    pub(super) names: &'static [&'static str],
    pub(super) prefixes: &'static [&'static str],
}

impl Rules {
    pub(super) fn cover(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.names.binary_search(&name).is_ok()
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
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
        "x-b3-",
        "x-envoy-",
        "x-forwarded-",
        // Ours.
        "x-turnpike-",
    ],
};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_in_lower_case() {
        for rules in [HOP_BY_HOP, CREDENTIALS, REQUEST, RESPONSE] {
            assert!(rules.names.is_sorted());
            for name in rules.names.iter().chain(rules.prefixes) {
                assert_eq!(*name, name.to_ascii_lowercase());
            }
        }
    }
}
