//! HTTP/2 on either side: what crosses is what would have crossed over HTTP/1.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{
    raw::patiently,
    tls::Identity,
    upstream::{LAST_CHUNK, Upstream, chunk},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::bench::Bench;
use crate::support::{Bank, Turnpike, eventually};

type Sending = UnsyncBoxBody<Bytes, Infallible>;

fn frames(frames: Vec<Frame<Bytes>>) -> Sending {
    if frames.is_empty() {
        return Empty::new().boxed_unsync();
    }
    StreamBody::new(stream::iter(frames.into_iter().map(Ok))).boxed_unsync()
}

fn body(text: &'static str) -> Sending {
    frames(vec![Frame::data(Bytes::from(text))])
}

async fn client(address: SocketAddr) -> http2::SendRequest<Sending> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .filter(|(name, _)| *name != "x-turnpike-exchange")
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[{"content":"é😀 \u00e9"}]}"#;
const ANSWER: &str =
    "{ \"id\":\"é\", \"usage\" : {\"prompt_tokens\": 1, \"completion_tokens\": 1} }\n";

#[tokio::test]
async fn a_request_over_http2_goes_up_as_it_is() {
    let bench = Bench::open().await;
    bench.answers(format!("HTTP/1.1 200 Fine\r\nX-Odd: caf\u{e9}\r\nx-a: 1\r\nX-B: 2\r\nx-a: 3\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len()));
    let mut client = client(bench.turnpike.clients).await;
    let upstream = bench.upstream_address();
    for (sized, framing) in [
        (true, format!("content-length: {}", CHAT.len())),
        (false, "transfer-encoding: chunked".to_owned()),
    ] {
        let mut request = Request::post(format!(
            "http://gw.example{}",
            "/v1/chat/completions?b=2&a=%20x"
        ))
        .header("x-first", "1")
        .header("authorization", format!("Bearer {}", bench.token))
        .header("x-a", "1")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .header("te", "trailers")
        .header("x-a", "2");
        if sized {
            request = request.header("content-length", CHAT.len());
        }
        let request = request.body(frames(vec![
            Frame::data(Bytes::from(&CHAT.as_bytes()[..20])),
            Frame::data(Bytes::from(&CHAT.as_bytes()[20..])),
        ]));
        let answer = patiently("an answer", client.send_request(request.unwrap()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let expected = [
            ("x-odd", "caf\u{c3}\u{a9}"),
            ("x-a", "1"),
            ("x-a", "3"),
            ("x-b", "2"),
            ("content-length", &ANSWER.len().to_string()),
        ];
        let latin = |text: &str| {
            text.chars()
                .map(|char| u8::try_from(u32::from(char)).unwrap())
                .collect::<Vec<_>>()
        };
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), latin(value)))
            .collect();
        assert_eq!(listed(answer.headers()), expected);
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            ANSWER
        );
        let got = String::from_utf8(bench.requests().concat()).unwrap();
        let (head, rest) = got.split_once("\r\n\r\n").unwrap();
        let lines: Vec<_> = head.split("\r\n").collect();
        let host = format!("host: {upstream}");
        let mut wanted = vec![
            "POST /v1/chat/completions?b=2&a=%20x HTTP/1.1",
            "x-first: 1",
            "authorization: Bearer sk-upstream-canary",
            "x-a: 1",
            "x-a: 2",
        ];
        wanted.extend([&*framing, &*host]);
        let mut sorted = (lines.clone(), wanted.clone());
        sorted.0[1..].sort_unstable();
        sorted.1[1..].sort_unstable();
        assert_eq!(sorted.0, sorted.1, "{got}");
        let kept: Vec<_> = lines
            .iter()
            .filter(|line| wanted[..5].contains(line))
            .collect();
        assert_eq!(kept, wanted[..5].iter().collect::<Vec<_>>(), "their order");
        if sized {
            assert_eq!(rest, CHAT);
        } else {
            let (whole, _) = rest.split_once("\r\n0\r\n").unwrap();
            let text: String = whole.split("\r\n").skip(1).step_by(2).collect();
            assert_eq!(text, CHAT);
        }
    }
    bench.audited().await;
}

