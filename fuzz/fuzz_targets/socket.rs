//! The readers of a WebSocket survive any bytes, and read the same however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meter::{ClientEvent, ClientSocket, ClientStep, Speech, UpstreamEvent, UpstreamSocket, UpstreamStep};

fn said<'a>(speech: Speech, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<ClientEvent>> {
    let mut socket = ClientSocket::new(speech);
    let mut events = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let at = match socket.read(piece).ok()? {
                ClientStep::More => break,
                ClientStep::Control { at, .. } => at,
                ClientStep::Event { at, event } => {
                    events.push(*event);
                    at
                }
            };
            piece = &piece[at..];
        }
    }
    Some(events)
}

fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<UpstreamEvent>, bool) {
    let mut socket = UpstreamSocket::default();
    let mut events = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let at = match socket.read(piece) {
                UpstreamStep::More => break,
                UpstreamStep::Control { at, .. } => at,
                UpstreamStep::Event { at, event } => {
                    events.push(*event);
                    at
                }
            };
            piece = &piece[at..];
        }
    }
    (events, socket.is_lost())
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (how, size, bytes) = input;
    let size = usize::from(size).max(1);
    let speech = [Speech::Realtime, Speech::Translations, Speech::Responses][usize::from(how % 3)];
    assert_eq!(said(speech, [bytes]), said(speech, bytes.chunks(size)));
    assert_eq!(told([bytes]), told(bytes.chunks(size)));
});
