//! The filter that hides the extra usage frame.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::Bytes;
use meter::UsageFrameFilter;

fn filtered(stream: &[u8], size: usize) -> String {
    let mut filter = UsageFrameFilter::new();
    let mut out = Vec::new();
    for piece in stream.chunks(size.max(1)) {
        out.extend_from_slice(&filter.push(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&filter.finish());
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn gives(stream: &str, want: &str) {
    for size in 1..=stream.len() {
        assert_eq!(filtered(stream.as_bytes(), size), want, "pieces of {size}");
    }
}

const CHUNK: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"choices\\\":[]\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn only_the_usage_frame_goes() {
    gives(
        &format!("{CHUNK}{CHUNK}{USAGE}{DONE}"),
        &format!("{CHUNK}{CHUNK}{DONE}"),
    );
    let crlf = |text: String| text.replace('\n', "\r\n");
    gives(
        &crlf(format!("{CHUNK}{USAGE}{DONE}")),
        &crlf(format!("{CHUNK}{DONE}")),
    );
    let cr = |text: String| text.replace('\n', "\r");
    gives(
        &cr(format!("{CHUNK}{USAGE}{DONE}")),
        &cr(format!("{CHUNK}{DONE}")),
    );
}

#[test]
fn key_order_white_space_and_event_lines_do_not_matter() {
    let usage =
        "event: x\nid: 7\ndata: { \"usage\" : { \"a\" : [ { } ] } , \"choices\" : [ ] }\n\n";
    gives(&format!("{CHUNK}{usage}{DONE}"), &format!("{CHUNK}{DONE}"));
    gives(
        "data: {\"choices\":[],\ndata: \"usage\":{}}\n\ndata: x\n\n",
        "data: x\n\n",
    );
}

#[test]
fn frames_like_it_pass() {
    for frame in [
        // Azure's first, and one with moderation results.
        "data: {\"choices\":[],\"prompt_filter_results\":[{\"usage\":{}}]}\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
        // Usage beside a choice.
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"total_tokens\":3}}\n\n",
        "data: {\"usage\":{\"total_tokens\":3},\"choices\":[0]}\n\n",
        "data: {\"usage\":{\"total_tokens\":3}}\n\n",
        "data: {\"error\":{\"choices\":[],\"usage\":{}}}\n\n",
        "data: {\"choices\":[],\"usage\":{}\n\n",
        "data: [{\"choices\":[],\"usage\":{}}]\n\n",
        ": comment\n\n\n\n\r\n",
        "event: ping\n\n",
        "data\n\ndata:\n\nfoo\n\n",
    ] {
        gives(
            &format!("{CHUNK}{frame}{DONE}"),
            &format!("{CHUNK}{frame}{DONE}"),
        );
    }
}

#[test]
fn an_unfinished_frame_passes_at_the_end() {
    gives(
        "data: {\"choices\":[],\"usage\":{\"a",
        "data: {\"choices\":[],\"usage\":{\"a",
    );
}

#[test]
fn bytes_pass_as_soon_as_they_cannot_be_the_frame() {
    let mut filter = UsageFrameFilter::new();
    assert!(
        filter
            .push(Bytes::from_static(b"data: {\"choices\":["))
            .is_empty()
    );
    assert_eq!(
        filter.push(Bytes::from_static(b"{\"de")),
        "data: {\"choices\":[{\"de"
    );
    assert_eq!(filter.push(Bytes::from_static(b"lta\"")), "lta\"");
    assert_eq!(
        filter.push(Bytes::from_static(b":{}}]}\n\n: hold ")),
        ":{}}]}\n\n"
    );
    assert_eq!(filter.push(Bytes::from_static(b"on\n")), ": hold on\n");
}

#[test]
fn a_usual_chunk_is_not_copied() {
    let bytes = Bytes::from(format!("{CHUNK}{CHUNK}"));
    let out = UsageFrameFilter::new().push(bytes.clone());
    assert_eq!(out.as_ptr(), bytes.as_ptr());
    assert_eq!(out, bytes);
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut filter = UsageFrameFilter::new();
    let mut stream = b"data: {\"choices\":[],\"usage\":{\"a\":\"".to_vec();
    stream.resize(20_000, b'x');
    let mut passed = 0;
    for piece in stream.chunks(100) {
        passed += filter.push(Bytes::copy_from_slice(piece)).len();
        assert!(passed == 0 || passed > 16_000);
    }
    assert_eq!(passed, stream.len());
}
