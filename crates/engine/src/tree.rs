//! Copies of mounted trees that are mounted nowhere yet, with attributes of their own: owners mapped into a user namespace
//! (mount_setattr(2), MOUNT_ATTR_IDMAP), access, propagation.

use crate::error::Error;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub user_namespace: u64,
}

/// Mounts a copy of the directory `source` (without what is mounted in it) at `target`, in which the owners 0 to 65535 of
/// `source` are those that `user_namespace` (a file as `SandboxStatus::user_namespace` names it) makes of them.
///
/// Errors: `Kernel` when kernel or file system cannot do it.
pub fn mount_mapped(source: &Path, user_namespace: &Path, target: &Path) -> Result<(), Error> {
    let namespace =
        File::open(user_namespace).map_err(|error| Error::io("open", user_namespace, error))?;
    let tree =
        copy(source, false).map_err(|error| Error::io("copy the mount of", source, error))?;
    map(&tree, &namespace, false).map_err(|error| unmappable(source, &error))?;
    put(&tree, target).map_err(|error| Error::io("mount on", target, error))
}

/// A copy; `whole` with what is mounted beneath.
pub(crate) fn copy(path: &Path, whole: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if whole {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// Puts a copy in its place.
pub(crate) fn put(tree: &OwnedFd, target: impl rustix::path::Arg) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", CWD, target, flags)?)
}

/// Gives a copy the owners of a user namespace.
pub(crate) fn map(tree: &OwnedFd, user_namespace: &File, whole: bool) -> io::Result<()> {
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_IDMAP,
        user_namespace: user_namespace.as_raw_fd() as u64,
        ..Attributes::default()
    };
    set(tree, attributes, whole)
}

pub(crate) fn set(tree: &OwnedFd, attributes: Attributes, whole: bool) -> io::Result<()> {
    let depth = if whole { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure is as large as is said and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | depth,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(crate) fn unmappable(path: &Path, error: &io::Error) -> Error {
    Error::Kernel {
        feature: format!("id-mapped mounts for {}", path.display()),
        hint: format!(
            "failed to set MOUNT_ATTR_IDMAP: {error} (user namespaces need Linux 5.19, 6.3 for tmpfs, and a file system that \
             supports id-mapped mounts); put it on such a file system, or do without a user namespace (hostUsers: true)"
        ),
    }
}
