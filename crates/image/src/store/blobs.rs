//! Content by digest: `blobs/sha256/HEX`. A file there is complete and is what its name says.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::reference::is_digest;
use crate::store::durable::{self, Hashing};
use crate::store::pending::Pending;

pub(crate) struct Blobs {
    directory: PathBuf,
    temporary: PathBuf,
    pub pending: Pending,
}

/// A blob being written; gone unless committed.
pub(crate) struct BlobWriter {
    file: Hashing<NamedTempFile>,
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Blobs {
    pub fn open(root: &Path, temporary: &Path) -> Result<Blobs, Error> {
        let directory = root.join("blobs/sha256");
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        Ok(Blobs {
            pending: Pending::new(&directory),
            directory,
            temporary: temporary.into(),
        })
    }

    /// Where the blob is or would be.
    ///
    /// # Errors
    /// When the text is no sha256 digest: it must never become a path.
    pub fn path(&self, digest: &str) -> Result<PathBuf, Error> {
        if !is_digest(digest) {
            return Err(Error::malformed(
                format!("digest {digest:?}"),
                "only sha256 is supported",
            ));
        }
        Ok(self.directory.join(&digest["sha256:".len()..]))
    }

    pub fn has(&self, digest: &str) -> bool {
        self.path(digest).is_ok_and(|p| p.exists())
    }

    pub fn writer(&self) -> Result<BlobWriter, Error> {
        let file = tempfile::Builder::new()
            .prefix("plimsoll-blob-")
            .tempfile_in(&self.temporary)
            .map_err(Error::io("create a file in", &self.temporary))?;
        Ok(BlobWriter {
            file: Hashing::new(file),
        })
    }

    /// Puts a written blob in place and returns digest and size. It is durable when the index is written next.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when it is not what was expected.
    pub fn commit(
        &self,
        writer: BlobWriter,
        expected: Option<&str>,
    ) -> Result<(String, u64), Error> {
        let (file, digest, size) = writer.file.finish();
        if let Some(expected) = expected.filter(|e| *e != digest) {
            return Err(Error::DigestMismatch {
                what: "blob".into(),
                expected: expected.into(),
                actual: digest,
            });
        }
        let path = self.path(&digest)?;
        file.persist(&path)
            .map_err(|e| Error::io("store", &path)(e.error))?;
        self.pending.add(&path);
        Ok((digest, size))
    }

    pub fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let digest = durable::digest_of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer
            .write_all(bytes)
            .map_err(Error::io("write", &self.temporary))?;
        Ok(self.commit(writer, Some(&digest))?.0)
    }

    pub fn open_blob(&self, digest: &str) -> Result<File, Error> {
        let path = self.path(digest)?;
        File::open(&path).map_err(Error::io("open", path))
    }

    /// A small blob, whole; refused above 16 MiB.
    pub fn read(&self, digest: &str) -> Result<Vec<u8>, Error> {
        const LIMIT: u64 = 16 << 20;
        let mut bytes = Vec::new();
        let path = self.path(digest)?;
        self.open_blob(digest)?
            .take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > LIMIT {
            return Err(Error::malformed(
                format!("blob {digest}"),
                "larger than 16 MiB",
            ));
        }
        Ok(bytes)
    }

    /// (digest, size) of all blobs.
    pub fn list(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.directory).map_err(Error::io("read", &self.directory))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &self.directory))?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if is_digest(&digest) {
                found.push((digest, entry.metadata().map_or(0, |m| m.len())));
            }
        }
        Ok(found)
    }

    pub fn delete(&self, digest: &str) -> Result<(), Error> {
        durable::delete_tree(&self.path(digest)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-blobs-")
            .tempdir()
            .unwrap();
        let blobs = Blobs::open(dir.path(), dir.path()).unwrap();
        (dir, blobs)
    }

    #[test]
    fn content_is_found_by_its_digest() {
        let (_dir, blobs) = blobs();
        let digest = blobs.put(b"hello").unwrap();
        assert_eq!(
            digest,
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(blobs.read(&digest).unwrap(), b"hello");
        assert_eq!(blobs.list().unwrap(), [(digest, 5)]);
    }

    #[test]
    fn wrong_content_is_not_stored() {
        let (dir, blobs) = blobs();
        let mut writer = blobs.writer().unwrap();
        writer.write_all(b"evil").unwrap();
        let expected = format!("sha256:{}", "0".repeat(64));
        assert!(matches!(
            blobs.commit(writer, Some(&expected)),
            Err(Error::DigestMismatch { .. })
        ));
        assert!(blobs.list().unwrap().is_empty());
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["blobs"], "the temporary file is gone");
    }

    #[test]
    fn a_digest_never_becomes_another_path() {
        let (_dir, blobs) = blobs();
        for text in [
            "sha256:../../etc/passwd",
            "sha512:00",
            "",
            "sha256:",
            "../x",
        ] {
            assert!(blobs.path(text).is_err(), "{text:?}");
        }
    }
}
