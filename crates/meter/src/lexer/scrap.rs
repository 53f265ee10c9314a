//! A small bounded buffer for one unescaped key or value.

/// Collects one key or value, unescaped, up to a bound.
#[derive(Clone, Debug)]
pub(crate) struct Scrap {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Set when the text was longer than the bound; the rest is dropped.
    is_cut: bool,
    /// The first half of a surrogate pair, waiting for the second.
    high: Option<u16>,
    has_lone: bool,
}

impl Scrap {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max,
            is_cut: false,
            high: None,
            has_lone: false,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.is_cut = false;
        self.high = None;
        self.has_lone = false;
    }

    pub(crate) fn text(&mut self, piece: &[u8]) {
        self.settle();
        let room = self.bytes_max.saturating_sub(self.bytes.len());
        if piece.len() > room {
            self.is_cut = true;
        }
        self.bytes
            .extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    pub(crate) fn unit(&mut self, unit: u16) {
        let code = match (self.high.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.high = Some(unit);
                return;
            }
            (Some(high), 0xdc00..=0xdfff) => {
                char::decode_utf16([high, unit]).next().and_then(Result::ok)
            }
            (Some(_), _) => {
                self.has_lone = true;
                return self.unit(unit);
            }
            (None, _) => char::from_u32(u32::from(unit)),
        };
        match code {
            Some(code) => self.text(code.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.has_lone = true,
        }
    }

    /// Half a pair that nothing follows is a lone one.
    pub(crate) fn settle(&mut self) {
        if self.high.take().is_some() {
            self.has_lone = true;
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(crate) fn has_lone_surrogate(&self) -> bool {
        self.has_lone
    }
}
