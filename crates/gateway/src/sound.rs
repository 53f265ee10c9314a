//! How long an uploaded recording plays, for answers that do not say: read from the file's own headers, off the data plane.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use bytes::Bytes;
use lofty::{config::ParseOptions, file::AudioFile as _, probe::Probe};

/// The largest recording whose length is read; OpenAI takes none above 25 MiB.
pub(crate) const SOUND_BYTES_MAX: usize = 26 * 1024 * 1024;
/// Most exchanges at once that keep their recording until its length is read. Others are charged by the bytes.
pub(crate) const SOUNDS_MAX: usize = 8;

/// Milliseconds that the file at `range` of a body plays. `None` when the body is not all here, or no header tells.
pub(crate) fn duration_ms(frames: Vec<Bytes>, range: &Range<u64>) -> Option<u64> {
    let file = Pieces::new(frames, range)?;
    let options = ParseOptions::new().read_tags(false);
    let probe = Probe::new(file).options(options).guess_file_type().ok()?;
    let played = probe.read().ok()?.properties().duration();
    u64::try_from(played.as_millis()).ok().filter(|ms| *ms > 0)
}

/// A part of a body that came in frames, as one file.
struct Pieces {
    /// Each with where it begins in the file.
    pieces: Vec<(u64, Bytes)>,
    len: u64,
    at: u64,
}

impl Pieces {
    fn new(frames: Vec<Bytes>, range: &Range<u64>) -> Option<Self> {
        let (mut pieces, mut begins, mut len) = (Vec::new(), 0_u64, 0_u64);
        for frame in frames {
            let ends = begins.saturating_add(frame.len() as u64);
            let (from, to) = (range.start.max(begins), range.end.min(ends));
            if from < to {
                let within = |at: u64| usize::try_from(at.saturating_sub(begins)).ok();
                let piece = frame.slice(within(from)?..within(to)?);
                pieces.push((len, piece));
                len = len.saturating_add(to.saturating_sub(from));
            }
            begins = ends;
        }
        let is_whole = len > 0 && len == range.end.saturating_sub(range.start);
        is_whole.then_some(Self { pieces, len, at: 0 })
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let after = self
            .pieces
            .partition_point(|(begins, _)| *begins <= self.at);
        let Some((begins, piece)) = after.checked_sub(1).and_then(|at| self.pieces.get(at)) else {
            return Ok(0);
        };
        let from = usize::try_from(self.at.saturating_sub(*begins)).unwrap_or(usize::MAX);
        let rest = piece.get(from..).unwrap_or_default();
        let count = rest.len().min(out.len());
        if let (Some(out), Some(rest)) = (out.get_mut(..count), rest.get(..count)) {
            out.copy_from_slice(rest);
        }
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

impl Seek for Pieces {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of silence: 24,000 samples of two bytes a second.
    fn wav() -> Vec<u8> {
        let data = vec![0; 24_000];
        let mut wav = Vec::from(*b"RIFF");
        wav.extend(24_036_u32.to_le_bytes());
        wav.extend(*b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        wav.extend(24_000_u32.to_le_bytes());
        wav.extend(48_000_u32.to_le_bytes());
        wav.extend(*b"\x02\0\x10\0data");
        wav.extend(24_000_u32.to_le_bytes());
        wav.extend(data);
        wav
    }

    fn cut(body: &[u8], size: usize) -> Vec<Bytes> {
        body.chunks(size).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn a_recording_is_timed_wherever_it_stands_in_the_body() {
        let body = [b"head".as_slice(), &wav(), b"tail"].concat();
        let range = 4..u64::try_from(body.len() - 4).unwrap();
        for size in [1, 7, 1_000, body.len()] {
            assert_eq!(duration_ms(cut(&body, size), &range), Some(500), "{size}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_recording_has_no_length() {
        let wav = wav();
        let range = 0..u64::try_from(wav.len()).unwrap();
        assert_eq!(duration_ms(cut(&wav[..1_000], 100), &range), None);
        assert_eq!(duration_ms(cut(&[7; 1_000], 100), &(0..1_000)), None);
        assert_eq!(duration_ms(Vec::new(), &(0..0)), None);
    }
}
