//! Clients: each keeps one connection and asks again as soon as it has its answer.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_local,
    time::{sleep, sleep_until},
};

use crate::{
    Failure,
    upstream::{Answer, head_value},
};

/// What to ask, and how.
pub(crate) struct Load {
    pub(crate) answer: Answer,
    pub(crate) connections: u32,
    /// Requests per second of all connections together; unset, each asks again at once.
    pub(crate) rate: Option<u32>,
    /// How long it runs before anything counts.
    pub(crate) warm: Duration,
    /// How long it counts.
    pub(crate) counted: Duration,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Tally {
    /// Answers that ended while it counted.
    pub(crate) counted: u64,
    /// Bytes of bodies that came while it counted.
    pub(crate) body_bytes: u64,
    /// All whole answers.
    pub(crate) answered: u64,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
    /// From a request to its answer's first byte, in ns.
    pub(crate) first_byte: Vec<u64>,
    /// From a request to its answer's last byte, in ns.
    pub(crate) last_byte: Vec<u64>,
    /// How long it really counted.
    pub(crate) elapsed: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warming,
    Counting,
    Over,
}

struct Shared {
    phase: Cell<Phase>,
    tally: RefCell<Tally>,
    /// From one request of a connection to its next, at least.
    pace: Duration,
    request: Vec<u8>,
    body_bytes: u64,
}

/// Loads a target. `mark` is called when counting begins and when it ends. Runs in a `LocalSet` only.
pub(crate) async fn run(
    target: SocketAddr,
    token: &str,
    load: &Load,
    mut mark: impl FnMut(),
) -> Result<Tally, Failure> {
    let pace = load.rate.map_or(Duration::ZERO, |rate| {
        Duration::from_secs(1) * load.connections / rate
    });
    let shared = Rc::new(Shared {
        phase: Cell::new(Phase::Warming),
        tally: RefCell::default(),
        pace,
        request: request(target, token, load.answer),
        body_bytes: load.answer.body_bytes(),
    });
    // Where there is time between requests, they do not all come at once.
    let stagger = pace.max(load.answer.lasts()) / load.connections;
    let clients: Vec<_> = (0..load.connections)
        .map(|number| {
            let shared = Rc::clone(&shared);
            spawn_local(async move {
                sleep(stagger * number).await;
                if let Err(failure) = ask_again_and_again(target, &shared).await {
                    shared.tally.borrow_mut().failures.push(failure.to_string());
                }
            })
        })
        .collect();
    sleep(load.warm).await;
    mark();
    let begun = Instant::now();
    shared.phase.set(Phase::Counting);
    sleep(load.counted).await;
    shared.phase.set(Phase::Over);
    let elapsed = begun.elapsed();
    mark();
    for client in clients {
        client.await?;
    }
    let mut tally = shared.tally.take();
    tally.elapsed = elapsed;
    Ok(tally)
}

async fn ask_again_and_again(target: SocketAddr, shared: &Shared) -> Result<(), Failure> {
    let mut client = Client::connect(target).await?;
    let mut due = Instant::now();
    while shared.phase.get() != Phase::Over {
        if !shared.pace.is_zero() {
            sleep_until(due.into()).await;
            due += shared.pace;
        }
        let asked_while = shared.phase.get();
        let asked = Instant::now();
        client.send(&shared.request).await?;
        let mut first_byte = None;
        let mut body_bytes = 0;
        loop {
            let progress = client.receive().await?;
            first_byte.get_or_insert_with(|| asked.elapsed());
            body_bytes += progress.body_bytes;
            if shared.phase.get() == Phase::Counting {
                shared.tally.borrow_mut().body_bytes += progress.body_bytes;
            }
            if progress.is_end {
                break;
            }
        }
        let last_byte = asked.elapsed();
        if body_bytes != shared.body_bytes {
            let wanted = shared.body_bytes;
            return Err(format!("a body of {body_bytes} bytes instead of {wanted}").into());
        }
        let mut tally = shared.tally.borrow_mut();
        tally.answered += 1;
        if shared.phase.get() == Phase::Counting {
            tally.counted += 1;
        }
        if asked_while == Phase::Counting {
            tally
                .first_byte
                .push(nanos(first_byte.unwrap_or(last_byte)));
            tally.last_byte.push(nanos(last_byte));
        }
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A request as the SDKs write it.
pub(crate) fn request(target: SocketAddr, token: &str, answer: Answer) -> Vec<u8> {
    let stream = if answer.is_stream() {
        r#","stream":true,"stream_options":{"include_usage":true}"#
    } else {
        ""
    };
    let model = answer.model();
    let body = format!(
        r#"{{"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"What does the quick brown fox jump over? Answer in one sentence."}}],"model":"{model}","max_tokens":300,"temperature":0.7{stream}}}"#
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {target}\r\n{SDK_HEAD}Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const SDK_HEAD: &str = "Accept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 2.6.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.6.1\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\nX-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n";

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Box<[u8]>,
    state: State,
}

/// Where in an answer a connection is.
enum State {
    /// In the head: what there is of it.
    Head(Vec<u8>),
    /// In a body of known length: what is missing.
    Sized(u64),
    /// In a chunked body.
    Chunked(Chunked),
}

/// What one read brought.
pub(crate) struct Progress {
    pub(crate) body_bytes: u64,
    pub(crate) is_end: bool,
}

impl Client {
    pub(crate) async fn connect(target: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; READ_BYTES].into(),
            state: State::Head(Vec::new()),
        })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Waits for more of the answer. Behind its end the next one begins.
    pub(crate) async fn receive(&mut self) -> Result<Progress, Failure> {
        let length = self.stream.read(&mut self.buffer).await?;
        let mut bytes = self.buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Err("the connection was closed in mid-answer".into());
        }
        if let State::Head(head) = &mut self.state {
            let before = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = memmem::find(head, b"\r\n\r\n") else {
                return Ok(Progress {
                    body_bytes: 0,
                    is_end: false,
                });
            };
            bytes = bytes.get(end + 4 - before..).unwrap_or_default();
            self.state = State::after(head.get(..end).unwrap_or_default())?;
        }
        let progress = self.state.push(bytes)?;
        if progress.is_end {
            self.state = State::Head(Vec::new());
        }
        Ok(progress)
    }
}

const READ_BYTES: usize = 16 * 1024;

impl State {
    fn after(head: &[u8]) -> Result<Self, Failure> {
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!("answered {}", String::from_utf8_lossy(head)).into());
        }
        Ok(match head_value(head, "content-length") {
            Some(length) => Self::Sized(length.parse()?),
            None => Self::Chunked(Chunked::Size(0)),
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Progress, Failure> {
        match self {
            Self::Head(_) => Err("a body before the end of its head".into()),
            Self::Sized(missing) => {
                let body_bytes = bytes.len() as u64;
                *missing = missing
                    .checked_sub(body_bytes)
                    .ok_or("more bytes than announced")?;
                Ok(Progress {
                    body_bytes,
                    is_end: *missing == 0,
                })
            }
            Self::Chunked(chunked) => chunked.push(bytes),
        }
    }
}

/// Where in a chunked body a connection is.
#[derive(Clone, Copy)]
enum Chunked {
    /// In the line of a chunk's size.
    Size(u64),
    /// In its data and the two bytes behind it: what is missing.
    Data(u64),
    /// Behind the size 0: what is missing.
    End(u64),
}

impl Chunked {
    fn push(&mut self, mut bytes: &[u8]) -> Result<Progress, Failure> {
        let mut body_bytes = 0;
        while let [first, rest @ ..] = bytes {
            *self = match *self {
                Self::Size(size) => {
                    bytes = rest;
                    match first {
                        b'\r' => Self::Size(size),
                        b'\n' if size == 0 => Self::End(2),
                        b'\n' => Self::Data(size + 2),
                        digit => {
                            let digit = char::from(*digit).to_digit(16).ok_or("a bad chunk")?;
                            Self::Size(size * 16 + u64::from(digit))
                        }
                    }
                }
                Self::Data(missing) => {
                    let taken = missing.min(bytes.len() as u64);
                    body_bytes += taken.min(missing.saturating_sub(2));
                    bytes = bytes.get(usize::try_from(taken)?..).unwrap_or_default();
                    match missing - taken {
                        0 => Self::Size(0),
                        missing => Self::Data(missing),
                    }
                }
                Self::End(missing) => {
                    bytes = rest;
                    Self::End(missing - 1)
                }
            };
            if matches!(self, Self::End(0)) {
                break;
            }
        }
        Ok(Progress {
            body_bytes,
            is_end: matches!(self, Self::End(0)),
        })
    }
}
