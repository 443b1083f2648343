//! How far a long work is, once a second, on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);

/// Counts files and bytes.
pub struct Progress {
    verb: &'static str,
    files: u64,
    bytes: u64,
    began: Instant,
    told: Instant,
    terminal: bool,
}

impl Progress {
    pub fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        Self {
            verb,
            files: 0,
            bytes: 0,
            began: now,
            told: now,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    pub fn add(&mut self, files: u64, bytes: u64) {
        self.files += files;
        self.bytes += bytes;
        if self.told.elapsed() >= PERIOD {
            self.told = Instant::now();
            let end = if self.terminal { "\r" } else { "\n" };
            eprint!("{}{end}", self.line());
            let _ = std::io::stderr().flush();
        }
    }

    /// The last word.
    pub fn end(&self, more: &str) {
        eprintln!(
            "{} in {:.1} s, {more}",
            self.line(),
            self.began.elapsed().as_secs_f64()
        );
    }

    fn line(&self) -> String {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        format!("{} {} files, {mib:.1} MiB", self.verb, self.files)
    }
}
