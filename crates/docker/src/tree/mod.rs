//! A directory that paths cannot leave: every name that somebody sent is resolved by the kernel beneath it (openat2 with
//! RESOLVE_IN_ROOT), symbolic links included. Tar archives go into it and come out of it.

mod pack;
mod unpack;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub use unpack::Existing;

const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4096;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// The directory.
pub struct Tree {
    root: OwnedFd,
}

/// Something in a tree, found by its name; if it is a symbolic link, the link itself.
pub struct Found {
    parent: OwnedFd,
    /// `.` for the root and for a path that ends in `/` or `/.`.
    name: OsString,
    pub stat: Stat,
}

impl Tree {
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: rustix::fs::openat(CWD, root, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
        })
    }

    /// Looks a path up without following its last part, unless it ends in `/` or `/.`.
    pub fn find(&self, path: &str) -> io::Result<Found> {
        let cleaned = clean(path.as_bytes()).map_err(io::Error::other)?;
        let (parent, name) = match (cleaned.parent(), cleaned.file_name()) {
            (Some(parent), Some(name)) if !ends_inside(path) => {
                (self.at(parent, DIRECTORY)?, name.to_owned())
            }
            _ => (self.at(&cleaned, DIRECTORY)?, OsString::from(".")),
        };
        let stat = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Found { parent, name, stat })
    }

    fn at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        beneath(&self.root, path, flags)
    }
}

impl Found {
    /// Where a symbolic link points to; empty for anything else.
    pub fn link_target(&self) -> String {
        let target = rustix::fs::readlinkat(&self.parent, &self.name, Vec::new());
        target
            .map(|target| target.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// Whether a path names what is inside a directory rather than the directory.
fn ends_inside(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..64 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // something was renamed on the machine meanwhile: the kernel asks to try again
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A sent path as a relative one without `.`; empty for the root itself. One that climbs is refused, not bent.
fn clean(path: &[u8]) -> Result<PathBuf, String> {
    let shown = || String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
    if path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "{:?}... is longer than {PATH_BYTES_MAX} bytes",
            shown()
        ));
    }
    let mut cleaned = PathBuf::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(format!("{:?} climbs with '..'", shown())),
            part if part.len() > NAME_BYTES_MAX || part.contains(&0) => {
                return Err(format!("{:?} is no valid path", shown()));
            }
            part => cleaned.push(OsStr::from_bytes(part)),
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
