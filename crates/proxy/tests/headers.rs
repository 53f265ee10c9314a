//! Which headers cross, by name.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use http::HeaderMap;
use http::HeaderName;
use proxy::headers::Credential;
use proxy::headers::client_response_headers;
use proxy::headers::upstream_request_headers;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    map
}

fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
    map.iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

fn ours() -> Credential {
    Credential::bearer("ours").unwrap()
}

#[test]
fn what_clients_send_goes_up_in_order() {
    let sent = [
        ("host", "gw"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 3.52.0"),
        ("x-stainless-lang", "python"),
        ("openai-beta", "assistants=v2"),
        ("idempotency-key", "1"),
        ("x-ms-useragent", "x"),
        ("accept-language", "*"),
        ("sec-fetch-mode", "cors"),
        ("x-request-id", "mine"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("content-length", "2"),
    ];
    assert_eq!(lines(&upstream_request_headers(&map(&sent), None)), sent);
}

#[test]
fn what_would_leak_or_mislead_does_not_go_up() {
    for name in [
        "cookie",
        "openai-organization",
        "openai-project",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "via",
        "expect",
        "te",
        "connection",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
        "proxy-connection",
        "traceparent",
        "tracestate",
        "baggage",
        "cf-connecting-ip",
        "x-turnpike-anything",
    ] {
        let sent = [("a", "1"), (name, "x"), ("b", "2"), ("c", "3")];
        let kept = upstream_request_headers(&map(&sent), None);
        assert_eq!(lines(&kept), [("a", "1"), ("b", "2"), ("c", "3")], "{name}");
    }
}

#[test]
fn our_credential_takes_the_place_of_theirs() {
    for name in ["authorization", "api-key", "x-api-key"] {
        let sent = [("a", "1"), (name, "theirs"), ("b", "2")];
        let kept = upstream_request_headers(&map(&sent), Some(&ours()));
        assert_eq!(
            lines(&kept),
            [("a", "1"), ("authorization", "Bearer ours"), ("b", "2")]
        );
    }
}

#[test]
fn our_credential_goes_up_once() {
    let sent = [
        ("authorization", "1"),
        ("api-key", "2"),
        ("authorization", "3"),
        ("b", "2"),
    ];
    let kept = upstream_request_headers(&map(&sent), Some(&ours()));
    assert_eq!(lines(&kept), [("authorization", "Bearer ours"), ("b", "2")]);
    let kept = upstream_request_headers(&map(&[("a", "1")]), Some(&ours()));
    assert_eq!(lines(&kept), [("a", "1"), ("authorization", "Bearer ours")]);
    let kept = upstream_request_headers(&map(&[("authorization", "theirs")]), None);
    assert!(kept.is_empty());
}

#[test]
fn a_credential_does_not_show_itself() {
    assert!(!format!("{:?}", ours()).contains("ours"));
    let kept = upstream_request_headers(&HeaderMap::new(), Some(&ours()));
    assert!(!format!("{kept:?}").contains("ours"));
}

#[test]
fn what_connection_lists_stays_behind() {
    let sent = [
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("x-stays", "2"),
    ];
    assert_eq!(
        lines(&upstream_request_headers(&map(&sent), None)),
        [("x-stays", "2")]
    );
    assert_eq!(
        lines(&client_response_headers(&map(&sent))),
        [("x-stays", "2")]
    );
}

#[test]
fn connection_cannot_take_the_framing_out() {
    let sent = [
        ("connection", "content-length, host"),
        ("host", "gw"),
        ("content-length", "2"),
    ];
    assert_eq!(
        lines(&upstream_request_headers(&map(&sent), None)),
        sent[1..]
    );
}

#[test]
fn codings_a_meter_cannot_open_are_not_asked_for() {
    for (sent, kept) in [
        ("gzip, deflate", "gzip, deflate"),
        ("gzip,br;q=0.9 , zstd", "gzip,br;q=0.9 , zstd"),
        ("GZIP;q=1.0", "GZIP;q=1.0"),
        ("identity;q=1, *;q=0", "identity;q=1"),
        ("gzip, compress, br", "gzip, br"),
        ("dcb, dcz", "identity"),
        ("*", "identity"),
        ("", ""),
    ] {
        let map = map(&[("accept-encoding", sent)]);
        assert_eq!(
            lines(&upstream_request_headers(&map, None)),
            [("accept-encoding", kept)]
        );
    }
    assert!(
        upstream_request_headers(&HeaderMap::new(), None).is_empty(),
        "none stays none"
    );
}

#[test]
fn what_clients_need_comes_down_in_order() {
    let sent = [
        ("date", "now"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("content-length", "2"),
        ("x-request-id", "req_1"),
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("retry-after", "1"),
        ("retry-after-ms", "1000"),
        ("x-should-retry", "false"),
        ("request-id", "req_2"),
        ("x-generation-id", "3"),
        ("apim-request-id", "4"),
        ("x-ms-region", "5"),
        ("location", "/v1/x"),
        ("vary", "origin"),
    ];
    assert_eq!(lines(&client_response_headers(&map(&sent))), sent);
}

#[test]
fn what_shows_our_account_does_not_come_down() {
    for name in [
        "openai-organization",
        "openai-project",
        "openai-model",
        "anthropic-organization-id",
        "anthropic-workspace-id",
        "set-cookie",
        "cf-ray",
        "cf-cache-status",
        "server",
        "via",
        "alt-svc",
        "x-ms-deployment-name",
        "x-ms-is-spilled-over",
        "x-envoy-upstream-service-time",
        "azureml-model-session",
        "strict-transport-security",
        "report-to",
        "nel",
        "access-control-allow-origin",
        "www-authenticate",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-limit",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "upgrade",
        "x-turnpike-refusal",
    ] {
        let kept =
            client_response_headers(&map(&[("a", "1"), (name, "x"), ("b", "2"), ("c", "3")]));
        assert_eq!(lines(&kept), [("a", "1"), ("b", "2"), ("c", "3")], "{name}");
    }
}
