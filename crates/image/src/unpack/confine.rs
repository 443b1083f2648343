//! Paths from an archive, resolved by the kernel so that they cannot leave the root.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Error;

/// What a symbolic link on the way to an entry may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Stay beneath the root by itself; absolute links and links that climb out are refused. For layers, each of which is
    /// unpacked alone.
    Beneath,
    /// Be read as a process inside the root would. For adding to a whole root filesystem.
    InRoot,
    /// Not be on it at all. For directories that somebody else has written to.
    Nowhere,
}

/// A directory that everything stays in.
pub(crate) struct Root {
    fd: OwnedFd,
    links: Links,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    pub fn open(path: &Path, links: Links) -> Result<Root, Error> {
        let fd =
            rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(Error::io("open", path))?;
        Ok(Root { fd, links })
    }

    pub fn links(&self) -> Links {
        self.links
    }

    /// Whether no more files can be made in its file system, whatever room there is. Some have no such bound and tell zero of zero.
    pub fn has_no_inodes(&self) -> bool {
        rustix::fs::fstatvfs(&self.fd).is_ok_and(|stat| stat.f_files > 0 && stat.f_favail == 0)
    }

    /// Opens anything beneath the root.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::Beneath => ResolveFlags::BENEATH,
                Links::InRoot => ResolveFlags::IN_ROOT,
                Links::Nowhere => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            };
        for _ in 0..64 {
            match rustix::fs::openat2(
                &self.fd,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                // Something was renamed on the machine meanwhile: the kernel asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Text of a file beneath the root, up to so many bytes; `None` when it is not there, is no file or no text. Pipes are not
    /// waited for.
    pub fn text(&self, path: &Path, bytes_max: u64) -> Option<String> {
        let fd = self
            .open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .ok()?;
        let file = std::fs::File::from(fd);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        std::io::read_to_string(std::io::Read::take(file, bytes_max)).ok()
    }

    /// Opens a directory beneath the root, making it and its parents (0755, root) where missing.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.directory_with(path, |_| {})
    }

    /// As [`Root::directory`], telling what was missing.
    pub fn directory_with(
        &self,
        path: &Path,
        mut made: impl FnMut(&Path),
    ) -> Result<OwnedFd, Errno> {
        match self.open_at(path, DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut so_far = PathBuf::new();
        let mut parent = self.open_at(&so_far, DIRECTORY)?;
        for component in path.components() {
            so_far.push(component);
            parent = match self.open_at(&so_far, DIRECTORY) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(
                        &parent,
                        component.as_os_str(),
                        Mode::from_raw_mode(0o755),
                    ) {
                        Ok(()) => made(&so_far),
                        // A link to nowhere is in the way; the next open tells.
                        Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                    self.open_at(&so_far, DIRECTORY)?
                }
                other => other?,
            };
        }
        Ok(parent)
    }
}

/// Path of an entry, cleaned: relative, without `.` and without `..`. Empty for the root itself.
///
/// # Errors
/// The reason why it is refused.
pub(crate) fn clean(path: &[u8]) -> Result<PathBuf, &'static str> {
    if path.len() > 4096 {
        return Err("path is longer than 4096 bytes");
    }
    if path.contains(&0) {
        return Err("path contains a NUL byte");
    }
    if path.starts_with(b"/") {
        return Err("absolute path");
    }
    let mut clean = PathBuf::new();
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err("path climbs with '..'"),
            name if name.len() > 255 => return Err("a name is longer than 255 bytes"),
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    Ok(clean)
}

/// Words for an errno that confinement produces.
pub(crate) fn explain(errno: Errno) -> String {
    match errno {
        Errno::XDEV => "it leads out of the root through a symbolic link".into(),
        Errno::LOOP => "too many symbolic links".into(),
        Errno::NOTDIR => "something on its way is not a directory".into(),
        Errno::NOENT => "something on its way does not exist".into(),
        other => std::io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_paths() {
        for (path, expected) in [
            ("a/b", Ok("a/b")),
            ("./a//b/", Ok("a/b")),
            ("./", Ok("")),
            ("", Ok("")),
            ("a/./..b/...", Ok("a/..b/...")),
            ("/etc", Err("absolute path")),
            ("../a", Err("path climbs with '..'")),
            ("a/../b", Err("path climbs with '..'")),
            ("a/..", Err("path climbs with '..'")),
            ("a\0b", Err("path contains a NUL byte")),
        ] {
            assert_eq!(
                clean(path.as_bytes()),
                expected.map(PathBuf::from),
                "{path:?}"
            );
        }
        assert!(clean(&[b'a'; 256]).is_err());
        assert!(clean("a/".repeat(3000).as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_clean_path_stays_inside(path in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            if let Ok(clean) = clean(&path) {
                let normal = |c| matches!(c, std::path::Component::Normal(_));
                proptest::prop_assert!(clean.components().all(normal));
            }
        }
    }
}
