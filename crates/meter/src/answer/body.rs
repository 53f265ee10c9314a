//! Finds out whether an answer is JSON or an event stream, and reads it.

use super::{audio::Audio, event::Event, harvest::Harvest};
use crate::{
    Api,
    lexer::Lexer,
    sse::{Part, Payload, Splitter},
};

/// Event names longer than this are none of ours.
const NAME_BYTES_MAX: usize = 32;

/// What the content shows itself to be. The content type is wrong too often to decide: errors come
/// as event streams, streams as octets, and DeepSeek sends blank lines before JSON while it waits.
#[derive(Debug)]
enum Shape {
    /// Only white space and perhaps a byte order mark came.
    Unknown,
    Json(Lexer<false>),
    /// JSON after JSON (Ollama): the last says so.
    Lines(Lines),
    /// A sound file.
    Audio(Audio),
    /// Also what is neither (HTML, text): no line of it is an event.
    Stream(Stream),
}

#[derive(Debug)]
struct Lines {
    lexer: Lexer<false>,
    /// A line has begun and not ended.
    is_in_line: bool,
}

#[derive(Debug)]
struct Stream {
    splitter: Splitter,
    lexer: Lexer<false>,
    payload: Payload,
    name: Vec<u8>,
    /// Where the current event starts in the bytes being pushed; 0 if it came before.
    begins: usize,
}

/// The plain bytes of an answer, read as they come.
#[derive(Debug)]
pub(super) struct Body {
    api: Api,
    shape: Shape,
    pub(super) harvest: Harvest,
    /// The terminal event has passed.
    pub(super) is_complete: bool,
    /// Some JSON was broken.
    pub(super) is_lost: bool,
}

impl Body {
    pub(super) fn new(api: Api, content_type: &str) -> Self {
        let is_audio = api == Api::Speech && content_type.starts_with("audio/");
        Self {
            api,
            shape: if is_audio {
                Shape::Audio(Audio::new(content_type))
            } else {
                Shape::Unknown
            },
            harvest: Harvest::new(api),
            is_complete: false,
            is_lost: false,
        }
    }

    /// Reads the next plain bytes; where the terminal event starts in them, once, when it ends in them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut skipped = 0;
        if matches!(self.shape, Shape::Unknown) {
            let blank =
                |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf);
            skipped = bytes.iter().take_while(|byte| blank(byte)).count();
            self.shape = match bytes.get(skipped) {
                None => return None,
                Some(b'{') if self.api == Api::Generate => Shape::Lines(Lines {
                    lexer: Lexer::default(),
                    is_in_line: true,
                }),
                Some(b'{' | b'[') => Shape::Json(Lexer::default()),
                Some(_) => Shape::Stream(Stream {
                    splitter: Splitter::default(),
                    lexer: Lexer::default(),
                    payload: Payload::Noise,
                    name: Vec::new(),
                    begins: 0,
                }),
            };
            self.harvest
                .begin_document(matches!(self.shape, Shape::Stream(_)), false);
        }
        let was_complete = self.is_complete;
        let bytes = bytes.get(skipped..).unwrap_or_default();
        let mut begins = 0;
        match &mut self.shape {
            Shape::Unknown => {}
            Shape::Json(lexer) => {
                if !self.is_lost && !self.is_complete {
                    self.is_lost = lexer.push(bytes, &mut self.harvest).is_err();
                    self.harvest.after(bytes);
                    self.is_complete = lexer.is_done();
                }
            }
            Shape::Lines(lines) => {
                let at = lines.push(bytes, &mut self.harvest, &mut self.is_lost);
                self.is_complete |= at.is_some();
                begins = at.map_or(0, |at| {
                    if at == 0 {
                        0
                    } else {
                        at.saturating_add(skipped)
                    }
                });
            }
            Shape::Audio(audio) => audio.push(bytes),
            Shape::Stream(stream) => {
                stream.begins = 0;
                let mut reader = Reader {
                    api: self.api,
                    stream,
                    harvest: &mut self.harvest,
                    terminal: None,
                    is_lost: false,
                };
                // The splitter is small: a copy of it works while the parts go to the rest.
                let mut splitter = reader.stream.splitter;
                splitter.push(bytes, |part| reader.part(part));
                let Reader {
                    terminal, is_lost, ..
                } = reader;
                stream.splitter = splitter;
                self.is_lost |= is_lost;
                self.is_complete |= terminal.is_some();
                begins = terminal.map_or(0, |at| {
                    if at == 0 {
                        0
                    } else {
                        at.saturating_add(skipped)
                    }
                });
            }
        }
        (self.is_complete && !was_complete).then_some(begins)
    }

    /// The bytes have ended. What a last event without a blank line said is known already.
    pub(super) fn finish(&mut self) {
        if let Shape::Stream(stream) = &self.shape {
            self.harvest.is_error |= Event::named(self.api, &stream.name) == Event::Error;
        }
    }

    /// How long the sound plays that passed.
    pub(super) fn audio_ms(&self) -> Option<u64> {
        match &self.shape {
            Shape::Audio(audio) => audio.duration_ms(),
            _ => None,
        }
    }
}

