//! WebSocket frames by hand, on a [`Wire`]: what a test sends and what it gets, without a library in between.

use crate::raw::Wire;

/// A frame's first byte: a whole text message.
pub const TEXT: u8 = 0x81;
/// The same for a close.
pub const CLOSE: u8 = 0x88;
/// The same for a ping.
pub const PING: u8 = 0x89;

/// A client's handshake for a path.
#[must_use]
pub fn handshake(path: &str, token: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

/// An upstream's answer to it.
pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame; masked if a client's.
#[must_use]
pub fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ ..126), _) => frame.push(bit | len),
        (_, Ok(len)) => {
            frame.push(bit | 126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => frame.extend_from_slice(payload),
        Some(mask) => {
            frame.extend_from_slice(&mask);
            let masked = payload.iter().zip(mask.iter().cycle());
            frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// A client's text message.
#[must_use]
pub fn says(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes(), Some([0x11, 0xa2, 0x33, 0xc4]))
}

/// An upstream's text message.
#[must_use]
pub fn tells(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes(), None)
}

/// The next frame on a wire: its first byte and its payload, unmasked.
pub async fn read_frame(wire: &mut Wire) -> (u8, Vec<u8>) {
    let head = wire.read_exact(2).await;
    let len = match head[1] & 0x7f {
        126 => {
            let len = wire.read_exact(2).await;
            u64::from(u16::from_be_bytes([len[0], len[1]]))
        }
        127 => {
            let len = wire.read_exact(8).await;
            u64::from_be_bytes(len.try_into().expect("eight bytes"))
        }
        short => u64::from(short),
    };
    let mask = if head[1] & 0x80 == 0 {
        vec![0; 4]
    } else {
        wire.read_exact(4).await
    };
    let len = usize::try_from(len).expect("a test's frames are short");
    let payload = wire.read_exact(len).await;
    let plain = payload.iter().zip(mask.iter().cycle());
    (head[0], plain.map(|(byte, mask)| byte ^ mask).collect())
}

/// The next text message on a wire.
///
/// # Panics
/// At any other frame.
pub async fn read_text(wire: &mut Wire) -> String {
    let (first, payload) = read_frame(wire).await;
    let text = String::from_utf8_lossy(&payload).into_owned();
    assert_eq!(first, TEXT, "{text}");
    text
}
