//! Frames: what is read from and written to the connection, without the compression of headers.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Every frame begins with so many bytes.
pub const HEAD: usize = 8;
/// The largest control frame that is taken; data frames may have any length, they are passed on in pieces.
pub const CONTROL_MAX: usize = 64 * 1024;
/// Data is written in frames of at most this size.
pub const DATA_MAX: usize = 32 * 1024;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const STREAM: u32 = 0x7fff_ffff;

/// Bytes that no peer that keeps to the protocol sends; the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not SPDY/3.1: {0}")]
pub struct Malformed(pub &'static str);

/// How a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Data {
        stream: u32,
        fin: bool,
        length: usize,
    },
    Control {
        kind: u16,
        flags: u8,
        length: usize,
    },
}

impl Head {
    /// Reads the first bytes of a frame.
    pub fn parse(head: [u8; HEAD]) -> Result<Self, Malformed> {
        let mut bytes = &head[..];
        let first = bytes.get_u32();
        let second = bytes.get_u32();
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if first & !STREAM == 0 {
            if first == 0 {
                return Err(Malformed("data of stream 0"));
            }
            return Ok(Self::Data {
                stream: first,
                fin: flags & FIN != 0,
                length,
            });
        }
        if (first >> 16) as u16 & 0x7fff != VERSION {
            return Err(Malformed("another version"));
        }
        if length > CONTROL_MAX {
            return Err(Malformed("a control frame is too large"));
        }
        Ok(Self::Control {
            kind: (first & 0xffff) as u16,
            flags,
            length,
        })
    }
}

/// A control frame of the client; header blocks are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A new stream; `fin` if the client will send nothing on it, `unidirectional` if it wants nothing back.
    Open {
        stream: u32,
        fin: bool,
        unidirectional: bool,
        block: Bytes,
    },
    /// More headers of a stream, or an answer to one of ours: to be decompressed, and ignored.
    Headers {
        block: Bytes,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, windows, and what is not known.
    Other,
}

impl Control {
    /// Reads a control frame's payload.
    pub fn parse(kind: u16, flags: u8, mut payload: Bytes) -> Result<Self, Malformed> {
        let mut need = |bytes: usize| {
            if payload.len() < bytes {
                return Err(Malformed("a control frame is too short"));
            }
            Ok(payload.split_to(bytes))
        };
        Ok(match kind {
            1 => {
                let mut fixed = need(10)?;
                Self::Open {
                    stream: fixed.get_u32() & STREAM,
                    fin: flags & FIN != 0,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    block: payload,
                }
            }
            2 | 8 => {
                need(4)?;
                Self::Headers { block: payload }
            }
            3 => Self::Reset {
                stream: need(8)?.get_u32() & STREAM,
            },
            6 => Self::Ping {
                id: need(4)?.get_u32(),
            },
            7 => Self::GoAway,
            _ => Self::Other,
        })
    }
}

/// Why a stream is refused or ended early; the numbers of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Protocol = 1,
    Refused = 3,
    Cancel = 5,
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    // Only what this module itself composes is written: far below 2^24.
    let length = u32::try_from(length).unwrap_or(0) & 0x00ff_ffff;
    out.put_u32((u32::from(flags) << 24) | length);
}

/// The answer to a new stream.
pub fn reply(out: &mut BytesMut, stream: u32, block: &[u8]) {
    control(out, 2, 0, 4 + block.len());
    out.put_u32(stream);
    out.put_slice(block);
}

/// Ends a stream early.
pub fn reset(out: &mut BytesMut, stream: u32, why: Reset) {
    control(out, 3, 0, 8);
    out.put_u32(stream);
    out.put_u32(why as u32);
}

/// The answer to a ping.
pub fn ping(out: &mut BytesMut, id: u32) {
    control(out, 6, 0, 4);
    out.put_u32(id);
}

/// Data in as many frames as it needs; `fin` says that nothing follows.
pub fn data(out: &mut BytesMut, stream: u32, bytes: &[u8], fin: bool) {
    let mut rest = bytes;
    loop {
        let (piece, next) = rest.split_at(rest.len().min(DATA_MAX));
        rest = next;
        let flags = if fin && rest.is_empty() { FIN } else { 0 };
        out.put_u32(stream);
        out.put_u32((u32::from(flags) << 24) | u32::try_from(piece.len()).unwrap_or(0));
        out.put_slice(piece);
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(hex: u64) -> Result<Head, Malformed> {
        Head::parse(hex.to_be_bytes())
    }

    #[test]
    fn heads() {
        let data = |stream, fin, length| {
            Ok(Head::Data {
                stream,
                fin,
                length,
            })
        };
        assert_eq!(head(0x0000_0001_0000_0005), data(1, false, 5));
        assert_eq!(
            head(0x7fff_ffff_01ff_ffff),
            data(0x7fff_ffff, true, 0xff_ffff)
        );
        assert_eq!(
            head(0x8003_0001_0300_000a),
            Ok(Head::Control {
                kind: 1,
                flags: 3,
                length: 10
            })
        );
        for (wrong, why) in [
            (0x0000_0000_0000_0001, "data of stream 0"),
            (0x8002_0001_0000_000a, "another version"),
            (0x8003_0001_0001_0001, "a control frame is too large"),
        ] {
            assert_eq!(head(wrong), Err(Malformed(why)), "{wrong:x}");
        }
    }

    #[test]
    fn control_frames() {
        let parse = |kind, flags, payload: &'static [u8]| {
            Control::parse(kind, flags, Bytes::from_static(payload))
        };
        assert_eq!(
            parse(1, 1, b"\x80\x00\x00\x05\0\0\0\0\xe0\0block"),
            Ok(Control::Open {
                stream: 5,
                fin: true,
                unidirectional: false,
                block: Bytes::from_static(b"block")
            })
        );
        let block = Bytes::from_static(b"b");
        assert_eq!(parse(8, 0, b"\0\0\0\x05b"), Ok(Control::Headers { block }));
        assert_eq!(
            parse(3, 0, b"\0\0\0\x05\0\0\0\x05"),
            Ok(Control::Reset { stream: 5 })
        );
        assert_eq!(parse(6, 0, b"\0\0\0\x09"), Ok(Control::Ping { id: 9 }));
        assert_eq!(parse(7, 0, b""), Ok(Control::GoAway));
        assert_eq!(parse(4, 0, b"\0"), Ok(Control::Other));
        assert_eq!(parse(77, 0, b""), Ok(Control::Other));
        for kind in [1, 2, 3, 6, 8] {
            assert!(parse(kind, 0, b"\0\0\0").is_err(), "{kind}");
        }
    }

    #[test]
    fn long_data_goes_in_pieces_and_only_the_last_ends() {
        let mut out = BytesMut::new();
        data(&mut out, 7, &vec![1; DATA_MAX + 1], true);
        let mut fins = Vec::new();
        while !out.is_empty() {
            let first = out.split_to(HEAD);
            let first: [u8; HEAD] = first[..].try_into().expect("a head");
            let Ok(Head::Data {
                stream: 7,
                fin,
                length,
            }) = Head::parse(first)
            else {
                panic!("{first:?}");
            };
            out.advance(length);
            fins.push((length, fin));
        }
        assert_eq!(fins, [(DATA_MAX, false), (1, true)]);
        data(&mut out, 7, b"", true);
        assert_eq!(&out[..], b"\0\0\0\x07\x01\0\0\0");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(first in any::<[u8; HEAD]>(), kind in 0_u16..12, flags in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Head::parse(first);
            let _ = Control::parse(kind, flags, payload.into());
        }
    }
}
