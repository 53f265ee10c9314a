//! Hides the usage frame of a stream whose client did not ask for one.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::{
    lexer::{Here, Kind, Lexer, Scrap, Visitor},
    sse::{Part, Payload, Splitter},
};

/// The largest frame held back while it may still be the usage frame. Those seen are below 4 KiB.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Longer keys are neither `choices` nor `usage`.
const KEY_BYTES_MAX: usize = 8;

/// Drops the frame with `"choices":[]` and a usage object from an SSE answer (identity encoding).
///
/// Every other byte passes, in order, as soon as it cannot be part of such a frame: in a usual chunk
/// that is when `"choices":[{` has come. A frame above 16 KiB passes.
#[derive(Debug, Default)]
pub struct UsageFrameFilter {
    splitter: Splitter,
    sorter: Sorter,
}

impl UsageFrameFilter {
    /// A filter at the start of an answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives those that may pass now: the same `Bytes`, uncopied, in the
    /// usual case that nothing is held back or dropped.
    ///
    /// An answer of which a tail must wait is pushed in two parts, before and from the tail.
    #[must_use]
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        let Self { splitter, sorter } = self;
        sorter.mark = 0;
        splitter.push(&bytes, |part| sorter.part(part));
        sorter.hold_or_settle(&bytes);
        sorter.take(bytes)
    }

    /// Gives what is still held back, at the end of the answer.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        self.sorter.held.split().freeze()
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It may still be the usage frame.
    Open,
    #[default]
    Pass,
    Drop,
}

/// Sorts bytes into those that pass, those that are held and those that are dropped.
#[derive(Debug, Default)]
struct Sorter {
    fate: Fate,
    /// A frame has begun and its blank line has not come.
    is_in_frame: bool,
    /// Bytes of an open frame from before the ones being pushed.
    held: BytesMut,
    /// The held bytes pass, ahead of everything in `pass`.
    is_held_released: bool,
    /// Up to here the bytes being pushed are sorted.
    mark: usize,
    /// What passes of the bytes being pushed; nearly always one range.
    pass: Vec<Range<usize>>,
    lexer: Lexer<false>,
    payload: Option<Payload>,
    shape: Shape,
}

impl Sorter {
    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Begin { at } => {
                self.settle(at);
                self.is_in_frame = true;
                self.fate = Fate::Open;
                self.payload = None;
                self.lexer = Lexer::default();
                self.shape.clear();
            }
            Part::DataBegin if self.payload == Some(Payload::Json) => self.json(b"\n"),
            Part::DataBegin => self.payload = Some(Payload::START),
            Part::Data(piece) => match &mut self.payload {
                Some(Payload::Json) => self.json(piece),
                Some(payload) => {
                    let (before, rest) = payload.sniff(piece);
                    match payload {
                        Payload::Done | Payload::Noise => self.pass(),
                        _ => {}
                    }
                    self.json(before);
                    self.json(rest);
                }
                None => {}
            },
            Part::Comment { end } if self.fate == Fate::Open && self.payload.is_none() => {
                self.fate = Fate::Pass;
                self.settle(end);
                self.fate = Fate::Open;
            }
            Part::End { end } => {
                if self.fate == Fate::Open || !self.is_in_frame {
                    self.fate = Fate::Pass;
                }
                self.is_in_frame = false;
                self.settle(end);
            }
            Part::LateLf { end } => self.settle(end),
            Part::Comment { .. } | Part::Name(_) => {}
        }
    }

    fn pass(&mut self) {
        if self.fate == Fate::Open {
            self.fate = Fate::Pass;
        }
    }

    fn json(&mut self, piece: &[u8]) {
        if self.fate != Fate::Open || piece.is_empty() {
            return;
        }
        if self.lexer.push(piece, &mut self.shape).is_err() {
            self.fate = Fate::Pass;
        } else if self.lexer.is_done() {
            self.fate = if self.shape.is_usage_frame() {
                Fate::Drop
            } else {
                Fate::Pass
            };
        }
    }

    /// Sorts the bytes up to `end` by the fate of the frame they belong to.
    fn settle(&mut self, end: usize) {
        match self.fate {
            Fate::Open => return,
            Fate::Pass => {
                self.is_held_released |= !self.held.is_empty();
                match self.pass.last_mut() {
                    Some(last) if last.end == self.mark => last.end = end,
                    _ if end > self.mark => self.pass.push(self.mark..end),
                    _ => {}
                }
            }
            Fate::Drop if self.is_held_released => {}
            Fate::Drop => self.held.clear(),
        }
        self.mark = end;
    }

    /// At the end of the bytes being pushed: those of an open frame are held.
    fn hold_or_settle(&mut self, bytes: &[u8]) {
        let open = bytes.get(self.mark..).unwrap_or_default();
        let held = if self.is_held_released {
            0
        } else {
            self.held.len()
        };
        if held.saturating_add(open.len()) > HELD_BYTES_MAX {
            self.pass();
        }
        self.settle(bytes.len());
    }

    /// What passes of these bytes, and what was held before them.
    fn take(&mut self, bytes: Bytes) -> Bytes {
        let released = if std::mem::take(&mut self.is_held_released) {
            self.held.split()
        } else {
            BytesMut::new()
        };
        self.held
            .extend_from_slice(bytes.get(self.mark..).unwrap_or_default());
        let passed = match self.pass.as_slice() {
            [] if released.is_empty() => Bytes::new(),
            [only] if released.is_empty() => bytes.slice(only.clone()),
            ranges => {
                let mut together = released;
                for range in ranges {
                    together.extend_from_slice(bytes.get(range.clone()).unwrap_or_default());
                }
                together.freeze()
            }
        };
        self.pass.clear();
        passed
    }
}

/// What a frame's JSON has shown.
#[derive(Debug)]
struct Shape {
    key: Scrap,
    is_key: bool,
    has_no_choices: bool,
    has_usage: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            key: Scrap::new(KEY_BYTES_MAX),
            is_key: false,
            has_no_choices: false,
            has_usage: false,
        }
    }
}

impl Shape {
    fn clear(&mut self) {
        self.is_key = false;
        self.has_no_choices = false;
        self.has_usage = false;
    }

    fn is_usage_frame(&self) -> bool {
        self.has_no_choices && self.has_usage
    }
}

/// The frame is not the usage frame.
#[derive(Debug)]
struct IsOther;

impl Visitor for Shape {
    type Stop = IsOther;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), IsOther> {
        let is_choices = self.key.bytes() == b"choices";
        match (here.depth, kind) {
            (0, Kind::Object) => {}
            (0, _) => return Err(IsOther),
            (1, Kind::Key) => {
                self.key.clear();
                self.is_key = true;
            }
            (1, Kind::Array) if is_choices => self.has_no_choices = true,
            (1, _) if is_choices => return Err(IsOther),
            (1, Kind::Object) if self.key.bytes() == b"usage" => self.has_usage = true,
            (2, _) if is_choices => return Err(IsOther),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) {
        if self.is_key {
            self.key.text(piece);
        }
    }

    fn unit(&mut self, unit: u16) {
        if self.is_key {
            self.key.unit(unit);
        }
    }

    fn end(&mut self, kind: Kind, _: Here<'_>) -> Result<(), IsOther> {
        if kind == Kind::Key {
            self.is_key = false;
        }
        Ok(())
    }
}
