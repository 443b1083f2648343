//! One archive entry to one file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::Unpack;
use super::attributes::{Meta, set_meta, set_meta_of_name};
use super::confine::{Links, Root, clean, explain};
use crate::error::Error;
use crate::store::deletion::delete_directory;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Character devices that a layer may bring along: the harmless ones that every container has anyway.
const DEVICES: [(u32, u32); 8] = [
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 1),
    (5, 2),
];

/// Paths of directories that are remembered to set their times at the end: all of any honest layer. What comes after keeps the
/// time of its last entry.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;

/// Paths of implied directories that are remembered: all of any honest layer. Others stay as they are made.
const IMPLIED_BYTES_MAX: usize = 256 << 10;

pub(super) struct Writer<'a> {
    options: &'a Unpack<'a>,
    root: Root,
    /// Directory times are set last: writing into a directory changes them.
    directories: Vec<(PathBuf, Timestamps)>,
    remembered_bytes: usize,
    /// Directories of a layer that are there only because something lies in them.
    implied: BTreeSet<String>,
    implied_bytes: usize,
    /// Content that may still be written. The archive's own length does not bound it: a sparse file's holes are in its header.
    left_bytes: u64,
}

impl<'a> Writer<'a> {
    pub fn new(options: &'a Unpack<'a>, root: Root) -> Self {
        Writer {
            options,
            root,
            directories: Vec::new(),
            remembered_bytes: 0,
            implied: BTreeSet::new(),
            implied_bytes: 0,
            left_bytes: options.limits.bytes,
        }
    }

