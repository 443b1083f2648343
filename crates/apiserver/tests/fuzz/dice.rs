//! Damage by seed.

/// A small generator of its own: the damage is the same on every machine.
pub struct Dice(u64);

impl Dice {
    /// By `PLIMSOLL_SEED` and what is to be damaged.
    pub fn new(salt: &str) -> Self {
        let seed = std::env::var("PLIMSOLL_SEED").ok();
        let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
        let salt = salt.bytes().fold(0u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        Dice((seed ^ salt.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    /// One to four injuries.
    pub fn damage(&mut self, document: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = document.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(out.len());
            match self.below(7) {
                0 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                1 => out.truncate(at),
                2 if !out.is_empty() => drop(out.remove(at)),
                3 if !out.is_empty() => {
                    let odd = [0x00, 0xff, 0x7f, 0x80, b'{', b'[', b'"', b'\\', b'&', b'*'];
                    out[at] = odd[self.below(odd.len())];
                }
                // Something of another document in the middle of this one.
                4 => {
                    let from = self.below(other.len());
                    let length = self.below(64).min(other.len() - from);
                    out.splice(at..at, other[from..from + length].iter().copied());
                }
                // The head of this one, the tail of the other.
                5 => {
                    out.truncate(at);
                    out.extend_from_slice(&other[self.below(other.len())..]);
                }
                // A part of its own again and again.
                _ => {
                    let length = self.below(32).min(out.len() - at);
                    let part = out[at..at + length].repeat(1 + self.below(20));
                    out.splice(at..at, part);
                }
            }
        }
        out
    }
}
