//! Content codings, for bodies that were recorded without.

use std::io::{Cursor, Write};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Several members, one of them empty, and zero padding behind.
pub(super) fn gzip_members(body: &[u8]) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    [gzip(first), gzip(b""), gzip(second), vec![0; 5]].concat()
}

pub(super) fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn raw_deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(body: &[u8]) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 3);
    [
        zstd::encode_all(first, 3).unwrap(),
        zstd::encode_all(second, 1).unwrap(),
    ]
    .concat()
}

pub(super) fn brotli(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let params = brotli::enc::BrotliEncoderParams {
        quality: 4,
        ..brotli::enc::BrotliEncoderParams::default()
    };
    brotli::BrotliCompress(&mut Cursor::new(body), &mut out, &params).unwrap();
    out
}

pub(super) fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body);
    std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
    plain
}
