//! The catalogue over HTTP/1: what may stand in requests and answers, group by group.

use testkit::upstream::{LAST_CHUNK, chunk};

use super::bench::{Case, case};

/// A group's name and its cases.
pub(super) type Group = (&'static str, Vec<Case>);

const USAGE: &str = r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;

/// All groups but the large bodies.
pub(super) fn groups() -> Vec<Group> {
    vec![
        ("request bodies", request_bodies()),
        ("answer bodies", answer_bodies()),
        ("bodiless", bodiless()),
        ("interim answers", interim()),
        ("status lines", status_lines()),
        ("request headers", request_headers()),
        ("answer headers", answer_headers()),
        ("targets", targets()),
        ("JSON", json()),
        ("event streams", streams()),
        ("HTTP/1.0", http10()),
    ]
}

fn request(method: &str, target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer TOKEN\r\n{headers}\r\n"
    );
    [head.as_bytes(), body.as_ref()].concat()
}

fn sized(body: &[u8]) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn ok() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"
        .to_vec()
}

fn get(headers: &str) -> Vec<u8> {
    request("GET", "/v1/things", headers, "")
}

fn chat(body: &[u8]) -> Vec<u8> {
    let headers = format!("Content-Type: application/json\r\n{}", sized(body));
    request("POST", "/v1/chat/completions", &headers, body)
}

fn answer(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [
        format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(),
        body.as_ref(),
    ]
    .concat()
}

fn completion() -> Vec<u8> {
    let body = format!(r#"{{"id":"c","model":"gpt-4o","choices":[],{USAGE}}}"#);
    answer(
        &format!(
            "Content-Type: application/json\r\n{}",
            sized(body.as_bytes())
        ),
        body,
    )
}

/// Every cut of a body into two chunks, and into single bytes.
fn chunkings(body: &[u8]) -> Vec<Vec<u8>> {
    let cuts = [1, body.len() / 2, body.len() - 1].map(|cut| vec![&body[..cut], &body[cut..]]);
    let mut all: Vec<Vec<&[u8]>> = vec![vec![body], body.chunks(1).collect()];
    all.extend(cuts);
    all.into_iter()
        .map(|pieces| {
            let mut framed: Vec<u8> = pieces.into_iter().flat_map(chunk).collect();
            framed.extend(LAST_CHUNK);
            framed
        })
        .collect()
}

fn request_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let all: Vec<u8> = (0..=255).collect();
    for method in ["POST", "PUT", "PATCH", "DELETE", "REPORT"] {
        for body in [&b""[..], b"x", b"\r\n\r\n0\r\n\r\n", &all] {
            let name = format!("{method}, a body of {} bytes", body.len());
            cases.push(case(
                &name,
                request(method, "/v1/things", &sized(body), body),
                ok(),
            ));
        }
        for (at, framed) in chunkings(b"Wikipedia\r\nin chunks").into_iter().enumerate() {
            let name = format!("{method}, chunking {at}");
            cases.push(case(
                &name,
                request(
                    method,
                    "/v1/things",
                    "Transfer-Encoding: chunked\r\n",
                    framed,
                ),
                ok(),
            ));
        }
    }
    let empty = request(
        "POST",
        "/v1/things",
        "Transfer-Encoding: chunked\r\n",
        LAST_CHUNK,
    );
    cases.push(case("an empty chunked body", empty, ok()));
    let trailers = "3\r\nabc\r\n0\r\nX-Trailer: 1\r\nx-other: 2\r\n\r\n";
    for headers in ["", "Trailer: X-Trailer\r\n"] {
        let headers = format!("{headers}Transfer-Encoding: chunked\r\n");
        cases.push(case(
            "trailers",
            request("POST", "/v1/things", &headers, trailers),
            ok(),
        ));
    }
    let upper =
        "A\r\n0123456789\r\n00000a\r\n0123456789\r\n5;name=value\r\nabcde\r\n0;last\r\n\r\n";
    cases.push(case(
        "lengths in odd forms, extensions",
        request(
            "POST",
            "/v1/things",
            "Transfer-Encoding: chunked\r\n",
            upper,
        ),
        ok(),
    ));
    cases.push(case(
        "a GET with a body",
        request("GET", "/v1/things", "Content-Length: 2\r\n", "{}"),
        ok(),
    ));
    cases.push(case(
        "expecting",
        request(
            "POST",
            "/v1/things",
            "Expect: 100-continue\r\nContent-Length: 2\r\n",
            "{}",
        ),
        ok(),
    ));
    cases
}

