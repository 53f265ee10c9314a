//! A meter survives any bytes in any coding and reads the same however they are cut; so does the
//! filter, which only ever drops.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meter::{AnswerMeter, Api, Reading, UsageFrameFilter};

fn read<'a>(api: Api, coding: Option<&str>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    // Only speech looks at it.
    let mut meter = AnswerMeter::new(api, 200, Some("audio/mpeg"), coding);
    for piece in pieces {
        meter.push(piece);
    }
    meter.finish()
}

fn filter<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut filter = UsageFrameFilter::new();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&filter.push(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&filter.finish());
    out
}

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (family, how, size, body) = input;
    let size = usize::from(size).max(1);
    let api = Api::ALL[usize::from(family) % Api::ALL.len()];
    let coding = [None, None, None, Some("gzip"), Some("deflate"), Some("br"), Some("zstd")][usize::from(how % 7)];
    let whole = read(api, coding, [body]);
    // A corrupt coding may be noticed sooner or later.
    if coding.is_none() {
        assert_eq!(whole, read(api, coding, body.chunks(size)));
    } else {
        read(api, coding, body.chunks(size));
    }
    if let Some(usage) = &whole.usage {
        assert!(usage.total().total() < 1 << 60);
    }
    let filtered = filter([body]);
    assert_eq!(filtered, filter(body.chunks(size)));
    let mut rest = body.iter();
    assert!(filtered.iter().all(|byte| rest.any(|other| other == byte)));
});
