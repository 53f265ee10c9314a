//! A scripted provider: which answer a request gets is in the name of its model.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

use crate::Failure;

/// What a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A small chat answer.
    Json,
    /// A stream, as fast as it can be written.
    Burst,
    /// A stream with a chunk each [`PACE`].
    Paced,
    /// A stream that stays open until [`Upstream::release`].
    Held,
}

const BURST_CHUNKS: usize = 200;
const PACED_CHUNKS: u32 = 40;
const PACE: Duration = Duration::from_millis(20);
/// Chunks of one write of a burst: a provider that generates fast fills a packet or two at a time.
const CHUNKS_A_WRITE: usize = 8;

impl Answer {
    const ALL: [Self; 4] = [Self::Json, Self::Burst, Self::Paced, Self::Held];

    pub(crate) const fn model(self) -> &'static str {
        match self {
            Self::Json => "bench-json",
            Self::Burst => "bench-burst",
            Self::Paced => "bench-paced",
            Self::Held => "bench-held",
        }
    }

    pub(crate) const fn is_stream(self) -> bool {
        !matches!(self, Self::Json)
    }

    /// Chunks with content.
    const fn contents(self) -> usize {
        match self {
            Self::Json | Self::Held => 1,
            Self::Burst => BURST_CHUNKS,
            Self::Paced => PACED_CHUNKS as usize,
        }
    }

    /// Events of the stream, usage and `[DONE]` included.
    pub(crate) const fn events(self) -> usize {
        self.contents() + 2
    }

    /// How long the provider takes.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::Paced => PACE * PACED_CHUNKS,
            Self::Json | Self::Burst | Self::Held => Duration::ZERO,
        }
    }

    /// Bytes of its body, chunk sizes not counted.
    pub(crate) fn body_bytes(self) -> u64 {
        let chunks = Script::new(self).chunks;
        chunks.iter().map(|chunk| chunk.body_bytes as u64).sum()
    }
}

/// A provider on a thread of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    held: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
}

impl Upstream {
    pub(crate) fn start() -> Result<Self, Failure> {
        let (tell, told) = mpsc::channel();
        let (open, opened) = watch::channel(false);
        let held = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&held);
        thread::Builder::new()
            .name("upstream".into())
            .spawn(move || run(&tell, &opened, &counted))?;
        Ok(Self {
            address: told.recv()??,
            held,
            open,
        })
    }

    /// Streams of [`Answer::Held`] that are open.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Holds streams from now on.
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    /// Lets the streams that are held end as streams do, with their usage.
    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }
}

fn run(
    tell: &mpsc::Sender<std::io::Result<SocketAddr>>,
    opened: &watch::Receiver<bool>,
    held: &Arc<AtomicUsize>,
) {
    let serving = async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        // Nobody listens only when the bench has ended.
        let _ = tell.send(listener.local_addr());
        let scripts: Arc<[(Answer, Script)]> = Answer::ALL
            .iter()
            .map(|answer| (*answer, Script::new(*answer)))
            .collect();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = Connection {
                stream,
                scripts: Arc::clone(&scripts),
                opened: opened.clone(),
                held: Arc::clone(held),
            };
            tokio::spawn(async move {
                // A peer that closes or breaks off is done.
                let _ = connection.serve().await;
            });
        }
    };
    let done: std::io::Result<()> = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serving));
    if let Err(error) = done {
        let _ = tell.send(Err(error));
    }
}

struct Connection {
    stream: TcpStream,
    scripts: Arc<[(Answer, Script)]>,
    opened: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
}

impl Connection {
    async fn serve(mut self) -> std::io::Result<()> {
        let mut received = BytesMut::with_capacity(4096);
        loop {
            let request = loop {
                if let Some(length) = request_length(&received) {
                    break received.split_to(length);
                }
                if self.stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            };
            let scripts = Arc::clone(&self.scripts);
            let found = scripts
                .iter()
                .find(|(answer, _)| memmem::find(&request, answer.model().as_bytes()).is_some());
            let Some((answer, script)) = found else {
                return self.stream.write_all(NOT_FOUND).await;
            };
            self.answer(*answer, script).await?;
        }
    }

