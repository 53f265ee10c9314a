//! What is not passed on as it is: ARCHITECTURE.md's table as data. Whatever differs beyond this fails the suite.

use super::message::Message;

/// What the gateway tells of a case, so that exceptions can be applied to what was sent.
pub(super) struct Around {
    pub(super) upstream: String,
    /// Whether the client asked for trailers.
    pub(super) wants_trailers: bool,
    pub(super) is_http10: bool,
}

/// How a row of the table shows.
pub(super) enum Shows {
    /// In what the upstream gets.
    InRequest(fn(&mut Message, &Around)),
    /// In what the client gets.
    InAnswer(fn(&mut Message, &Around)),
    /// In both.
    InBoth(fn(&mut Message, &Around)),
    /// Not between two whole messages: this module of the tests has it.
    Elsewhere(&'static str),
}

/// A row of "What is not passed on as it is", by the beginning of its first cell.
pub(super) struct Exception {
    pub(super) row: &'static str,
    pub(super) shows: Shows,
}

const fn row(row: &'static str, shows: Shows) -> Exception {
    Exception { row, shows }
}

/// The rows, in the table's order.
pub(super) const EXCEPTIONS: &[Exception] = &[
    row(
        "request: `Authorization`, `api-key`, `x-api-key`, `Cookie`",
        Shows::InRequest(credential),
    ),
    row(
        "request: `Host`, hop-by-hop headers",
        Shows::InRequest(one_hop),
    ),
    row("request: codings we cannot open", Shows::InRequest(codings)),
    row(
        "request: a target that resembles a metered path",
        Shows::Elsewhere("refusals"),
    ),
    row(
        "request: the base path in front of the endpoint's own",
        Shows::InRequest(base),
    ),
    row("request: trailers dropped", Shows::InRequest(trailers)),
    row(
        "WebSocket: no extension is offered",
        Shows::Elsewhere("sockets"),
    ),
    row("WebSocket: a client's frames", Shows::Elsewhere("sockets")),
    row(
        "answer: our account's `openai-organization`",
        Shows::InAnswer(account),
    ),
    row(
        "answer: 401 and 403 of the upstream",
        Shows::Elsewhere("refusals"),
    ),
    row(
        "answer: an error (no 2xx) is read whole first",
        Shows::Elsewhere("upstream_faults"),
    ),
    row(
        "answer: a redirect of the upstream",
        Shows::Elsewhere("upstream_faults"),
    ),
    row(
        "answer: cut when the upstream says nothing",
        Shows::Elsewhere("upstream_faults"),
    ),
    row(
        "answer: `Connection: close` added",
        Shows::Elsewhere("restart"),
    ),
    row(
        "answer: `x-turnpike-exchange` added",
        Shows::InAnswer(named),
    ),
    row("answer: `x-ratelimit-limit-`", Shows::Elsewhere("limits")),
    row("both: repeated headers are grouped", Shows::InBoth(hyper)),
    row("both: several small frames", Shows::InBoth(|_, _| {})),
    row(
        "request: `Expect: 100-continue`",
        Shows::InRequest(|message, _| message.drop_headers(|name| name == "expect")),
    ),
    row(
        "request: a raw `\"`, `<` or `>`",
        Shows::Elsewhere("transparency::queries"),
    ),
    row(
        "answer: trailers pass only if announced",
        Shows::InAnswer(version),
    ),
    row(
        "a client that closes its sending half",
        Shows::Elsewhere("faults::hanging_up"),
    ),
    row(
        "request: `Accept-Encoding: identity` where a job is begun",
        Shows::Elsewhere("jobs"),
    ),
    row("`GET` of lists of files and jobs", Shows::Elsewhere("jobs")),
    row("`STREAM_USAGE=inject` only", Shows::Elsewhere("metering")),
];

/// What the upstream should get for what the client sent.
pub(super) fn of_request(mut message: Message, around: &Around) -> Message {
    for exception in EXCEPTIONS {
        if let Shows::InRequest(apply) | Shows::InBoth(apply) = exception.shows {
            apply(&mut message, around);
        }
    }
    message
}

/// What the client should get for what the upstream sent.
pub(super) fn of_answer(mut message: Message, around: &Around) -> Message {
    for exception in EXCEPTIONS {
        if let Shows::InAnswer(apply) | Shows::InBoth(apply) = exception.shows {
            apply(&mut message, around);
        }
    }
    message
}

fn credential(message: &mut Message, _: &Around) {
    let is_one = |name: &str| matches!(name, "authorization" | "api-key" | "x-api-key");
    let mut ours = Some("Bearer sk-upstream-canary");
    for (name, value) in &mut message.headers {
        if is_one(&name.to_ascii_lowercase())
            && let Some(ours) = ours.take()
        {
            // The case of `Authorization` is the client's; a key's header has another name.
            if !name.eq_ignore_ascii_case("authorization") {
                "authorization".clone_into(name);
            }
            ours.clone_into(value);
        }
    }
    message.headers.retain(|(name, value)| {
        !is_one(&name.to_ascii_lowercase()) || value == "Bearer sk-upstream-canary"
    });
    message.drop_headers(|name| {
        matches!(
            name,
            "cookie" | "cookie2" | "openai-organization" | "openai-project"
        )
    });
}

fn one_hop(message: &mut Message, around: &Around) {
    let listed = message
        .value("connection")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_listed = |name: &str| listed.split(',').any(|listed| listed.trim() == name);
    message.drop_headers(|name| {
        const NAMES: &[&str] = &[
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "http2-settings",
            "forwarded",
            "via",
            "x-real-ip",
            "traceparent",
            "tracestate",
            "baggage",
            "b3",
            "cdn-loop",
            "true-client-ip",
            "x-client-ip",
            "x-amzn-trace-id",
        ];
        const PREFIXES: &[&str] = &[
            "proxy-",
            "x-forwarded-",
            "cf-",
            "x-envoy-",
            "x-b3-",
            "x-turnpike-",
        ];
        let framing = matches!(name, "content-length" | "transfer-encoding" | "host");
        NAMES.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (is_listed(name) && !framing)
    });
    let host = message
        .headers
        .iter_mut()
        .find(|(name, _)| name.eq_ignore_ascii_case("host"));
    match host {
        Some((_, value)) => around.upstream.clone_into(value),
        // HTTP/1.0 does not need one.
        None => message
            .headers
            .push(("host".into(), around.upstream.clone())),
    }
    // We speak 1.1, whoever asks.
    message.start = message.start.replace("HTTP/1.0", "HTTP/1.1");
}

fn codings(message: &mut Message, _: &Around) {
    let opens = |coding: &&str| {
        let name = coding
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        matches!(&*name, "" | "gzip" | "deflate" | "br" | "zstd" | "identity")
    };
    for (name, value) in &mut message.headers {
        if name.eq_ignore_ascii_case("accept-encoding")
            && !value.split(',').all(|coding| opens(&coding))
        {
            let kept: Vec<_> = value.split(',').filter(opens).map(str::trim).collect();
            *value = if kept.is_empty() {
                "identity".into()
            } else {
                kept.join(", ")
            };
        }
    }
}

fn base(message: &mut Message, _: &Around) {
    for base in [" /openai/v1/", " /api/v1/"] {
        message.start = message.start.replace(base, " /v1/");
    }
    for bare in [" /chat/", " /things"] {
        message.start = message.start.replace(bare, &format!(" /v1{}", &bare[1..]));
    }
}

/// Of what is not metered, hyper passes on what was announced.
fn trailers(message: &mut Message, _: &Around) {
    let announced = message
        .value("trailer")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_metered = message.start.contains("/chat/completions");
    message.trailers.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !is_metered
            && announced
                .split(',')
                .any(|announced| announced.trim() == name)
    });
}

