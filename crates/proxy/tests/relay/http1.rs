//! What crosses from HTTP/1 to HTTP/1: names, order, framing, to the byte.

use testkit::raw::Ending;
use testkit::upstream::LAST_CHUNK;
use testkit::upstream::Upstream;
use testkit::upstream::chunk;
use testkit::upstream::head;
use testkit::upstream::json;

use crate::relay::Relay;
use crate::relay::answering;
use crate::relay::serve;
use crate::relay::whole;

/// Sends `request` through a relay to an upstream that says `answer`; what each of them got.
async fn through(request: &str, answer: impl Into<Vec<u8>>) -> (String, String) {
    let upstream = Upstream::answering(answer).await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send(request).await;
    client.read_message().await;
    let at_upstream = upstream
        .received_text()
        .replace(&upstream.address().to_string(), "UPSTREAM");
    (at_upstream, client.received().text())
}

#[tokio::test]
async fn header_names_keep_case_and_order() {
    let (at_upstream, at_client) = through(
        "POST /v1/chat HTTP/1.1\r\nHost: gw\r\nX-sTainless-Lang: js\r\nAUTHORIZATION: Bearer theirs\r\n\
         user-agent: curl\r\nContent-Length: 2\r\nA: 1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX-Request-ID: 1\r\nZ: 2\r\nDate: now\r\nCONTENT-LENGTH: 2\r\na: 3\r\n\r\n{}",
    )
    .await;
    assert_eq!(
        at_upstream,
        "POST /v1/chat HTTP/1.1\r\nHost: UPSTREAM\r\nX-sTainless-Lang: js\r\nAUTHORIZATION: Bearer ours\r\n\
         user-agent: curl\r\nContent-Length: 2\r\nA: 1\r\n\r\n{}"
    );
    assert_eq!(
        at_client,
        "HTTP/1.1 200 OK\r\nX-Request-ID: 1\r\nZ: 2\r\nDate: now\r\nCONTENT-LENGTH: 2\r\na: 3\r\n\r\n{}"
    );
}

