//! Exports in lines: CSV and JSON. A file of them can be gone on with.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
};

use ledger::admin::NumberedCharge;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value as JsonValue;
use tariff::Amount;

use super::{
    Sink,
    columns::{COLUMNS, Value, instant},
};

/// How far from a file's end its last whole line is looked for. Lines of ours are much shorter.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;

/// How charges become lines.
pub(super) trait Format {
    /// Whether the file begins with names.
    fn head(&self) -> Option<String> {
        None
    }

    /// One charge, with the newline.
    fn line(&self, charge: &NumberedCharge, into: &mut Vec<u8>) -> io::Result<()>;

    /// Where the file's last whole line ends, and its charge's number; `None` where there is no charge in it.
    fn last(&self, file: &mut File) -> io::Result<Option<(u64, i64)>>;
}

/// Writes them.
pub(super) struct Lines {
    format: Box<dyn Format>,
    out: Box<dyn Write>,
    has_head: bool,
    buffer: Vec<u8>,
}

impl Lines {
    /// `is_begun`: names stand there already.
    pub(super) fn new(format: Box<dyn Format>, out: Box<dyn Write>, is_begun: bool) -> Self {
        Self {
            format,
            out,
            has_head: is_begun,
            buffer: Vec::new(),
        }
    }

    fn begin(&mut self) {
        if !self.has_head {
            self.has_head = true;
            if let Some(head) = self.format.head() {
                self.buffer.extend_from_slice(head.as_bytes());
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}

impl Sink for Lines {
    fn write(&mut self, charges: &[NumberedCharge]) -> io::Result<()> {
        self.begin();
        for charge in charges {
            self.format.line(charge, &mut self.buffer)?;
        }
        self.send()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.begin();
        self.send()
    }
}

/// Opens a file that was left unfinished: what is torn at its end is cut off, and it goes on behind its last charge.
pub(super) fn reopen(format: &dyn Format, path: &Path) -> io::Result<(File, Option<i64>)> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let last = format.last(&mut file)?;
    let (end, seq) = last.map_or((0, None), |(end, seq)| (end, Some(seq)));
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok((file, seq))
}

/// CSV with a header.
pub(super) struct Csv;

impl Format for Csv {
    fn head(&self) -> Option<String> {
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        Some(names.join(",") + "\n")
    }

    fn line(&self, charge: &NumberedCharge, into: &mut Vec<u8>) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(into);
        for column in COLUMNS {
            writer.write_field(match column.of(charge) {
                Value::Null => String::new(),
                Value::Int(number) => number.to_string(),
                Value::Text(text) => text.into_owned(),
                Value::Bool(yes) => yes.to_string(),
                Value::Time(ms) => instant(ms),
                Value::Usd(nano) => Amount::from_nano(nano).to_string(),
            })?;
        }
        writer.write_record(None::<&[u8]>)?;
        writer.flush()
    }

    /// A text may have a newline in it, so records are counted from the beginning.
    fn last(&self, file: &mut File) -> io::Result<Option<(u64, i64)>> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_reader(&mut *file);
        let mut record = csv::ByteRecord::new();
        let mut whole = None;
        let mut before = None;
        while reader.read_byte_record(&mut record)? {
            before = whole;
            let seq = record.get(0).and_then(|it| str::from_utf8(it).ok());
            let seq = seq.and_then(|seq| seq.parse().ok());
            let (Some(seq), true) = (seq, record.len() == COLUMNS.len()) else {
                break;
            };
            whole = Some((reader.position().byte(), seq));
        }
        drop(reader);
        let length = file.seek(SeekFrom::End(0))?;
        // Its last field may be torn, and still be one.
        match whole {
            Some((end, _)) if end == length && !ends_line(file)? => Ok(before),
            whole => Ok(whole),
        }
    }
}

fn ends_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == [b'\n'])
}

/// One JSON object on each line.
pub(super) struct Json;

impl Format for Json {
    fn line(&self, charge: &NumberedCharge, into: &mut Vec<u8>) -> io::Result<()> {
        serde_json::to_writer(&mut *into, &Object(charge))?;
        into.push(b'\n');
        Ok(())
    }

    fn last(&self, file: &mut File) -> io::Result<Option<(u64, i64)>> {
        last_line(file, |line| line.get("charge_seq")?.as_i64())
    }
}

/// A charge by the names of its columns, in their order.
struct Object<'a>(&'a NumberedCharge);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(COLUMNS.len()))?;
        for column in COLUMNS {
            let name = column.name;
            match column.of(self.0) {
                Value::Null => object.serialize_entry(name, &()),
                Value::Int(number) => object.serialize_entry(name, &number),
                Value::Text(text) => object.serialize_entry(name, &text),
                Value::Bool(yes) => object.serialize_entry(name, &yes),
                Value::Time(ms) => object.serialize_entry(name, &instant(ms)),
                Value::Usd(nano) => {
                    object.serialize_entry(name, &Amount::from_nano(nano).to_string())
                }
            }?;
        }
        object.end()
    }
}

/// The last whole line of JSON: where it ends and its number.
pub(super) fn last_line(
    file: &mut File,
    number: impl Fn(&JsonValue) -> Option<i64>,
) -> io::Result<Option<(u64, i64)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
    let Some(newline) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return if start == 0 { Ok(None) } else { Err(foreign()) };
    };
    let line = tail.get(..newline).unwrap_or_default();
    let line = line.rsplit(|byte| *byte == b'\n').next();
    let line: JsonValue =
        serde_json::from_slice(line.unwrap_or_default()).map_err(|_| foreign())?;
    let end = start.saturating_add(u64::try_from(newline).unwrap_or(u64::MAX));
    let seq = number(&line).ok_or_else(foreign)?;
    Ok(Some((end.saturating_add(1), seq)))
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its last line is none of such an export",
    )
}
