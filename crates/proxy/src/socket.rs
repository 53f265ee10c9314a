//! Connections that have changed their protocol: bytes both ways, each direction watched and held at its gates.
//!
//! What the bytes mean is the watchers' affair. Nothing is buffered but what one read brings: who cannot write does not read.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
    },
    time::timeout,
};

use crate::Gate;

/// Bytes that one read brings at most.
const READ_BYTES: usize = 16 * 1024;
/// How long a client may take to read the last of it and to say goodbye, once its socket is over.
const GOODBYE: Duration = Duration::from_secs(2);

/// How much of the bytes shown is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How many bytes are judged.
    pub taken: usize,
    /// How many of the last of these wait for the gate.
    pub held: usize,
}

/// Watches one direction of a socket.
pub trait Watcher: Send {
    /// Sees the next bytes: all of them, or up to some that must wait.
    fn look(&mut self, bytes: &[u8]) -> Look;

    /// Whether what is held goes on. A shut gate ends this direction.
    fn gate(&mut self) -> impl Future<Output = Gate> + Send;

    /// This direction's peer has sent its last byte: resolves when the other may be told.
    fn ended(&mut self) -> impl Future<Output = ()> + Send;

    /// Whoever should get these bytes takes no more.
    fn unheard(&mut self);

    /// Resolves when we end the socket, with our last words in this direction. Asked only between reads, and asked
    /// anew after each.
    fn parting(&mut self) -> impl Future<Output = Bytes> + Send;
}

/// How relaying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// The upstream sent its last byte.
    Upstream,
    /// We ended it, with words.
    Parted,
    /// We ended it without: a gate stayed shut.
    Shut,
}

/// Relays both ways until the way down has ended. Dropping the streams closes both connections.
///
/// A write that takes longer than `stall` ends its direction as if the peer had gone.
pub async fn relay<C, U>(
    client: C,
    upstream: U,
    up: &mut impl Watcher,
    down: &mut impl Watcher,
    stall: Duration,
) -> SocketEnd
where
    C: AsyncRead + AsyncWrite + Send,
    U: AsyncRead + AsyncWrite + Send,
{
    let (from_client, to_client) = split(client);
    let (from_upstream, to_upstream) = split(upstream);
    let mut from_client = from_client;
    let end = {
        let mut upwards = pin!(pump_up(&mut from_client, to_upstream, up, stall));
        let mut downwards = pin!(pump_down(from_upstream, to_client, down, stall));
        let ended = tokio::select! {
            end = &mut downwards => Some(end),
            () = &mut upwards => None,
        };
        match ended {
            // The client may still have its goodbye to say to an upstream that has said its own.
            Some(SocketEnd::Upstream) => {
                let _ = timeout(GOODBYE, upwards).await;
                SocketEnd::Upstream
            }
            Some(end) => end,
            None => downwards.await,
        }
    };
    if end == SocketEnd::Parted {
        // Closing with bytes unread would be a reset, and a reset may overtake our last words.
        let _ = timeout(GOODBYE, swallow(&mut from_client)).await;
    }
    end
}

async fn swallow(from: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; READ_BYTES];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}

async fn pump_up<C: AsyncRead, U: AsyncWrite>(
    from: &mut ReadHalf<C>,
    mut to: WriteHalf<U>,
    watcher: &mut impl Watcher,
    stall: Duration,
) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                let bytes = &buffer[..len];
                match pass(bytes, &mut to, watcher, stall).await {
                    Passed::All => {}
                    // The other direction says why, and ends us.
                    Passed::Shut => return std::future::pending().await,
                    Passed::Unheard => {
                        watcher.unheard();
                        return;
                    }
                }
            }
        }
    }
    watcher.ended().await;
    let _ = timeout(stall, to.shutdown()).await;
}

async fn pump_down<U: AsyncRead, C: AsyncWrite>(
    mut from: ReadHalf<U>,
    mut to: WriteHalf<C>,
    watcher: &mut impl Watcher,
    stall: Duration,
) -> SocketEnd {
    let mut buffer = vec![0; READ_BYTES];
    let mut is_heard = true;
    loop {
        let read = tokio::select! {
            biased;
            words = watcher.parting() => {
                if is_heard {
                    let saying = async {
                        to.write_all(&words).await?;
                        to.shutdown().await
                    };
                    let _ = timeout(GOODBYE, saying).await;
                }
                return SocketEnd::Parted;
            }
            read = from.read(&mut buffer) => read,
        };
        let bytes = match read {
            Ok(0) | Err(_) => break,
            Ok(len) => &buffer[..len],
        };
        let passed = if is_heard {
            pass(bytes, &mut to, watcher, stall).await
        } else {
            pass(bytes, &mut tokio::io::sink(), watcher, stall).await
        };
        match passed {
            Passed::All => {}
            Passed::Shut => return SocketEnd::Shut,
            Passed::Unheard => {
                is_heard = false;
                watcher.unheard();
            }
        }
    }
    watcher.ended().await;
    let _ = timeout(stall, to.shutdown()).await;
    SocketEnd::Upstream
}

/// What became of bytes.
enum Passed {
    All,
    Shut,
    /// The rest was watched, and written nowhere.
    Unheard,
}

async fn pass(
    mut bytes: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    watcher: &mut impl Watcher,
    stall: Duration,
) -> Passed {
    let mut is_heard = true;
    while !bytes.is_empty() {
        let Look { taken, held } = watcher.look(bytes);
        let taken = taken.clamp(1, bytes.len());
        let (judged, rest) = bytes.split_at(taken);
        let (now, later) = judged.split_at(taken - held.min(taken));
        is_heard = is_heard && written(now, to, stall).await;
        if !later.is_empty() {
            match watcher.gate().await {
                Gate::Open => is_heard = is_heard && written(later, to, stall).await,
                Gate::Shut => return Passed::Shut,
            }
        }
        bytes = rest;
    }
    if is_heard {
        Passed::All
    } else {
        Passed::Unheard
    }
}

/// Whether the peer took it in time.
async fn written(bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), stall: Duration) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let writing = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    let written: Result<io::Result<()>, _> = timeout(stall, writing).await;
    matches!(written, Ok(Ok(())))
}
