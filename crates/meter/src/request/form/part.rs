//! One part of a form: what its headers name, and what its content comes to.

use super::super::{BodyErrorKind as K, RequestFacts, keys::folds_to};
use crate::{Api, BatchAsks, BatchReader};

/// The longest value of a field that is read.
const VALUE_BYTES_MAX: usize = 512;
/// The longest boundary (RFC 2046).
const BOUNDARY_BYTES_MAX: usize = 70;
/// The largest `n`. OpenAI stops at 10.
const CHOICES_MAX: u64 = 1024;

/// The fields that decide what a form may cost.
const FIELDS: [&str; 9] = [
    "model",
    "stream",
    "n",
    "size",
    "quality",
    "response_format",
    "stream_format",
    "seconds",
    "purpose",
];

/// The field that says in which charset the others are (RFC 7578 4.6).
const CHARSET_FIELD: &str = "_charset_";

/// What is wrong, and with which field.
type Fault = (K, Option<&'static str>);

/// The part now passing.
#[derive(Debug)]
pub(super) struct Part {
    api: Api,
    /// Its place in [`FIELDS`].
    field: Option<usize>,
    is_file: bool,
    /// The content begins behind so many bytes: the line end of the headers.
    skip: usize,
    value: Vec<u8>,
    bytes: u64,
    seen: u16,
    /// Reads the requests in the first file, where it may be meant for a batch.
    requests: Option<BatchReader>,
    has_file: bool,
}

impl Part {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            field: None,
            is_file: false,
            skip: 0,
            value: Vec::new(),
            bytes: 0,
            seen: 0,
            requests: (api == Api::Files).then(BatchReader::default),
            has_file: false,
        }
    }

    /// A part begins with these headers.
    pub(super) fn begin(&mut self, head: &[u8]) -> Result<(), Fault> {
        let head = std::str::from_utf8(head).map_err(|_| (K::NotUtf8, None))?;
        let mut disposition = None;
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let syntax = (K::FormSyntax, None);
            let (name, value) = line.split_once(':').ok_or(syntax)?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || !name.bytes().all(is_name) || value.contains(['\r', '\n', '\0']) {
                return Err(syntax);
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                if disposition.replace(value.trim()).is_some() {
                    return Err(syntax);
                }
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                let coding = value.trim().to_ascii_lowercase();
                if !matches!(&*coding, "binary" | "8bit" | "7bit") {
                    return Err((K::FormCoding, None));
                }
            } else if name.eq_ignore_ascii_case("content-encoding")
                || (name.eq_ignore_ascii_case("content-type") && !is_plain_type(value))
            {
                return Err((K::FormCoding, None));
            }
        }
        let disposition = disposition.ok_or((K::FormSyntax, None))?;
        let (name, is_file) = parse_disposition(disposition).ok_or((K::FormSyntax, None))?;
        if folds_to(name.as_bytes(), CHARSET_FIELD) {
            return Err((K::FormCoding, None));
        }
        self.field = None;
        self.is_file = is_file;
        self.skip = 2;
        self.value.clear();
        self.bytes = 0;
        for (at, field) in FIELDS.iter().enumerate() {
            if !folds_to(name.as_bytes(), field) {
                continue;
            }
            if name != *field {
                return Err((K::LookalikeKey, Some(field)));
            }
            let bit = 1_u16.wrapping_shl(u32::try_from(at).unwrap_or(0));
            if self.seen & bit != 0 {
                return Err((K::DuplicateKey, Some(field)));
            }
            if is_file {
                return Err((K::ExpectedString, Some(field)));
            }
            self.seen |= bit;
            self.field = Some(at);
        }
        Ok(())
    }

    /// What the requests in the first file ask for, if it is meant for a batch.
    pub(super) fn take_requests(&mut self, facts: &RequestFacts) -> Option<Box<BatchAsks>> {
        let requests = self.requests.take()?;
        (facts.purpose.as_deref() == Some("batch")).then(|| Box::new(requests.finish()))
    }

    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// The next bytes of its content, with the line end of the headers before the first.
    pub(super) fn content(&mut self, content: &[u8]) -> Result<(), Fault> {
        let skipped = self.skip.min(content.len());
        self.skip = self.skip.saturating_sub(skipped);
        let content = content.get(skipped..).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        if self.is_file
            && !self.has_file
            && let Some(requests) = &mut self.requests
        {
            requests.push(content);
        }
        if let Some(field) = self.field {
            self.value.extend_from_slice(content);
            if self.value.len() > VALUE_BYTES_MAX {
                return Err((K::StringTooLong, FIELDS.get(field).copied()));
            }
        }
        Ok(())
    }

    /// Its content has passed whole.
    pub(super) fn end(&mut self, facts: &mut RequestFacts) -> Result<(), Fault> {
        if self.is_file {
            facts.file_bytes = facts.file_bytes.saturating_add(self.bytes);
            facts.refers_outside = true;
            self.has_file = true;
        }
        let Some(field) = self.field.take().and_then(|at| FIELDS.get(at).copied()) else {
            return Ok(());
        };
        let fault = |kind| (kind, Some(field));
        let value = std::str::from_utf8(&self.value).map_err(|_| fault(K::NotUtf8))?;
        if value.chars().any(char::is_control) {
            return Err(fault(K::ControlInValue));
        }
        let text = Some(value.to_owned()).filter(|value| !value.is_empty());
        match field {
            "model" => facts.model = Some(text.ok_or(fault(K::EmptyString))?),
            "stream" => {
                facts.stream = match value {
                    "true" | "True" | "TRUE" | "1" => true,
                    "" | "false" | "False" | "FALSE" | "0" => false,
                    _ => return Err(fault(K::ExpectedBool)),
                }
            }
            "n" => {
                let is_number = value.len() <= 6 && value.bytes().all(|byte| byte.is_ascii_digit());
                let count = value.parse::<u64>().ok().filter(|_| is_number);
                let count = count.ok_or(fault(K::ExpectedWholeNumber))?;
                if count > CHOICES_MAX {
                    return Err(fault(K::NumberTooLarge));
                }
                facts.choices = count;
            }
            "size" => facts.size = text,
            "quality" => facts.quality = text,
            "seconds" => facts.seconds = text,
            "purpose" => facts.purpose = text,
            "response_format" => facts.response_format = text,
            _ => facts.stream |= self.api == Api::Speech && value == "sse",
        }
        Ok(())
    }
}

