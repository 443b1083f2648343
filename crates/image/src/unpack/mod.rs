//! Archives to directories: whiteouts, links, owners and extended attributes, never outside the root, never without bound.
//!
//! Layer format: OCI image-spec, layer.md; overlay's own marks: Documentation/filesystems/overlayfs.rst.

mod attributes;
pub(crate) mod canonical;
pub(crate) mod compression;
pub(crate) mod confine;
mod entry;

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::Error;
use confine::{Links, Root};

/// Bounds on what one archive may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the archive after decompression, and bytes of all its files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries: 2_000_000,
            bytes: 64 << 30,
        }
    }
}

/// How an archive is unpacked.
pub(crate) struct Unpack<'a> {
    /// Directory that everything stays in.
    pub root: &'a Path,
    pub links: Links,
    /// Directory beneath the root that the entries are relative to.
    pub beneath: PathBuf,
    /// Whether `.wh.` names mean deletions (a layer) or are names (an archive that a user adds).
    pub whiteouts: bool,
    /// Owner of everything instead of the archive's.
    pub owner: Option<(u32, u32)>,
    pub limits: Limits,
}

impl<'a> Unpack<'a> {
    /// A layer into a directory of its own.
    pub fn layer(root: &'a Path, limits: Limits) -> Self {
        Unpack {
            root,
            links: Links::Beneath,
            beneath: PathBuf::new(),
            whiteouts: true,
            owner: None,
            limits,
        }
    }

    /// Unpacks a plain (decompressed) archive and reads its input to the end. Returns the directories of a layer that were made
    /// because something lies in them, and that no entry named.
    ///
    /// # Errors
    /// [`Error::Entry`] for what is refused; what was unpacked before stays for the caller to delete.
    pub fn run(&self, input: impl Read) -> Result<Vec<String>, Error> {
        let allowed = Rc::new(Cell::new(0));
        let meter = Meter {
            input,
            allowed: allowed.clone(),
            left: self.limits.bytes,
            limit: self.limits.bytes,
        };
        let mut archive = tar::Archive::new(meter);
        let root = Root::open(self.root, self.links)?;
        let mut writer = entry::Writer::new(self, root);
        let broken = |e: io::Error| Error::malformed("tar archive", e);
        allowed.set(BETWEEN_ENTRIES_BYTES);
        let entries = archive.entries().map_err(broken)?;
        let mut count = 0;
        for entry in entries {
            let mut entry = entry.map_err(broken)?;
            count += 1;
            if count > self.limits.entries {
                return Err(Error::Entry {
                    entry: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
                    reason: format!("more than {} entries", self.limits.entries),
                });
            }
            allowed.set(u64::MAX);
            writer.write(&mut entry)?;
            // Only headers are left for the reader to skip to the next entry.
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            allowed.set(BETWEEN_ENTRIES_BYTES);
        }
        allowed.set(u64::MAX);
        let implied = writer.finish()?;
        // Blocks after the end mark count for the digest of the archive.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
        Ok(implied)
    }
}

/// Names and extended headers of one entry: the reader holds them in memory.
const BETWEEN_ENTRIES_BYTES: u64 = 4 << 20;

/// Ends a stream that is longer than allowed with an error.
struct Meter<R> {
    input: R,
    allowed: Rc<Cell<u64>>,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        let read = n as u64;
        self.left = self.left.checked_sub(read).ok_or_else(|| {
            let limit = self.limit;
            io::Error::other(format!(
                "the archive is larger than the limit of {limit} bytes"
            ))
        })?;
        let allowed = self.allowed.get();
        if allowed != u64::MAX {
            let rest = allowed.checked_sub(read).ok_or_else(|| {
                io::Error::other("names and extended headers of an entry exceed 4 MiB")
            })?;
            self.allowed.set(rest);
        }
        Ok(n)
    }
}
