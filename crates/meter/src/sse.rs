//! Splits a server-sent event stream into events and `data` values, as borrowed pieces.
//!
//! No line is buffered: a `data` value of many megabytes passes in the pieces it came in. Lines end
//! in LF, CR or CRLF, cut anywhere (WHATWG HTML, "Interpreting an event stream").
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the only arithmetic is on indices bounded by a slice's length"
)]

use memchr::memchr2;

/// The longest field name we look for, `event`, and one byte to tell it from longer ones.
const NAME_BYTES_MAX: usize = 6;

/// What passes. Indices are in the bytes being pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The first byte of an event stands here.
    Begin { at: usize },
    /// A `data` line begins; pieces of its value follow.
    DataBegin,
    /// The next piece of the value of a `data` line.
    Data(&'a [u8]),
    /// A line ended here that was a comment: what came so far is no part of an event.
    Comment { end: usize },
    /// The next piece of the value of an `event` line.
    Name(&'a [u8]),
    /// The blank line that ends an event, or one between events, ends here.
    End { end: usize },
    /// The LF after the CR that the last `End` ended in.
    LateLf { end: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Comment,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Start,
    Name {
        name: [u8; NAME_BYTES_MAX],
        len: usize,
    },
    /// After the colon: one space may follow that is not part of the value.
    Space(Field),
    Value(Field),
}

/// The splitter. Its memory is one line's field name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splitter {
    line: Line,
    is_in_event: bool,
    /// The last byte was a CR, so an LF now belongs to the same line end.
    is_after_cr: bool,
    is_after_end: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            line: Line::Start,
            is_in_event: false,
            is_after_cr: false,
            is_after_end: false,
        }
    }
}

impl Splitter {
    /// Splits the next bytes and hands each part to `sink`.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8], mut sink: impl FnMut(Part<'a>)) {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            match self.line {
                Line::Start => {
                    let is_lf_of_cr = std::mem::take(&mut self.is_after_cr) && byte == b'\n';
                    if is_lf_of_cr {
                        if self.is_after_end {
                            sink(Part::LateLf { end: index + 1 });
                        }
                        index += 1;
                    } else if matches!(byte, b'\n' | b'\r') {
                        self.is_after_cr = byte == b'\r';
                        self.is_in_event = false;
                        self.is_after_end = true;
                        index += 1;
                        sink(Part::End { end: index });
                    } else {
                        self.is_after_end = false;
                        if !self.is_in_event {
                            self.is_in_event = true;
                            sink(Part::Begin { at: index });
                        }
                        // Nearly every line; the longer way is for names cut in two.
                        if bytes.get(index..).unwrap_or_default().starts_with(b"data:") {
                            index += 5;
                            self.line = Line::Space(Field::Data);
                            sink(Part::DataBegin);
                        } else {
                            self.line = Line::Name {
                                name: [0; NAME_BYTES_MAX],
                                len: 0,
                            };
                        }
                    }
                }
                Line::Name { mut name, len } => {
                    index += 1;
                    match byte {
                        b':' => {
                            let field = field(name.get(..len).unwrap_or_default());
                            self.line = Line::Space(field);
                            if field == Field::Data {
                                sink(Part::DataBegin);
                            }
                        }
                        b'\n' | b'\r' => {
                            self.is_after_cr = byte == b'\r';
                            self.line = Line::Start;
                        }
                        _ => match name.get_mut(len) {
                            Some(slot) => {
                                *slot = byte;
                                self.line = Line::Name { name, len: len + 1 };
                            }
                            None => self.line = Line::Value(Field::Other),
                        },
                    }
                }
                Line::Space(field) => {
                    self.line = Line::Value(field);
                    index += usize::from(byte == b' ');
                }
                Line::Value(field) => {
                    let rest = bytes.get(index..).unwrap_or_default();
                    let hit = memchr2(b'\n', b'\r', rest);
                    let piece = hit.and_then(|end| rest.get(..end)).unwrap_or(rest);
                    match field {
                        Field::Data if !piece.is_empty() => sink(Part::Data(piece)),
                        Field::Event if !piece.is_empty() => sink(Part::Name(piece)),
                        _ => {}
                    }
                    index += piece.len();
                    if hit.is_some() {
                        self.is_after_cr = bytes.get(index) == Some(&b'\r');
                        self.line = Line::Start;
                        index += 1;
                        if field == Field::Comment {
                            sink(Part::Comment { end: index });
                        }
                    }
                }
            }
        }
    }
}

fn field(name: &[u8]) -> Field {
    match name {
        b"data" => Field::Data,
        b"event" => Field::Event,
        b"" => Field::Comment,
        _ => Field::Other,
    }
}

/// What a `data` value is, decided by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Not decided: so many bytes of `[DONE]` or of a doubled `data:` have matched.
    Start { done: usize, data: usize },
    /// JSON: its bytes belong to the lexer.
    Json,
    /// `[DONE]`.
    Done,
    /// Anything else: no usage in it.
    Noise,
}

