//! The answer meter on recorded answers, and on the oddities of streams.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod dialects;
mod encode;
mod estimates;
mod recorded;
mod streams;
mod usage;

use meter::{AnswerMeter, Api, Progress, Reading};

/// A body shown in pieces, and what was read.
struct Shown {
    reading: Reading,
    /// Offset in the body from which bytes must wait.
    tail: Option<usize>,
    /// Bytes shown when the terminal event was reported.
    shown: usize,
}

fn show<'a>(mut meter: AnswerMeter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Shown {
    let (mut tail, mut shown, mut at) = (None, 0, 0);
    for piece in pieces {
        if let Progress::Terminal { tail: within } = meter.push(piece) {
            assert_eq!(tail, None, "the terminal event is reported once");
            assert!(within <= piece.len());
            tail = Some(at + within);
            shown = at + piece.len();
        }
        at += piece.len();
    }
    Shown {
        reading: meter.finish(),
        tail,
        shown,
    }
}

/// The reading of an identity answer, the same however it is cut.
#[track_caller]
fn read(api: Api, body: impl AsRef<[u8]>) -> Reading {
    let body = body.as_ref();
    let new = || AnswerMeter::new(api, 200, None, None);
    let whole = show(new(), [body]).reading;
    for size in [1, 2, 3, 5, 7, 64] {
        assert_eq!(
            show(new(), body.chunks(size)).reading,
            whole,
            "pieces of {size}"
        );
    }
    whole
}
