//! A container's log file in CRI format, rotated by size.

use crate::spec::LogConfig;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const BYTES_DEFAULT: u64 = 10 << 20;
const FILES_DEFAULT: u32 = 5;

/// The current file and its rules.
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
    line: Vec<u8>,
}

impl Log {
    /// Opens it for appending; without a path output is dropped.
    pub fn open(config: &LogConfig) -> io::Result<Log> {
        let mut log = Log {
            path: config.path.clone(),
            file: None,
            bytes: 0,
            bytes_max: if config.max_bytes == 0 {
                BYTES_DEFAULT
            } else {
                config.max_bytes
            },
            files_max: if config.max_files == 0 {
                FILES_DEFAULT
            } else {
                config.max_files
            },
            line: Vec::new(),
        };
        if !log.path.as_os_str().is_empty() {
            if let Some(parent) = log.path.parent() {
                fs::create_dir_all(parent)?;
            }
            log.reopen()?;
        }
        Ok(log)
    }

    /// Appends what was read from `stream` at `at`. What does not end with a newline is an entry of its own, marked partial, so
    /// that nothing is held back. A full disk loses entries, never the container.
    pub fn write(&mut self, at: Timestamp, stream: &str, bytes: &[u8]) {
        if self.path.as_os_str().is_empty() || bytes.is_empty() {
            return;
        }
        self.line.clear();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, tag) = match piece.strip_suffix(b"\n") {
                Some(content) => (content, 'F'),
                None => (piece, 'P'),
            };
            let _ = write!(self.line, "{at:.9} {stream} {tag} ");
            self.line.extend_from_slice(content);
            self.line.push(b'\n');
        }
        if self.bytes > 0 && self.bytes + self.line.len() as u64 > self.bytes_max {
            let _ = self.rotate();
        }
        if self.file.is_none() {
            let _ = self.reopen();
        }
        if let Some(file) = &mut self.file
            && file.write_all(&self.line).is_ok()
        {
            self.bytes += self.line.len() as u64;
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = File::options().append(true).create(true).open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.files_max <= 1 {
            fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.files_max - 1).rev() {
                let _ = fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1));
            }
            fs::rename(&self.path, rotated(&self.path, 1))?;
        }
        self.reopen()
    }
}

/// Name of the log before `number` rotations.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2024-01-01T00:00:00Z".parse().expect("timestamp")
    }

    #[test]
    fn lines_partial_lines_and_bytes() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-log")
            .tempdir()
            .expect("temp dir");
        let path = dir.path().join("sub/0.log");
        let mut log = Log::open(&LogConfig {
            path: path.clone(),
            ..LogConfig::default()
        })
        .expect("open");
        log.write(at(), "stdout", b"foo\n\nbar");
        log.write(at(), "stderr", b"\xff\x00\n");
        log.write(at(), "stdout", b"");
        let stamp = b"2024-01-01T00:00:00.000000000Z ";
        let expected: [&[u8]; 8] = [
            stamp,
            b"stdout F foo\n",
            stamp,
            b"stdout F \n",
            stamp,
            b"stdout P bar\n",
            stamp,
            b"stderr F \xff\x00\n",
        ];
        assert_eq!(fs::read(&path).expect("read"), expected.concat());
    }

    #[test]
    fn rotation_keeps_so_many_files_of_such_a_size() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-log")
            .tempdir()
            .expect("temp dir");
        let path = dir.path().join("0.log");
        let config = LogConfig {
            path: path.clone(),
            max_bytes: 100,
            max_files: 3,
        };
        let mut log = Log::open(&config).expect("open");
        for number in 0..20 {
            log.write(at(), "stdout", format!("line {number:02}\n").as_bytes());
        }
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        assert!(text(&path).contains("line 19"));
        assert!(
            text(&rotated(&path, 1)).contains("line 17")
                && text(&rotated(&path, 2)).contains("line 15")
        );
        assert!(!rotated(&path, 3).exists());
        assert!(fs::metadata(&path).expect("size").len() <= 100);
        let again = Log::open(&config).expect("open again");
        assert_eq!(again.bytes, fs::metadata(&path).expect("size").len());
    }
}