fn account(message: &mut Message, _: &Around) {
    let listed = message
        .value("connection")
        .unwrap_or_default()
        .to_ascii_lowercase();
    message.drop_headers(|name| listed.split(',').any(|listed| listed.trim() == name));
    message.drop_headers(|name| {
        const NAMES: &[&str] = &[
            "openai-organization",
            "openai-project",
            "openai-model",
            "set-cookie",
            "server",
            "via",
            "alt-svc",
            "nel",
            "report-to",
            "strict-transport-security",
            "www-authenticate",
            "anthropic-organization-id",
            "connection",
            "keep-alive",
        ];
        const PREFIXES: &[&str] = &[
            "x-ratelimit-",
            "cf-",
            "x-envoy-",
            "access-control-",
            "x-turnpike-",
            "anthropic-ratelimit-",
            "proxy-",
        ];
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// The value is new each time: the suite looks for it, and takes it out of what the client got.
fn named(message: &mut Message, _: &Around) {
    message
        .headers
        .push(("x-turnpike-exchange".into(), String::new()));
}

fn hyper(message: &mut Message, _: &Around) {
    let mut grouped: Vec<(String, String)> = Vec::new();
    for (name, value) in message.headers.drain(..) {
        let last = grouped
            .iter()
            .rposition(|(own, _)| own.eq_ignore_ascii_case(&name));
        let at = last.map_or(grouped.len(), |last| last + 1);
        grouped.insert(at, (name, value));
    }
    message.headers = grouped;
    for (name, _) in &mut message.trailers {
        name.make_ascii_lowercase();
    }
}

fn version(message: &mut Message, around: &Around) {
    let announced = message
        .value("trailer")
        .unwrap_or_default()
        .to_ascii_lowercase();
    message.trailers.retain(|(name, _)| {
        around.wants_trailers
            && announced
                .split(',')
                .any(|announced| announced.trim() == name)
    });
    let (line, reason) = message
        .start
        .split_at(message.start.len().min("HTTP/1.1 200 ".len()));
    if !reason.is_ascii() {
        message.start = line.to_owned();
    }
    let status = message.start.split(' ').nth(1).unwrap_or_default();
    if !message.is_chunked {
        // To HEAD; elsewhere it is what makes chunks of a body.
        message
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
    }
    if matches!(status, "204" | "304") {
        message.drop_headers(|name| name == "content-length");
    }
    if around.is_http10 {
        message.start = message.start.replace("HTTP/1.1", "HTTP/1.0");
        if message.is_chunked {
            message.is_chunked = false;
            message.drop_headers(|name| name == "transfer-encoding");
        }
    } else {
        message.start = message.start.replace("HTTP/1.0", "HTTP/1.1");
    }
}
