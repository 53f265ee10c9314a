//! Events and lines as long as the upstream likes: they pass, and are not kept.

use testkit::upstream::{LAST_CHUNK, Upstream, chunk, sse_event, sse_head};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{COST, USAGE, chat, nothing_left};
use crate::support::{Bank, Turnpike, post};

const PIECE: usize = 64 * 1024;
/// Pieces of an event to warm up with.
const SMALL: usize = 128;
/// What a process may grow by while one event passes: buffers of sockets, and allocators that keep what was freed.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// A gigabyte where there is time for it (`just soak`).
fn pieces() -> usize {
    let mib = if std::env::var_os("TURNPIKE_SOAK").is_some() {
        1024
    } else {
        96
    };
    mib * 1024 * 1024 / PIECE
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_event_passes_and_is_not_kept() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        // The second request may come over the connection of the first.
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let is_small = body.windows(5).any(|word| word == b"small");
            wire.send(sse_head()).await;
            let start = r#"data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":""#;
            wire.send(chunk(start)).await;
            let piece = chunk("word ".repeat(PIECE / 5));
            for _ in 0..if is_small { SMALL } else { pieces() } {
                wire.send(&piece).await;
            }
            wire.send(chunk("\"}}]}\n\n")).await;
            let end = [sse_event(USAGE), sse_event("[DONE]"), LAST_CHUNK.to_vec()].concat();
            wire.send(end).await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    // Sockets, allocators and tokenizers have what they need after the first.
    read(&turnpike, &token, "small").await;
    let before = turnpike.memory_peak_bytes();
    let bytes = read(&turnpike, &token, "huge").await;
    assert!(bytes > pieces() * (PIECE / 5) * 5);
    let grown = turnpike.memory_peak_bytes().saturating_sub(before);
    println!("{bytes} bytes passed, memory grew by {grown}");
    assert!(grown < GROWTH_BYTES_MAX, "{grown}");
    nothing_left(&bank, &turnpike).await;
    let paid: i64 = bank
        .one("select sum(amount)::bigint from turnpike.charge where mark = 'measured'")
        .await;
    assert_eq!(paid, 2 * COST);
}

/// Reads a stream to its end, keeping nothing of it. How long it was.
async fn read(turnpike: &Turnpike, token: &str, word: &str) -> usize {
    let mut stream = TcpStream::connect(turnpike.clients).await.unwrap();
    let request = post("/v1/chat/completions", token, &chat(word, true));
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut buffer, mut bytes, mut end) = (vec![0; 256 * 1024], 0_usize, Vec::new());
    while !end.ends_with(LAST_CHUNK) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "cut after {bytes} bytes");
        bytes += read;
        end.extend_from_slice(&buffer[read.saturating_sub(64)..read]);
        end.drain(..end.len().saturating_sub(64));
    }
    bytes
}
