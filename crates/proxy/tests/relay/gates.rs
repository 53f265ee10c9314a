//! Both gates, seen from the sockets: what has gone out while one is shut, and after.

use std::net::SocketAddr;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proxy::Abort;
use proxy::Egress;
use proxy::End;
use proxy::Gate;
use proxy::Handler;
use proxy::Observed;
use proxy::Observer;
use proxy::Split;
use proxy::Whole;
use testkit::body::Held;
use testkit::raw::Wire;
use testkit::upstream::LAST_CHUNK;
use testkit::upstream::Upstream;
use testkit::upstream::chunk;
use testkit::upstream::json;
use testkit::upstream::sse;

use crate::relay::Body;
use crate::relay::Relay;
use crate::relay::Running;
use crate::relay::serve;

/// Withholds from a mark on, until released.
#[derive(Clone)]
struct Keeper {
    mark: &'static [u8],
    gate: Held,
    then: Gate,
}

impl Keeper {
    fn new(mark: &'static str, then: Gate) -> Self {
        Self {
            mark: mark.as_bytes(),
            gate: Held::default(),
            then,
        }
    }

    fn open() -> Self {
        let keeper = Self::new("\0", Gate::Open);
        keeper.gate.release();
        keeper
    }
}

impl<B: Send + 'static> Observer<B> for Keeper {
    fn frame(&mut self, data: Bytes) -> Split {
        let at = data
            .windows(self.mark.len())
            .position(|window| window == self.mark);
        Split::at(data, at.unwrap_or(usize::MAX))
    }

    fn end(&mut self, _: End<B>) {}

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        if self.gate.is_held(cx.waker()) {
            Poll::Pending
        } else {
            Poll::Ready(self.then)
        }
    }
}

/// A relay with a gate in each direction.
#[derive(Clone)]
struct Gated {
    relay: Relay,
    up: Keeper,
    down: Keeper,
}

impl Handler for Gated {
    type Body = Body;

    async fn handle(
        &self,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Abort> {
        let Relay { pool, target, .. } = &self.relay;
        let request = request.map(|body| Observed::new(body, self.up.clone()));
        match pool.send(target, &Egress::Direct, request).await {
            Ok(response) => Ok(response.map(|body| {
                Observed::new(body, self.down.clone())
                    .map_err(Into::into)
                    .boxed_unsync()
            })),
            Err(error) => {
                let text = format!(
                    "{:?} shut={} sent={}",
                    error.kind(),
                    error.is_shut(),
                    error.is_request_sent()
                );
                Ok(Response::new(
                    Whole::from(text)
                        .map_err(|never| match never {})
                        .boxed_unsync(),
                ))
            }
        }
    }
}

fn gated(upstream: &Upstream, up: &Keeper, down: &Keeper) -> Running {
    serve(Gated {
        relay: Relay::to(&upstream.url()),
        up: up.clone(),
        down: down.clone(),
    })
}

/// Lets everything happen that can without the test: the sockets are loopback, so a few turns of the runtime do.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

async fn post(relay: &Running, rest: &str) -> Wire {
    let mut client = relay.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: gw\r\n{rest}"))
        .await;
    client
}

#[tokio::test]
async fn the_last_byte_of_a_request_waits_for_the_gate() {
    for (request, before) in [
        // A known length: its last frame waits whole, the ones before have gone.
        ("Content-Length: 4\r\n\r\n{  }", ""),
        // Unknown: from the mark on.
        (
            "Transfer-Encoding: chunked\r\n\r\n4\r\n{  }\r\n0\r\n\r\n",
            "3\r\n{  \r\n",
        ),
    ] {
        let upstream = Upstream::answering(json("ok")).await;
        let up = Keeper::new("}", Gate::Open);
        let relay = gated(&upstream, &up, &Keeper::open());
        let mut client = post(&relay, request).await;
        settle().await;
        let text = upstream.received_text();
        assert!(text.ends_with(&format!("\r\n\r\n{before}")), "{text}");
        up.gate.release();
        assert_eq!(client.read_message().await.1, b"ok");
    }
}

#[tokio::test]
async fn a_shut_gate_never_gives_the_last_byte_up() {
    for request in [
        "Content-Length: 4\r\n\r\n{  }",
        "Transfer-Encoding: chunked\r\n\r\n4\r\n{  }\r\n0\r\n\r\n",
    ] {
        let (told, mut got) = tokio::sync::mpsc::unbounded_channel();
        let upstream = Upstream::scripted(move |mut wire| {
            let told = told.clone();
            async move {
                let _ = told.send(wire.read_to_end().await.0);
            }
        })
        .await;
        let up = Keeper::new("}", Gate::Shut);
        let relay = gated(&upstream, &up, &Keeper::open());
        let mut client = post(&relay, request).await;
        settle().await;
        up.gate.release();
        let (_, body) = client.read_message().await;
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "Body shut=true sent=false"
        );
        let got = testkit::raw::patiently("the upstream to be cut", got.recv())
            .await
            .unwrap();
        assert!(!got.contains(&b'}') && !got.ends_with(LAST_CHUNK));
    }
}