impl Payload {
    pub(crate) const START: Self = Self::Start { done: 0, data: 0 };
    const DONE: &'static [u8] = b"[DONE]";
    /// Some gateways frame what is framed already: `data: data: {…}`.
    const DATA: &'static [u8] = b"data:";

    /// Takes the next piece of an undecided payload; gives what belongs to the lexer: bytes of an
    /// array that looked like `[DONE]` at first, and the rest of the piece.
    pub(crate) fn sniff<'a>(&mut self, piece: &'a [u8]) -> (&'static [u8], &'a [u8]) {
        let mut index = 0;
        while let (Self::Start { done, data }, Some(&byte)) = (*self, piece.get(index)) {
            *self = match byte {
                _ if done > 0 => match Self::DONE.get(done) {
                    Some(&want) if want == byte && done + 1 == Self::DONE.len() => Self::Done,
                    Some(&want) if want == byte => Self::Start {
                        done: done + 1,
                        data: 0,
                    },
                    _ => {
                        *self = Self::Json;
                        return (
                            Self::DONE.get(..done).unwrap_or_default(),
                            piece.get(index..).unwrap_or_default(),
                        );
                    }
                },
                _ if data > 0 => match Self::DATA.get(data) {
                    Some(&want) if want == byte && data + 1 == Self::DATA.len() => Self::START,
                    Some(&want) if want == byte => Self::Start {
                        done: 0,
                        data: data + 1,
                    },
                    _ => Self::Noise,
                },
                b' ' | b'\t' => Self::START,
                b'[' => Self::Start { done: 1, data: 0 },
                b'd' => Self::Start { done: 0, data: 1 },
                b'{' => {
                    *self = Self::Json;
                    return (&[], piece.get(index..).unwrap_or_default());
                }
                _ => Self::Noise,
            };
            index += 1;
        }
        (&[], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as (name, data lines joined by `|`).
    fn events(bytes: &[u8], size: usize) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut events = vec![String::new()];
        for piece in bytes.chunks(size) {
            splitter.push(piece, |part| {
                let event = events.last_mut().unwrap();
                match part {
                    Part::DataBegin => event.push('|'),
                    Part::Data(piece) => event.push_str(&String::from_utf8_lossy(piece)),
                    Part::Name(piece) => event.push_str(
                        &format!("<{}>", String::from_utf8_lossy(piece)).replace("><", ""),
                    ),
                    Part::End { .. } if !event.is_empty() => events.push(String::new()),
                    _ => {}
                }
            });
        }
        events.iter().map(|event| event.replace("><", "")).collect()
    }

    #[track_caller]
    fn reads(bytes: &str, want: &[&str]) {
        for size in 1..=bytes.len() {
            assert_eq!(events(bytes.as_bytes(), size), want, "pieces of {size}");
        }
    }

    #[test]
    fn any_line_end_cut_anywhere() {
        for end in ["\n", "\r\n", "\r"] {
            reads(
                &"data: a\ndata:b\n\nevent: x\ndata:  c\n\n".replace('\n', end),
                &["|a|b", "<x>| c", ""],
            );
        }
        reads(
            "data: a\r\rdata: b\n\r\ndata: c\r\n\n",
            &["|a", "|b", "|c", ""],
        );
    }

    #[test]
    fn comments_and_unknown_fields_are_passed_over() {
        reads(
            ": hi\n\n:\n:ok\ndata: a\nid: 1\nretry: 5\ndatax: n\ndata\nlongerfield: data: x\nnoise\n\n",
            &["|a", ""],
        );
    }

    #[test]
    fn a_last_event_needs_no_blank_line() {
        reads("data: a\n\ndata: b", &["|a", "|b"]);
    }

    #[test]
    fn payloads_are_told_apart_by_their_first_bytes() {
        for (text, want, left) in [
            ("[DONE]", Payload::Done, ""),
            (" [DONE]  ", Payload::Done, ""),
            ("[DONE] and more", Payload::Done, ""),
            ("{\"a\"", Payload::Json, "{\"a\""),
            ("data: {1", Payload::Json, "{1"),
            ("data:data: {1", Payload::Json, "{1"),
            ("[DON{}]", Payload::Json, "[DON{}]"),
            ("[{}]", Payload::Json, "[{}]"),
            (": PING", Payload::Noise, ""),
            ("dat", Payload::Start { done: 0, data: 3 }, ""),
            ("ok", Payload::Noise, ""),
        ] {
            for size in 1..=text.len() {
                let mut payload = Payload::START;
                let mut kept = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    if payload == Payload::Json {
                        kept.extend_from_slice(piece);
                    } else {
                        let (before, rest) = payload.sniff(piece);
                        kept.extend_from_slice(before);
                        kept.extend_from_slice(rest);
                    }
                }
                assert_eq!(
                    (payload, String::from_utf8(kept).unwrap().as_str()),
                    (want, left),
                    "{text}"
                );
            }
        }
    }
}