fn answer_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let all: Vec<u8> = (0..=255).collect();
    for body in [&b""[..], b"x", b"\r\n\r\n0\r\n\r\n", &all] {
        let name = format!("{} bytes, known", body.len());
        cases.push(case(&name, get(""), answer(&sized(body), body)));
        let known_first = format!("{}X-Behind: 1\r\n", sized(body));
        cases.push(case(&name, get(""), answer(&known_first, body)));
    }
    for (at, framed) in chunkings(b"Wikipedia\r\nin chunks").into_iter().enumerate() {
        cases.push(case(
            &format!("chunking {at}"),
            get(""),
            answer("Transfer-Encoding: chunked\r\n", framed),
        ));
    }
    cases.push(case(
        "empty, chunked",
        get(""),
        answer("Transfer-Encoding: chunked\r\n", LAST_CHUNK),
    ));
    let trailers = "3\r\nabc\r\n0\r\nX-Sum: 9\r\nx-secret: 2\r\n\r\n";
    let announced = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n";
    for (name, asks, headers) in [
        (
            "trailers announced and asked for",
            "TE: trailers\r\nConnection: TE\r\n",
            announced,
        ),
        ("trailers announced", "", announced),
        (
            "trailers asked for",
            "TE: trailers\r\nConnection: TE\r\n",
            "Transfer-Encoding: chunked\r\n",
        ),
    ] {
        cases.push(case(name, get(asks), answer(headers, trailers)));
    }
    for coding in ["gzip", "br", "identity", "x-unknown"] {
        let headers = format!("Content-Encoding: {coding}\r\nContent-Length: 4\r\n");
        cases.push(case(
            coding,
            get("Accept-Encoding: gzip\r\n"),
            answer(&headers, [0x1f, 0x8b, 0, 255]),
        ));
    }
    cases
}

fn bodiless() -> Vec<Case> {
    let with = |method: &str, answer: &str| {
        case(
            &format!("{method}: {answer}"),
            request(method, "/v1/things", "", ""),
            answer,
        )
    };
    let mut cases = Vec::new();
    for headers in [
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 7\r\nContent-Type: text/plain\r\nETag: \"a\"\r\n",
    ] {
        cases.push(with("HEAD", &format!("HTTP/1.1 200 OK\r\n{headers}\r\n")));
    }
    cases.push(with(
        "HEAD",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n",
    ));
    for answer in [
        "HTTP/1.1 204 No Content\r\nAllow: GET, POST\r\n\r\n",
        "HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAllow: GET\r\n\r\n",
    ] {
        cases.push(with("OPTIONS", answer));
    }
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: W/\"abc\"\r\n\r\n",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    ] {
        cases.push(with("GET", answer));
        cases.push(with("DELETE", answer));
    }
    cases
}