#[tokio::test]
async fn the_tail_of_an_answer_waits_for_the_gate() {
    // hyper writes the lengths of chunks in capitals: compared without regard to case.
    let whole = String::from_utf8(sse(&["one", "[DONE]"])).unwrap();
    for (answer, before) in [
        (whole, "b\r\ndata: one\n\n\r\n"),
        (String::from_utf8(json("{}")).unwrap(), ""),
    ] {
        let upstream = Upstream::answering(answer.clone()).await;
        let down = Keeper::new("data: [DONE]", Gate::Open);
        let relay = gated(&upstream, &Keeper::open(), &down);
        let mut client = post(&relay, "Content-Length: 2\r\n\r\n{}").await;
        let head = client.read_head().await;
        settle().await;
        client.read_exact(before.len()).await;
        let text = client.received().text().to_lowercase();
        assert!(text.ends_with(&format!("\r\n\r\n{before}")), "{text}");
        down.gate.release();
        client.read_body(&head).await;
        assert_eq!(
            client.received().text().to_lowercase(),
            answer.to_lowercase()
        );
    }
}

#[tokio::test]
async fn a_shut_gate_makes_the_answer_look_cut() {
    for answer in [sse(&["one", "[DONE]"]), json("{}")] {
        let upstream = Upstream::answering(answer).await;
        let down = Keeper::new("data: [DONE]", Gate::Shut);
        let relay = gated(&upstream, &Keeper::open(), &down);
        let mut client = post(&relay, "Content-Length: 2\r\n\r\n{}").await;
        client.read_head().await;
        down.gate.release();
        let (rest, _) = client.read_to_end().await;
        assert!(
            !rest.ends_with(LAST_CHUNK) && !rest.ends_with(b"{}"),
            "{rest:?}"
        );
    }
}

/// hyper writes what a body yields before it asks again; a burst must not become a write per event.
#[tokio::test]
async fn a_burst_of_events_is_passed_on_together() {
    let mut burst = testkit::upstream::sse_head();
    for _ in 0..100 {
        burst.extend(chunk("data: x\n\n"));
    }
    burst.extend(LAST_CHUNK);
    let upstream = Upstream::answering(burst).await;
    let relay = gated(&upstream, &Keeper::open(), &Keeper::open());
    let mut client = post(&relay, "Content-Length: 2\r\n\r\n{}").await;
    client.read_head().await;
    let mut chunks = 0;
    let mut bytes = 0;
    loop {
        let chunk = client.read_chunk().await;
        if chunk.is_empty() {
            break;
        }
        chunks += 1;
        bytes += chunk.len();
    }
    assert_eq!(bytes, 900);
    assert!(chunks <= 3, "{chunks} chunks");
}
