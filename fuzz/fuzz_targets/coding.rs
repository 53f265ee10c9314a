//! A content coding opens to what its own library makes of the whole, however it is cut; never to more than the limits
//! against bombs; and any bytes at all are survived.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use meter::opened;

/// As the meter has them: so many times what came, and what is always allowed.
const RATIO_MAX: usize = 400;
const RATIO_FREE_BYTES: usize = 4 * 1024 * 1024;
/// A last piece may be looked at in full.
const PIECE_BYTES: usize = 16 * 1024;

/// What the library makes of it: all, or what came before it stopped.
fn by_library(coding: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut reader: Box<dyn Read + '_> = match coding {
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes)),
        "br" => Box::new(brotli_decompressor::Decompressor::new(bytes, 4096)),
        _ => match zstd::stream::read::Decoder::new(Cursor::new(bytes)) {
            Ok(mut decoder) => {
                let _ = decoder.window_log_max(23);
                Box::new(decoder)
            }
            Err(_) => return (Vec::new(), false),
        },
    };
    let mut out = Vec::new();
    let mut piece = [0; 4096];
    while out.len() <= 64 * RATIO_FREE_BYTES {
        match reader.read(&mut piece) {
            Ok(0) => return (out, true),
            Ok(len) => out.extend_from_slice(&piece[..len]),
            Err(_) => return (out, false),
        }
    }
    (out, false)
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (which, size, bytes) = input;
    let coding = ["gzip", "deflate", "br", "zstd"][usize::from(which % 4)];
    let size = usize::from(size).max(1);
    let (whole, is_lost) = opened(coding, [bytes]);
    assert!(whole.len() <= bytes.len() * RATIO_MAX + RATIO_FREE_BYTES + PIECE_BYTES);
    let (cut, cut_is_lost) = opened(coding, bytes.chunks(size));
    let (library, is_whole) = by_library(coding, bytes);
    if is_whole && library.len() <= RATIO_FREE_BYTES {
        // The reader of the brotli library is less strict than the meter.
        assert!(coding == "br" || !(is_lost || cut_is_lost), "{coding}");
        assert!(is_lost || whole == library, "{coding}");
    }
    // Of what is corrupt, more or less may be had before that is seen.
    if !is_lost && !cut_is_lost {
        assert_eq!(whole, cut, "{coding}");
    }
});
