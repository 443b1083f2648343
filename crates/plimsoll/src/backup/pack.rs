//! A directory into a tar archive, with owners, modes, times, hard links and extended attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
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

    /// A data directory, under this name. What goes while it is read is left out, and so is what is mounted in it, of this file
    /// system or another: its content belongs to somebody else, or to nobody after a reboot. Containers write here meanwhile:
    /// no link that one makes is followed.
    pub fn tree(&mut self, root: &Path, name: &str) -> io::Result<()> {
        let top = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let shown = Path::new(name).join(&relative);
            let handle = match beneath(&top, &relative) {
                Ok(handle) => handle,
                Err(Errno::XDEV) => {
                    gone_is_none(self.mounted(&root.join(&relative), &shown))?;
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(error.into()),
            };
            let taken = gone_is_none(self.one(&handle, &shown))?;
            if taken != Some(Walk::Into) || is_taken_empty(&relative) {
                continue;
            }
            let Some(mut names) = gone_is_none(names_in(&again(&handle)))? else {
                continue;
            };
            names.sort();
            let children = names.into_iter().map(|name| relative.join(name));
            // what is pushed last is taken first
            pending.extend(children.rev().filter(|child| !is_left_out(child)));
        }
        Ok(())
    }

    /// The place where a directory is mounted, empty.
    fn mounted(&mut self, path: &Path, shown: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_dir() {
            return Ok(());
        }
        let mut header = header_of(&meta);
        header.set_entry_type(EntryType::Directory);
        self.entry(header, shown, b"", &[], io::empty())
    }

    fn one(&mut self, handle: &OwnedFd, shown: &Path) -> io::Result<Walk> {
        let path = &again(handle);
        let meta = File::from(handle.try_clone()?).metadata()?;
        let mut header = header_of(&meta);
        let kind = meta.file_type();
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.entry(header, shown, b"", &xattrs(path)?, io::empty())?;
            return Ok(Walk::Into);
        }
        if kind.is_socket() {
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
            let target = rustix::fs::readlinkat(handle, "", Vec::new())?;
            self.entry(header, shown, target.as_bytes(), &[], io::empty())?;
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            self.entry(header, shown, b"", &[], io::empty())?;
        } else {
            let file = File::open(path)?;
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

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What lies at a path, itself: neither a link nor a mount is gone through.
fn beneath(top: &OwnedFd, relative: &Path) -> rustix::io::Result<OwnedFd> {
    let relative = match relative.as_os_str().is_empty() {
        true => Path::new("."),
        false => relative,
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(top, relative, flags, Mode::empty(), resolve)
}

/// How what is open is opened again, to be read.
fn again(handle: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", handle.as_raw_fd()).into()
}

fn header_of(meta: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(0);
    header
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
    // not waited for: the caller knows that it is a file or a directory
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{UnmountFlags, mount_bind, unmount};

    /// The names in an archive of a directory.
    fn packed(root: &Path) -> Vec<String> {
        let mut progress = Progress::new("packed");
        let mut pack = Pack::new(Vec::new(), &mut progress);
        pack.tree(root, "data").expect("packed");
        let bytes = pack.finish().expect("finished");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names = archive.entries().expect("entries").map(|entry| {
            let entry = entry.expect("an entry");
            let target = entry.link_name().expect("a name");
            let name = entry.path().expect("a path").display().to_string();
            match target {
                Some(target) => format!("{name} -> {}", target.display()),
                None => name,
            }
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn neither_links_nor_mounts_are_gone_through() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-pack-")
            .tempdir()
            .expect("directory");
        let (root, elsewhere) = (directory.path().join("data"), directory.path().join("else"));
        for path in ["data/claims/db", "data/part", "else"] {
            fs::create_dir_all(directory.path().join(path)).expect("made");
        }
        for path in [
            "data/claims/db/rows",
            "data/plain",
            "data/one",
            "else/secret",
        ] {
            fs::write(directory.path().join(path), "x").expect("written");
        }
        fs::hard_link(root.join("plain"), root.join("second")).expect("linked");
        std::os::unix::fs::symlink("../else", root.join("link")).expect("linked");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .expect("made");
        // of the same file system: what is there is taken once, or not at all
        mount_bind(root.join("claims/db"), root.join("part")).expect("mounted");
        let file = mount_bind(elsewhere.join("secret"), root.join("one"));
        let names = packed(&root);
        for path in ["part", "one"] {
            let _ = unmount(root.join(path), UnmountFlags::DETACH);
        }
        file.expect("mounted");
        assert_eq!(
            names,
            [
                "data/",
                "data/claims",
                "data/claims/db",
                "data/claims/db/rows",
                "data/link -> ../else",
                "data/part",
                "data/pipe",
                "data/plain",
                "data/second -> data/plain",
            ]
        );
    }
}
