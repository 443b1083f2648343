//! A directory into a tar archive, with owners, modes, times, hard links and extended attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::files::{is_left_out, is_taken_empty};
use super::progress::Progress;

/// Longest name that a header holds itself.
const HEADER_NAME_BYTES: usize = 100;
/// How an extended attribute is called in a pax header. Its value is written in hexadecimal digits: values are any bytes, and
/// not every reader of pax headers takes line ends in them.
pub const XATTR: &str = "PLIMSOLL.xattr.";
/// Attributes that are part of a file's meaning and may be set elsewhere; overlay's others are about this very file system.
const XATTRS: [&str; 6] = [
    "trusted.overlay.opaque",
    "trusted.overlay.redirect",
    "trusted.overlay.whiteout",
    "security.capability",
    "system.posix_acl_",
    "user.",
];

/// An archive that is being written.
pub struct Pack<'a, W: Write> {
    builder: Builder<W>,
    progress: &'a mut Progress,
    /// First name of files that have several.
    inodes: HashMap<(u64, u64), PathBuf>,
    left_out: u64,
}

impl<'a, W: Write> Pack<'a, W> {
    pub fn new(out: W, progress: &'a mut Progress) -> Self {
        Self {
            builder: Builder::new(out),
            progress,
            inodes: HashMap::new(),
            left_out: 0,
        }
    }

    /// Device files that were not taken.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    pub fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }

    /// A file with this content.
    pub fn bytes(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_entry_type(EntryType::Regular);
        self.entry(header, Path::new(name), b"", &[], content)
    }

    /// A data directory, under this name. What goes while it is read is left out.
    pub fn tree(&mut self, root: &Path, name: &str) -> io::Result<()> {
        let meta = fs::symlink_metadata(root)?;
        let device = meta.dev();
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let (path, shown) = (root.join(&relative), Path::new(name).join(&relative));
            let taken = gone_is_none(self.one(&path, &shown, device))?;
            if taken != Some(Walk::Into) || is_taken_empty(&relative) {
                continue;
            }
            let Some(mut names) = gone_is_none(names_in(&path))? else {
                continue;
            };
            names.sort();
            let children = names.into_iter().map(|name| relative.join(name));
            // what is pushed last is taken first
            pending.extend(children.rev().filter(|child| !is_left_out(child)));
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, shown: &Path, device: u64) -> io::Result<Walk> {
        let meta = fs::symlink_metadata(path)?;
        let mut header = Header::new_gnu();
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(meta.uid().into());
        header.set_gid(meta.gid().into());
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        header.set_size(0);
        let kind = meta.file_type();
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            if meta.dev() != device {
                // mounted here: its content belongs to somebody else, or to nobody after a reboot
                self.entry(header, shown, b"", &[], io::empty())?;
                return Ok(Walk::Past);
            }
            self.entry(header, shown, b"", &xattrs(path)?, io::empty())?;
            return Ok(Walk::Into);
        }
        if meta.dev() != device || kind.is_socket() {
            return Ok(Walk::Past);
        }
        if kind.is_char_device() || kind.is_block_device() {
            if !is_whiteout(&meta) {
                self.left_out += 1;
                return Ok(Walk::Past);
            }
            header.set_entry_type(EntryType::Char);
            header.set_device_major(0)?;
            header.set_device_minor(0)?;
            self.entry(header, shown, b"", &[], io::empty())?;
            return Ok(Walk::Past);
        }
        if meta.nlink() > 1 {
            let first = self.inodes.get(&(meta.dev(), meta.ino())).cloned();
            if let Some(first) = first {
                header.set_entry_type(EntryType::Link);
                self.entry(
                    header,
                    shown,
                    first.as_os_str().as_bytes(),
                    &[],
                    io::empty(),
                )?;
                return Ok(Walk::Past);
            }
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(path)?;
            self.entry(
                header,
                shown,
                target.as_os_str().as_bytes(),
                &[],
                io::empty(),
            )?;
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            self.entry(header, shown, b"", &[], io::empty())?;
        } else {
            let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(i32::try_from(flags).map_err(io::Error::other)?)
                .open(path)?;
            // its size now, and exactly so many bytes: it may be written to meanwhile
            let size = file.metadata()?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            let content = file.chain(io::repeat(0)).take(size);
            self.entry(header, shown, b"", &xattrs(path)?, content)?;
            self.progress.add(0, size);
        }
        if meta.nlink() > 1 {
            self.inodes
                .insert((meta.dev(), meta.ino()), shown.to_owned());
        }
        Ok(Walk::Past)
    }

    fn entry(
        &mut self,
        mut header: Header,
        name: &Path,
        target: &[u8],
        xattrs: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        let name = name.as_os_str().as_bytes();
        if !xattrs.is_empty() {
            let pairs = xattrs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(pairs)?;
        }
        for (value, kind) in [(name, b'L'), (target, b'K')] {
            if value.len() > HEADER_NAME_BYTES {
                let mut long = Header::new_gnu();
                long.set_entry_type(EntryType::new(kind));
                set(&mut long.as_old_mut().name, b"././@LongLink");
                long.set_mode(0o644);
                long.set_size(value.len() as u64 + 1);
                long.set_cksum();
                self.builder.append(&long, value.chain(&b"\0"[..]))?;
            }
        }
        set(&mut header.as_old_mut().name, name);
        set(&mut header.as_old_mut().linkname, target);
        header.set_cksum();
        self.progress.add(1, 0);
        self.builder.append(&header, content)
    }
}

/// Whether there is more beneath.
#[derive(PartialEq)]
enum Walk {
    Into,
    Past,
}

fn set(field: &mut [u8; HEADER_NAME_BYTES], value: &[u8]) {
    let length = value.len().min(HEADER_NAME_BYTES);
    field[..length].copy_from_slice(&value[..length]);
}

/// A deletion, as overlay keeps it.
fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn names_in(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// The attributes worth keeping, as in a pax header.
fn xattrs(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    // neither followed nor waited for: the caller knows that it is a file or a directory
    let file = File::open(path)?;
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        if !XATTRS.iter().any(|kept| text.starts_with(kept)) {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        match rustix::fs::fgetxattr(&file, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => {
                let digits = super::archive::hex(&value[..length]);
                found.push((format!("{XATTR}{text}"), digits.into_bytes()));
            }
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Whether an attribute of an archive may be set.
pub fn is_kept(name: &str) -> bool {
    XATTRS.iter().any(|kept| name.starts_with(kept))
}
