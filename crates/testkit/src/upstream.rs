//! An upstream that does exactly what its script says, over raw sockets, and keeps every byte it got.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::upstream::{Upstream, json};
//!
//! // Any number of requests on any number of connections, each answered the same.
//! let upstream = Upstream::answering(json(r#"{"ok":true}"#)).await;
//! // Or a script per connection: pauses are awaits, a reset is `wire.reset()`.
//! let upstream = Upstream::scripted(|mut wire| async move {
//!     wire.read_message().await;
//!     wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
//!     wire.reset();
//! })
//! .await;
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::raw::Received;
use crate::raw::Wire;

/// A listening upstream. Dropping it closes everything.
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: AbortHandle,
}

impl Upstream {
    /// Runs the script for every connection, with the connection's own end of the wire.
    pub async fn scripted<S, F>(script: S) -> Self
    where
        S: Fn(Wire) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::accepting(move |stream, received| script(Wire::recording(stream, received))).await
    }

    /// Answers every request with these bytes, and keeps the connection open.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::scripted(move |mut wire| {
            let answer = answer.clone();
            async move {
                while wire.has_more().await {
                    wire.read_message().await;
                    if wire.try_send(&*answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// The same over streams that need something done to them first, such as a TLS handshake.
    pub(crate) async fn accepting<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream, Received) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let records = received.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream
                    .set_nodelay(true)
                    .expect("a socket takes TCP_NODELAY");
                let record = Received::default();
                lock(&records).push(record.clone());
                connections.spawn(script(stream, record));
            }
        });
        Self {
            address,
            received,
            task: task.abort_handle(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without TLS and without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.received).len()
    }

    /// What the connections received, in the order they were accepted.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }

    /// What the only connection received.
    ///
    /// # Panics
    /// If there was none, or more than one.
    #[must_use]
    pub fn received_text(&self) -> String {
        let received = self.received();
        assert_eq!(received.len(), 1, "one connection was expected");
        received.iter().map(Received::text).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A 200 with a JSON body of known length.
#[must_use]
pub fn json(body: &str) -> Vec<u8> {
    answer("200 OK", &[("Content-Type", "application/json")], body)
}

/// An answer with a body of known length.
#[must_use]
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut answer = head(status, headers);
    answer.truncate(answer.len() - 2);
    answer.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
    answer
}

/// The head of an answer and nothing more.
#[must_use]
pub fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The head of a chunked event stream.
#[must_use]
pub fn sse_head() -> Vec<u8> {
    head(
        "200 OK",
        &[
            ("Content-Type", "text/event-stream; charset=utf-8"),
            ("Transfer-Encoding", "chunked"),
        ],
    )
}

/// One event as one chunk: `data: <data>` and an empty line.
#[must_use]
pub fn sse_event(data: &str) -> Vec<u8> {
    chunk(format!("data: {data}\n\n"))
}

/// A whole event stream, one chunk per event, ended properly.
#[must_use]
pub fn sse(events: &[&str]) -> Vec<u8> {
    let mut stream = sse_head();
    for event in events {
        stream.extend(sse_event(event));
    }
    stream.extend(LAST_CHUNK);
    stream
}

/// One chunk of a chunked body.
#[must_use]
pub fn chunk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
