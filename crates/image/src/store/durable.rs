//! Files that are either the old or the new one after a crash, and hashing on the way.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::deletion::delete_directory;
use crate::error::Error;

/// Replaces `path` by `content`: temporary file beside it, fsync, rename, fsync of the directory.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".plimsoll-")
        .tempfile_in(directory)
        .map_err(Error::io("create a file in", directory))?;
    file.write_all(content).map_err(Error::io("write", path))?;
    file.as_file()
        .sync_all()
        .map_err(Error::io("write", path))?;
    file.persist(path).map_err(|e| Error::Io {
        action: "replace",
        path: path.into(),
        source: e.error,
    })?;
    sync_directory(directory)
}

/// Makes renames in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(Error::io("sync", path))
}

/// Makes everything on the file system of `path` durable; cheaper than a sync per file of an unpacked layer.
pub(crate) fn sync_filesystem(path: &Path) -> Result<(), Error> {
    let directory = File::open(path).map_err(Error::io("open", path))?;
    rustix::fs::syncfs(&directory).map_err(Error::io("sync", path))
}

/// Deletes a tree; that it is not there is fine.
pub(crate) fn delete_tree(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("examine", path)(e)),
        Ok(meta) if meta.is_dir() => delete_directory(path).map_err(Error::io("delete", path)),
        Ok(_) => fs::remove_file(path).map_err(Error::io("delete", path)),
    }
}

/// `sha256:…` of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        })
}

/// Passes bytes through and remembers their digest and number.
pub(crate) struct Hashing<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Hashing {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// What it wraps, digest and number of bytes.
    pub fn finish(self) -> (T, String, u64) {
        (
            self.inner,
            format!("sha256:{}", hex(&self.hash.finalize())),
            self.bytes,
        )
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
