//! An archive that may be hostile into a directory that was made for it: nothing is written outside of it, nothing twice.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use tar::{Archive, Entry, EntryType};

use super::archive::unhex;
use super::pack::{XATTR, is_kept};
use super::progress::Progress;
use super::{ABOUT, COMPLETE, DATA, STORE};

/// `about.json` is small.
const ABOUT_BYTES_MAX: u64 = 1 << 20;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// What is not unpacked into the directory.
pub struct Found {
    pub about: Vec<u8>,
    pub snapshot: Vec<u8>,
}

/// Unpacks everything beneath `data/` into `stage`, and returns the rest. An archive without its end is an error.
pub fn unpack(input: impl Read, stage: &Path, progress: &mut Progress) -> Result<Found> {
    let target = Target {
        root: rustix::fs::open(stage, DIRECTORY, Mode::empty())?,
    };
    let mut archive = Archive::new(input);
    let (mut about, mut snapshot, mut complete) = (None, None, false);
    // a directory's time is that of its last entry until all are there
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("its archive is damaged")?;
        if complete {
            bail!("there is more after its end");
        }
        let name = entry.path_bytes().into_owned();
        let fail = || {
            format!(
                "entry {:?}",
                String::from_utf8_lossy(&name[..name.len().min(200)])
            )
        };
        let path = clean(&name).with_context(fail)?;
        progress.add(1, entry.size());
        match path.to_str() {
            Some(ABOUT) => about = Some(read(&mut entry, ABOUT_BYTES_MAX).with_context(fail)?),
            Some(STORE) => snapshot = Some(read(&mut entry, u64::MAX).with_context(fail)?),
            Some(COMPLETE) => complete = true,
            _ if path.starts_with(DATA) => {
                let time = entry.header().mtime().unwrap_or(0);
                if target.write(&mut entry, &path).with_context(fail)? {
                    directories.push((path, time));
                }
            }
            _ => bail!("{}: it does not belong into a backup", fail()),
        }
    }
    for (path, seconds) in directories.into_iter().rev() {
        rustix::fs::futimens(target.open(&path)?, &times(seconds))?;
    }
    let (Some(about), Some(snapshot), true) = (about, snapshot, complete) else {
        bail!("it is cut off, or has no {ABOUT} or {STORE}");
    };
    Ok(Found { about, snapshot })
}

/// The path, if each of its parts is a plain name.
fn clean(name: &[u8]) -> io::Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(name));
    if name.is_empty()
        || !path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(io::Error::other("its name leads out of the backup"));
    }
    Ok(path.components().collect())
}

fn read(entry: &mut Entry<impl Read>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Target {
    root: OwnedFd,
}

impl Target {
    /// Makes what the entry says; true for a directory.
    fn write(&self, entry: &mut Entry<impl Read>, path: &Path) -> io::Result<bool> {
        let xattrs = xattrs(entry)?;
        let header = entry.header();
        let (kind, mode) = (
            header.entry_type(),
            Mode::from_raw_mode(header.mode()? & 0o7777),
        );
        let number = |id: u64| {
            u32::try_from(id).map_err(|_| io::Error::other("its owner is no valid number"))
        };
        let uid = Some(Uid::from_raw(number(header.uid()?)?));
        let gid = Some(Gid::from_raw(number(header.gid()?)?));
        let times = times(header.mtime()?);
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("it has no name"))?;
        let parent = self.open(path.parent().unwrap_or(Path::new("")))?;
        match kind {
            EntryType::Directory => {
                rustix::fs::mkdirat(&parent, name, mode)?;
                let made = self.open(path)?;
                rustix::fs::fchown(&made, uid, gid)?;
                rustix::fs::fchmod(&made, mode)?;
                set_xattrs(&made, &xattrs)?;
                return Ok(true);
            }
            EntryType::Regular => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = File::from(made);
                io::copy(entry, &mut file)?;
                // the owner first: changing it takes set-user-ID bits and capabilities away
                rustix::fs::fchown(&file, uid, gid)?;
                rustix::fs::fchmod(&file, mode)?;
                set_xattrs(&file, &xattrs)?;
                rustix::fs::futimens(&file, &times)?;
                return Ok(false);
            }
            EntryType::Link => {
                let target = link_name(entry)?;
                let target = clean(&target)?;
                if !target.starts_with(DATA) {
                    return Err(io::Error::other("a hard link that leads out of the backup"));
                }
                let of = target
                    .file_name()
                    .ok_or_else(|| io::Error::other("a hard link to nothing"))?;
                let beside = self.open(target.parent().unwrap_or(Path::new("")))?;
                rustix::fs::linkat(&beside, of, &parent, name, AtFlags::empty())?;
                return Ok(false);
            }
            EntryType::Symlink => {
                let target = link_name(entry)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), &parent, name)?;
            }
            EntryType::Fifo => rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0)?,
            EntryType::Char if is_whiteout(entry)? => {
                rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, mode, 0)?;
            }
            other => {
                return Err(io::Error::other(format!(
                    "entries of type {other:?} do not belong into a backup"
                )));
            }
        }
        rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(false)
    }

    /// A directory that was unpacked, and no symbolic link on the way.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(rustix::fs::openat2(
            &self.root,
            path,
            DIRECTORY,
            Mode::empty(),
            resolve,
        )?)
    }
}

fn is_whiteout(entry: &Entry<impl Read>) -> io::Result<bool> {
    let header = entry.header();
    Ok(header.device_major()? == Some(0) && header.device_minor()? == Some(0))
}

fn link_name(entry: &Entry<impl Read>) -> io::Result<Vec<u8>> {
    let name = entry.link_name_bytes();
    Ok(name
        .ok_or_else(|| io::Error::other("a link without a target"))?
        .into_owned())
}

fn xattrs(entry: &mut Entry<impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix(XATTR).filter(|name| is_kept(name)) {
            let value = unhex(extension.value_bytes())
                .ok_or_else(|| io::Error::other(format!("its attribute {name} is damaged")))?;
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

fn set_xattrs(file: impl std::os::fd::AsFd, xattrs: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in xattrs {
        rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(())
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
