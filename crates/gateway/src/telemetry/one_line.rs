//! Keeps every log record on one line, whatever a client or an upstream put into its fields.

use std::io::{self, Write};

/// Standard error, with control characters inside a record written as `\u{…}`. The formatter gives each record in one piece.
#[derive(Debug)]
pub(super) struct OneLine<W> {
    inner: W,
    /// A terminal's colours are escape sequences of our own.
    keeps_escapes: bool,
}

impl<W: Write> OneLine<W> {
    pub(super) const fn new(inner: W, keeps_escapes: bool) -> Self {
        Self {
            inner,
            keeps_escapes,
        }
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let body = record.strip_suffix(b"\n").unwrap_or(record);
        let text = String::from_utf8_lossy(body);
        let is_clean = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
        if text.chars().all(is_clean) {
            self.inner.write_all(record)?;
            return Ok(record.len());
        }
        let mut line = String::with_capacity(text.len());
        for c in text.chars() {
            if is_clean(c) || (c == '\u{1b}' && self.keeps_escapes) {
                line.push(c);
            } else {
                line.extend(c.escape_unicode());
            }
        }
        line.push('\n');
        self.inner.write_all(line.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_one_line_without_control_characters() {
        let mut out = Vec::new();
        let hostile = "INFO error=a\nINFO forged\r\u{1b}[2J\u{0}\u{85}\u{2028}end\n";
        OneLine::new(&mut out, false)
            .write_all(hostile.as_bytes())
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "INFO error=a\\u{a}INFO forged\\u{d}\\u{1b}[2J\\u{0}\\u{85}\\u{2028}end\n"
        );
    }

    #[test]
    fn what_is_clean_is_not_touched() {
        let mut out = Vec::new();
        OneLine::new(&mut out, false)
            .write_all("INFO ümläut\n".as_bytes())
            .unwrap();
        assert_eq!(out, "INFO ümläut\n".as_bytes());
    }
}
