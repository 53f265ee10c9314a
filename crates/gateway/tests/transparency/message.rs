//! Messages as they stood on the wire, read by the rules of RFC 9112 and nobody's library.

/// A message, byte for byte but for where its chunks begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) start: String,
    /// Names and values as they were written, a character for a byte.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) is_chunked: bool,
    pub(super) trailers: Vec<(String, String)>,
}

/// Bytes as text, a character for a byte: nothing is lost, whatever they are.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(text: &str) -> impl Iterator<Item = u8> {
    text.chars()
        .map(|char| u8::try_from(u32::from(char)).expect("a character stands for a byte"))
}

impl Message {
    /// Takes a message off the front of `raw`. Of an answer without a length all that is left is its body; `has_body` says
    /// whether one can follow at all.
    ///
    /// `None` when more must come first.
    pub(super) fn take(raw: &mut &[u8], is_answer: bool, has_body: bool) -> Option<Self> {
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = text(&raw[..end]);
        let mut lines = head.split("\r\n");
        let mut message = Self {
            start: lines.next().unwrap_or_default().to_owned(),
            headers: lines.map(line).collect(),
            body: Vec::new(),
            is_chunked: false,
            trailers: Vec::new(),
        };
        let mut rest = &raw[end + 4..];
        let status = is_answer.then(|| message.start.split(' ').nth(1)).flatten();
        let is_bare = !has_body
            || status
                .is_some_and(|status| status.starts_with('1') || matches!(status, "204" | "304"));
        if !is_bare && message.value("transfer-encoding").is_some() {
            message.is_chunked = true;
            loop {
                let end = rest.windows(2).position(|two| two == b"\r\n")?;
                let len = text(&rest[..end]);
                let len = len.split(';').next().unwrap_or_default().trim().to_owned();
                let len = usize::from_str_radix(&len, 16).expect("a chunk begins with its length");
                rest = &rest[end + 2..];
                if len == 0 {
                    break;
                }
                message.body.extend(rest.get(..len)?);
                rest = rest.get(len + 2..)?;
            }
            loop {
                let end = rest.windows(2).position(|two| two == b"\r\n")?;
                let trailer = text(&rest[..end]);
                rest = &rest[end + 2..];
                if trailer.is_empty() {
                    break;
                }
                message.trailers.push(line(&trailer));
            }
        } else if let (false, Some(len)) = (is_bare, message.value("content-length")) {
            let len = len.parse().expect("a length is a number");
            message.body = rest.get(..len)?.to_vec();
            rest = &rest[len..];
        } else if !is_bare && is_answer {
            message.body = rest.to_vec();
            rest = &[];
        }
        *raw = rest;
        Some(message)
    }

    /// The first value of a header.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Drops the headers of which this is true.
    pub(super) fn drop_headers(&mut self, is_dropped: impl Fn(&str) -> bool) {
        self.headers
            .retain(|(name, _)| !is_dropped(&name.to_ascii_lowercase()));
    }

    /// What is compared: head, body and trailers in their bytes, a chunked body as one chunk.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all: Vec<u8> = bytes(&self.start).collect();
        let line = |all: &mut Vec<u8>, (name, value): &(String, String)| {
            all.extend(b"\r\n");
            all.extend(bytes(name).chain(*b": ").chain(bytes(value)));
        };
        for header in &self.headers {
            line(&mut all, header);
        }
        all.extend(b"\r\n\r\n");
        if self.is_chunked {
            all.extend(format!("({} bytes in chunks)\r\n", self.body.len()).into_bytes());
        }
        all.extend(&self.body);
        for trailer in &self.trailers {
            line(&mut all, trailer);
        }
        all
    }
}

fn line(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').expect("a header line has a colon");
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}
