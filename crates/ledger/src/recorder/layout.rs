//! What stands where in a recorder's file.

use std::ops::Range;

use uuid::Uuid;

use super::{Opening, Progress};

pub(super) const VERSION: u64 = 1;

/// A page, so that slots begin at one.
pub(super) const HEADER_BYTES: usize = 4096;

/// Five cache lines: slots of different threads share none.
pub(super) const SLOT_WORDS: usize = 40;

pub(super) const SLOT_BYTES: usize = SLOT_WORDS * WORD_BYTES;

pub(super) const WORD_BYTES: usize = size_of::<u64>();

/// The longest text kept of an endpoint.
pub const ENDPOINT_BYTES_MAX: usize = 32;

/// The longest text kept of a model.
pub const MODEL_BYTES_MAX: usize = 120;

// The words of a slot.
pub(super) const STATE: usize = 0;
pub(super) const PROGRESS: Range<usize> = 1..4;
pub(super) const CHECKSUM: usize = 4;
pub(super) const FIXED: Range<usize> = 5..5 + FIXED_WORDS;

const NUMBER_WORDS: usize = 15;
pub(super) const FIXED_WORDS: usize =
    NUMBER_WORDS + (ENDPOINT_BYTES_MAX + MODEL_BYTES_MAX) / WORD_BYTES;
const _: () = assert!(FIXED.end <= SLOT_WORDS);

/// In the file's own byte order, so that a machine of another does not take it for its own.
const MAGIC: u64 = u64::from_be_bytes(*b"tpflight");

/// What the state of a slot says. Any other value is damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum State {
    Free = 0,
    /// Not a number that damage easily makes.
    Open = 0x4f50_454e_2d2d_3e3e,
}

// Bits of the word of flags, whose lower bytes are the lengths of the texts.
const STREAM: u64 = 1 << 16;
const UPSTREAM: u64 = 1 << 17;
const UPSTREAM_KEY: u64 = 1 << 18;
/// Unknown to older programs, which pass it over.
const WHOLE: u64 = 1 << 19;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Slots(usize),
    /// Of another version.
    Other(u64),
    /// No recorder's file.
    Foreign,
}

pub(super) fn header(slots: u32) -> [u8; 4 * WORD_BYTES] {
    let mut bytes = [0; 4 * WORD_BYTES];
    let words = [MAGIC, VERSION, u64::from(slots), SLOT_BYTES as u64];
    for (place, word) in bytes.chunks_exact_mut(WORD_BYTES).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let mut words = words(bytes);
    let mut word = || words.next();
    match (word(), word(), word(), word()) {
        (Some(MAGIC), Some(VERSION), Some(slots), Some(slot_bytes))
            if slot_bytes == SLOT_BYTES as u64 =>
        {
            usize::try_from(slots).map_or(Header::Foreign, Header::Slots)
        }
        (Some(MAGIC), Some(version), ..) if version != VERSION => Header::Other(version),
        _ => Header::Foreign,
    }
}

/// Bytes as words.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (words, _) = bytes.as_chunks();
    words.iter().copied().map(u64::from_ne_bytes)
}

/// The words of an opening, and their checksum.
pub(super) fn encode(opening: &Opening<'_>) -> ([u64; FIXED_WORDS], u64) {
    let endpoint = cut(&opening.endpoint, ENDPOINT_BYTES_MAX);
    let model = cut(&opening.model, MODEL_BYTES_MAX);
    let (high, low) = opening.exchange.as_u64_pair();
    let flag = |is: bool, bit| if is { bit } else { 0 };
    let numbers: [u64; NUMBER_WORDS] = [
        high,
        low,
        opening.token.cast_unsigned(),
        opening.account.cast_unsigned(),
        opening.hold_nano.cast_unsigned(),
        opening.prompt_tokens_bound,
        opening.completion_tokens_bound,
        opening.price.cast_unsigned(),
        opening.started_at_ms.cast_unsigned(),
        opening.input_tokens_estimate,
        opening.in_rate.cast_unsigned(),
        opening.out_rate.cast_unsigned(),
        opening.upstream.unwrap_or_default().cast_unsigned(),
        opening.upstream_key.unwrap_or_default().cast_unsigned(),
        endpoint.len() as u64
            | (model.len() as u64) << 8
            | flag(opening.stream, STREAM)
            | flag(opening.whole, WHOLE)
            | flag(opening.upstream.is_some(), UPSTREAM)
            | flag(opening.upstream_key.is_some(), UPSTREAM_KEY),
    ];
    let mut bytes = [0; FIXED_WORDS * WORD_BYTES];
    let (number_bytes, texts) = bytes.split_at_mut(NUMBER_WORDS * WORD_BYTES);
    for (place, number) in number_bytes.chunks_exact_mut(WORD_BYTES).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    texts[..endpoint.len()].copy_from_slice(endpoint.as_bytes());
    texts[ENDPOINT_BYTES_MAX..][..model.len()].copy_from_slice(model.as_bytes());

    let mut fixed = [0; FIXED_WORDS];
    for (place, word) in fixed.iter_mut().zip(words(&bytes)) {
        *place = word;
    }
    (fixed, u64::from(crc32fast::hash(&bytes)))
}

/// As much of a text as fits, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// A slot whose bytes say nothing to rely on.
#[derive(Debug)]
pub(super) struct Corrupt;

/// What a slot's bytes say; `None` of one that is free.
pub(super) fn decode(
    bytes: &[u8; SLOT_BYTES],
) -> Result<Option<(Opening<'static>, Progress)>, Corrupt> {
    let mut slot = [0; SLOT_WORDS];
    for (place, word) in slot.iter_mut().zip(words(bytes)) {
        *place = word;
    }
    if slot[STATE] == State::Free as u64 {
        return Ok(None);
    }
    let fixed = &bytes[FIXED.start * WORD_BYTES..FIXED.end * WORD_BYTES];
    if slot[STATE] != State::Open as u64 || slot[CHECKSUM] != u64::from(crc32fast::hash(fixed)) {
        return Err(Corrupt);
    }
    let progress = Progress {
        answer_bytes: slot[1],
        output_tokens_seen: slot[2],
        status: u16::try_from(slot[3]).map_err(|_| Corrupt)?,
    };
    let opening = opening(&slot[FIXED], fixed).ok_or(Corrupt)?;
    Ok(Some((opening, progress)))
}

fn opening(words: &[u64], bytes: &[u8]) -> Option<Opening<'static>> {
    let flags = words[14];
    let text = |offset: usize, length: u64| {
        let start = NUMBER_WORDS * WORD_BYTES + offset;
        let text = bytes.get(start..start + usize::try_from(length).ok()?)?;
        Some(std::str::from_utf8(text).ok()?.to_owned().into())
    };
    let signed = |at: usize| words[at].cast_signed();
    Some(Opening {
        exchange: Uuid::from_u64_pair(words[0], words[1]),
        token: signed(2),
        account: signed(3),
        hold_nano: signed(4),
        prompt_tokens_bound: words[5],
        completion_tokens_bound: words[6],
        price: signed(7),
        started_at_ms: signed(8),
        input_tokens_estimate: words[9],
        in_rate: signed(10),
        out_rate: signed(11),
        upstream: (flags & UPSTREAM != 0).then(|| signed(12)),
        upstream_key: (flags & UPSTREAM_KEY != 0).then(|| signed(13)),
        whole: flags & WHOLE != 0,
        stream: flags & STREAM != 0,
        endpoint: text(0, flags & 0xff)?,
        model: text(ENDPOINT_BYTES_MAX, flags >> 8 & 0xff)?,
    })
}