    async fn answer(&mut self, answer: Answer, script: &Script) -> std::io::Result<()> {
        match answer {
            Answer::Json | Answer::Burst => {
                for write in &script.writes {
                    self.stream.write_all(write).await?;
                }
            }
            Answer::Paced => {
                let mut clock = time::interval(PACE);
                self.stream.write_all(&script.head).await?;
                for chunk in &script.chunks {
                    clock.tick().await;
                    self.stream.write_all(&chunk.wire).await?;
                }
            }
            Answer::Held => {
                let [first, rest @ ..] = script.chunks.as_slice() else {
                    return Ok(());
                };
                self.stream.write_all(&script.head).await?;
                self.stream.write_all(&first.wire).await?;
                self.held.fetch_add(1, Ordering::Relaxed);
                let released = self.opened.wait_for(|open| *open).await.is_ok();
                self.held.fetch_sub(1, Ordering::Relaxed);
                if released {
                    for chunk in rest {
                        self.stream.write_all(&chunk.wire).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The length of the request at the front, once it is all there. Relays keep the length a client announced.
fn request_length(received: &[u8]) -> Option<usize> {
    let head = memmem::find(received, b"\r\n\r\n")?;
    let body = head_value(received.get(..head)?, "content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0_usize);
    let length = head.saturating_add(4).saturating_add(body);
    (received.len() >= length).then_some(length)
}

/// The value of a header in a message's head.
pub(crate) fn head_value<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(head)
        .ok()?
        .split("\r\n")
        .find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
}

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// An answer as it goes over the wire.
struct Script {
    head: Bytes,
    chunks: Vec<Chunk>,
    /// Head and chunks as they are written when nothing is waited for.
    writes: Vec<Bytes>,
}

struct Chunk {
    wire: Bytes,
    /// Bytes of it that are body.
    body_bytes: usize,
}

impl Script {
    fn new(answer: Answer) -> Self {
        let (head, chunks) = if answer.is_stream() {
            (stream_head(), stream_chunks(answer.contents()))
        } else {
            let body = json_body();
            let head = json_head(body.len());
            let chunk = Chunk {
                body_bytes: body.len(),
                wire: body.into(),
            };
            (head, vec![chunk])
        };
        let head = Bytes::from(head);
        let mut writes: Vec<Bytes> = chunks
            .chunks(CHUNKS_A_WRITE)
            .map(|some| {
                let wires: Vec<&[u8]> = some.iter().map(|chunk| &chunk.wire[..]).collect();
                wires.concat().into()
            })
            .collect();
        if let Some(first) = writes.first_mut() {
            *first = [&head[..], first].concat().into();
        }
        Self {
            head,
            chunks,
            writes,
        }
    }
}

fn stream_chunks(contents: usize) -> Vec<Chunk> {
    let events = (0..contents)
        .map(content_event)
        .chain([usage_event(contents), "data: [DONE]\n\n".to_owned()]);
    let mut chunks: Vec<Chunk> = events
        .map(|event| Chunk {
            wire: format!("{:x}\r\n{event}\r\n", event.len()).into(),
            body_bytes: event.len(),
        })
        .collect();
    if let Some(last) = chunks.last_mut() {
        last.wire = [&last.wire[..], b"0\r\n\r\n"].concat().into();
    }
    chunks
}

fn json_head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{HEAD}\r\n"
    )
}

fn stream_head() -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n{HEAD}\r\n"
    )
}

/// What providers say besides. Some of it stays with the gateway.
const HEAD: &str = "Date: Sat, 01 Nov 2025 10:00:00 GMT\r\nConnection: keep-alive\r\nopenai-processing-ms: 312\r\nopenai-version: 2020-10-01\r\nopenai-organization: org-bench\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\nx-ratelimit-remaining-requests: 9999\r\nServer: cloudflare\r\n";

fn json_body() -> String {
    let content = "The quick brown fox jumps over the lazy dog. ".repeat(12);
    format!(
        r#"{{"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012","object":"chat.completion","created":1762000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":120,"total_tokens":139,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    )
}

fn content_event(number: usize) -> String {
    chunk_event(&format!(
        r#"[{{"index":0,"delta":{{"content":" word{number}"}},"logprobs":null,"finish_reason":null}}],"usage":null"#
    ))
}

fn usage_event(contents: usize) -> String {
    let total = contents + 19;
    chunk_event(&format!(
        r#"[],"usage":{{"prompt_tokens":19,"completion_tokens":{contents},"total_tokens":{total}}}"#
    ))
}

fn chunk_event(rest: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\"object\":\"chat.completion.chunk\",\"created\":1762000000,\"model\":\"bench\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":{rest}}}\n\n"
    )
}
