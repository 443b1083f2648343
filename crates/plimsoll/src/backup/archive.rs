//! The frame of a backup: everything but the last line is hashed, and the last line says with what result.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const PREFIX: &[u8] = b"\nsha256:";
/// `\nsha256:`, 64 digits, `\n`.
const LAST_LINE_BYTES: usize = PREFIX.len() + 64 + 1;

/// Hashes what is written.
pub struct Digesting<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Digesting<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            hash: Sha256::new(),
        }
    }

    /// Writes the last line.
    pub fn finish(mut self) -> io::Result<W> {
        let digest = hex(&self.hash.finalize());
        self.out.write_all(PREFIX)?;
        writeln!(self.out, "{digest}")?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes what is read and keeps the last line back.
pub struct Checked<R> {
    input: R,
    hash: Sha256,
    /// Read from `input` and not handed out; the last line once the input has ended.
    ahead: Vec<u8>,
    ended: bool,
}

impl<R: Read> Checked<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            hash: Sha256::new(),
            ahead: Vec::new(),
            ended: false,
        }
    }

    /// Reads what is left and compares.
    pub fn finish(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink()).context("it cannot be read to its end")?;
        let Some(rest) = self.ahead.strip_prefix(PREFIX) else {
            bail!("it is damaged or cut off: its last line is not a checksum");
        };
        let told = rest.strip_suffix(b"\n").unwrap_or(rest);
        if hex(&self.hash.finalize()).as_bytes() != told {
            bail!("it is damaged: its content does not have the checksum of its last line");
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        while !self.ended && self.ahead.len() <= LAST_LINE_BYTES {
            match self.input.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(read) => self.ahead.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let ready = self
            .ahead
            .len()
            .saturating_sub(LAST_LINE_BYTES)
            .min(out.len());
        out[..ready].copy_from_slice(&self.ahead[..ready]);
        self.hash.update(&self.ahead[..ready]);
        self.ahead.drain(..ready);
        Ok(ready)
    }
}

/// As hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Back from hexadecimal digits.
pub fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.len().is_multiple_of(2))
        // `from_str_radix` takes a sign
        .filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> Vec<u8> {
        let mut out = Digesting::new(Vec::new());
        out.write_all(content).expect("written");
        out.finish().expect("finished")
    }

    fn read_back(bytes: &[u8]) -> (Vec<u8>, Result<()>) {
        let mut input = Checked::new(bytes);
        let mut content = Vec::new();
        input.read_to_end(&mut content).expect("read");
        (content, input.finish())
    }

    #[test]
    fn digits_are_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(hex(&bytes).as_bytes()), Some(bytes));
        for wrong in ["0", "0g", "ü", "+1"] {
            assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_believed() {
        for length in [0, 1, 72, 73, 74, 16_384, 100_000] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let whole = written(&content);
            let (found, verdict) = read_back(&whole);
            assert!(found == content && verdict.is_ok(), "{length}");
            // every single bit of a short file, some of a long one
            let step = (whole.len() / 200).max(1);
            for at in (0..whole.len()).step_by(step) {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << (at % 8);
                // the last line's end may be anything, or missing
                let harmless = at == whole.len() - 1;
                assert!(
                    read_back(&damaged).1.is_err() || harmless,
                    "{length}: bit in byte {at}"
                );
                assert!(
                    read_back(&whole[..at]).1.is_err() || harmless,
                    "{length}: cut at {at}"
                );
            }
        }
    }
}
