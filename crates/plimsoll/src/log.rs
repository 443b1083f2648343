//! The daemon's own log: to standard error; where that is a file of ours, bounded and rotated.
//!
//! `FILE`, then `FILE.1` ... `FILE.3`, the oldest last. Standard output and error follow to the new file, so that a panic's words
//! are in the log too. Under a service manager standard error is its journal's, and nothing is rotated here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing_subscriber::EnvFilter;

/// Size from which a file is put aside.
pub const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files that are kept beside the current one.
const KEPT: u32 = 3;

const DEFAULT_FILTER: &str = "info,kube=warn,hyper=warn,tower=warn";

/// Starts logging. `filter` as in the settings; a wrong one is told and the default used. `file`: where standard error leads to.
pub fn start(filter: Option<&str>, file: Option<&Path>) {
    let chosen = filter.unwrap_or(DEFAULT_FILTER);
    let (filter, wrong) = match EnvFilter::try_new(chosen) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    match file {
        Some(file) => {
            // tracing-subscriber makes writers of the standard library's mutex
            let log = Lossy(Rotating::new(file, FILE_BYTES_MAX, follow));
            let log = std::sync::Mutex::new(log);
            subscriber.with_writer(log).init();
        }
        None => subscriber.with_writer(|| Lossy(io::stderr())).init(),
    }
    if let Some(error) = wrong {
        tracing::warn!("the log filter {chosen:?} is not used: {error}");
    }
}

/// What cannot be written is lost: a log on a full disk must not end what speaks to it.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Makes standard output and error the new file's.
fn follow(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(())
}

/// A file that is put aside when it has grown enough. An error of the disk loses lines, never the process.
struct Rotating {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    bytes_max: u64,
    follow: fn(&File) -> io::Result<()>,
}

impl Rotating {
    fn new(path: &Path, bytes_max: u64, follow: fn(&File) -> io::Result<()>) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            written: 0,
            bytes_max,
            follow,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..KEPT).rev() {
            let _ = fs::rename(aside(number), aside(number + 1));
        }
        match fs::rename(&self.path, aside(1)) {
            // somebody else has put it aside
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
        self.file = None;
        self.open()
    }

    fn open(&mut self) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        (self.follow)(&file)?;
        self.written = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.open()?;
        }
        if self.written >= self.bytes_max {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the log is not open"));
        };
        let written = file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_aside_and_the_oldest_goes() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-log-")
            .tempdir()
            .expect("directory");
        let path = directory.path().join("daemon.log");
        fs::write(&path, "before\n").expect("written");
        let mut log = Rotating::new(&path, 20, |_| Ok(()));
        for number in 0..12 {
            log.write_all(format!("line {number:04}\n").as_bytes())
                .expect("written");
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap_or_default();
        assert_eq!(read("daemon.log"), "line 0010\nline 0011\n");
        assert_eq!(read("daemon.log.1"), "line 0008\nline 0009\n");
        assert_eq!(read("daemon.log.3"), "line 0004\nline 0005\n");
        assert!(!directory.path().join("daemon.log.4").exists());
    }

    #[test]
    fn what_was_there_stays() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-log-")
            .tempdir()
            .expect("directory");
        let path = directory.path().join("daemon.log");
        fs::write(&path, "before\n").expect("written");
        let mut log = Rotating::new(&path, 1 << 20, |_| Ok(()));
        log.write_all(b"after\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "before\nafter\n");
    }
}
