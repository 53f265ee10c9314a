//! Opens content codings beside the stream, in linear time and bounded memory.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as Zstd, Operation};

/// The most an answer may be decoded to. Past it the meter lets go.
const DECODED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// An answer may be decoded to so many times its size, and a bit: deflate cannot reach 1,033 times,
/// and streams of repetitive events stay far below this.
const RATIO_MAX: u64 = 400;
/// What any answer may be decoded to, whatever the ratio.
const RATIO_FREE_BYTES: u64 = 4 * 1024 * 1024;
/// Decoded bytes are looked at in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;
/// RFC 9659: a zstd content coding needs no window above 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The window of gzip and zlib, as the formats have it.
const ZLIB_WINDOW_BITS: u8 = 15;

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// A content coding and how far it is.
pub(super) enum Coding {
    Identity,
    /// `gzip`, and again from its start when another member follows.
    Gzip(Decoding<Decompress>),
    /// `deflate` before its first bytes are seen: zlib by the standard, raw from some servers.
    DeflateUnknown(Option<u8>),
    Deflate(Decoding<Decompress>),
    Brotli(Box<Decoding<Brotli>>),
    Zstd(Decoding<Zstd<'static>>),
    /// Unknown, corrupt, or a bomb: nothing more is read.
    Lost,
}

pub(super) struct Decoding<D> {
    decoder: D,
    /// The current member or frame has ended.
    is_ended: bool,
    taken: u64,
    given: u64,
}

impl<D> Decoding<D> {
    const fn new(decoder: D) -> Self {
        Self {
            decoder,
            is_ended: false,
            taken: 0,
            given: 0,
        }
    }
}

impl fmt::Debug for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "Identity",
            Self::Gzip(_) => "Gzip",
            Self::DeflateUnknown(_) | Self::Deflate(_) => "Deflate",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::Lost => "Lost",
        })
    }
}

/// One step of a decoder.
struct Step {
    taken: usize,
    given: usize,
    is_ended: bool,
}

/// The bytes are corrupt.
struct Corrupt;

impl Coding {
    /// The coding named by a `content-encoding` header. Several codings on top of each other are not
    /// opened.
    pub(super) fn named(header: Option<&str>) -> Self {
        match header
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip(Decoding::new(Decompress::new_gzip(ZLIB_WINDOW_BITS))),
            "deflate" => Self::DeflateUnknown(None),
            "br" => Self::Brotli(Box::new(Decoding::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            )))),
            "zstd" => zstd().map_or(Self::Lost, |decoder| Self::Zstd(Decoding::new(decoder))),
            _ => Self::Lost,
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }

    /// Decodes the next bytes and shows what comes out. Not for [`Coding::Identity`], whose bytes
    /// are looked at where they are.
    pub(super) fn push(&mut self, bytes: &[u8], show: &mut dyn FnMut(&[u8])) {
        let result = match self {
            Self::Identity | Self::Lost => return,
            Self::DeflateUnknown(first) => {
                let (first, bytes) = match (*first, bytes) {
                    (Some(first), bytes) => (first, bytes),
                    (None, [first, bytes @ ..]) => (*first, bytes),
                    (None, []) => return,
                };
                let Some(second) = bytes.first() else {
                    *self = Self::DeflateUnknown(Some(first));
                    return;
                };
                // RFC 1950: method 8, and the two bytes are a multiple of 31.
                let is_zlib = first & 0x0f == 8
                    && u16::from_be_bytes([first, *second]).checked_rem(31) == Some(0);
                *self = Self::Deflate(Decoding::new(Decompress::new(is_zlib)));
                self.push(&[first], show);
                return self.push(bytes, show);
            }
            Self::Gzip(decoding) => decoding.run(bytes, show, inflate, |rest| {
                // Another member may follow; padding and noise after the last one may too.
                (rest.first() == Some(&0x1f)).then(|| Decompress::new_gzip(ZLIB_WINDOW_BITS))
            }),
            Self::Deflate(decoding) => decoding.run(bytes, show, inflate, |_| None),
            Self::Brotli(decoding) => decoding.run(bytes, show, unbrotli, |_| None),
            Self::Zstd(decoding) => decoding.run(bytes, show, unzstd, |_| zstd()),
        };
        if result.is_err() {
            *self = Self::Lost;
        }
    }
}

