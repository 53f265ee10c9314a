//! Sockets: their events are read the same however they are cut, and what two readers could take differently is refused.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;

use meter::{
    ClientEvent, ClientSocket, ClientStep, FrameError, SocketError, Speech, UpstreamEvent,
    UpstreamSocket, UpstreamStep,
};
use proptest::prelude::*;
use serde_json::Value;

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    testkit::socket::frame(first, payload, mask)
}

const MASK: Option<[u8; 4]> = Some([1, 200, 3, 77]);

fn said<'a>(
    speech: Speech,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<ClientEvent>, SocketError> {
    let mut socket = ClientSocket::new(speech);
    let mut events = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let at = match socket.read(rest)? {
                ClientStep::More => break,
                ClientStep::Control { at, .. } => at,
                ClientStep::Event { at, event } => {
                    events.push(*event);
                    at
                }
            };
            rest = &rest[at..];
        }
    }
    Ok(events)
}

fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<UpstreamEvent>, bool) {
    let mut socket = UpstreamSocket::default();
    let mut events = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let at = match socket.read(rest) {
                UpstreamStep::More => break,
                UpstreamStep::Control { at, .. } => at,
                UpstreamStep::Event { at, event } => {
                    events.push(*event);
                    at
                }
            };
            rest = &rest[at..];
        }
    }
    (events, socket.is_lost())
}

/// The events of a client's bytes, the same however they are cut.
#[track_caller]
fn events(bytes: &[u8]) -> Result<Vec<ClientEvent>, SocketError> {
    let whole = said(Speech::Realtime, [bytes]);
    for size in [1, 2, 3, 7, 64] {
        let cut = said(Speech::Realtime, bytes.chunks(size));
        assert_eq!(whole.is_ok(), cut.is_ok(), "pieces of {size}");
        if whole.is_ok() {
            assert_eq!(whole, cut, "pieces of {size}");
        }
    }
    whole
}

fn says(text: &str) -> Result<Vec<ClientEvent>, SocketError> {
    events(&frame(0x81, text.as_bytes(), MASK))
}

/// The recorded session, as its upstream's frames.
fn recorded() -> (Vec<u8>, Value) {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/testdata/sockets/34-azure-realtime-transcription-tokens.ws.jsonl"
    );
    let lines = fs::read_to_string(file).unwrap();
    let mut bytes = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["direction"] == "received" {
            bytes.extend(frame(0x81, line["data"].to_string().as_bytes(), None));
        }
    }
    let meta = fs::read_to_string(format!("{file}.meta.json")).unwrap();
    (bytes, serde_json::from_str(&meta).unwrap())
}

#[test]
fn a_recorded_session_is_read_as_its_sidecar_expects() {
    let (bytes, meta) = recorded();
    let (whole, is_lost) = told([&*bytes]);
    assert!(!is_lost);
    let used: Vec<_> = whole
        .iter()
        .filter(|event| event.reading.is_some())
        .collect();
    let expected = meta["expected"]["events"].as_array().unwrap();
    assert_eq!(used.len(), expected.len());
    for (event, expected) in used.iter().zip(expected) {
        assert_eq!(event.facts.kind, expected["event"].as_str().unwrap());
        let usage = event.reading.as_ref().unwrap().usage.as_ref().unwrap();
        let buckets = serde_json::to_value(usage.total()).unwrap();
        let total: u64 = buckets
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(Some(total), expected["usage"]["total_tokens"].as_u64());
        for (bucket, count) in expected["normalised"].as_object().unwrap() {
            assert_eq!(buckets[bucket], *count, "{bucket}");
        }
    }
    let created = &whole[0].facts;
    assert_eq!(created.model.as_deref(), Some("gpt-realtime"));
    for size in [1, 2, 3, 5, 1_000] {
        assert_eq!(told(bytes.chunks(size)).0, whole, "pieces of {size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_session_is_read_the_same_at_random_cuts(sizes in prop::collection::vec(1_usize..4_000, 1..40)) {
        let (bytes, _) = recorded();
        let (whole, _) = told([&*bytes]);
        let mut pieces = Vec::new();
        let mut rest = &*bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(told(pieces).0, whole);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
        let (whole, is_lost) = told([&*bytes]);
        prop_assert_eq!((whole, is_lost), told(bytes.chunks(size)));
        let _ = said(Speech::Responses, bytes.chunks(size));
    }
}

#[test]
fn fragments_and_what_stands_between_them_are_one_message() {
    let bytes = [
        frame(0x01, br#"{"type":"resp"#, MASK),
        frame(0x89, b"ping", MASK),
        frame(0x00, b"onse.create\",", MASK),
        frame(0x8a, b"", MASK),
        frame(0x00, b"", MASK),
        frame(0x80, br#""event_id":"e1"}"#, MASK),
    ]
    .concat();
    let events = events(&bytes).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].facts.kind, "response.create");
    assert_eq!(events[0].facts.event_id.as_deref(), Some("e1"));
}

#[test]
fn lengths_of_every_form_are_read() {
    for len in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let text = format!(
            r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#,
            "A".repeat(len)
        );
        let events = says(&text).unwrap();
        assert_eq!(
            events[0].facts.audio_bytes,
            u64::try_from(len / 4 * 3).unwrap()
        );
        assert_eq!(events[0].facts.bytes, text.len() as u64);
    }
}

