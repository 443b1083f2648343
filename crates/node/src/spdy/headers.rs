//! Blocks of headers: names and values behind their lengths, compressed in one zlib stream a direction, with a dictionary that
//! both sides know.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Malformed;

/// The dictionary of SPDY/3, section 2.6.10.1 of the draft.
const DICTIONARY: &[u8; 1423] = include_bytes!("dictionary.bin");
/// A block may not grow beyond this: a few bytes can be told to become many.
const BLOCK_MAX: usize = 64 * 1024;

/// Names and values; names are in lower case.
pub type Headers = Vec<(String, String)>;

/// Undoes the compression of one direction.
pub struct Decoder(Decompress);

impl Default for Decoder {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decoder {
    /// The headers of the next block. After an error the stream's state is lost: the connection must end.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        while !rest.is_empty() {
            let before = (self.0.total_in(), plain.len());
            let done = self
                .0
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let read = usize::try_from(self.0.total_in() - before.0).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| Malformed("the headers' dictionary is another one"))?;
                    continue;
                }
                Err(_) => return Err(Malformed("the headers cannot be decompressed")),
                Ok(Status::StreamEnd) => {
                    return Err(Malformed("the headers' compression has ended"));
                }
                Ok(Status::Ok | Status::BufError) => {}
            }
            if plain.len() > BLOCK_MAX {
                return Err(Malformed("the headers are too large"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(plain.capacity().max(1024));
            } else if (self.0.total_in(), plain.len()) == before {
                return Err(Malformed("the headers cannot be decompressed"));
            }
        }
        // What did not fit any more is still inside.
        while plain.len() == plain.capacity() {
            plain.reserve(plain.capacity());
            self.0
                .decompress_vec(&[], &mut plain, FlushDecompress::Sync)
                .map_err(|_| Malformed("the headers cannot be decompressed"))?;
            if plain.len() > BLOCK_MAX {
                return Err(Malformed("the headers are too large"));
            }
        }
        parse(&plain)
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, Malformed> {
    const SHORT: Malformed = Malformed("the headers are cut off");
    let count = plain.try_get_u32().map_err(|_| SHORT)?;
    let mut text = || -> Result<String, Malformed> {
        let length = plain.try_get_u32().map_err(|_| SHORT)? as usize;
        let (text, rest) = plain.split_at_checked(length).ok_or(SHORT)?;
        plain = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Malformed("a header is not UTF-8"))
    };
    let mut headers = Headers::new();
    for _ in 0..count {
        let (name, values) = (text()?, text()?);
        let name = name.to_ascii_lowercase();
        for value in values.split('\0') {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    Ok(headers)
}

/// Compresses the blocks of one direction.
pub struct Encoder(Compress);

impl Default for Encoder {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(DICTIONARY)
            .expect("nothing has been compressed yet");
        Self(compress)
    }
}

impl Encoder {
    /// The next block. Names must not occur twice.
    pub fn encode(&mut self, headers: &[(&str, &str)]) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                plain.put_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest: &[u8] = &plain;
        loop {
            let before = self.0.total_in();
            // It fails only for what zlib calls a stream error: a state that this type cannot get into.
            let done = self
                .0
                .compress_vec(rest, &mut block, FlushCompress::Sync)
                .unwrap_or(Status::BufError);
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            if block.len() < block.capacity() || done == Status::BufError {
                return block.into();
            }
            block.reserve(256);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A first block with two headers, made by zlib itself (Python's `zlib.compressobj` with the draft's dictionary).
    const RECORDED: &str =
        "78f9e3c6a7c202e50e703a2b294a4dcc851625aca9a0808614cb45a024cc646100000000ffff";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect()
    }

    #[test]
    fn the_dictionary_is_the_drafts() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in DICTIONARY {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        // zlib names a dictionary by its Adler-32
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_another_implementation_are_read() {
        let headers = Decoder::default()
            .decode(&bytes(RECORDED))
            .expect("headers");
        assert_eq!(
            headers,
            [
                ("streamtype".to_owned(), "error".to_owned()),
                ("port".to_owned(), "80".to_owned())
            ]
        );
    }

    #[test]
    fn a_block_that_would_become_large_is_refused() {
        let huge = "x".repeat(BLOCK_MAX + 1);
        let block = Encoder::default().encode(&[("a", &huge)]);
        assert!(block.len() < 1024, "{}", block.len());
        assert_eq!(
            Decoder::default().decode(&block),
            Err(Malformed("the headers are too large"))
        );
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for wrong in [&b""[..], b"hello", &[0x78], &[0x78, 0x9c, 0, 0], &[0; 100]] {
            assert!(Decoder::default().decode(wrong).is_err(), "{wrong:?}");
        }
        let block = bytes(RECORDED);
        for end in 0..block.len() - 5 {
            let cut = Decoder::default().decode(&block[..end]);
            assert!(cut.is_err(), "{end}: {cut:?}");
        }
        // A count that promises more than there is.
        let mut encoder = Encoder::default();
        encoder.encode(&[]);
        assert!(parse(&[0xff; 4]).is_err());
        assert!(parse(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn blocks_come_back_one_after_the_other(
            blocks in proptest::collection::vec(proptest::collection::btree_map("[a-z-]{1,20}", "[ -~]{0,200}", 0..8), 1..6),
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for headers in blocks {
                let pairs: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let block = encoder.encode(&pairs);
                let wanted: Headers = headers.clone().into_iter().collect();
                prop_assert_eq!(decoder.decode(&block), Ok(wanted));
            }
        }

        #[test]
        fn any_bytes_end_in_an_answer(block in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decoder::default().decode(&block);
            let mut known = vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
            known.extend(block);
            let _ = Decoder::default().decode(&known);
        }
    }
}
