//! Protobuf's wire format, written: tags, varints, and messages whose length is known only after them.

use super::wire::{BYTES, FIXED64, VARINT};

/// Appends fields to one buffer.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Writer {
            out: Vec::with_capacity(bytes),
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub fn number(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    /// As Go writes an int32 or int64: sign-extended to 64 bits.
    pub fn integer(&mut self, field: u32, value: i64) {
        self.number(field, value as u64);
    }

    pub fn float(&mut self, field: u32, value: f64) {
        self.key(field, FIXED64);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, BYTES);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    pub fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A message that `write` appends. One byte is kept for its length; a longer length moves the message up, which
    /// is cheaper than writing it twice.
    pub fn message<E>(
        &mut self,
        field: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<(), E> {
        self.key(field, BYTES);
        let at = self.out.len();
        self.out.push(0);
        write(self)?;
        let length = self.out.len() - at - 1;
        let mut digits = [0u8; 10];
        let used = varint(length as u64, &mut digits);
        if used == 1 {
            self.out[at] = digits[0];
        } else {
            self.out.splice(at..=at, digits[..used].iter().copied());
        }
        Ok(())
    }

    /// What is already encoded.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn key(&mut self, field: u32, wire: u8) {
        self.varint(u64::from(field) << 3 | u64::from(wire));
    }

    fn varint(&mut self, value: u64) {
        let mut digits = [0u8; 10];
        let used = varint(value, &mut digits);
        self.out.extend_from_slice(&digits[..used]);
    }
}

fn varint(mut value: u64, digits: &mut [u8; 10]) -> usize {
    let mut used = 0;
    while value >= 0x80 {
        digits[used] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        used += 1;
    }
    digits[used] = value as u8;
    used + 1
}
