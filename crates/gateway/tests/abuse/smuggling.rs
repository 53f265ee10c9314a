//! Requests whose end, target or headers two servers could see differently.

use std::fmt::Write as _;

use testkit::raw::{Wire, patiently};

use super::{CHAT, Siege};

/// A request with these header lines in front of a body that holds a second request.
fn framed(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n{headers}\r\n{body}"
    )
}

/// What an attacker would like the upstream to take for a request of its own.
const HIDDEN: &str = "GET /v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n";

/// Each is refused with 400 (or the connection cut), its connection is not used again, and the upstream sees none of it.
async fn refused(group: &str, requests: Vec<String>, statuses: &[u16]) {
    let mut siege = Siege::open(&[]).await;
    for request in &requests {
        let sent = request.replace("TOKEN", &siege.token);
        let mut answered = siege.attack(&sent).await;
        let shown: String = request.chars().take(400).collect();
        if let Some(status) = answered.status {
            assert!(
                statuses.contains(&status),
                "{group}: {status} for {shown:?}"
            );
        }
        // Whatever stood behind it was not answered.
        if answered.status == Some(400) && statuses == [400] {
            let (rest, _) = answered.wire.read_to_end().await;
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(!rest.contains("HTTP/1.1 "), "{group}: {rest} for {shown:?}");
        }
        siege.only_good_was_forwarded(&format!("{group}: {shown:?}"));
    }
    siege.serves_others().await;
    println!("abuse, {group}: {} cases", requests.len());
    siege.holds(group).await;
}

fn two_lengths(chat_len: usize) -> Vec<String> {
    let body = format!("{CHAT}{HIDDEN}");
    [
        format!(
            "Content-Length: {chat_len}\r\nContent-Length: {}\r\n",
            body.len()
        ),
        format!(
            "Content-Length: {}\r\nContent-Length: {chat_len}\r\n",
            body.len()
        ),
        format!("Content-Length: {chat_len}, {}\r\n", body.len()),
        format!("Content-Length: +{chat_len}\r\n"),
        format!("Content-Length: -{chat_len}\r\n"),
        format!("Content-Length: 0x{chat_len:x}\r\n"),
        format!("Content-Length: {chat_len}.0\r\n"),
        format!("Content-Length: {chat_len} 0\r\n"),
        format!("Content-Length: \"{chat_len}\"\r\n"),
        "Content-Length: \r\n".to_owned(),
        "Content-Length: chunked\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Content-Length: 18446744073709551615\r\n".to_owned(),
        "Content-Length: 99999999999999999999999999999999\r\n".to_owned(),
        format!("Content-Length : {chat_len}\r\n"),
        format!("Content-Length\t: {chat_len}\r\n"),
        format!(" Content-Length: {chat_len}\r\n"),
        format!("X: 1\r\n Content-Length: {chat_len}\r\n"),
        format!("X: 1\r\n\tContent-Length: {chat_len}\r\n"),
        format!("Content-Length:\r\n {chat_len}\r\n"),
        format!("Content-Length: {chat_len}\u{b}\r\n"),
        format!("Content-Length: {chat_len}\0\r\n"),
        format!("Content\0-Length: {chat_len}\r\n"),
        format!("Content-Length{chat_len}\r\n"),
    ]
    .map(|headers| framed(&headers, &body))
    .into()
}

fn chunked_and_more() -> Vec<String> {
    let chunks = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n{HIDDEN}", CHAT.len());
    [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: , chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chun\u{212a}ed\r\n",
        "Transfer_Encoding: chunked\r\nContent-Length: x\r\n",
    ]
    .map(|headers| framed(headers, &chunks))
    .into()
}

