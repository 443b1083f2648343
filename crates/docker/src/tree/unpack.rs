//! Into a tree: a tar archive that somebody sent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::{DIRECTORY, Tree, beneath, clean};

/// Entries of one archive.
const ENTRIES_MAX: u64 = 2_000_000;

/// What happens when a directory and something else meet under one name.
#[derive(Clone, Copy, PartialEq)]
pub enum Existing {
    Replace,
    Refuse,
}

impl Tree {
    /// Unpacks beneath `directory`, which must exist. Owners, modes and times are the archive's; devices are refused.
    pub fn unpack(
        &self,
        directory: &str,
        archive: impl Read,
        existing: Existing,
    ) -> io::Result<()> {
        let base = clean(directory.as_bytes()).map_err(io::Error::other)?;
        let writer = Writer {
            tree: self,
            base: self.at(&base, DIRECTORY)?,
            below: base,
            existing,
        };
        let mut archive = Archive::new(archive);
        // a directory's time is that of its last entry until all are there
        let mut directories = Vec::new();
        for (count, entry) in (1u64..).zip(archive.entries()?) {
            let mut entry = entry?;
            if count > ENTRIES_MAX {
                return Err(io::Error::other(format!(
                    "the archive has more than {ENTRIES_MAX} entries"
                )));
            }
            let bytes = entry.path_bytes().into_owned();
            let fail = |error: io::Error| {
                let name = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
                io::Error::new(error.kind(), format!("entry {name:?}: {error}"))
            };
            let path = clean(&bytes).map_err(io::Error::other).map_err(fail)?;
            if let Some(directory) = writer.write(&mut entry, &path).map_err(fail)? {
                directories.push((directory, entry.header().mtime().unwrap_or(0)));
            }
        }
        for (path, seconds) in directories.into_iter().rev() {
            if let Ok(directory) = writer.open(&path) {
                let _ = rustix::fs::futimens(&directory, &times(seconds));
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    tree: &'a Tree,
    base: OwnedFd,
    below: PathBuf,
    existing: Existing,
}

impl Writer<'_> {
    /// Gives the path back if it is a directory.
    fn write(&self, entry: &mut Entry<impl Read>, path: &Path) -> io::Result<Option<PathBuf>> {
        let kind = entry.header().entry_type();
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        let owner = |id: u64| {
            u32::try_from(id).map_err(|_| io::Error::other("its owner is no valid number"))
        };
        let (uid, gid) = (
            Uid::from_raw(owner(entry.header().uid().unwrap_or(0))?),
            Gid::from_raw(owner(entry.header().gid().unwrap_or(0))?),
        );
        let (uid, gid) = (Some(uid), Some(gid));
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(None);
        }
        let Some(name) = path.file_name() else {
            // the directory itself: it is there already, and stays as it is
            return Ok(None);
        };
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        match kind {
            EntryType::Directory => {
                self.make_room(&parent, path, true)?;
                match rustix::fs::mkdirat(&parent, name, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = self.open(path)?;
                rustix::fs::fchown(&made, uid, gid)?;
                rustix::fs::fchmod(&made, mode)?;
                return Ok(Some(path.to_owned()));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_room(&parent, path, false)?;
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(
                    &parent,
                    name,
                    flags,
                    Mode::from_raw_mode(0o600),
                )?);
                io::copy(entry, &mut file)?;
                // the owner first: changing it takes the set-user-ID bit away
                rustix::fs::fchown(&file, uid, gid)?;
                rustix::fs::fchmod(&file, mode)?;
                rustix::fs::futimens(&file, &times(entry.header().mtime().unwrap_or(0)))?;
            }
            EntryType::Symlink => {
                self.make_room(&parent, path, false)?;
                let target = link_name(entry)?;
                rustix::fs::symlinkat(&target, &parent, name)?;
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = clean(link_name(entry)?.as_bytes()).map_err(io::Error::other)?;
                let target_name = target
                    .file_name()
                    .ok_or_else(|| io::Error::other("a hard link to the root"))?;
                let target_parent = self.open(target.parent().unwrap_or(Path::new("")))?;
                self.make_room(&parent, path, false)?;
                rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())?;
            }
            EntryType::Fifo => {
                self.make_room(&parent, path, false)?;
                rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0)?;
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Block | EntryType::Char => {
                return Err(io::Error::other(
                    "device files are not taken from an archive",
                ));
            }
            other => {
                return Err(io::Error::other(format!(
                    "entries of type {other:?} are not known"
                )));
            }
        }
        Ok(None)
    }

    /// A directory of the tree, relative to where is unpacked.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.tree.at(&self.below.join(path), DIRECTORY)
    }

    /// The same, made with its parents where it is missing.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.base.try_clone();
        }
        match self.open(path) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let mut so_far = PathBuf::new();
        let mut parent = self.base.try_clone()?;
        for part in path.components() {
            so_far.push(part);
            parent = match self.open(&so_far) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                    beneath(&parent, Path::new(part.as_os_str()), DIRECTORY)?
                }
                other => other?,
            };
        }
        Ok(parent)
    }

    /// Takes away what is there under a name and cannot stay.
    fn make_room(&self, parent: &OwnedFd, path: &Path, for_directory: bool) -> io::Result<()> {
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let Ok(there) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let is_directory = match FileType::from_raw_mode(there.st_mode) {
            FileType::Directory => true,
            // a link to a directory of the tree may stand for it
            FileType::Symlink if for_directory => self.open(path).is_ok(),
            _ => false,
        };
        if is_directory && for_directory {
            return Ok(());
        }
        if is_directory != for_directory && self.existing == Existing::Refuse {
            let text = if for_directory {
                "cannot overwrite non-directory with directory"
            } else {
                "cannot overwrite directory with non-directory"
            };
            return Err(io::Error::other(text));
        }
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
            // only an empty one: an archive does not delete a tree
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }
}

fn link_name(entry: &Entry<impl Read>) -> io::Result<OsString> {
    let name = entry
        .link_name_bytes()
        .ok_or_else(|| io::Error::other("a link without a target"))?;
    Ok(OsStr::from_bytes(&name).to_owned())
}

fn times(seconds: u64) -> Timestamps {
    let at = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
