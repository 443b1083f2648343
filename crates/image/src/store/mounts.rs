//! Overlay mounts, and what the kernel says is mounted.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::Error;

/// Mounts `stack` (names beneath `links`, uppermost first) with the writable `directory`/upper at `directory`/merged.
///
/// Every path goes through a descriptor in /proc/self/fd: paths stay short however deep the data directory lies, so that
/// 127 layers fit into the one page of mount options, and a ':' or ',' in it cannot be misread.
pub(crate) fn mount_overlay(
    links: &Path,
    stack: &[String],
    directory: &Path,
    volatile: bool,
    owners: Option<&Owners>,
) -> Result<PathBuf, Error> {
    let mapped = match owners {
        Some(owners) => Some(Mapped::of(links, directory, owners)?),
        None => None,
    };
    let links = mapped.as_ref().map_or(links, |mapped| &mapped.links);
    let open = |path: &Path| {
        rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::io("open", path))
    };
    // Both stay open until the mount is made.
    let (links_fd, upper_fd) = (open(links)?, open(directory)?);
    let lower: Vec<String> = stack
        .iter()
        .map(|l| format!("/proc/self/fd/{}/{l}", links_fd.as_raw_fd()))
        .collect();
    // Features whose marks other kernels or a copy of the directory would misread stay off.
    let options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{u}/upper,workdir=/proc/self/fd/{u}/work,index=off,redirect_dir=off,metacopy=off",
        lower.join(":"),
        u = upper_fd.as_raw_fd(),
    );
    let merged = directory.join("merged");
    let mount = |options: &str| {
        let data = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(
            "overlay",
            &merged,
            "overlay",
            MountFlags::empty(),
            data.as_c_str(),
        )
    };
    let mut result = Err(Errno::INVAL);
    if volatile {
        result = mount(&format!("{options},volatile"));
    }
    // Kernels before 5.10 do not know `volatile`.
    if result.is_err() {
        result = mount(&options);
    }
    result.map_err(Error::io("mount overlay on", &merged))?;
    Ok(merged)
}

/// Who owns a snapshot for a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// The machine's id that is 0 inside; 65 535 more follow.
    pub first_id: u32,
    /// The namespace as a file.
    pub user_namespace: PathBuf,
}

/// A view of the store in which the layers have other owners, for as long as the overlay is being made: it keeps copies of its own.
/// An overlay cannot be mapped as a whole (as of Linux 6.18), its layers can (since 5.19).
struct Mapped {
    place: PathBuf,
    links: PathBuf,
}

impl Mapped {
    fn of(links: &Path, directory: &Path, owners: &Owners) -> Result<Mapped, Error> {
        let place = directory.join(MAPPED);
        // Left by a process that was killed.
        unmount(&place)?;
        fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
        let (Some(store), Some(name)) = (links.parent(), links.file_name()) else {
            return Err(Error::io("map", links)(Errno::INVAL));
        };
        // The links lead to the layers beside them: one view of the whole store is enough.
        engine::runner::mount_mapped(store, &owners.user_namespace, &place)
            .map_err(|error| Error::Mapping(error.to_string()))?;
        let mapped = Mapped {
            links: place.join(name),
            place,
        };
        // What the container writes belongs to its ids on the disk too.
        let owner = Some(owners.first_id);
        for part in ["upper", "work"] {
            let part = directory.join(part);
            std::os::unix::fs::chown(&part, owner, owner)
                .map_err(Error::io("change the owner of", &part))?;
        }
        Ok(mapped)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // What is left the next mount, removal or start finds.
        let _ = unmount(&self.place).map(|()| fs::remove_dir(&self.place));
    }
}

/// Where a snapshot's view of the store is while its overlay is made.
pub(crate) const MAPPED: &str = "mapped";

/// Unmounts whatever is mounted there, stacked mounts too; nothing mounted is fine.
pub(crate) fn unmount(path: &Path) -> Result<(), Error> {
    for _ in 0..16 {
        if !is_mounted(path)? {
            return Ok(());
        }
        let result = match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            // Someone still looks in: take it out of the tree now, the kernel frees it when they leave.
            Err(Errno::BUSY) => {
                rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            }
            other => other,
        };
        match result {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(Error::io("unmount", path)(e)),
        }
    }
    Err(Error::io("unmount", path)(Errno::BUSY))
}

pub(crate) fn is_mounted(path: &Path) -> Result<bool, Error> {
    Ok(mount_points()?.contains(path))
}

/// All mount points of this process's namespace.
pub(crate) fn mount_points() -> Result<HashSet<PathBuf>, Error> {
    const FILE: &str = "/proc/self/mountinfo";
    let text = fs::read(FILE).map_err(Error::io("read", FILE))?;
    Ok(text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect())
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut i = 0;
    while i < field.len() {
        let octal = field
            .get(i + 1..i + 4)
            .filter(|d| field[i] == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match octal {
            Some(d) => {
                out.push(
                    d.iter()
                        .fold(0u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0')),
                );
                i += 4;
            }
            None => {
                out.push(field[i]);
                i += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c\0"), b"/a b\\c\\0");
        assert!(mount_points().unwrap().contains(Path::new("/")));
    }
}
