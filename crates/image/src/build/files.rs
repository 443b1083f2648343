//! Files into a root filesystem, with the owners, modes and directory rules of COPY.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use super::chmod::Chmod;
use super::sources::{Item, Origin, children};
use crate::unpack::canonical;
use crate::unpack::confine::{Root, explain};

/// How copies are changed on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub owner: Option<(u32, u32)>,
    pub mode: Option<Chmod>,
}

/// Mode of a file that the Dockerfile itself holds.
const TEXT_MODE: u32 = 0o644;

pub(super) struct Copier<'a> {
    pub origin: &'a Origin<'a>,
    pub root: &'a Root,
    pub change: Change,
}

impl Copier<'_> {
    /// Makes a directory of the root and returns where it really is.
    pub fn directory(&self, path: &Path) -> Result<PathBuf, String> {
        // Directories made for a copy belong to whom the copy belongs.
        owned_directory(self.root, path, self.change.owner)
    }

    /// Copies a file to a path in the root: into it when it is a directory there, through it when it is a link.
    pub fn file(&self, item: &Item, path: &Path) -> Result<(), String> {
        let target = self.target(path)?;
        self.one(&item.real, &target).map_err(|e| {
            format!(
                "cannot copy {} to /{}: {e}",
                item.relative.display(),
                path.display()
            )
        })
    }

    /// Writes text as a file of the root.
    pub fn text(&self, content: &str, path: &Path) -> Result<(), String> {
        let target = self.target(path)?;
        let write = || {
            remove_other(&target)?;
            fs::write(&target, content)?;
            let (uid, gid) = self.change.owner.unwrap_or((0, 0));
            std::os::unix::fs::lchown(&target, Some(uid), Some(gid))?;
            let mode = match &self.change.mode {
                Some(chmod) => chmod.apply(TEXT_MODE, false),
                None => TEXT_MODE,
            };
            fs::set_permissions(&target, PermissionsExt::from_mode(mode))
        };
        write().map_err(|e: io::Error| format!("cannot write /{}: {e}", path.display()))
    }

    fn target(&self, path: &Path) -> Result<PathBuf, String> {
        if let Ok(fd) = self.root.open_at(path, OFlags::PATH) {
            return real_path(&fd);
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        Ok(parent.join(path.file_name().ok_or("the destination has no file name")?))
    }

    /// Copies what is in a directory into a directory of the root.
    pub fn contents(&self, item: &Item, path: &Path) -> Result<(), String> {
        let target = self.directory(path)?;
        self.merge(&item.real, &item.relative, &item.below, &target)
            .map_err(|e| {
                format!(
                    "cannot copy {} to /{}: {e}",
                    item.relative.display(),
                    path.display()
                )
            })
    }

    fn merge(&self, source: &Path, relative: &Path, below: &Path, target: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(source)?;
        for name in children(source, &meta)? {
            let (from, to) = (source.join(&name), target.join(&name));
            let (relative, below) = (relative.join(&name), below.join(&name));
            let meta = fs::symlink_metadata(&from)?;
            let excluded = self.origin.excludes(&relative, &below);
            if !meta.is_dir() {
                if !excluded {
                    self.one(&from, &to)?;
                }
                continue;
            }
            if excluded {
                // Something below may be an exception; the directory appears only if so.
                if self.origin.has_exceptions() && self.has_included(&from, &relative, &below)? {
                    make_directory(&to)?;
                    self.merge(&from, &relative, &below, &to)?;
                }
                continue;
            }
            make_directory(&to)?;
            self.merge(&from, &relative, &below, &to)?;
            self.dress(&from, &meta, &to)?;
        }
        Ok(())
    }

    fn has_included(&self, source: &Path, relative: &Path, below: &Path) -> io::Result<bool> {
        let meta = fs::symlink_metadata(source)?;
        for name in children(source, &meta)? {
            let (source, relative) = (source.join(&name), relative.join(&name));
            let below = below.join(&name);
            let directory = fs::symlink_metadata(&source)?.is_dir();
            if !self.origin.excludes(&relative, &below)
                || directory && self.has_included(&source, &relative, &below)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One file, link or device over whatever is there.
    fn one(&self, from: &Path, to: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(from)?;
        remove_other(to)?;
        if meta.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if meta.is_file() {
            let mut out = File::create_new(to)?;
            io::copy(&mut File::open(from)?, &mut out)?;
        } else if meta.file_type().is_fifo() {
            rustix::fs::mknodat(CWD, to, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        } else {
            return Err(io::Error::other("devices are not copied"));
        }
        self.dress(from, &meta, to)
    }

    fn dress(&self, from: &Path, meta: &fs::Metadata, to: &Path) -> io::Result<()> {
        let kept = if self.origin.keep_owner {
            (meta.uid(), meta.gid())
        } else {
            (0, 0)
        };
        let (uid, gid) = self.change.owner.unwrap_or(kept);
        std::os::unix::fs::lchown(to, Some(uid), Some(gid))?;
        if !meta.is_symlink() {
            let own = meta.permissions().mode() & 0o7777;
            let mode = match &self.change.mode {
                Some(chmod) => chmod.apply(own, meta.is_dir()),
                None => own,
            };
            fs::set_permissions(to, PermissionsExt::from_mode(mode))?;
        }
        for (name, value) in canonical::xattrs(from).map_err(io::Error::other)? {
            rustix::fs::lsetxattr(to, name.as_str(), &value, XattrFlags::empty())?;
        }
        let time = Timespec {
            tv_sec: meta.mtime(),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(rustix::fs::utimensat(
            CWD,
            to,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// Makes a directory of the root and returns where it really is. What was missing of its path belongs to the owner.
pub(super) fn owned_directory(
    root: &Root,
    path: &Path,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, String> {
    let first_missing = path
        .ancestors()
        .take_while(|p| root.open_at(p, OFlags::PATH).is_err())
        .last();
    let fd = root
        .directory(path)
        .map_err(|e| format!("cannot make /{}: {}", path.display(), explain(e)))?;
    if let (Some(first), Some((uid, gid))) = (first_missing, owner) {
        for made in path.ancestors().take_while(|p| p.starts_with(first)) {
            let fd = root
                .open_at(made, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(explain)?;
            rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| e.to_string())?;
        }
    }
    real_path(&fd)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other("a directory would replace a file")),
        Err(_) => fs::create_dir(path),
    }
}

/// A file never replaces a directory.
fn remove_other(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Err(io::Error::other("a file would replace a directory")),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn real_path(fd: &impl AsRawFd) -> Result<PathBuf, String> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|e| e.to_string())
}

/// Numbers of `user`, `user:group`, `1000:1000` in a root's own /etc/passwd and /etc/group.
pub(super) fn resolve_owner(root: &Root, text: &str) -> Result<(u32, u32), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let find = |file: &str, name: &str| -> Option<(u32, Option<u32>)> {
        root.text(Path::new(file), 8 << 20)?
            .lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                let found = fields.next() == Some(name);
                let id = fields.nth(1)?.parse().ok()?;
                found.then(|| (id, fields.next().and_then(|g| g.parse().ok())))
            })
    };
    let unknown = |kind: &str, name: &str| {
        format!("unable to find {kind} {name}: no matching entry in the image")
    };
    let (uid, own_group) = match user.parse() {
        Ok(uid) => (uid, None),
        Err(_) => find("etc/passwd", user).ok_or_else(|| unknown("user", user))?,
    };
    let gid = match group {
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                find("etc/group", group)
                    .ok_or_else(|| unknown("group", group))?
                    .0
            }
        },
        // As Docker: a bare number is the group too, a bare name brings its own.
        None => own_group.unwrap_or(uid),
    };
    Ok((uid, gid))
}
