//! What a file has besides its content: mode, owner, times and extended attributes, from an archive to the disk.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::Entry;

use super::entry::words;

pub(super) struct Meta {
    pub mode: u32,
    pub owner: (u32, u32),
    pub times: Timestamps,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Meta {
    /// Reads them from an entry; `owner` replaces the archive's.
    pub fn of<R: Read>(
        entry: &mut Entry<'_, R>,
        owner: Option<(u32, u32)>,
    ) -> Result<Meta, String> {
        let mut xattrs = Vec::new();
        let mut mtime = None;
        if let Some(extensions) = entry.pax_extensions().map_err(|e| e.to_string())? {
            for extension in extensions {
                let extension = extension.map_err(|e| format!("bad extended header: {e}"))?;
                let key = extension.key_bytes();
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name =
                        std::str::from_utf8(name).map_err(|_| "an attribute name is not UTF-8")?;
                    xattrs.push((name.to_owned(), extension.value_bytes().to_owned()));
                } else if key == b"mtime" {
                    mtime = extension.value().ok().and_then(parse_time);
                }
            }
        }
        // Overlay's own marks in an archive would redirect or hide files of other layers.
        xattrs.retain(|(name, _)| {
            !name.starts_with("trusted.overlay.")
                && !name.starts_with("user.overlay.")
                && [
                    "security.capability",
                    "user.",
                    "trusted.",
                    "system.posix_acl_",
                ]
                .iter()
                .any(|p| name.starts_with(p))
        });
        let header = entry.header();
        let mode = header.mode().map_err(|e| e.to_string())? & 0o7777;
        let id = |number: io::Result<u64>| {
            let number = number.map_err(|e| e.to_string())?;
            u32::try_from(number)
                .ok()
                .filter(|n| *n != u32::MAX)
                .ok_or(format!("owner {number} is no valid id"))
        };
        let owner = match owner {
            Some(owner) => owner,
            None => (id(header.uid())?, id(header.gid())?),
        };
        let mtime = mtime.unwrap_or_else(|| {
            let seconds = header
                .mtime()
                .ok()
                .and_then(|s| i64::try_from(s).ok())
                .unwrap_or(0);
            Timespec {
                tv_sec: seconds.min(TIME_MAX),
                tv_nsec: 0,
            }
        });
        Ok(Meta {
            mode,
            owner,
            times: Timestamps {
                last_access: mtime,
                last_modification: mtime,
            },
            xattrs,
        })
    }
}

/// Owner first: changing it clears set-id bits and capabilities.
pub(super) fn set_meta(fd: &impl AsFd, meta: &Meta) -> Result<(), String> {
    let (uid, gid) = ids(meta);
    rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(words)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode)).map_err(words)?;
    for (name, value) in &meta.xattrs {
        match rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
            // Not every file system knows every kind; images are made to live with that.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(format!("attribute {name}: {}", words(e))),
        }
    }
    Ok(())
}

/// For what cannot be opened: symbolic links, devices.
pub(super) fn set_meta_of_name(
    parent: &OwnedFd,
    name: &OsStr,
    meta: &Meta,
    mode: bool,
) -> Result<(), String> {
    let (uid, gid) = ids(meta);
    rustix::fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(words)?;
    if mode {
        // By a descriptor: a mode cannot be set by name without following a link that took its place meanwhile.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(words)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&made).map_err(words)?.st_mode);
        if kind.is_symlink() {
            return Err("it was replaced by a link meanwhile".into());
        }
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(meta.mode)).map_err(words)?;
    }
    rustix::fs::utimensat(parent, name, &meta.times, AtFlags::SYMLINK_NOFOLLOW).map_err(words)
}

pub(super) fn ids(meta: &Meta) -> (Uid, Gid) {
    (Uid::from_raw(meta.owner.0), Gid::from_raw(meta.owner.1))
}

/// Later times would not fit every file system.
const TIME_MAX: i64 = 0x3_ffff_ffff;

fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec: i64 = seconds.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let tv_nsec = if tv_sec < 0 {
        0
    } else {
        digits.parse::<u32>().ok()?
    };
    Some(Timespec {
        tv_sec: tv_sec.clamp(-(1 << 31), TIME_MAX),
        tv_nsec: tv_nsec.into(),
    })
}