impl Lines {
    /// Reads on; where the last line starts, once it has closed. What is left of a broken line is passed over.
    fn push(&mut self, bytes: &[u8], harvest: &mut Harvest, is_lost: &mut bool) -> Option<usize> {
        let mut last = None;
        // A line that began in earlier bytes begins, for these, at 0.
        let mut begins = 0;
        let mut at = 0_usize;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_blank = line.trim_ascii().is_empty();
            if !self.is_in_line && !is_blank {
                *self = Self {
                    lexer: Lexer::default(),
                    is_in_line: true,
                };
                *is_lost = false;
                harvest.begin_document(true, false);
                begins = at;
            }
            if self.is_in_line && !*is_lost {
                *is_lost = self.lexer.push(line, harvest).is_err();
                harvest.after(line);
            }
            if self.is_in_line && self.lexer.is_done() && harvest.is_done {
                last.get_or_insert(begins);
            }
            let is_over = *is_lost || self.lexer.is_done();
            self.is_in_line &= !(is_over && line.ends_with(b"\n"));
            at = at.saturating_add(line.len());
        }
        last
    }
}

/// What the parts of a stream are read with.
struct Reader<'a> {
    api: Api,
    stream: &'a mut Stream,
    harvest: &'a mut Harvest,
    /// Where the first terminal event of these bytes starts.
    terminal: Option<usize>,
    is_lost: bool,
}

impl Reader<'_> {
    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Begin { at } => self.stream.begins = at,
            Part::Name(piece) => {
                let room = NAME_BYTES_MAX
                    .saturating_add(1)
                    .saturating_sub(self.stream.name.len());
                self.stream.name.extend(piece.iter().take(room));
            }
            Part::DataBegin => self.begin_data(),
            Part::Data(piece) if self.stream.payload == Payload::Json => self.json(piece),
            Part::Data(piece) => {
                let (before, rest) = self.stream.payload.sniff(piece);
                self.json(before);
                self.json(rest);
                if self.stream.payload == Payload::Done {
                    self.terminate();
                }
            }
            Part::End { .. } => self.end_event(),
            Part::Comment { .. } | Part::LateLf { .. } => {}
        }
    }

    fn begin_data(&mut self) {
        let lexer = &self.stream.lexer;
        if lexer.is_begun() && !lexer.is_done() && self.stream.payload == Payload::Json {
            // The second line of a value: joined by a line feed.
            return self.json(b"\n");
        }
        // A new event, or one that a sloppy server did not separate by a blank line.
        self.end_document();
        self.stream.payload = Payload::START;
    }

    fn json(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let was_done = self.stream.lexer.is_done();
        if self.stream.lexer.push(piece, self.harvest).is_err() {
            self.is_lost = true;
            self.stream.payload = Payload::Noise;
        }
        self.harvest.after(piece);
        if self.stream.lexer.is_done() && !was_done {
            self.end_value();
        }
    }

    /// The JSON of an event has closed: without these bytes no client has the event.
    fn end_value(&mut self) {
        let event = match self.harvest.event {
            Event::Other => Event::named(self.api, &self.stream.name),
            event => event,
        };
        if event == Event::ImageDone {
            self.harvest.images = self.harvest.images.saturating_add(1);
            self.harvest.is_finished = true;
        }
        if matches!(self.api, Api::ChatCompletions | Api::Completions) {
            return;
        }
        // More may follow an error: text, and the terminal event with the usage.
        self.harvest.is_error |= event == Event::Error;
        if event == Event::Terminal {
            self.terminate();
        }
    }

    fn terminate(&mut self) {
        self.terminal.get_or_insert(self.stream.begins);
    }

    fn end_document(&mut self) {
        self.stream.lexer = Lexer::default();
        let is_beside = Event::is_beside(self.api, &self.stream.name);
        self.harvest.begin_document(true, is_beside);
    }

    fn end_event(&mut self) {
        match Event::named(self.api, &self.stream.name) {
            Event::Error => self.harvest.is_error = true,
            // Its JSON may have been broken.
            Event::Terminal => self.terminate(),
            _ => {}
        }
        self.stream.name.clear();
        self.end_document();
        self.stream.payload = Payload::Noise;
    }
}
