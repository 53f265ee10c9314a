//! HTTP/2 on either side, bridged to HTTP/1 and back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Version;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use proxy::Doors;
use proxy::DoorsLimits;
use proxy::PoolLimits;
use proxy::Whole;
use proxy::tls::Roots;
use testkit::body::Held;
use testkit::body::Scripted;
use testkit::body::Step;
use testkit::raw::patiently;
use testkit::tls::Identity;
use testkit::upstream::Upstream;
use testkit::upstream::sse;
use testkit::upstream::sse_head;

use crate::relay::Relay;
use crate::relay::Running;
use crate::relay::answering;
use crate::relay::limits;
use crate::relay::serve;
use crate::relay::serve_with;
use crate::relay::whole;

/// A client that speaks HTTP/2 from the first byte.
async fn prior_knowledge<B>(server: &Running) -> http2::SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<proxy::BoxError>,
{
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_client_with_prior_knowledge_is_bridged_to_http1() {
    let upstream = Upstream::answering(sse(&["one", "[DONE]"])).await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = prior_knowledge(&relay).await;
    let request = Request::post(format!("http://{}/v1/chat?x", relay.address))
        .header("authorization", "Bearer theirs")
        .header("x-b", "2")
        .header("content-length", "2")
        .body(Whole::from("{}"))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert!(!response.headers().contains_key("transfer-encoding"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "data: one\n\ndata: [DONE]\n\n");
    assert_eq!(
        upstream.received_text(),
        format!(
            "POST /v1/chat?x HTTP/1.1\r\nauthorization: Bearer ours\r\nx-b: 2\r\ncontent-length: 2\r\nhost: {}\r\n\r\n{{}}",
            upstream.address()
        )
    );
}

#[tokio::test]
async fn a_stream_without_a_length_goes_up_in_chunks_whatever_the_method() {
    for method in ["POST", "GET"] {
        let upstream = Upstream::answering(sse(&[])).await;
        let relay = Relay::to(&upstream.url()).start();
        let mut client = prior_knowledge(&relay).await;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}/", relay.address))
            .body(Scripted::new([
                Step::data("{"),
                Step::Pending,
                Step::data("}"),
            ]))
            .unwrap();
        client.send_request(request).await.unwrap();
        let text = upstream.received_text();
        assert!(text.contains("transfer-encoding: chunked\r\n"), "{text}");
        assert!(text.ends_with("0\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_cut_upstream_is_reset() {
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(sse_head()).await;
        wire.reset();
    })
    .await;
    let relay = Relay::to(&upstream.url()).start();
    let mut client = prior_knowledge(&relay).await;
    let request = || {
        let uri = format!("http://{}/", relay.address);
        Request::get(uri).body(Whole::empty()).unwrap()
    };
    // The head or the body fails, as the reset comes; what counts is that nothing looks whole.
    match client.send_request(request()).await {
        Ok(response) if response.status() == 200 => {
            assert!(response.into_body().collect().await.is_err());
        }
        Ok(response) => assert_eq!(response.status(), 502),
        Err(_) => {}
    }
    assert!(client.ready().await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn an_aborted_exchange_resets_its_stream_and_no_other() {
    let server = serve(answering(
        |request: Request<hyper::body::Incoming>| async move {
            match request.uri().path() {
                "/abort" => Err(proxy::Abort),
                _ => Ok(http::Response::new(whole("fine"))),
            }
        },
    ));
    let mut client = prior_knowledge(&server).await;
    let request = |path| {
        let uri = format!("http://{}{path}", server.address);
        Request::get(uri).body(Whole::empty()).unwrap()
    };
    assert!(client.send_request(request("/abort")).await.is_err());
    assert_eq!(
        client.send_request(request("/")).await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn draining_finishes_the_streams_that_have_begun() {
    let (gate, entered) = (Held::default(), Held::default());
    let (opened, entering) = (gate.clone(), entered.clone());
    let server = serve(answering(move |_| {
        let (gate, entering) = (opened.clone(), entering.clone());
        async move {
            entering.release();
            gate.released().await;
            Ok(http::Response::new(whole("fine")))
        }
    }));
    let mut client = prior_knowledge(&server).await;
    let uri = format!("http://{}/", server.address);
    let answer =
        tokio::spawn(client.send_request(Request::get(&uri).body(Whole::empty()).unwrap()));
    patiently("the request to be begun", entered.released()).await;
    server.begin_to_stop();
    gate.release();
    let response = answer.await.unwrap().unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "fine"
    );
    assert_eq!(server.stopped().await.cut, 0);
}

/// An upstream that speaks HTTP/2 under TLS and counts its connections and concurrent requests.
struct H2Upstream {
    server: Running,
    identity: Identity,
    connections: Arc<std::sync::Mutex<std::collections::HashSet<std::net::SocketAddr>>>,
    most: Arc<AtomicUsize>,
    gate: Held,
}

impl H2Upstream {
    fn start(streams_max: u32) -> Self {
        #[derive(Clone)]
        struct Counting {
            connections: Arc<std::sync::Mutex<std::collections::HashSet<std::net::SocketAddr>>>,
            now: Arc<AtomicUsize>,
            most: Arc<AtomicUsize>,
            gate: Held,
        }
        impl proxy::Handler for Counting {
            type Body = crate::relay::Body;
            async fn handle(
                &self,
                peer: std::net::SocketAddr,
                request: Request<hyper::body::Incoming>,
            ) -> Result<http::Response<Self::Body>, proxy::Abort> {
                self.connections.lock().unwrap().insert(peer);
                let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
                self.most.fetch_max(now, Ordering::Relaxed);
                self.gate.released().await;
                self.now.fetch_sub(1, Ordering::Relaxed);
                let head = format!(
                    "{} {} {:?}",
                    request.method(),
                    request.uri(),
                    request.headers()
                );
                Ok(http::Response::new(whole(&head)))
            }
        }
        let identity = Identity::new(&["localhost"]);
        let doors = Doors::new(DoorsLimits {
            h2_streams_max: streams_max,
            ..DoorsLimits::default()
        })
        .with_tls(identity.server_config(&["h2"]));
        let (connections, most, gate) = (
            Arc::default(),
            Arc::<AtomicUsize>::default(),
            Held::default(),
        );
        let handler = Counting {
            connections: Arc::clone(&connections),
            now: Arc::default(),
            most: most.clone(),
            gate: gate.clone(),
        };
        Self {
            server: serve_with(doors, handler, Duration::ZERO),
            identity,
            connections,
            most,
            gate,
        }
    }

    fn relay(&self, limits: PoolLimits) -> Running {
        let url = format!("https://localhost:{}/base", self.server.address.port());
        Relay::trusting(&url, limits, &Roots::File(self.identity.roots())).start()
    }
}

#[tokio::test]
async fn http1_is_bridged_to_http2() {
    let upstream = H2Upstream::start(100);
    upstream.gate.release();
    let relay = upstream.relay(limits());
    let mut client = relay.connect().await;
    for _ in 0..3 {
        client
            .send("POST /x?y HTTP/1.1\r\nHost: gw\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nAuthorization: t\r\n\r\n0\r\n\r\n")
            .await;
        let (head, body) = client.read_message().await;
        assert_eq!(head.status(), 200);
        let text = String::from_utf8(body).unwrap();
        let uri = format!(
            "POST https://localhost:{}/base/x?y ",
            upstream.server.address.port()
        );
        assert!(text.starts_with(&uri), "{text}");
        assert!(
            text.contains("\"x-a\": \"1\", \"authorization\": \"Bearer ours\""),
            "{text}"
        );
        assert!(
            !text.contains("host\"") && !text.contains("transfer-encoding"),
            "{text}"
        );
    }
    assert_eq!(upstream.connections.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn many_requests_share_one_http2_connection_up_to_its_streams() {
    let upstream = H2Upstream::start(4);
    let relay = upstream.relay(PoolLimits {
        h2_connections_max: 2,
        h2_streams_max: 3,
        ..limits()
    });
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = relay.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: gw\r\n\r\n").await;
        clients.push(client);
    }
    patiently("the streams to fill up", async {
        while upstream.most.load(Ordering::Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    upstream.gate.release();
    for client in &mut clients {
        assert_eq!(client.read_message().await.0.status(), 200);
    }
    assert_eq!(
        upstream.most.load(Ordering::Relaxed),
        6,
        "two connections of three streams"
    );
    assert_eq!(upstream.connections.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_closed_http2_connection_is_replaced() {
    let upstream = H2Upstream::start(100);
    upstream.gate.release();
    let relay = upstream.relay(limits());
    let mut client = relay.connect().await;
    let get = "GET / HTTP/1.1\r\nHost: gw\r\n\r\n";
    client.send(get).await;
    assert_eq!(client.read_message().await.0.status(), 200);
    let address = upstream.server.address;
    upstream.server.begin_to_stop();
    upstream.server.stopped().await;
    client.send(get).await;
    // Nobody listens there now, which only a new connection finds out.
    let (head, body) = client.read_message().await;
    assert_eq!((head.status(), &*body), (502, &b"Connect"[..]), "{address}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_from_an_upstream_that_does() {
    let upstream = H2Upstream::start(100);
    let url = format!("https://localhost:{}", upstream.server.address.port());
    let relay = Relay::trusting(&url, limits(), &Roots::File(upstream.identity.roots()));
    for steps in [
        vec![Step::Error("left")],
        vec![Step::data("a"), Step::Error("left")],
    ] {
        let request = Request::post("/").body(Scripted::new(steps)).unwrap();
        let error = relay
            .pool
            .send(&relay.target, &relay.egress, request)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), proxy::SendErrorKind::Body, "{error:?}");
        assert!(!error.is_request_sent() && !error.is_shut());
    }
}
