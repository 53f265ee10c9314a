//! HTTP/2 frame by frame, for clients that do not keep to it.

use std::net::SocketAddr;

use testkit::raw::{Wire, patiently};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A frame's bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Header fields, each a literal that is not indexed and not squeezed.
pub(super) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    // An integer with a prefix of seven bits (RFC 7541 5.1).
    let mut len = text.len();
    if len < 127 {
        block.push(u8::try_from(len).unwrap());
    } else {
        block.push(127);
        len -= 127;
        while len >= 128 {
            block.push(u8::try_from(len % 128).unwrap() | 128);
            len /= 128;
        }
        block.push(u8::try_from(len).unwrap());
    }
    block.extend(text.as_bytes());
}

/// The header block of a request to this path.
pub(super) fn request(method: &str, path: &str, token: &str) -> Vec<u8> {
    fields([
        (":method", method),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
        ("authorization", &format!("Bearer {token}")),
    ])
}

/// A client's end of a connection.
pub(super) struct Frames {
    pub(super) wire: Wire,
    /// What came of frames that were not looked at yet.
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects and says hello, with these settings (identifier and value).
    pub(super) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Wire::connect(address).await;
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, payload)].concat())
            .await;
        Self {
            wire,
            buffer: Vec::new(),
        }
    }

    /// Sends frames to a peer that may have gone; whether it took them.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.try_send(bytes).await.is_ok()
    }

    /// Reads on until a frame is what is looked for; `None` once the connection has ended.
    pub(super) async fn read_until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            while let Some(frame) = take(&mut self.buffer) {
                if is_it(&frame) {
                    return Some(frame);
                }
            }
            self.buffer
                .extend(patiently("a frame, or the end", self.wire.read_some()).await?);
        }
    }

    /// Reads to the end; the code of the last GOAWAY, if one came.
    pub(super) async fn read_goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        loop {
            while let Some(frame) = take(&mut self.buffer) {
                if frame.kind == GOAWAY {
                    code = frame
                        .payload
                        .get(4..8)
                        .and_then(|code| Some(u32::from_be_bytes(code.try_into().ok()?)));
                }
            }
            match patiently("the end", self.wire.read_some()).await {
                Some(more) => self.buffer.extend(more),
                None => return code,
            }
        }
    }
}

fn take(buffer: &mut Vec<u8>) -> Option<Frame> {
    let head = buffer.get(..9)?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags) = (head[3], head[4]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let payload = buffer.get(9..9 + len)?.to_vec();
    buffer.drain(..9 + len);
    Some(Frame {
        kind,
        flags,
        stream,
        payload,
    })
}