#[tokio::test]
async fn trailers_cross_to_http2_clients() {
    let bench = Bench::open().await;
    let answer = [
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        chunk("abc"),
        b"0\r\nX-Sum: 9\r\n\r\n".to_vec(),
    ]
    .concat();
    bench.answers(answer);
    let mut client = client(bench.turnpike.clients).await;
    let request = Request::get("http://gw.example/v1/things")
        .header("authorization", format!("Bearer {}", bench.token))
        .header("te", "trailers")
        .body(frames(vec![]))
        .unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert!(!answer.headers().contains_key("transfer-encoding"));
    let whole = answer.into_body().collect().await.unwrap();
    assert_eq!(
        whole
            .trailers()
            .map(|trailers| trailers["x-sum"].as_bytes()),
        Some(&b"9"[..])
    );
    assert_eq!(whole.to_bytes(), "abc");
}

#[tokio::test]
async fn statuses_and_bodiless_answers_cross_to_http2_clients() {
    let bench = Bench::open().await;
    let mut client = client(bench.turnpike.clients).await;
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        (
            "OPTIONS",
            "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n",
            204,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            304,
        ),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 418 Odd\r\nContent-Length: 0\r\n\r\n",
            418,
        ),
        (
            "DELETE",
            "HTTP/1.1 529 Overloaded\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            529,
        ),
    ] {
        bench.answers(answer);
        let request = Request::builder()
            .method(method)
            .uri("http://gw.example/v1/things")
            .header("authorization", format!("Bearer {}", bench.token))
            .body(frames(vec![]));
        let got = patiently("an answer", client.send_request(request.unwrap()))
            .await
            .unwrap();
        assert_eq!(got.status(), status, "{method}");
        if method == "HEAD" {
            assert_eq!(
                got.headers()["content-length"],
                "5",
                "a known length stays known"
            );
        }
        assert!(
            got.into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty(),
            "{method}"
        );
        let asked = String::from_utf8(bench.requests().concat()).unwrap();
        assert!(
            asked.starts_with(&format!("{method} /v1/things HTTP/1.1\r\n"))
                && asked.ends_with("\r\n\r\n"),
            "{asked}"
        );
        assert!(!asked.contains("transfer-encoding"), "{asked}");
    }
}

/// A stream that breaks off at the upstream breaks off at the client, and the connection goes on.
#[tokio::test]
async fn an_answer_cut_upstream_is_a_reset_stream() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.send(
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                chunk("abc"),
            ]
            .concat(),
        )
        .await;
        wire.reset();
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("UNKNOWN_PATHS", "forward")]);
    let token = bank.token("").await;
    let mut client = client(turnpike.clients).await;
    let request = || {
        Request::get("http://gw.example/v1/things")
            .header("authorization", format!("Bearer {token}"))
            .body(frames(vec![]))
            .unwrap()
    };
    for _ in 0..3 {
        let whole = match client.send_request(request()).await {
            Ok(answer) if answer.status() == 200 => answer.into_body().collect().await.is_ok(),
            Ok(answer) => answer.status() != 502,
            Err(_) => false,
        };
        assert!(!whole, "a cut answer looks cut");
        assert!(client.ready().await.is_ok(), "the connection goes on");
    }
}

