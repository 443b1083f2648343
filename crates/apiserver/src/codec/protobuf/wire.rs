//! Protobuf's wire format: tags, varints and lengths, every one checked against what is there.

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag {0} (wire type {1})")]
    IllegalTag(u64, u8),
    #[error("proto: wrong wireType = {found} for field {field}")]
    WrongType { found: u8, field: String },
    #[error("proto: field {0} is not valid UTF-8")]
    NotText(String),
    #[error("proto: field {field}: {reason}")]
    Content { field: String, reason: String },
    #[error("the protobuf body nests too deep")]
    TooDeep,
    #[error("the protobuf body holds too many values")]
    TooManyValues,
}

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// Groups within groups are skipped so deep; no message of Kubernetes has any.
const SKIPPED_DEPTH_MAX: usize = 32;

/// A field number and the form of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub number: u32,
    pub wire: u8,
}

/// Reads from the front of a slice.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next tag, or none at the end.
    pub fn tag(&mut self) -> Result<Option<Tag>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = (key & 7) as u8;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number));
        match number {
            Some(number) if wire <= FIXED32 && wire != GROUP_END => Ok(Some(Tag { number, wire })),
            _ => Err(WireError::IllegalTag(key >> 3, wire)),
        }
    }

    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (position, byte) in self.rest.iter().enumerate() {
            if position == 10 || (position == 9 && *byte > 1) {
                return Err(WireError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[position + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Truncated)
    }

    pub fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self, tag: Tag) -> Result<&'a [u8], WireError> {
        if tag.wire != BYTES {
            return Err(WireError::WrongType {
                found: tag.wire,
                field: tag.number.to_string(),
            });
        }
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Overflow)?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn text(&mut self, tag: Tag) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(tag)?)
            .map_err(|_| WireError::NotText(tag.number.to_string()))
    }

    /// Passes over a field that nobody here knows.
    pub fn skip(&mut self, tag: Tag) -> Result<(), WireError> {
        self.skip_at(tag, 0)
    }

    fn skip_at(&mut self, tag: Tag, depth: usize) -> Result<(), WireError> {
        match tag.wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            BYTES => self.bytes(tag).map(drop),
            FIXED32 => {
                self.rest = self.rest.get(4..).ok_or(WireError::Truncated)?;
                Ok(())
            }
            GROUP_START if depth >= SKIPPED_DEPTH_MAX => Err(WireError::TooDeep),
            GROUP_START => loop {
                let key = self.varint()?;
                let (number, wire) = (key >> 3, (key & 7) as u8);
                if wire == GROUP_END {
                    return Ok(());
                }
                if number == 0 || wire > FIXED32 {
                    return Err(WireError::IllegalTag(number, wire));
                }
                self.skip_at(Tag { number: 0, wire }, depth + 1)?;
            },
            wire => Err(WireError::IllegalTag(u64::from(tag.number), wire)),
        }
    }
}
