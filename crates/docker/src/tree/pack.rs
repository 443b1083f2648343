//! Out of a tree: a file or directory as a tar archive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::{DIRECTORY, Found};

/// Directories deeper than this are refused: each holds a descriptor open.
const DEPTH_MAX: usize = 200;
/// Longest name that a header holds itself.
const HEADER_NAME_BYTES: usize = 100;

impl Found {
    /// Writes what was found, and everything beneath it, under the name `rename`.
    pub fn pack(&self, rename: &str, out: impl Write) -> io::Result<()> {
        let mut builder = Builder::new(out);
        add(
            &mut builder,
            &self.parent,
            &self.name,
            rename.as_bytes(),
            &self.stat,
            0,
        )?;
        builder.into_inner()?.flush()
    }
}

fn add(
    builder: &mut Builder<impl Write>,
    parent: &OwnedFd,
    name: &OsStr,
    shown: &[u8],
    stat: &Stat,
    depth: usize,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            header.set_entry_type(EntryType::Directory);
            let mut with_slash = shown.to_vec();
            with_slash.push(b'/');
            write(builder, header, &with_slash, b"", io::empty())?;
            if depth >= DEPTH_MAX {
                return Err(io::Error::other(format!(
                    "directories are nested deeper than {DEPTH_MAX}"
                )));
            }
            let directory = rustix::fs::openat(
                parent,
                name,
                DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            for child in children(&directory)? {
                let child = OsStr::from_bytes(&child);
                // what has gone since the directory was read is left out
                let Ok(stat) = rustix::fs::statat(&directory, child, AtFlags::SYMLINK_NOFOLLOW)
                else {
                    continue;
                };
                let mut path = with_slash.clone();
                path.extend_from_slice(child.as_bytes());
                add(builder, &directory, child, &path, &stat, depth + 1)?;
            }
            Ok(())
        }
        FileType::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
            write(builder, header, shown, target.as_bytes(), io::empty())
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
            // its size now, and exactly so many bytes: it may be written to meanwhile
            let size = file.metadata()?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            write(
                builder,
                header,
                shown,
                b"",
                io::Read::take(io::Read::chain(file, io::repeat(0)), size),
            )
        }
        FileType::Fifo => {
            header.set_entry_type(EntryType::Fifo);
            write(builder, header, shown, b"", io::empty())
        }
        // devices and sockets mean nothing elsewhere
        _ => Ok(()),
    }
}

fn children(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Names as they are: the tar crate's own functions would drop a leading `./`, by which clients recognise the content of a directory.
fn write(
    builder: &mut Builder<impl Write>,
    mut header: Header,
    name: &[u8],
    target: &[u8],
    content: impl io::Read,
) -> io::Result<()> {
    for (value, kind) in [(name, b'L'), (target, b'K')] {
        if value.len() > HEADER_NAME_BYTES {
            let mut long = Header::new_gnu();
            long.set_entry_type(EntryType::new(kind));
            set(&mut long.as_old_mut().name, b"././@LongLink");
            long.set_mode(0o644);
            long.set_size(value.len() as u64 + 1);
            long.set_cksum();
            builder.append(&long, io::Read::chain(value, &b"\0"[..]))?;
        }
    }
    set(&mut header.as_old_mut().name, name);
    set(&mut header.as_old_mut().linkname, target);
    header.set_cksum();
    builder.append(&header, content)
}

fn set(field: &mut [u8; HEADER_NAME_BYTES], value: &[u8]) {
    let length = value.len().min(HEADER_NAME_BYTES);
    field[..length].copy_from_slice(&value[..length]);
}