/// A client that resets its stream is gone: the upstream's connection is given up, and what was used is charged.
#[tokio::test]
async fn a_stream_reset_by_the_client_settles() {
    let bank = Bank::open().await;
    let event = r#"data: {"choices":[{"delta":{"content":"word"}}]}"#;
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_message().await;
        wire.send([testkit::upstream::sse_head(), chunk(format!("{event}\n\n"))].concat())
            .await;
        // Ends when the gateway lets go.
        wire.has_more().await;
        let _ = wire.try_send(LAST_CHUNK).await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("DISCONNECT", "estimate")]);
    let token = bank.token("").await;
    let mut client = client(turnpike.clients).await;
    let request = Request::post("http://gw.example/v1/chat/completions")
        .header("authorization", format!("Bearer {token}"))
        .body(body(r#"{"model":"gpt-4o","stream":true,"messages":[]}"#))
        .unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: "));
    drop(answer);
    let mark: String = bank.charge().await.get("mark");
    assert_ne!(mark, "measured");
    assert!(client.ready().await.is_ok(), "the connection goes on");
    bank.audited().await;
}

/// What an upstream that speaks HTTP/2 was asked.
struct Asked {
    head: http::request::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// An upstream under TLS that takes HTTP/2 only, tells what it was asked and answers with headers, two frames and trailers.
async fn secure(identity: &Identity) -> (SocketAddr, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(identity.server_config(&["h2"]));
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let answer = service_fn(move |request: Request<Incoming>| {
                    let tell = tell.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap();
                        let trailers = body.trailers().cloned();
                        let _ = tell.send(Asked {
                            head,
                            body: body.to_bytes(),
                            trailers,
                        });
                        let mut trailers = HeaderMap::new();
                        trailers.insert("x-sum", "9".parse().unwrap());
                        let answer = Response::builder()
                            .header("x-b", "2")
                            .header("content-type", "application/json")
                            .header("x-a", "1")
                            .header("x-b", "3")
                            .header("trailer", "x-sum")
                            .body(frames(vec![
                                Frame::data(Bytes::from(&ANSWER.as_bytes()[..7])),
                                Frame::data(Bytes::from(&ANSWER.as_bytes()[7..])),
                                Frame::trailers(trailers),
                            ]));
                        Ok::<_, Infallible>(answer.unwrap())
                    }
                });
                let _ = server::conn::http2::Builder::new(TokioExecutor::new())
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn an_upstream_that_speaks_http2_gets_and_gives_the_same() {
    let bank = Bank::open().await;
    let identity = Identity::new(&["127.0.0.1"]);
    let (address, mut told) = secure(&identity).await;
    let roots = identity.roots().display().to_string();
    let turnpike = Turnpike::start(
        &bank.db,
        &format!("https://{address}"),
        &[("SSL_CERT_FILE", &roots)],
    );
    let token = bank.token("").await;
    let mut client = client(turnpike.clients).await;
    let request = Request::post("http://gw.example/v1/chat/completions?x=%20")
        .header("x-b", "1")
        .header("authorization", format!("Bearer {token}"))
        .header("content-length", CHAT.len())
        .header("te", "trailers")
        .header("x-a", "2")
        .body(body(CHAT))
        .unwrap();
    let answer = patiently("an answer", client.send_request(request))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let expected: Vec<_> = [
        ("x-b", "2"),
        ("x-b", "3"),
        ("content-type", "application/json"),
        ("x-a", "1"),
        ("trailer", "x-sum"),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
    .collect();
    assert_eq!(listed(answer.headers()), expected);
    let whole = answer.into_body().collect().await.unwrap();
    assert_eq!(
        whole
            .trailers()
            .map(|trailers| trailers["x-sum"].as_bytes()),
        Some(&b"9"[..])
    );
    assert_eq!(whole.to_bytes(), ANSWER);
    let asked = told.recv().await.unwrap();
    assert_eq!(
        asked.head.uri,
        *format!("https://{address}/v1/chat/completions?x=%20")
    );
    let expected: Vec<_> = [
        ("x-b", "1"),
        ("authorization", "Bearer sk-upstream-canary"),
        ("content-length", &*CHAT.len().to_string()),
        ("x-a", "2"),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
    .collect();
    assert_eq!(listed(&asked.head.headers), expected);
    assert_eq!(asked.body, CHAT);
    assert!(asked.trailers.is_none());

    // The same by HTTP/1 on our side.
    let (head, got) = turnpike.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!((head.status(), got), (200, ANSWER.into()));
    assert_eq!(told.recv().await.unwrap().body, CHAT);
    eventually("both are charged", async || {
        (bank
            .one::<i64>("select count(*) from turnpike.charge")
            .await
            == 2)
            .then_some(())
    })
    .await;
    bank.audited().await;
}
