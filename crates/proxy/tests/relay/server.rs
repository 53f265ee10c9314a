//! The doors themselves: limits, timeouts, draining.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use proxy::Doors;
use proxy::DoorsLimits;
use testkit::body::Held;
use testkit::raw::Ending;
use testkit::raw::Wire;
use testkit::raw::patiently;

use crate::relay::answering;
use crate::relay::serve;
use crate::relay::serve_with;
use crate::relay::whole;

const GET: &str = "GET / HTTP/1.1\r\nHost: gw\r\n\r\n";

fn hello() -> impl proxy::Handler + Sync {
    answering(|_| async { Ok(Response::new(whole("hello"))) })
}

fn with(limits: DoorsLimits) -> Doors {
    Doors::new(limits)
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    for silence in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost"] {
        let limits = DoorsLimits {
            header_timeout: Duration::from_millis(20),
            ..DoorsLimits::default()
        };
        let server = serve_with(with(limits), hello(), Duration::ZERO);
        let mut client = server.connect().await;
        client.send(silence).await;
        let (answer, _) = client.read_to_end().await;
        assert!(answer.is_empty(), "{silence:?}");
    }
}

#[tokio::test]
async fn what_merely_begins_like_the_preface_is_http1() {
    let server = serve(hello());
    for request in [
        "PROPFIND / HTTP/1.1\r\nHost: gw\r\n\r\n",
        "PRI / HTTP/1.1\r\nHost: gw\r\n\r\n",
        GET,
    ] {
        let mut client = server.connect().await;
        for byte in request.as_bytes().chunks(1) {
            client.send(byte).await;
        }
        assert_eq!(client.read_message().await.1, b"hello");
    }
}

#[tokio::test]
async fn no_date_and_no_server_are_added() {
    let server = serve(hello());
    let mut client = server.connect().await;
    client.send(GET).await;
    client.read_message().await;
    assert_eq!(
        client.received().text(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    );
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_refused() {
    let server = serve(hello());
    let many = format!(
        "GET / HTTP/1.1\r\nHost: gw\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let long = format!(
        "GET / HTTP/1.1\r\nHost: gw\r\na: {}\r\n\r\n",
        // hyper looks at the limit between two reads, the last of which may be as large as the limit.
        "b".repeat(200 << 10)
    );
    for request in [many, long] {
        let mut client = server.connect().await;
        let _ = client.try_send(request).await;
        assert_eq!(client.read_head().await.status(), 431);
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = serve(hello());
    for request in [
        "hello\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "\0\0\0\0\0\0",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let (answer, _) = client.read_to_end().await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400"),
            "{request:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let limits = DoorsLimits {
        connections_max: 1,
        ..DoorsLimits::default()
    };
    let server = serve_with(with(limits), hello(), Duration::ZERO);
    let mut first = server.connect().await;
    first.send(GET).await;
    first.read_message().await;
    let mut second = server.connect().await;
    second.send(GET).await;
    // The first still serves, the second is not even accepted.
    first.send(GET).await;
    first.read_message().await;
    assert!(second.received().bytes().is_empty());
    drop(first);
    assert_eq!(second.read_message().await.1, b"hello");
}

#[tokio::test]
async fn draining_finishes_what_has_begun_and_closes_what_is_idle() {
    let gate = Held::default();
    let opened = gate.clone();
    let entered = Held::default();
    let entering = entered.clone();
    let server = serve_with(
        with(DoorsLimits::default()),
        answering(move |_| {
            let (gate, entering) = (opened.clone(), entering.clone());
            async move {
                entering.release();
                gate.released().await;
                Ok(Response::new(whole("hello")))
            }
        }),
        Duration::from_secs(5),
    );
    let mut untouched = server.connect().await;
    let mut busy = server.connect().await;
    busy.send(GET).await;
    patiently("the request to be begun", entered.released()).await;
    server.begin_to_stop();
    assert_eq!(untouched.read_to_end().await, (Vec::new(), Ending::Closed));
    gate.release();
    let (head, body) = busy.read_message().await;
    assert_eq!(body, b"hello");
    assert_eq!(head.header("connection"), Some("close"));
    assert_eq!(busy.read_to_end().await.1, Ending::Closed);
    let drained = server.stopped().await;
    assert_eq!((drained.finished, drained.cut), (2, 0));
}

#[tokio::test]
async fn draining_closes_connections_between_requests() {
    let server = serve(hello());
    let mut client = server.connect().await;
    client.send(GET).await;
    client.read_message().await;
    server.begin_to_stop();
    assert_eq!(client.read_to_end().await.1, Ending::Closed);
    assert_eq!(server.stopped().await.cut, 0);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_and_counted() {
    let entered = Held::default();
    let entering = entered.clone();
    let handler = answering(move |_| {
        let entering = entering.clone();
        async move {
            entering.release();
            std::future::pending().await
        }
    });
    let server = serve_with(
        with(DoorsLimits::default()),
        handler,
        Duration::from_millis(20),
    );
    let mut client = server.connect().await;
    client.send(GET).await;
    patiently("the request to be begun", entered.released()).await;
    let address = server.address;
    server.begin_to_stop();
    assert_eq!(server.stopped().await.cut, 1);
    assert!(client.read_to_end().await.0.is_empty());
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn two_listeners_share_an_address() {
    let one = proxy::server::listener("127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(proxy::server::listener(one.local_addr().unwrap()).is_ok());
}

/// The handler of a client that left must not run on.
#[tokio::test]
async fn a_handler_is_dropped_when_its_client_leaves() {
    struct OnDrop(Held);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.release();
        }
    }
    let (entered, left) = (Held::default(), Held::default());
    let (entering, leaving) = (entered.clone(), left.clone());
    let server = serve(answering(
        move |request: http::Request<hyper::body::Incoming>| {
            let (entering, guard) = (entering.clone(), OnDrop(leaving.clone()));
            async move {
                let _guard = guard;
                request.into_body().collect().await.unwrap();
                entering.release();
                std::future::pending().await
            }
        },
    ));
    let mut client: Wire = server.connect().await;
    client.send(GET).await;
    patiently("the request to be begun", entered.released()).await;
    drop(client);
    patiently("the handler to be dropped", left.released()).await;
}