/// Whether a part of this type is read as UTF-8 (or not as text), and has no parts of its own.
fn is_plain_type(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    let mut parameters = value.split(';').map(str::trim);
    let has_parts = parameters.next().is_some_and(|essence| {
        essence.starts_with("multipart/") || essence.starts_with("message/")
    });
    !has_parts
        && parameters.all(|parameter| {
            let name_of_one = parameter.strip_prefix("charset");
            name_of_one.is_none_or(|rest| {
                let charset = rest.trim_start().strip_prefix('=').unwrap_or(rest);
                matches!(
                    charset.trim().trim_matches('"'),
                    "utf-8" | "utf8" | "us-ascii"
                )
            })
        })
}

/// The name in `form-data; name="…"; filename="…"`, and whether it is a file. `None` for what two
/// readers could read differently: escapes, extended names, the same parameter twice.
fn parse_disposition(value: &str) -> Option<(&str, bool)> {
    let rest = strip_prefix_ignoring_case(value, "form-data")?;
    let (mut name, mut is_file, mut rest) = (None, false, rest.trim_start());
    while !rest.is_empty() {
        rest = rest.strip_prefix(';')?.trim_start();
        let (key, after) = rest.split_once('=')?;
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find([';', ' ', '\t']).unwrap_or(after.len())),
        };
        let key = key.trim();
        // The names of files may hold anything but what ends them; they are not looked at.
        let is_name = key.eq_ignore_ascii_case("name");
        if is_name {
            if text.contains('\\') || text.contains('%') || name.replace(text).is_some() {
                return None;
            }
        } else if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") {
            if text.ends_with('\\') {
                return None;
            }
            is_file = true;
        } else {
            return None;
        }
        rest = after.trim_start();
    }
    Some((name?, is_file))
}

/// The boundary that a content type names, if every reader finds the same.
pub(super) fn boundary_of(content_type: &str) -> Option<&str> {
    let mut found = None;
    for parameter in content_type.split(';').skip(1) {
        let (name, value) = parameter.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("boundary") {
            continue;
        }
        let value = value.trim();
        let plain = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        };
        if found.replace(plain).is_some() {
            return None;
        }
    }
    // What RFC 2046 allows, less the blank.
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    found.filter(|boundary| {
        (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) && boundary.bytes().all(is_allowed)
    })
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disposition_names_a_field_or_a_file() {
        for (value, want) in [
            ("form-data; name=\"model\"", Some(("model", false))),
            ("FORM-DATA; Name=model", Some(("model", false))),
            (
                "form-data; name=\"file\"; filename=\"a;b=c.mp3\"",
                Some(("file", true)),
            ),
            (
                "form-data; name=\"file\"; filename*=UTF-8''a",
                Some(("file", true)),
            ),
            ("form-data", None),
            ("attachment; name=\"model\"", None),
            ("form-data; name=\"a\"; name=\"b\"", None),
            ("form-data; name=\"mo\\\"del\"", None),
            ("form-data; name*=UTF-8''model", None),
            ("form-data; name=\"model", None),
        ] {
            assert_eq!(parse_disposition(value), want, "{value}");
        }
    }

    #[test]
    fn a_boundary_is_found_by_every_reader_or_by_none() {
        for (value, want) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; BOUNDARY=\"a'b\"", Some("a'b")),
            ("multipart/form-data; charset=utf-8; boundary=x", Some("x")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a b", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
        ] {
            assert_eq!(boundary_of(value), want, "{value}");
        }
    }
}
