//! One end of a connection, byte by byte: what a test sends and what it gets, without an HTTP library in between.
//!
//! Everything here panics when a peer does not do what the test says, and after [`PATIENCE`] when it does nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use crate::head::Head;

/// How long a peer may take over anything. Not a pause: no test waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a [`Wire`] runs over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the close a reset.
    fn set_reset(&self) {}
}

impl Io for TcpStream {
    fn set_reset(&self) {
        self.set_zero_linger()
            .expect("a socket lingers as it is told");
    }
}

/// One end of a connection.
pub struct Wire {
    io: Box<dyn Io>,
    /// Received and not yet asked for.
    buffer: Vec<u8>,
    /// Everything received.
    received: Received,
}

/// Everything a [`Wire`] has received so far; outlives it.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Vec<u8>>>);

impl Received {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The bytes as text, for messages and comparisons.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// How a peer ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order (FIN).
    Closed,
    /// By a reset, or under TLS without a goodbye.
    Reset,
}

impl Wire {
    /// Connects as a client.
    pub async fn connect(address: SocketAddr) -> Self {
        let io = patiently("a connection", TcpStream::connect(address)).await;
        Self::new(io.expect("a test's server accepts"))
    }

    /// Runs over `io`.
    pub fn new(io: impl Io + 'static) -> Self {
        Self::recording(io, Received::default())
    }

    /// Runs over `io`, adding what it receives to `received`.
    pub fn recording(io: impl Io + 'static, received: Received) -> Self {
        Self {
            io: Box::new(io),
            buffer: Vec::new(),
            received,
        }
    }

    /// Everything received on this wire.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.clone()
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .await
            .expect("the peer takes what is sent");
    }

    /// Sends bytes to a peer that may have gone.
    ///
    /// # Errors
    /// If it has.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        patiently("the peer to take bytes", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await
    }

    /// Reads up to and including `end`.
    pub async fn read_until(&mut self, end: impl AsRef<[u8]>) -> Vec<u8> {
        let end = end.as_ref();
        loop {
            let found = self
                .buffer
                .windows(end.len())
                .position(|window| window == end);
            if let Some(start) = found {
                return self.take(start + end.len());
            }
            self.expect_more(&format!("{:?}", String::from_utf8_lossy(end)))
                .await;
        }
    }

    /// Reads exactly `len` bytes.
    pub async fn read_exact(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            self.expect_more(&format!("{len} bytes")).await;
        }
        self.take(len)
    }

    /// Reads the head of a message: everything up to the empty line.
    pub async fn read_head(&mut self) -> Head {
        Head::parse(self.read_until("\r\n\r\n").await)
    }

    /// Reads the body that belongs to a head: by its length, by chunks, or none. Chunks are put together.
    pub async fn read_body(&mut self, head: &Head) -> Vec<u8> {
        if head.is_chunked() {
            return self.read_chunks().await;
        }
        match head.header("content-length") {
            Some(len) => {
                let len = len.parse().expect("a content-length is a number");
                self.read_exact(len).await
            }
            None => Vec::new(),
        }
    }

    /// Reads a message: head and body.
    pub async fn read_message(&mut self) -> (Head, Vec<u8>) {
        let head = self.read_head().await;
        let body = self.read_body(&head).await;
        (head, body)
    }

    /// Reads one chunk; empty for the last (whose trailers are left).
    pub async fn read_chunk(&mut self) -> Vec<u8> {
        let line = self.read_until("\r\n").await;
        let text = String::from_utf8_lossy(&line);
        let len = usize::from_str_radix(text.trim(), 16)
            .unwrap_or_else(|_| panic!("a chunk begins with its length, not with {text:?}"));
        if len == 0 {
            return Vec::new();
        }
        let chunk = self.read_exact(len).await;
        assert_eq!(
            self.read_exact(2).await,
            b"\r\n",
            "a chunk ends in an empty line"
        );
        chunk
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.read_chunk().await;
            if chunk.is_empty() {
                while self.read_until("\r\n").await != b"\r\n" {}
                return body;
            }
            body.extend(chunk);
        }
    }

    /// Whether the peer goes on: bytes are there, or arrive before the connection ends.
    pub async fn has_more(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        // As long as it takes: a kept connection may be idle for the rest of the test.
        self.buffer.reserve(64 * 1024);
        let read = self.io.read_buf(&mut self.buffer).await;
        self.record(0);
        matches!(read, Ok(1..))
    }

    /// What has come and was not asked for, or else comes next; `None` once the connection has ended, however it did.
    pub async fn read_some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.buffer.reserve(64 * 1024);
            let read = self.read_more("more, or the end").await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// The same, as long as it takes: a kept connection may be idle for the rest of the test.
    pub async fn read_some_at_leisure(&mut self) -> Option<Vec<u8>> {
        self.has_more()
            .await
            .then(|| std::mem::take(&mut self.buffer))
    }

    /// Reads until the peer ends the connection; what came before that, and how it ended.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        loop {
            match self.read_more("the end").await {
                Ok(0) => return (std::mem::take(&mut self.buffer), Ending::Closed),
                Ok(_) => {}
                Err(_) => return (std::mem::take(&mut self.buffer), Ending::Reset),
            }
        }
    }

    /// Ends our side in order; the other may go on.
    pub async fn shutdown(&mut self) {
        let _ = self.io.shutdown().await;
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        self.io.set_reset();
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(len);
        std::mem::replace(&mut self.buffer, rest)
    }

    async fn expect_more(&mut self, what: &str) {
        let so_far = |buffer: &[u8]| String::from_utf8_lossy(buffer).into_owned();
        match self.read_more(what).await {
            Ok(0) => panic!(
                "waiting for {what}: closed after {:?}",
                so_far(&self.buffer)
            ),
            Ok(_) => {}
            Err(error) => panic!(
                "waiting for {what}: {error} after {:?}",
                so_far(&self.buffer)
            ),
        }
    }

    async fn read_more(&mut self, what: &str) -> io::Result<usize> {
        let before = self.buffer.len();
        let read = patiently(what, self.io.read_buf(&mut self.buffer)).await?;
        self.record(before);
        Ok(read)
    }

    fn record(&self, from: usize) {
        let mut received = self
            .received
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        received.extend_from_slice(&self.buffer[from..]);
    }
}

/// Waits, but not for ever.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