fn interim() -> Vec<Case> {
    let early = [
        "100 Continue\r\n",
        "102 Processing\r\n",
        "103 Early Hints\r\nLink: </x>; rel=preload\r\n",
        "199 Odd\r\nX-A: 1\r\n",
    ];
    let mut cases: Vec<_> = early
        .iter()
        .map(|interim| {
            let answer = [format!("HTTP/1.1 {interim}\r\n").into_bytes(), ok()].concat();
            case(interim, get(""), answer)
        })
        .collect();
    let several = early
        .map(|interim| format!("HTTP/1.1 {interim}\r\n"))
        .concat();
    cases.push(case(
        "several",
        get(""),
        [several.as_bytes(), &ok()].concat(),
    ));
    cases.push(case(
        "several before a metered answer",
        chat(br#"{"model":"gpt-4o","messages":[]}"#),
        [several.as_bytes(), &completion()].concat(),
    ));
    cases
}

fn status_lines() -> Vec<Case> {
    let lines = [
        "200 OK",
        "200 Fine",
        "200 ",
        "200 A reason  with   blanks",
        "200 r\u{e9}ussi",
        "200 (\"quoted\"; <x>)",
        "201 Created",
        "202 Accepted",
        "203 Non-Authoritative",
        "206 Partial Content",
        "207 Multi-Status",
        "226 IM Used",
        "299 Odd",
        "400 Bad Request",
        "402 Payment Required",
        "404 Not Found",
        "405 Method Not Allowed",
        "408 Request Timeout",
        "409 Conflict",
        "410 Gone",
        "413 Too Large",
        "415 Unsupported",
        "418 I'm a teapot",
        "422 Unprocessable",
        "424 Failed Dependency",
        "429 Slow down",
        "451 Legal",
        "499 Odd",
        "500 Internal Server Error",
        "501 Not Implemented",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
        "520 Cloudflare",
        "529 Overloaded",
        "599 Last",
    ];
    let body = r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#;
    let mut cases = Vec::new();
    for line in lines {
        let line: Vec<u8> = line
            .chars()
            .map(|char| u8::try_from(u32::from(char)).unwrap())
            .collect();
        let name = String::from_utf8_lossy(&line).into_owned();
        let head = format!(
            "\r\nLocation: https://elsewhere.example/x?y#z\r\nRetry-After: 7\r\nContent-Type: application/json\r\n{}\r\n{body}",
            sized(body.as_bytes())
        );
        let answer = [b"HTTP/1.1 ", &line[..], head.as_bytes()].concat();
        cases.push(case(&name, get(""), answer.clone()));
        if !name.starts_with('2') {
            cases.push(case(
                &format!("{name}, metered"),
                chat(br#"{"model":"gpt-4o","messages":[]}"#),
                answer,
            ));
        }
    }
    cases
}

fn request_headers() -> Vec<Case> {
    let long = format!("X-Long: {}\r\n", "v".repeat(16_000));
    let many: String = (0..90)
        .map(|number| format!("X-Header-{number}: {number}\r\n"))
        .collect();
    let latin = "X-Latin: caf\u{e9} \u{ff}\r\n";
    let mut cases = Vec::new();
    for headers in [
        "x-lower: 1\r\nX-UPPER: 2\r\nX-miXed-CaSe: 3\r\n",
        "X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-B: 4\r\nX-C: 5\r\n",
        "X-Empty:\r\nX-Blank:   \r\nX-No-Blank:v\r\nX-Tabs:\tv\t\r\nX-Inside: a  b\tc\r\n",
        "!#$%&'*+-.^_`|~09: odd name\r\n",
        "User-Agent: OpenAI/Python 1.2\r\nX-Stainless-Lang: python\r\nX-Stainless-Retry-Count: 0\r\nOpenAI-Beta: assistants=v2\r\n",
        "Cookie: a=b; c=d\r\nCookie: e=f\r\nX-After: 1\r\n",
        "Connection: keep-alive, X-Hop, close-not\r\nX-Hop: 1\r\nX-Stays: 2\r\nKeep-Alive: timeout=5\r\n",
        "Connection: Content-Type\r\nContent-Type: x\r\nConnection-Like: 1\r\n",
        "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\nVia: 1.1 x\r\nX-Real-IP: 1\r\ncf-ray: 2\r\nX-Forwarded: stays\r\n",
        "traceparent: 00-1-2-01\r\nbaggage: a\r\nx-b3-traceid: 1\r\nX-Request-ID: mine\r\n",
        "OpenAI-Organization: org-x\r\nOpenAI-Project: p\r\nx-turnpike-refusal: no\r\n",
        "Accept-Encoding: gzip, deflate, br, zstd\r\n",
        "Accept-Encoding: gzip;q=1.0, compress;q=0.5, *;q=0\r\n",
        "Accept-Encoding: exi\r\n",
        "api-key: TOKEN\r\n",
        "Idempotency-Key: \"a,b\"\r\nIf-None-Match: W/\"x\"\r\nRange: bytes=0-1\r\nOrigin: https://a\r\nReferer: b\r\n",
        "Upgrade-Insecure-Requests: 1\r\nDNT: 1\r\nSec-Fetch-Mode: cors\r\nAccept: */*, text/html;q=0.1\r\n",
        "Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nX-Proxy-A: stays\r\n",
        "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nHost-Like: x\r\nContent-Language: de\r\n",
        latin,
        &long,
        &many,
    ] {
        let name: String = headers.chars().take(60).collect();
        let head: Vec<u8> = headers
            .chars()
            .map(|char| u8::try_from(u32::from(char)).unwrap())
            .collect();
        // Two credentials are one too many.
        let with_own = headers.starts_with("api-key");
        let first = if with_own {
            ""
        } else {
            "Authorization: Bearer TOKEN\r\n"
        };
        for (at, own_first) in [true, false].into_iter().enumerate() {
            let (before, after) = if own_first {
                (&head[..], first.as_bytes())
            } else {
                (first.as_bytes(), &head[..])
            };
            let all = [
                b"GET /v1/things HTTP/1.1\r\nHost: gateway.example\r\n",
                before,
                after,
                b"\r\n",
            ]
            .concat();
            cases.push(case(&format!("{name} ({at})"), all, ok()));
        }
    }
    cases
}

fn answer_headers() -> Vec<Case> {
    let many: String = (0..90)
        .map(|number| format!("X-Header-{number}: {number}\r\n"))
        .collect();
    let long = format!("X-Long: {}\r\n", "v".repeat(16_000));
    let mut cases = Vec::new();
    for headers in [
        "x-lower: 1\r\nX-UPPER: 2\r\nX-miXed-CaSe: 3\r\n",
        "X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-B: 4\r\nX-C: 5\r\n",
        "X-Empty:\r\nX-Blank:   \r\nX-No-Blank:v\r\nX-Tabs:\tv\t\r\nX-Inside: a  b\tc\r\n",
        "!#$%&'*+-.^_`|~09: odd name\r\n",
        "Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\nX-After: 1\r\n",
        "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: cloudflare\r\nx-request-id: req_1\r\nopenai-processing-ms: 3\r\nopenai-version: 2020-10-01\r\n",
        "openai-organization: ours\r\nopenai-project: p\r\nx-ratelimit-limit-tokens: 5\r\nx-ratelimit-reset-requests: 1s\r\nretry-after-ms: 4\r\n",
        "CF-RAY: 1\r\ncf-cache-status: DYNAMIC\r\nalt-svc: h3=\":443\"\r\nStrict-Transport-Security: max-age=1\r\nX-Content-Type-Options: nosniff\r\n",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Stays: 1\r\n",
        "Vary: A\r\nVary: B\r\nCache-Control: no-store, private\r\nAge: 0\r\nETag: \"q\"\r\nLink: <x>; rel=next\r\n",
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X\r\nTiming-Allow-Origin: *\r\n",
        "WWW-Authenticate: Bearer\r\nVia: 1.1 x\r\nNEL: {}\r\nx-turnpike-exchange: feigned\r\nx-turnpike-refusal: feigned\r\n",
        "anthropic-ratelimit-requests-limit: 1\r\nanthropic-organization-id: o\r\nrequest-id: r\r\nx-should-retry: false\r\n",
        "X-Latin: caf\u{e9} \u{ff}\r\n",
        "Content-Disposition: attachment; filename=\"a.txt\"\r\nContent-Language: de\r\nLast-Modified: x\r\n",
        "Content-Type: text/html; charset=iso-8859-1\r\nContent-Type: second\r\n",
        &long,
        &many,
    ] {
        let name: String = headers.chars().take(60).collect();
        let head: Vec<u8> = headers
            .chars()
            .map(|char| u8::try_from(u32::from(char)).unwrap())
            .collect();
        for (own, framing, body) in [
            ("known", "Content-Length: 2\r\n", &b"{}"[..]),
            (
                "chunked",
                "Transfer-Encoding: chunked\r\n",
                b"2\r\n{}\r\n0\r\n\r\n",
            ),
        ] {
            let all = [
                b"HTTP/1.1 200 OK\r\n",
                &head[..],
                framing.as_bytes(),
                b"\r\n",
                body,
            ]
            .concat();
            cases.push(case(&format!("{name} ({own})"), get(""), all));
        }
    }
    cases
}

fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for query in [
        "",
        "?",
        "??",
        "?&",
        "?=",
        "?a",
        "?a=",
        "?a=b&a=c&a=",
        "?b=2&a=1",
        "?a=%20+%2B",
        "?x=%zz%",
        "?x=%00",
        "?a[]=1&b[c]=2",
        "?a;b",
        "?/../..//x",
        "?a=//b",
        "?q={}|^`~",
        "?q='()*!$@,:",
        "?a=%C3%A9&A=%c3%a9",
        "?https://x.example/?y=z",
        "?limit=2&after=%2Fx",
        "?a=1?b=2",
        "?\\",
    ] {
        cases.push(case(
            query,
            request("GET", &format!("/v1/things{query}"), "", ""),
            ok(),
        ));
        let body = br#"{"model":"gpt-4o","messages":[]}"#;
        let headers = format!("Content-Type: application/json\r\n{}", sized(body));
        let metered = request(
            "POST",
            &format!("/v1/chat/completions{query}"),
            &headers,
            body,
        );
        cases.push(case(&format!("{query}, metered"), metered, completion()));
    }
    for path in [
        "/v1/things/%20x",
        "/v1/things/a%2Bb",
        "/v1/things/~a!$&'()*+,;=:@",
        "/v1/things/%C3%A9",
        "/v1/things/..x",
        "/v1/things/a.b",
        "/v1/things/x/",
        "/v1/THINGS",
        "/things/x",
    ] {
        cases.push(case(path, request("GET", path, "", ""), ok()));
    }
    let long = format!("/v1/things?q={}", "x".repeat(30_000));
    cases.push(case("a long query", request("GET", &long, "", ""), ok()));
    for base in ["/openai/v1", "/api/v1", ""] {
        let body = br#"{"model":"gpt-4o","messages":[]}"#;
        let headers = format!("Content-Type: application/json\r\n{}", sized(body));
        cases.push(case(
            base,
            request("POST", &format!("{base}/chat/completions"), &headers, body),
            completion(),
        ));
    }
    cases
}

fn json() -> Vec<Case> {
    let mut cases = Vec::new();
    let bodies = [
        r#"{"model":"gpt-4o","messages":[]}"#.to_owned(),
        " \t\r\n{ \"model\" :\t\"gpt-4o\" ,\r\n \"messages\" : [ ] } \n\n".to_owned(),
        r#"{"messages":[{"role":"user","content":"\u00e9 é \ud83d\ude00 😀 \/ \\ \" \b\f\n\r\t \u0000"}],"model":"gpt-4o"}"#.to_owned(),
        "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"\u{2028}\u{2029}\u{feff}\u{202e}\u{200b}\u{10ffff}\u{0301}\"}]}".to_owned(),
        r#"{"mod\u0065l":"gp\u0074-4o","messages":[]}"#.to_owned(),
        r#"{"model":"gpt-4o","temperature":1.50e+01,"top_p":1E-2,"seed":-0,"x":123456789012345678901234567890,"y":0.1000000000000000055511151231257827}"#.to_owned(),
        r#"{"zzz":1,"aaa":{"b":[],"a":{}},"model":"gpt-4o","":null,"messages":[true,false,null]}"#.to_owned(),
        r#"{"model":"gpt-4o","messages":[],"messages":[1],"metadata":{"a":1,"a":2}}"#.to_owned(),
        r#"{"model":"gpt-4o","messages":[],"x":"\ud800 alone"}"#.to_owned(),
        format!(r#"{{"model":"gpt-4o","x":{}{}}}"#, "[".repeat(60), "]".repeat(60)),
        format!(r#"{{"model":"gpt-4o","messages":["{}"]}}"#, "é\\n".repeat(60_000)),
    ];
    for (at, body) in bodies.iter().enumerate() {
        let body = body.as_bytes();
        cases.push(case(&format!("JSON {at}, sized"), chat(body), completion()));
        for (cut, framed) in chunkings(body).into_iter().enumerate() {
            if body.len() > 10_000 && cut == 1 {
                continue;
            }
            let headers =
                "Content-Type: application/json; charset=UTF-8\r\nTransfer-Encoding: chunked\r\n";
            cases.push(case(
                &format!("JSON {at}, chunking {cut}"),
                request("POST", "/v1/chat/completions", headers, framed),
                completion(),
            ));
        }
    }
    let answers = [
        format!(" {{ \"id\" : \"\\u00e9é😀\",\r\n\t{USAGE} }}\n"),
        format!(
            "{{{USAGE},\"choices\":[{{\"message\":{{\"content\":\"\\\"usage\\\": {{}}\"}}}}],\"x\":1.50e+01}}"
        ),
        format!("{{{USAGE},{USAGE}}}"),
        "{\"no\":\"usage\"}".to_owned(),
        "not JSON at all".to_owned(),
        "\u{feff}{}".to_owned(),
        String::new(),
    ];
    for (at, body) in answers.iter().enumerate() {
        let head = format!(
            "Content-Type: application/json\r\n{}",
            sized(body.as_bytes())
        );
        let plain = chat(br#"{"model":"gpt-4o","messages":[]}"#);
        cases.push(case(
            &format!("answer {at}"),
            plain.clone(),
            answer(&head, body),
        ));
        if !body.is_empty() {
            for (cut, framed) in chunkings(body.as_bytes()).into_iter().enumerate() {
                let head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
                cases.push(case(
                    &format!("answer {at}, chunking {cut}"),
                    plain.clone(),
                    answer(head, framed),
                ));
            }
        }
    }
    cases
}

fn streams() -> Vec<Case> {
    let body = br#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let last = format!("data: {{\"choices\":[],{USAGE}}}");
    let streams = [
        format!("data: {{\"choices\":[]}}\n\n{last}\n\ndata: [DONE]\n\n"),
        format!(
            ": comment\r\n\r\nevent: x\r\nid: 7\r\nretry: 5\r\n{last}\r\n\r\ndata: [DONE]\r\n\r\n"
        ),
        format!("\u{feff}data:{{\"choices\":[]}}\n\n{last}\n\ndata:[DONE]\n\n"),
        format!("data: {{\"choices\":\ndata: []}}\n\n{last}\n\n"),
        format!("{last}\n\ndata: [DONE]"),
        format!("{last}\n\ndata: [DONE]\n\ndata: behind\n\n"),
        "data: {\"error\":{\"message\":\"m\"}}\n\n".to_owned(),
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"é😀\\u00e9\"}}}}]}}\n\n{last}\n\ndata: [DONE]\n\n"
        ),
    ];
    let mut cases = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        for (cut, framed) in chunkings(stream.as_bytes()).into_iter().enumerate() {
            let head = "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n";
            cases.push(case(
                &format!("stream {at}, chunking {cut}"),
                chat(body),
                answer(head, framed),
            ));
        }
        let head = format!(
            "Content-Type: text/event-stream\r\n{}",
            sized(stream.as_bytes())
        );
        cases.push(case(
            &format!("stream {at}, sized"),
            chat(body),
            answer(&head, stream),
        ));
    }
    cases
}

fn http10() -> Vec<Case> {
    let old = |method: &str, headers: &str, body: &str| {
        format!(
            "{method} /v1/things HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n{headers}\r\n{body}"
        )
    };
    let chunked = answer("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n");
    vec![
        case("GET", old("GET", "", ""), ok()),
        case(
            "HEAD",
            old("HEAD", "", ""),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        ),
        case("POST", old("POST", "Content-Length: 3\r\n", "abc"), ok()),
        case("a chunked answer", old("GET", "", ""), chunked).closing(),
    ]
}
