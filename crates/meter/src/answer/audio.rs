//! How long a passing audio file plays, from its first bytes and its length.

/// What is kept of the beginning: headers are shorter, tags in front of them seldom.
const HEAD_BYTES_MAX: usize = 4096;
/// OpenAI's raw audio: 24,000 samples of two bytes a second.
const PCM_BYTES_PER_SECOND: u64 = 48_000;

/// An audio file that passes.
#[derive(Debug)]
pub(super) struct Audio {
    head: Vec<u8>,
    bytes: u64,
    is_pcm: bool,
}

impl Audio {
    pub(super) fn new(content_type: &str) -> Self {
        Self {
            head: Vec::new(),
            bytes: 0,
            is_pcm: content_type.contains("pcm"),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    /// Milliseconds, rounded up: of raw samples, WAV, and MPEG audio of a constant bit rate. `None` for the rest.
    pub(super) fn duration_ms(&self) -> Option<u64> {
        if self.is_pcm {
            return time(self.bytes, PCM_BYTES_PER_SECOND);
        }
        if let Some(rate) = wav_bytes_per_second(&self.head) {
            return time(self.bytes.saturating_sub(44), rate);
        }
        let at = after_id3(&self.head);
        let rate = mpeg_bytes_per_second(self.head.get(at..)?)?;
        time(self.bytes.saturating_sub(at as u64), rate)
    }
}

fn time(bytes: u64, bytes_per_second: u64) -> Option<u64> {
    let ms = u128::from(bytes)
        .saturating_mul(1000)
        .checked_add(u128::from(bytes_per_second).saturating_sub(1))?
        .checked_div(u128::from(bytes_per_second))?;
    u64::try_from(ms).ok()
}

/// `nAvgBytesPerSec` of a canonical WAV header.
fn wav_bytes_per_second(head: &[u8]) -> Option<u64> {
    let is_wav = head.starts_with(b"RIFF") && head.get(8..16)? == b"WAVEfmt ";
    let rate = u32::from_le_bytes(head.get(28..32)?.try_into().ok()?);
    (is_wav && rate > 0).then_some(rate.into())
}

/// Where the audio begins behind an ID3v2 tag. Its length has seven bits in each byte.
fn after_id3(head: &[u8]) -> usize {
    let Some(size) = head.strip_prefix(b"ID3").and_then(|rest| rest.get(3..7)) else {
        return 0;
    };
    let size = size.iter().fold(0_usize, |size, byte| {
        size.saturating_mul(128)
            .saturating_add(usize::from(byte & 0x7f))
    });
    size.saturating_add(10)
}

/// The bit rate of an MPEG layer III frame header, in bytes.
fn mpeg_bytes_per_second(frame: &[u8]) -> Option<u64> {
    const KBITS_1: &[u64; 14] = &[
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const KBITS_2: &[u64; 14] = &[8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [0xff, second, third, ..] = frame else {
        return None;
    };
    let is_layer_3 = second & 0xe6 == 0xe2;
    let is_version_1 = second & 0x18 == 0x18;
    let index = usize::from(third >> 4).checked_sub(1)?;
    let kbits = if is_version_1 { KBITS_1 } else { KBITS_2 }.get(index)?;
    is_layer_3.then(|| kbits.saturating_mul(125))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(content_type: &str, pieces: &[&[u8]]) -> Option<u64> {
        let mut audio = Audio::new(content_type);
        for piece in pieces {
            audio.push(piece);
        }
        audio.duration_ms()
    }

    #[test]
    fn raw_samples_last_as_long_as_they_are_many() {
        assert_eq!(duration("audio/pcm", &[&[0; 48_000], &[0; 1]]), Some(1_001));
    }

    #[test]
    fn a_wav_file_says_its_rate() {
        let mut wav =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\xc0\x5d\0\0\x80\xbb\0\0".to_vec();
        wav.resize(44 + 24_000, 0);
        assert_eq!(duration("audio/wav", &[&wav]), Some(500));
    }

    #[test]
    fn an_mpeg_frame_says_its_rate_behind_any_tag() {
        // MPEG 2 layer III at 160 kbit/s: 20,000 bytes a second.
        let mut mp3 = vec![0xff, 0xf3, 0xe4, 0xc4];
        mp3.resize(10_000, 0);
        assert_eq!(duration("audio/mpeg", &[&mp3]), Some(500));
        let tagged = [b"ID3\x04\0\0\0\0\0\x05tag..".as_slice(), &mp3].concat();
        assert_eq!(duration("audio/mpeg", &[&tagged]), Some(500));
        assert_eq!(duration("audio/opus", &[b"OggS"]), None);
        assert_eq!(duration("audio/mpeg", &[]), None);
    }
}
