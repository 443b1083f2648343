//! A directory as the one archive that it always gives: the digest of that archive names a layer that was made here.
//!
//! Names sorted by bytes, parents first; type, mode, owner, whole seconds of the modification time, link target, device
//! number, extended attributes and content. Overlay's whiteouts and opaque marks become `.wh.` entries. Sockets are left
//! out. The archive need not be stored: it is written again, byte for byte, when the layer is pushed or saved.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::confine::{Links, Root};
use super::entry::OPAQUE_XATTR;
use crate::error::Error;
use crate::store::durable::Hashing;

/// Digest of the canonical archive.
pub(crate) fn digest(directory: &Path) -> Result<String, Error> {
    let mut out = Hashing::new(io::sink());
    write(directory, &mut out)?;
    Ok(out.finish().1)
}

/// Writes the canonical archive.
pub(crate) fn write(directory: &Path, out: &mut impl Write) -> Result<(), Error> {
    let mut archiver = Archiver {
        out,
        inodes: HashMap::new(),
    };
    archiver.tree(directory)?;
    archiver.emit(&[0; 1024])
}

fn names(directory: &Path) -> Result<Vec<OsString>, Error> {
    let mut names = fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.file_name()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(Error::io("read", directory))?;
    names.sort();
    Ok(names)
}

struct Archiver<'a, W> {
    out: &'a mut W,
    /// First name of files that have several.
    inodes: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Archiver<'_, W> {
    /// Without recursion: how deep directories are is up to whoever made them.
    fn tree(&mut self, root: &Path) -> Result<(), Error> {
        let mut relative = PathBuf::new();
        let mut levels = vec![names(root)?.into_iter()];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.next() else {
                levels.pop();
                relative.pop();
                continue;
            };
            relative.push(&name);
            let path = root.join(&relative);
            let meta = fs::symlink_metadata(&path).map_err(Error::io("examine", &path))?;
            self.entry(&path, &relative, &meta)?;
            if meta.is_dir() {
                levels.push(names(&path)?.into_iter());
            } else {
                relative.pop();
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, relative: &Path, meta: &Metadata) -> Result<(), Error> {
        let kind = meta.file_type();
        if is_whiteout(meta) {
            let mut name = b".wh.".to_vec();
            name.extend(relative.file_name().unwrap_or_default().as_bytes());
            return self.header(
                &relative.with_file_name(OsStr::from_bytes(&name)),
                b'0',
                0,
                b"",
                None,
                &[],
            );
        }
        if kind.is_socket() {
            return Ok(());
        }
        let xattrs = xattrs(path)?;
        if kind.is_dir() {
            let mut name = relative.as_os_str().to_owned();
            name.push("/");
            self.header(Path::new(&name), b'5', 0, b"", Some(meta), &xattrs)?;
            if is_opaque(path) {
                self.header(&relative.join(".wh..wh..opq"), b'0', 0, b"", None, &[])?;
            }
            return Ok(());
        }
        if meta.nlink() > 1 {
            if let Some(first) = self.inodes.get(&(meta.dev(), meta.ino())) {
                let target = first.as_os_str().as_bytes().to_owned();
                return self.header(relative, b'1', 0, &target, Some(meta), &[]);
            }
            self.inodes
                .insert((meta.dev(), meta.ino()), relative.to_owned());
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(Error::io("read link", path))?;
            return self.header(
                relative,
                b'2',
                0,
                target.as_os_str().as_bytes(),
                Some(meta),
                &xattrs,
            );
        }
        if !kind.is_file() {
            let kind = match (kind.is_char_device(), kind.is_block_device()) {
                (true, _) => b'3',
                (_, true) => b'4',
                _ => b'6',
            };
            return self.header(relative, kind, 0, b"", Some(meta), &xattrs);
        }
        self.header(relative, b'0', meta.len(), b"", Some(meta), &xattrs)?;
        self.content(path, meta.len())
    }

    fn content(&mut self, path: &Path, size: u64) -> Result<(), Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let copied =
            io::copy(&mut file.take(size), self.out).map_err(Error::io("archive", path))?;
        if copied != size {
            return Err(Error::io("archive", path)(io::Error::other(
                "the file shrank meanwhile",
            )));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let rest = (size % 512) as usize;
        if rest == 0 {
            Ok(())
        } else {
            self.emit(&[0; 512][rest..])
        }
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out
            .write_all(bytes)
            .map_err(Error::io("write", "layer archive"))
    }

    fn header(
        &mut self,
        path: &Path,
        kind: u8,
        size: u64,
        link: &[u8],
        meta: Option<&Metadata>,
        xattrs: &[(String, Vec<u8>)],
    ) -> Result<(), Error> {
        let name = path.as_os_str().as_bytes();
        let mut extended = Vec::new();
        if name.len() > 100 {
            record(&mut extended, "path", name);
        }
        if link.len() > 100 {
            record(&mut extended, "linkpath", link);
        }
        if size > 0o777_7777_7777 {
            record(&mut extended, "size", size.to_string().as_bytes());
        }
        let mtime = meta.map_or(0, MetadataExt::mtime);
        if !(0..=0o777_7777_7777).contains(&mtime) {
            record(&mut extended, "mtime", mtime.to_string().as_bytes());
        }
        let (uid, gid) = meta.map_or((0, 0), |m| (m.uid(), m.gid()));
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > 0o777_7777 {
                record(&mut extended, key, id.to_string().as_bytes());
            }
        }
        for (key, value) in xattrs {
            record(&mut extended, &format!("SCHILY.xattr.{key}"), value);
        }
        if !extended.is_empty() {
            let mut header = tar::Header::new_ustar();
            fill(
                &mut header,
                b"PaxHeaders/entry",
                b'x',
                extended.len() as u64,
                b"",
            );
            header.set_mode(0o644);
            header.set_cksum();
            self.emit(header.as_bytes())?;
            self.emit(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        let mut header = tar::Header::new_ustar();
        fill(&mut header, name, kind, size.min(0o777_7777_7777), link);
        header.set_mode(meta.map_or(0, |m| {
            if kind == b'2' {
                0o777
            } else {
                m.mode() & 0o7777
            }
        }));
        header.set_uid(u64::from(uid.min(0o777_7777)));
        header.set_gid(u64::from(gid.min(0o777_7777)));
        header.set_mtime(u64::try_from(mtime).unwrap_or(0).min(0o777_7777_7777));
        if matches!(kind, b'3' | b'4') {
            let device = meta.map_or(0, MetadataExt::rdev);
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            header
                .set_device_major(major)
                .and_then(|()| header.set_device_minor(minor))
                .map_err(Error::io("archive", path))?;
        }
        header.set_cksum();
        self.emit(header.as_bytes())
    }
}

fn fill(header: &mut tar::Header, name: &[u8], kind: u8, size: u64, link: &[u8]) {
    let old = header.as_old_mut();
    let cut = name.len().min(100);
    old.name[..cut].copy_from_slice(&name[..cut]);
    let cut = link.len().min(100);
    old.linkname[..cut].copy_from_slice(&link[..cut]);
    old.linkflag = [kind];
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
}

/// A pax record begins with its own length in decimal.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend(format!("{length} {key}=").as_bytes());
    out.extend(value);
    out.push(b'\n');
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

pub(crate) fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 4];
    rustix::fs::lgetxattr(path, OPAQUE_XATTR, &mut value[..])
        .is_ok_and(|n| n == 1 && value[0] == b'y')
}

