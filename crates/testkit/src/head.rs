//! The head of a message as it was written.

use std::fmt;

/// The head of a message, name by name as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// Request or status line.
    pub start: String,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head, up to its empty line or without it.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).expect("the heads of tests are text");
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header line has a colon");
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self { start, headers }
    }

    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The names in order and as they were written.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The status of an answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        let status = self
            .start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("{:?} is no status line", self.start))
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.start)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        Ok(())
    }
}
