//! gzip, zstd or nothing, by the first bytes.

use std::io::{self, BufRead, BufReader, Read};

/// Decompresses what begins with a known mark and passes everything else.
pub(crate) fn decompress<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    Ok(match detect(input.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::with_buffer(input)?),
        None => Box::new(input),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

pub(crate) fn detect(start: &[u8]) -> Option<Compression> {
    if start.starts_with(&[0x1f, 0x8b]) {
        Some(Compression::Gzip)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some(Compression::Zstd)
    } else {
        None
    }
}
