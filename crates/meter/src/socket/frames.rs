//! The frames of a WebSocket (RFC 6455), as their bytes pass.

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;
/// The longest payload of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;
/// Bytes that are unmasked at once.
const UNMASKED_BYTES: usize = 4 * 1024;
/// The longest message that is read.
pub(super) const MESSAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Whose frames they are: a client's are masked, an upstream's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From client to upstream.
    Client,
    /// From upstream to client.
    Upstream,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text or binary.
    Data,
    /// The last frame of its side.
    Close,
    /// A ping.
    Ping,
    /// Its answer.
    Pong,
}

/// How far reading got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All bytes are read, and no message ends in what was left of them.
    More,
    /// A message ends: its last byte is the one before `at`.
    Ends {
        /// How many of the bytes are read.
        at: usize,
        /// What it was.
        message: Message,
    },
}

/// Why bytes are no frames that everybody reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit is set: that belongs to an extension nobody agreed on.
    #[error("a frame has a reserved bit set, and no extension was agreed on")]
    Reserved,
    /// An opcode without a meaning.
    #[error("a frame has an opcode that means nothing")]
    Opcode,
    /// A client's frame without a mask, or an upstream's with one.
    #[error("a client's frames must be masked, and a server's must not be")]
    Mask,
    /// A control frame in fragments, or longer than 125 bytes.
    #[error("a control frame is in fragments, or longer than 125 bytes")]
    Control,
    /// A length in more bytes than it takes, or beyond 63 bits.
    #[error("a frame's length is written in more bytes than it takes")]
    Length,
    /// A continuation of nothing, or a new message inside another.
    #[error("a fragment continues no message, or a message begins inside another")]
    Fragment,
    /// A message longer than is read.
    #[error("a message is longer than 33554432 bytes: send it in parts")]
    TooLong,
}

/// Reads frames as they pass; keeps of them a head at most.
#[derive(Debug)]
pub struct FrameReader {
    side: Side,
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    /// Payload that must still come; `None` while the head is not whole.
    left: Option<u64>,
    mask: [u8; 4],
    /// Bytes of this frame's payload that have passed, for the mask.
    passed: u64,
    is_final: bool,
    control: Option<Message>,
    /// A data message has begun and not ended.
    in_message: bool,
    message_bytes: u64,
}

impl FrameReader {
    /// At the start of one side's frames.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Self {
            side,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            left: None,
            mask: [0; 4],
            passed: 0,
            is_final: false,
            control: None,
            in_message: false,
            message_bytes: 0,
        }
    }

    /// Whether a frame could begin here.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.head_len == 0
    }

    /// Whether a message of data has begun and not ended.
    #[must_use]
    pub const fn is_in_message(&self) -> bool {
        self.in_message
    }

    /// Reads up to the end of the next message, and shows the payload of data, unmasked.
    ///
    /// # Errors
    /// [`FrameError`]; what follows is not to be read.
    pub fn read(
        &mut self,
        bytes: &[u8],
        payload: &mut impl FnMut(&[u8]),
    ) -> Result<Step, FrameError> {
        let mut at = 0_usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let left = match self.left {
                Some(left) => left,
                None => {
                    at = at.saturating_add(1);
                    match self.take_head(rest.first().copied().unwrap_or_default())? {
                        None => continue,
                        Some(0) => 0,
                        Some(_) => continue,
                    }
                }
            };
            let rest = bytes.get(at..).unwrap_or_default();
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let piece = rest.get(..len).unwrap_or_default();
            if self.control.is_none() {
                self.show(piece, payload);
            }
            at = at.saturating_add(len);
            let left = left.saturating_sub(len as u64);
            self.left = Some(left);
            if left == 0
                && let Some(message) = self.end_frame()
            {
                return Ok(Step::Ends { at, message });
            }
        }
        Ok(Step::More)
    }

    /// Takes a byte of a head; its payload's length once it is whole.
    fn take_head(&mut self, byte: u8) -> Result<Option<u64>, FrameError> {
        if let Some(slot) = self.head.get_mut(self.head_len) {
            *slot = byte;
        }
        self.head_len = self.head_len.saturating_add(1);
        let [first, second, rest @ ..] = self.head;
        if self.head_len == 1 {
            self.begin_frame(first)?;
            return Ok(None);
        }
        let is_masked = second & 0x80 != 0;
        if is_masked != (self.side == Side::Client) {
            return Err(FrameError::Mask);
        }
        let short = second & 0x7f;
        let length_bytes: usize = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes: usize = if is_masked { 4 } else { 0 };
        let whole = length_bytes.saturating_add(mask_bytes).saturating_add(2);
        if self.head_len < whole {
            return Ok(None);
        }
        let written = rest.get(..length_bytes).unwrap_or_default();
        let length = match length_bytes {
            0 => u64::from(short),
            _ => written
                .iter()
                .fold(0_u64, |sum, byte| sum.wrapping_shl(8) | u64::from(*byte)),
        };
        let is_minimal = match length_bytes {
            2 => length > CONTROL_BYTES_MAX,
            8 => length > u64::from(u16::MAX) && length >> 63 == 0,
            _ => true,
        };
        if !is_minimal {
            return Err(FrameError::Length);
        }
        if self.control.is_some() {
            if length > CONTROL_BYTES_MAX {
                return Err(FrameError::Control);
            }
        } else {
            self.message_bytes = self.message_bytes.saturating_add(length);
            if self.message_bytes > MESSAGE_BYTES_MAX {
                return Err(FrameError::TooLong);
            }
        }
        if let Some(mask) = rest.get(length_bytes..length_bytes.saturating_add(mask_bytes))
            && let Ok(mask) = mask.try_into()
        {
            self.mask = mask;
        }
        self.passed = 0;
        self.left = Some(length);
        Ok(self.left)
    }

    /// The first byte of a frame.
    fn begin_frame(&mut self, first: u8) -> Result<(), FrameError> {
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        self.is_final = first & 0x80 != 0;
        self.control = match first & 0x0f {
            0 if self.in_message => None,
            1 | 2 if !self.in_message => {
                self.in_message = true;
                self.message_bytes = 0;
                None
            }
            0..=2 => return Err(FrameError::Fragment),
            8 => Some(Message::Close),
            9 => Some(Message::Ping),
            10 => Some(Message::Pong),
            _ => return Err(FrameError::Opcode),
        };
        if self.control.is_some() && !self.is_final {
            return Err(FrameError::Control);
        }
        Ok(())
    }

    /// A frame has ended; the message that ends with it.
    fn end_frame(&mut self) -> Option<Message> {
        self.head_len = 0;
        self.left = None;
        if self.control.is_some() {
            return self.control;
        }
        self.in_message = !self.is_final;
        self.is_final.then_some(Message::Data)
    }

    fn show(&mut self, piece: &[u8], payload: &mut impl FnMut(&[u8])) {
        if self.side == Side::Upstream {
            if !piece.is_empty() {
                payload(piece);
            }
            return;
        }
        let mut plain = [0; UNMASKED_BYTES];
        for piece in piece.chunks(UNMASKED_BYTES) {
            let phase = usize::try_from(self.passed % 4).unwrap_or_default();
            let mask = self.mask.iter().cycle().skip(phase);
            for ((to, from), mask) in plain.iter_mut().zip(piece).zip(mask) {
                *to = from ^ mask;
            }
            self.passed = self.passed.saturating_add(piece.len() as u64);
            payload(plain.get(..piece.len()).unwrap_or_default());
        }
    }
}