fn chunk_sizes() -> Vec<String> {
    let len = format!("{:x}", CHAT.len());
    let mut all: Vec<_> = [
        format!("0x{len}\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("+{len}\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("-{len}\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len}g\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len}\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len}\r{CHAT}\r\n0\r\n\r\n"),
        format!("\r\n{len}\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len}\r\n{CHAT}0\r\n\r\n"),
        format!("{len}\r\n{CHAT}\n0\r\n\r\n"),
        format!("{len}\r\n{CHAT}xx0\r\n\r\n"),
        format!("10000000000000000{len}\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("fffffffffffffffff\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len};x=\ny\r\n{CHAT}\r\n0\r\n\r\n"),
        format!("{len};{}\r\n{CHAT}\r\n0\r\n\r\n", "x".repeat(100_000)),
        format!("{len}\r\n{CHAT}\r\n0\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
        format!("{len}\r\n{CHAT}\r\n0\r\nX: {}\r\n\r\n", "y".repeat(100_000)),
        "\r\n".to_owned(),
        ";\r\n\r\n".to_owned(),
        format!("{len}{HIDDEN}"),
    ]
    .map(|body| framed("Transfer-Encoding: chunked\r\n", &body))
    .into();
    // Extensions without end, a few bytes with each chunk: their sum is bounded, too.
    let mut small = String::new();
    for _ in 0..40_000 {
        small.push_str("1;extension=value\r\nx\r\n");
    }
    all.push(framed("Transfer-Encoding: chunked\r\n", &small));
    all
}

fn heads() -> Vec<String> {
    let with = |head: &str| head.replace("AUTH", "Host: x\r\nAuthorization: Bearer TOKEN\r\n");
    [
        "GET /v1/things HTTP/1.1\r\nAUTHX: a\r\n folded\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX: a\rY: b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX: a\0b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX: a\u{1}b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX: a\u{7f}b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTH: no name\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX Y: b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX(: b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHX\u{e9}: b\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\nAUTHno colon\r\n\r\n",
        "GET /v1/things HTTP/1.1\r\n X: first\r\nAUTH\r\n",
        "GET /v1/things HTTP/1.2\r\nAUTH\r\n",
        "GET /v1/things HTTP/2.0\r\nAUTH\r\n",
        "GET /v1/things HTTP/0.9\r\nAUTH\r\n",
        "GET /v1/things HTTP/11\r\nAUTH\r\n",
        "GET /v1/things http/1.1\r\nAUTH\r\n",
        "GET /v1/things\r\nAUTH\r\n",
        "GET  /v1/things HTTP/1.1\r\nAUTH\r\n",
        "GET /v1/things  HTTP/1.1\r\nAUTH\r\n",
        "GET /v1/things HTTP/1.1 \r\nAUTH\r\n",
        "GET\t/v1/things\tHTTP/1.1\r\nAUTH\r\n",
        " GET /v1/things HTTP/1.1\r\nAUTH\r\n",
        "GE(T /v1/things HTTP/1.1\r\nAUTH\r\n",
        "G\u{e9}T /v1/things HTTP/1.1\r\nAUTH\r\n",
        "/v1/things HTTP/1.1\r\nAUTH\r\n",
        "GET v1/things HTTP/1.1\r\nAUTH\r\n",
        "GET /v1/things\u{1}HTTP HTTP/1.1\r\nAUTH\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ]
    .map(with)
    .into()
}

fn targets() -> Vec<String> {
    [
        "//v1/things", "/v1//things", "/v1/../things", "/v1/%2e%2e/things", "/v1/.%2E/things", "/v1/./things", "/v1/%2e/things", "/v1/things/..",
        "/v1/things%2f..%2fx", "/v1/things\\..\\x", "/v1/things%5cx", "/v1/things%00", "/v1/things%0d%0aX:y", "/v1/things%0a", "/v1/things%7f",
        "//evil.example/v1/things", "/v1/chat/completions/", "/v1/Chat/completions", "/v1/chat%2fcompletions", "/v1/chat/%63ompletions",
        "/v1/chat/completions;x", "/v1/chat/completions%20", "/v1/chat/completions%3fx", "http://evil.example/v1/../x", "http://evil.example//x",
        "*", "x:443", "evil.example:443",
    ]
    .map(|target| {
        let body = "{}";
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
    .into()
}

#[tokio::test]
async fn lengths_that_disagree_are_refused() {
    refused("lengths", two_lengths(CHAT.len()), &[400, 413, 431]).await;
}

#[tokio::test]
async fn a_body_has_one_framing() {
    refused("framings", chunked_and_more(), &[400, 501]).await;
}

/// RFC 9112 6.3: chunks count, the length is taken out on the way, and the connection ends: what stands behind the last chunk
/// may be a body to whoever is in front of us.
#[tokio::test]
async fn a_length_beside_chunks_is_dropped() {
    let mut siege = Siege::open(&[]).await;
    for headers in [
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\ntransfer-encoding: Chunked\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n",
    ] {
        let chunks = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n{HIDDEN}", CHAT.len());
        let mut wire = Wire::connect(siege.turnpike.clients).await;
        wire.send(framed(headers, &chunks).replace("TOKEN", &siege.token))
            .await;
        let (first, _) = patiently("an answer", wire.read_message()).await;
        let (rest, _) = wire.read_to_end().await;
        assert_eq!((first.status(), rest.len()), (200, 0), "{headers}");
        siege.served += 1;
        siege.only_good_was_forwarded(headers);
        let got = siege.forwarded().to_lowercase();
        let last = got.rsplit("post /v1/chat").next().unwrap();
        assert!(
            last.contains("transfer-encoding: chunked") && !last.contains("content-length"),
            "{last}"
        );
    }
    siege.holds("lengths beside chunks").await;
}

#[tokio::test]
async fn chunks_out_of_form_never_make_a_complete_request() {
    let mut siege = Siege::open(&[]).await;
    let requests = chunk_sizes();
    for request in &requests {
        let sent = request.replace("TOKEN", &siege.token);
        let mut wire = Wire::connect(siege.turnpike.clients).await;
        let _ = wire.try_send(&sent).await;
        // Ours to end, where it waits for more.
        wire.shutdown().await;
        let (answer, _) = wire.read_to_end().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let shown: String = request.chars().skip(90).take(200).collect();
        assert!(
            !answer.starts_with("HTTP/1.1 200"),
            "{answer} for {shown:?}"
        );
        let whole = siege.forwarded().matches("\r\n0\r\n\r\n").count();
        assert_eq!(whole, 0, "a chunked request is whole: {shown:?}");
        assert!(!siege.forwarded().contains("/v1/hidden"), "{shown:?}");
    }
    println!("abuse, chunks: {} cases", requests.len());
    siege.serves_others().await;
    siege.bank.audited().await;
}

#[tokio::test]
async fn heads_out_of_form_are_refused() {
    refused("heads", heads(), &[400, 404, 505]).await;
}

#[tokio::test]
async fn targets_that_two_servers_could_read_differently_are_refused() {
    refused("targets", targets(), &[400, 404]).await;
}

/// Absolute targets name a host. It is not where the request goes: upstream hosts never come from a request.
#[tokio::test]
async fn a_host_in_the_target_is_not_where_a_request_goes() {
    let siege = Siege::open(&[]).await;
    for target in [
        "http://evil.example/v1/things",
        "https://evil.example:1/v1/things?x",
        "http://127.0.0.1:1/v1/things",
    ] {
        for host in [
            "Host: other.example\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host: evil.example:99999\r\n",
            "X-Forwarded-Host: evil\r\nHost: \r\n",
            "",
        ] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nAuthorization: Bearer {}\r\n{host}\r\n",
                siege.token
            );
            let answered = siege.attack(&request).await;
            assert!(
                matches!(answered.status, None | Some(200 | 400)),
                "{request}: {:?}",
                answered.status
            );
        }
    }
    let address = siege.upstream.address().to_string();
    let got = siege.forwarded();
    assert!(
        !got.contains("evil") && !got.contains("other.example"),
        "{got}"
    );
    for line in got
        .lines()
        .filter(|line| line.to_lowercase().starts_with("host:"))
    {
        assert!(line.ends_with(&address), "{line}");
    }
}

#[tokio::test]
async fn nobody_gets_a_tunnel() {
    let mut requests = Vec::new();
    for target in [
        "evil.example:443",
        "/v1/things",
        "127.0.0.1:22",
        "x",
        "http://evil.example/",
    ] {
        requests.push(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n"
        ));
    }
    refused("tunnels", requests, &[400, 404]).await;
}

/// Header lines that an attacker would like to see on the way up: by values that end a line, and by names.
#[tokio::test]
async fn headers_cannot_be_injected() {
    let siege = Siege::open(&[]).await;
    for value in [
        "a%0d%0aInjected: 1",
        "a\\r\\nInjected: 1",
        "a\u{e5}\u{98}\u{8a}Injected: 1",
        "=?utf-8?q?=0D=0AInjected:_1?=",
    ] {
        let request = format!(
            "GET /v1/things?q=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-A: {value}\r\n\r\n",
            siege.token
        );
        assert_eq!(siege.attack(&request).await.status, Some(200), "{value}");
    }
    let got = siege.forwarded();
    let mut lines = String::new();
    for line in got
        .split("\r\n")
        .filter(|line| line.starts_with("Injected"))
    {
        let _ = writeln!(lines, "{line}");
    }
    assert!(lines.is_empty(), "{lines}");
}