    pub fn write<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Error> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        self.write_inner(entry).map_err(|mut reason| {
            if self.root.has_no_inodes() {
                reason.push_str(": its file system has no inodes left, which are one a file");
            }
            Error::Entry {
                entry: shown,
                reason,
            }
        })
    }

    /// Sets the times of directories, deepest last written first. Returns those that no entry named.
    pub fn finish(self) -> Result<Vec<String>, Error> {
        for (path, times) in self.directories.iter().rev() {
            let set = self
                .root
                .open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
                .and_then(|fd| rustix::fs::futimens(&fd, times));
            match set {
                // A later entry replaced the directory.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => {}
                Err(e) => return Err(Error::io("set times of", path)(e)),
            }
        }
        Ok(self.implied.into_iter().collect())
    }

    fn write_inner<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), String> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) || kind.as_byte() == b'V' {
            return Ok(());
        }
        let relative = clean(&entry.path_bytes())?;
        let meta = Meta::of(entry, self.options.owner)?;
        let path = self.options.beneath.join(&relative);
        let Some(name) = relative.file_name().map(OsStr::to_owned) else {
            return if kind.is_dir() {
                self.root_directory(&path, meta)
            } else {
                Err("it would replace the root".into())
            };
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let (layer, implied, bytes) = (
            self.options.whiteouts,
            &mut self.implied,
            &mut self.implied_bytes,
        );
        let made = |path: &Path| {
            if let Some(text) = path.to_str().filter(|_| layer)
                && *bytes + text.len() <= IMPLIED_BYTES_MAX
            {
                *bytes += text.len();
                implied.insert(text.to_owned());
            }
        };
        let parent = self
            .root
            .directory_with(&parent_path, made)
            .map_err(explain)?;
        if self.options.whiteouts && name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&parent, &parent_path, name.as_bytes());
        }
        match kind {
            EntryType::Directory => self.directory(&parent, &name, &path, meta),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.left_bytes = self.left_bytes.checked_sub(entry.size()).ok_or_else(|| {
                    let limit = self.options.limits.bytes;
                    format!("unpacked, the archive is larger than the limit of {limit} bytes")
                })?;
                self.make_room(&parent, &name)?;
                regular(&parent, &name, entry, &meta)
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or("a symbolic link without target")?;
                if target.is_empty() || target.contains(&0) {
                    return Err("a symbolic link without valid target".into());
                }
                self.make_room(&parent, &name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), &parent, &name).map_err(words)?;
                set_meta_of_name(&parent, &name, &meta, false)
            }
            EntryType::Link => {
                let target = entry
                    .link_name_bytes()
                    .ok_or("a hard link without target")?;
                self.hard_link(&parent, &name, &target)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = device_of(entry)?;
                let file_type = file_type_of(kind, device)?;
                self.make_room(&parent, &name)?;
                let dev = rustix::fs::makedev(device.0, device.1);
                rustix::fs::mknodat(&parent, &name, file_type, Mode::from_raw_mode(0o600), dev)
                    .map_err(words)?;
                set_meta_of_name(&parent, &name, &meta, true)
            }
            other => Err(format!("unknown type {:?}", char::from(other.as_byte()))),
        }
    }

    fn remember(&mut self, path: &Path, times: Timestamps) {
        let bytes = path.as_os_str().len() + size_of::<(PathBuf, Timestamps)>();
        if self.remembered_bytes + bytes <= REMEMBERED_BYTES_MAX {
            self.remembered_bytes += bytes;
            self.directories.push((path.to_owned(), times));
        }
    }

    fn root_directory(&mut self, path: &Path, meta: Meta) -> Result<(), String> {
        // Where a user unpacks to is the user's; only a layer's own root takes the archive's mode and owner.
        if self.options.links == Links::InRoot {
            return Ok(());
        }
        let fd = self
            .root
            .open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(explain)?;
        set_meta(&fd, &meta)?;
        self.remember(path, meta.times);
        Ok(())
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        meta: Meta,
    ) -> Result<(), String> {
        if let Some(text) = path.to_str()
            && self.implied.remove(text)
        {
            self.implied_bytes -= text.len();
        }
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
            Ok(stat) => {
                let keeps = self.root.links() == Links::InRoot
                    && FileType::from_raw_mode(stat.st_mode).is_symlink()
                    && self
                        .root
                        .open_at(path, OFlags::PATH | OFlags::DIRECTORY)
                        .is_ok();
                // A root's /lib -> usr/lib stays what it is when an archive has a directory of that name.
                if keeps {
                    return Ok(());
                }
                self.make_room(parent, name)?;
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(words)?;
            }
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(words)?;
            }
            Err(e) => return Err(words(e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(words)?;
        set_meta(&fd, &meta)?;
        self.remember(path, meta.times);
        Ok(())
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, target: &[u8]) -> Result<(), String> {
        let refuse = |reason: &str| {
            format!(
                "hard link to {:?}: {reason}",
                String::from_utf8_lossy(target)
            )
        };
        let cleaned = clean(target).map_err(refuse)?;
        let target_name = cleaned
            .file_name()
            .ok_or_else(|| refuse("it is the root"))?;
        let target_path = self
            .options
            .beneath
            .join(cleaned.parent().unwrap_or(Path::new("")));
        let target_parent = self
            .root
            .open_at(&target_path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|e| refuse(&explain(e)))?;
        let stat = rustix::fs::statat(&target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| refuse(&explain(e)))?;
        if let Ok(own) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            && (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.make_room(parent, name)?;
        rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .map_err(|e| refuse(&explain(e)))
    }

    fn whiteout(
        &mut self,
        parent: &OwnedFd,
        parent_path: &Path,
        name: &[u8],
    ) -> Result<(), String> {
        if name == OPAQUE {
            let fd = self
                .root
                .open_at(parent_path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(explain)?;
            return rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
                .map_err(words);
        }
        let hidden = &name[WHITEOUT.len()..];
        // Other `.wh..wh.` names are bookkeeping of aufs.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err("a whiteout without a valid name".into());
        }
        let hidden = OsStr::from_bytes(hidden);
        let mode = Mode::from_raw_mode(0);
        match rustix::fs::mknodat(
            parent,
            hidden,
            FileType::CharacterDevice,
            mode,
            rustix::fs::makedev(0, 0),
        ) {
            // A whiteout hides what lower layers have, not what this one brings.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(words(e)),
        }
    }

    /// Removes whatever has the name; the last entry of a name wins.
    fn make_room(&self, parent: &OwnedFd, name: &OsStr) -> Result<(), String> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                let path = Path::new("/proc/self/fd")
                    .join(parent.as_raw_fd().to_string())
                    .join(name);
                delete_directory(&path).map_err(|e| e.to_string())
            }
            Err(e) => Err(words(e)),
        }
    }
}

fn regular<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut Entry<'_, R>,
    meta: &Meta,
) -> Result<(), String> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(words)?;
    let mut file = File::from(fd);
    io::copy(entry, &mut file).map_err(|e| e.to_string())?;
    set_meta(&file, meta)?;
    rustix::fs::futimens(&file, &meta.times).map_err(words)
}

fn device_of<R: Read>(entry: &Entry<'_, R>) -> Result<(u32, u32), String> {
    let header = entry.header();
    let major = header
        .device_major()
        .map_err(|e| e.to_string())?
        .unwrap_or(0);
    let minor = header
        .device_minor()
        .map_err(|e| e.to_string())?
        .unwrap_or(0);
    Ok((major, minor))
}

fn file_type_of(kind: EntryType, device: (u32, u32)) -> Result<FileType, String> {
    match kind {
        EntryType::Fifo => Ok(FileType::Fifo),
        EntryType::Char if DEVICES.contains(&device) => Ok(FileType::CharacterDevice),
        _ => Err(format!(
            "device {}:{} is not allowed in an image",
            device.0, device.1
        )),
    }
}

pub(super) fn words(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}