#[tokio::test]
async fn a_chunked_body_stays_chunked_and_its_header_in_place() {
    let (at_upstream, at_client) = through(
        "POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\nAuthorization: x\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(
        at_upstream,
        "POST / HTTP/1.1\r\nHost: UPSTREAM\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer ours\r\n\r\n\
         2\r\n{}\r\n0\r\n\r\n"
    );
    assert_eq!(
        at_client,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn an_announced_length_of_zero_is_kept() {
    let request = "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\nAuthorization: x\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: 1\r\n\r\n";
    let (at_upstream, at_client) = through(request, answer).await;
    assert_eq!(
        at_upstream,
        "POST / HTTP/1.1\r\nHost: UPSTREAM\r\nContent-Length: 0\r\nAuthorization: Bearer ours\r\n\r\n"
    );
    assert_eq!(at_client, answer);
}

#[tokio::test]
async fn no_body_stays_no_body() {
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: gw\r\nAuthorization: x\r\n\r\n");
        let (at_upstream, _) = through(&request, json("{}")).await;
        assert_eq!(
            at_upstream,
            format!("{method} / HTTP/1.1\r\nHost: UPSTREAM\r\nAuthorization: Bearer ours\r\n\r\n")
        );
    }
}

#[tokio::test]
async fn a_chunked_get_keeps_its_body() {
    let request = "GET / HTTP/1.1\r\nHost: gw\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let (at_upstream, _) = through(request, json("{}")).await;
    assert!(
        at_upstream.ends_with("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        "{at_upstream}"
    );
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_length_and_the_connection() {
    let upstream = Upstream::scripted(|mut wire| async move {
        for _ in 0..2 {
            wire.read_head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
                .await;
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: gw\r\n\r\n").await;
        let head = client.read_head().await;
        assert_eq!(head.header("content-length"), Some("1234"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_get_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let upstream = Upstream::answering(head(status, &[("ETag", "x")])).await;
        let relay = Relay::to(&upstream.url()).start();
        let mut client = relay.connect().await;
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: gw\r\n\r\n").await;
            client.read_head().await;
        }
        let twice = format!("HTTP/1.1 {status}\r\nETag: x\r\n\r\n").repeat(2);
        assert_eq!(client.received().text(), twice);
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn path_and_query_go_byte_for_byte() {
    let query = "/v1//x/%2e%2E/..;a=%zz?q=%20+&&=%C3%A9&empty&q=?/'{}|^`[";
    let request = format!("GET {query} HTTP/1.1\r\nHost: gw\r\nAuthorization: x\r\n\r\n");
    let (at_upstream, _) = through(&request, json("{}")).await;
    assert!(
        at_upstream.starts_with(&format!("GET {query} HTTP/1.1\r\n")),
        "{at_upstream}"
    );
}

#[tokio::test]
async fn the_path_of_the_base_comes_first() {
    let upstream = Upstream::answering(json("{}")).await;
    let relay = Relay::to(&format!("{}/openai/", upstream.url())).start();
    let mut client = relay.connect().await;
    client
        .send("GET /v1/models?x HTTP/1.1\r\nHost: gw\r\n\r\n")
        .await;
    client.read_message().await;
    assert!(
        upstream
            .received_text()
            .starts_with("GET /openai/v1/models?x HTTP/1.1\r\n")
    );
}

#[tokio::test]
async fn a_repeated_header_keeps_every_value() {
    let (at_upstream, at_client) = through(
        "GET / HTTP/1.1\r\nHost: gw\r\nX-A: 1\r\nx-a: 2\r\nAuthorization: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nLink: 1\r\nLINK: 2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(
        at_upstream.contains("X-A: 1\r\nx-a: 2\r\n"),
        "{at_upstream}"
    );
    assert!(at_client.contains("Link: 1\r\nLINK: 2\r\n"), "{at_client}");
}

#[tokio::test]
async fn a_reason_phrase_of_the_upstreams_own_is_kept() {
    let answer = "HTTP/1.1 429 Slow down, please\r\nContent-Length: 0\r\n\r\n";
    let (_, at_client) = through("GET / HTTP/1.1\r\nHost: gw\r\n\r\n", answer).await;
    assert_eq!(at_client, answer);
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let answer =
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let (_, at_client) = through("GET / HTTP/1.1\r\nHost: gw\r\n\r\n", answer).await;
    assert_eq!(at_client, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
}

#[tokio::test]
async fn announced_trailers_go_up() {
    let request = "POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
                   Authorization: x\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 7\r\n\r\n";
    let (at_upstream, _) = through(request, json("{}")).await;
    assert!(
        at_upstream.ends_with("2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n"),
        "{at_upstream}"
    );
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_end_of_an_answer_by_the_end_of_the_connection() {
    let mut answer = head("200 OK", &[("Transfer-Encoding", "chunked")]);
    answer.extend(chunk("one"));
    answer.extend(chunk("two"));
    answer.extend(LAST_CHUNK);
    let upstream = Upstream::answering(answer).await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let (answer, ending) = client.read_to_end().await;
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "HTTP/1.0 200 OK\r\n\r\nonetwo"
    );
    assert_eq!(ending, Ending::Closed);
    assert!(upstream.received_text().starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn an_upstream_of_http_1_0_is_relayed() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send("HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nall there is")
            .await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    let (head, body) = client.read_message().await;
    assert_eq!(head.start, "HTTP/1.1 200 OK");
    assert_eq!(body, b"all there is");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            let (head, _) = wire.read_message().await;
            let path = head.start.split(' ').nth(1).unwrap().to_owned();
            wire.send(json(&path)).await;
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: gw\r\n\r\nPOST /2 HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\nHost: gw\r\n\r\n")
        .await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.read_message().await.1, path.as_bytes());
    }
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted_and_not_asked_of_the_upstream() {
    let upstream = Upstream::answering(json("{}")).await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.start, "HTTP/1.1 100 Continue");
    client.send("{}").await;
    assert_eq!(client.read_message().await.0.status(), 200);
    assert!(!upstream.received_text().to_lowercase().contains("expect"));
}

#[tokio::test]
async fn a_refusal_comes_without_continue() {
    let server = serve(answering(|_| async {
        Ok(http::Response::new(whole("no")))
    }));
    let mut client = server.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    let (head, body) = client.read_message().await;
    assert_eq!((head.status(), &*body), (200, &b"no"[..]));
}

#[tokio::test]
async fn frames_are_passed_on_as_they_come_both_ways() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        // An echo before the request has ended.
        for _ in 0..3 {
            let asked = wire.read_chunk().await;
            wire.send(chunk(asked)).await;
        }
        wire.read_chunk().await;
        wire.send(LAST_CHUNK).await;
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status(), 200);
    for text in ["one", "two", "three"] {
        client.send(chunk(text)).await;
        assert_eq!(client.read_chunk().await, text.as_bytes());
    }
    client.send(LAST_CHUNK).await;
    assert!(client.read_chunk().await.is_empty());
}

#[tokio::test]
async fn large_bodies_cross_whole() {
    let upstream = Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let mut answer = head("200 OK", &[("Content-Length", &body.len().to_string())]);
            answer.extend(body);
            wire.send(answer).await;
        }
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = relay.connect().await;
    let body: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    client.send(request).await;
    assert!(client.read_message().await.1 == body);
}