#[test]
fn what_a_session_is_told_is_found() {
    let events = says(r#"{"type":"session.update","session":{"type":"realtime","model":"gpt-realtime","audio":{"input":{"format":{"type":"audio/pcmu"},"transcription":{"model":"whisper-1"},"turn_detection":{"type":"server_vad","create_response":false}}}}}"#).unwrap();
    let facts = &events[0].facts;
    assert_eq!(facts.model.as_deref(), Some("gpt-realtime"));
    assert_eq!(facts.transcription, Some(Some("whisper-1".to_owned())));
    assert_eq!(facts.answers_by_itself, Some(false));
    assert_eq!(facts.is_telephone, Some(true));
    let events = says(r#"{"type":"session.update","session":{"input_audio_transcription":null,"turn_detection":null,"input_audio_format":"pcm16"}}"#).unwrap();
    let facts = &events[0].facts;
    assert_eq!(facts.transcription, Some(None));
    assert_eq!(
        (facts.answers_by_itself, facts.is_telephone),
        (Some(false), Some(false))
    );
    let events = says(r#"{"type":"response.create","response":{"max_output_tokens":7}}"#).unwrap();
    assert_eq!(events[0].facts.output_limit, Some(7));
    let events =
        says(r#"{"type":"response.create","response":{"max_output_tokens":"inf"}}"#).unwrap();
    assert_eq!(events[0].facts.output_limit, None);
}

#[test]
fn where_speech_ended_is_found() {
    let events = says(r#"{"type":"input_audio_buffer.speech_stopped","audio_end_ms":2000}"#);
    assert_eq!(events.unwrap()[0].facts.audio_end_ms, Some(2_000));
    let events = says(r#"{"type":"a","audio_end_ms":"soon"}"#);
    assert_eq!(events.unwrap()[0].facts.audio_end_ms, None);
}

#[test]
fn messages_that_could_be_read_in_two_ways_are_refused() {
    for (text, wrong) in [
        (
            r#"{"type":"a","type":"response.create"}"#,
            SocketError::Duplicate("type"),
        ),
        (
            r#"{"type":"a","ty\u0070e":"response.create"}"#,
            SocketError::Duplicate("type"),
        ),
        (
            r#"{"type":"a","Type":"response.create"}"#,
            SocketError::LookAlike("type"),
        ),
        (
            r#"{"type":"a","response":{"max_output_tokens":1,"max_output_tokens":9}}"#,
            SocketError::Duplicate("max_output_tokens"),
        ),
        (
            r#"{"type":"a","response":{"max_output_tokens":1.5}}"#,
            SocketError::Value("max_output_tokens"),
        ),
        (
            r#"{"type":"a","session":{"model":3}}"#,
            SocketError::Value("model"),
        ),
        (
            r#"{"type":["response.create"]}"#,
            SocketError::Value("type"),
        ),
        (r#"{"event_id":"x"}"#, SocketError::NoType),
        (
            r#"{"type":"a"} {"type":"response.create"}"#,
            SocketError::NotJson,
        ),
        (r#"["response.create"]"#, SocketError::NotJson),
        ("{\"type\":\"a\"", SocketError::NotJson),
        ("", SocketError::NotJson),
        ("\u{feff}{\"type\":\"a\"}", SocketError::NotJson),
    ] {
        assert_eq!(says(text), Err(wrong), "{text}");
    }
    // However it is sent: some servers parse binary messages as well.
    let binary = frame(0x82, br#"{"type":"response.create"}"#, MASK);
    assert_eq!(events(&binary).unwrap()[0].facts.kind, "response.create");
    assert_eq!(
        events(&frame(0x82, &[0xff, 0xfe], MASK)),
        Err(SocketError::NotJson)
    );
}

#[test]
fn frames_that_could_be_read_in_two_ways_are_refused() {
    let masked = |first: u8, second: &[u8]| [&[first][..], second, &[0, 0, 0, 0, b'x']].concat();
    for (bytes, wrong) in [
        (frame(0x81, b"{}", None), FrameError::Mask),
        (masked(0xc1, &[0x81]), FrameError::Reserved),
        (masked(0x83, &[0x81]), FrameError::Opcode),
        (masked(0x80, &[0x81]), FrameError::Fragment),
        (masked(0x09, &[0x81]), FrameError::Control),
        (frame(0x89, &[0; 126], MASK), FrameError::Control),
        (masked(0x81, &[0xfe, 0, 1]), FrameError::Length),
        (
            masked(0x81, &[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            FrameError::Length,
        ),
        (
            masked(0x81, &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 1]),
            FrameError::Length,
        ),
        (
            masked(0x81, &[0xff, 0, 0, 0, 0, 2, 0, 0, 1]),
            FrameError::TooLong,
        ),
        (
            [frame(0x01, b"{", MASK), frame(0x81, b"}", MASK)].concat(),
            FrameError::Fragment,
        ),
    ] {
        assert_eq!(events(&bytes), Err(SocketError::Frame(wrong)), "{wrong:?}");
    }
}

#[test]
fn an_upstream_that_is_not_understood_is_unknown_and_never_an_error() {
    let broken = frame(0x81, b"no json", None);
    let (events, is_lost) = told([&*[
        broken,
        frame(
            0x81,
            br#"{"type":"response.created","response":{"id":"r"}}"#,
            None,
        ),
    ]
    .concat()]);
    assert!(!is_lost);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].facts.response_id.as_deref(), Some("r"));
    assert!(told([&[0xff, 0xff, 0xff][..]]).1);
}

#[test]
fn audio_billed_by_time_is_told_beside_the_usage() {
    let text = br#"{"type":"response.done","response":{"id":"r","usage":{}},"usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"billable_audio_seconds":2.5}}"#;
    let (events, _) = told([&*frame(0x81, text, None)]);
    assert_eq!(events[0].facts.billed_audio_ms, Some(2_500));
    let usage = events[0].reading.as_ref().unwrap().usage.as_ref().unwrap();
    assert_eq!(usage.total().total(), 30);
}

#[test]
fn a_request_in_an_event_is_read_as_over_http() {
    let text = br#"{"type":"response.create","model":"gpt-4o","input":"Hi","max_output_tokens":9,"stream_id":"a"}"#;
    let events = said(Speech::Responses, [&*frame(0x81, text, MASK)]).unwrap();
    let request = events[0].request.as_ref().unwrap();
    assert_eq!(request.model.as_deref(), Some("gpt-4o"));
    assert_eq!(request.output_limit, Some(9));
    assert_eq!(events[0].facts.stream_id.as_deref(), Some("a"));
    let twice = br#"{"type":"response.create","model":"gpt-4o","model":"x"}"#;
    let refused = said(Speech::Responses, [&*frame(0x81, twice, MASK)]);
    assert!(
        matches!(refused, Err(SocketError::Request(_))),
        "{refused:?}"
    );
}

/// Found by fuzzing: a ping in the same bytes as a fragment of no JSON hid it, until the next bytes came.
#[test]
fn a_message_that_is_wrong_is_told_before_the_control_frame_behind_it() {
    let bytes = [frame(0x01, b"no", MASK), frame(0x89, b"", MASK)].concat();
    assert_eq!(events(&bytes), Err(SocketError::NotJson));
}
