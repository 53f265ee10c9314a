//! Many requests on one connection, and what is asked of a connection that we do not do.

use testkit::raw::{Wire, patiently};

use super::bench::Bench;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

fn things(number: usize, body: &str) -> String {
    format!(
        "POST /v1/things/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The targets that the upstream was asked for, in order.
fn asked(bench: &Bench) -> Vec<String> {
    let first_line = |request: Vec<u8>| {
        let request = String::from_utf8_lossy(&request).into_owned();
        request.split(' ').nth(1).unwrap().to_owned()
    };
    bench.requests().into_iter().map(first_line).collect()
}

#[tokio::test]
async fn a_kept_connection_serves_one_request_after_another() {
    let bench = Bench::open().await;
    bench.answers(OK);
    let mut wire = Wire::connect(bench.turnpike.clients).await;
    for number in 0..20 {
        wire.send(bench.with_token(things(number, &"x".repeat(number)).as_bytes()))
            .await;
        let (head, body) = patiently("an answer", wire.read_message()).await;
        assert_eq!((head.status(), body), (200, b"{}".to_vec()));
    }
    let expected: Vec<_> = (0..20)
        .map(|number| format!("/v1/things/{number}"))
        .collect();
    assert_eq!(asked(&bench), expected);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let bench = Bench::open().await;
    bench.answers(OK);
    let all: String = (0..20)
        .map(|number| things(number, "POST / HTTP/1.1\r\n\r\n"))
        .collect();
    let mut with = Vec::new();
    for number in 0..20 {
        with.extend(bench.with_token(things(number, "POST / HTTP/1.1\r\n\r\n").as_bytes()));
    }
    assert!(with.len() > all.len());
    for cut in [1, 100, with.len() / 2, with.len() - 1] {
        let mut wire = Wire::connect(bench.turnpike.clients).await;
        wire.send(&with[..cut]).await;
        wire.send(&with[cut..]).await;
        for _ in 0..20 {
            let (head, body) = patiently("an answer", wire.read_message()).await;
            assert_eq!((head.status(), body), (200, b"{}".to_vec()));
        }
        let expected: Vec<_> = (0..20)
            .map(|number| format!("/v1/things/{number}"))
            .collect();
        assert_eq!(asked(&bench), expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_client_that_wants_the_connection_closed_gets_it_closed() {
    let bench = Bench::open().await;
    bench.answers(OK);
    for (version, header, keeps) in [
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
    ] {
        let request = format!(
            "GET /v1/things HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n{header}\r\n"
        );
        let mut wire = Wire::connect(bench.turnpike.clients).await;
        wire.send(bench.with_token(request.as_bytes())).await;
        patiently("an answer", wire.read_message()).await;
        if keeps {
            wire.send(bench.with_token(request.as_bytes())).await;
            assert_eq!(
                patiently("an answer", wire.read_message()).await.0.status(),
                200
            );
        } else {
            let (rest, _) = wire.read_to_end().await;
            assert!(rest.is_empty(), "{version} {header}");
        }
    }
}

/// `Upgrade` concerns one hop and stays here: the upstream sees a plain request, and answers it as such.
#[tokio::test]
async fn an_upgrade_is_not_passed_on() {
    let bench = Bench::open().await;
    bench.answers(OK);
    for protocol in ["h2c", "TLS/1.0", "foo/2"] {
        let request = format!(
            "GET /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let mut wire = Wire::connect(bench.turnpike.clients).await;
        wire.send(bench.with_token(request.as_bytes())).await;
        let (head, body) = patiently("an answer", wire.read_message()).await;
        assert_eq!((head.status(), body), (200, b"{}".to_vec()), "{protocol}");
        let got = String::from_utf8(bench.requests().concat())
            .unwrap()
            .to_lowercase();
        assert!(
            !got.contains("upgrade") && !got.contains("http2-settings"),
            "{got}"
        );
    }
}

/// An upstream that switches protocols unasked is no upstream: nobody would meter what follows.
#[tokio::test]
async fn an_upstream_cannot_switch_protocols() {
    let bench = Bench::open().await;
    bench.answers(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\nraw bytes",
    );
    let request = "GET /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    let mut wire = Wire::connect(bench.turnpike.clients).await;
    wire.send(bench.with_token(request.as_bytes())).await;
    let (head, body) = patiently("an answer", wire.read_message()).await;
    assert_eq!(head.status(), 502, "{head:?}");
    assert!(!String::from_utf8_lossy(&body).contains("raw bytes"));
}

/// What hyper does not read in a query: refused at the door, whatever the endpoint.
#[tokio::test]
async fn queries_that_two_servers_could_cut_differently_are_refused() {
    let bench = Bench::open().await;
    bench.answers(OK);
    for (target, status) in [
        ("/v1/things?a=\"b\"", 400),
        ("/v1/things?<a>", 400),
        ("/v1/things?a b", 400),
        ("/v1/things?a\tb", 400),
        ("/v1/things?a\u{7f}", 400),
        ("/v1/things?a\0", 400),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n");
        let mut wire = Wire::connect(bench.turnpike.clients).await;
        wire.send(bench.with_token(request.as_bytes())).await;
        let head = patiently("an answer", wire.read_head()).await;
        assert_eq!(head.status(), status, "{target:?}");
    }
    assert!(bench.requests().is_empty());
}