impl<D> Decoding<D> {
    fn run(
        &mut self,
        mut bytes: &[u8],
        show: &mut dyn FnMut(&[u8]),
        step: impl Fn(&mut D, &[u8], &mut [u8]) -> Result<Step, Corrupt>,
        another: impl Fn(&[u8]) -> Option<D>,
    ) -> Result<(), Corrupt> {
        let mut piece = [0; PIECE_BYTES];
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        loop {
            if self.is_ended {
                if bytes.is_empty() {
                    return Ok(());
                }
                let Some(decoder) = another(bytes) else {
                    return Ok(());
                };
                self.decoder = decoder;
                self.is_ended = false;
            }
            let Step {
                taken,
                given,
                is_ended,
            } = step(&mut self.decoder, bytes, &mut piece)?;
            self.is_ended = is_ended;
            self.given = self.given.saturating_add(given as u64);
            if self.given > DECODED_BYTES_MAX
                || self.given
                    > self
                        .taken
                        .saturating_mul(RATIO_MAX)
                        .saturating_add(RATIO_FREE_BYTES)
            {
                return Err(Corrupt);
            }
            show(piece.get(..given).unwrap_or_default());
            bytes = bytes.get(taken..).unwrap_or_default();
            // A full piece may mean that more is waiting inside.
            let is_drained = bytes.is_empty() && given < PIECE_BYTES;
            if !is_ended && (is_drained || (taken == 0 && given == 0)) {
                return Ok(());
            }
        }
    }
}

fn inflate(decoder: &mut Decompress, bytes: &[u8], piece: &mut [u8]) -> Result<Step, Corrupt> {
    let (taken, given) = (decoder.total_in(), decoder.total_out());
    let status = decoder
        .decompress(bytes, piece, FlushDecompress::None)
        .map_err(|_| Corrupt)?;
    let past = |total: u64, before: u64| {
        usize::try_from(total.saturating_sub(before)).map_err(|_| Corrupt)
    };
    Ok(Step {
        taken: past(decoder.total_in(), taken)?,
        given: past(decoder.total_out(), given)?,
        is_ended: status == Status::StreamEnd,
    })
}

fn unbrotli(decoder: &mut Brotli, bytes: &[u8], piece: &mut [u8]) -> Result<Step, Corrupt> {
    let (mut left, mut taken) = (bytes.len(), 0);
    let (mut room, mut given, mut total) = (piece.len(), 0, 0);
    match BrotliDecompressStream(
        &mut left, &mut taken, bytes, &mut room, &mut given, piece, &mut total, decoder,
    ) {
        BrotliResult::ResultFailure => Err(Corrupt),
        result => Ok(Step {
            taken,
            given,
            is_ended: matches!(result, BrotliResult::ResultSuccess),
        }),
    }
}

fn zstd() -> Option<Zstd<'static>> {
    let mut decoder = Zstd::new().ok()?;
    decoder
        .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(
            ZSTD_WINDOW_LOG_MAX,
        ))
        .ok()?;
    Some(decoder)
}

fn unzstd(decoder: &mut Zstd<'static>, bytes: &[u8], piece: &mut [u8]) -> Result<Step, Corrupt> {
    let status = decoder.run_on_buffers(bytes, piece).map_err(|_| Corrupt)?;
    Ok(Step {
        taken: status.bytes_read,
        given: status.bytes_written,
        // 0 is the end of a frame; the decoder also says 0 when asked for nothing.
        is_ended: status.remaining == 0 && status.bytes_read > 0,
    })
}

/// A whole body without its content coding. `None` where the coding is unknown, the body corrupt, or longer than `bytes_max`.
pub(super) fn plain(header: Option<&str>, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut coding = Coding::named(header);
    if coding.is_identity() {
        return Some(bytes.to_vec());
    }
    let mut plain = Vec::new();
    let mut is_too_long = false;
    coding.push(bytes, &mut |piece| {
        is_too_long |= plain.len().saturating_add(piece.len()) > bytes_max;
        if !is_too_long {
            plain.extend_from_slice(piece);
        }
    });
    (!is_too_long && !coding.is_lost()).then_some(plain)
}