/// Extended attributes that belong to the file, sorted; overlay's and the security modules' are not its own.
pub(crate) fn xattrs(path: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(e) => return Err(Error::io("read attributes of", path)(e)),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let own = name == "security.capability"
            || name.starts_with("user.") && !name.starts_with("user.overlay.")
            || name.starts_with("system.posix_acl_");
        if !own {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])
            .map_err(Error::io("read attributes of", path))?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

/// What an upper directory changes of the lower ones (uppermost first): `A`, `C`, `D` and the path.
pub(crate) fn changes(upper: &Path, lower: &[PathBuf]) -> Result<Vec<(char, String)>, Error> {
    // A link in a layer would be read at the machine's root.
    let lower = lower
        .iter()
        .map(|layer| Root::open(layer, Links::Nowhere))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let directory = upper.join(&relative);
        for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
            let entry = entry.map_err(Error::io("read", &directory))?;
            let relative = relative.join(entry.file_name());
            let meta = entry
                .metadata()
                .map_err(Error::io("examine", entry.path()))?;
            let below = lower.iter().find_map(|layer| {
                let fd = layer.open_at(&relative, OFlags::PATH | OFlags::NOFOLLOW);
                fs::File::from(fd.ok()?).metadata().ok()
            });
            let existed = below.is_some_and(|m| !is_whiteout(&m));
            let kind = match (is_whiteout(&meta), existed) {
                (true, true) => 'D',
                (true, false) => continue,
                (false, true) => 'C',
                (false, false) => 'A',
            };
            found.push((kind, format!("/{}", relative.display())));
            if meta.is_dir() {
                pending.push(relative);
            }
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}
