//! Mounts of the caller that cover `/dev` as a whole. They are made last, by the container's own process: libcontainer would make
//! its devices and links in what was bound there, and that is a directory of the host.

use crate::oci::rootfs::Root;
use crate::spec::{ContainerSpec, Mount, MountKind};
use crate::tree::{self, Attributes};
use rustix::mount::MountAttrFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

const DEV: &str = "/dev";
/// What stays the container's own, as far as there is a place for it.
const KEPT: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console"];

/// Trees that are mounted nowhere yet, and where each is to go.
#[derive(Clone, Default)]
pub struct Late(Arc<Vec<(OwnedFd, String)>>);

/// Whether this mount has to wait: it covers `/dev`, or lies in one that does.
pub fn waits(container: &ContainerSpec, mount: &Mount) -> bool {
    let bound = |mount: &&Mount| mount.kind == MountKind::Bind && plain(mount) == DEV;
    container.mounts.iter().any(|mount| bound(&mount))
        && mount.kind == MountKind::Bind
        && Path::new(plain(mount)).starts_with(DEV)
}

fn plain(mount: &Mount) -> &str {
    mount.target.trim_end_matches('/')
}

impl Late {
    /// Copies of the trees that wait, private and with the access that was asked for; call it outside the container.
    pub fn of(container: &ContainerSpec) -> io::Result<Late> {
        let mut waiting: Vec<&Mount> = container
            .mounts
            .iter()
            .filter(|mount| waits(container, mount))
            .collect();
        waiting.sort_by_key(|mount| plain(mount).matches('/').count());
        let mut trees = Vec::new();
        for mount in &waiting {
            if let (Some(dev), Ok(rest)) =
                (waiting.first(), Path::new(plain(mount)).strip_prefix(DEV))
                && !rest.as_os_str().is_empty()
            {
                // A place for it, where there is none; what cannot be made the mount complains of.
                let place = format!("/{}", rest.display());
                let _ = Root::open(&dev.source).and_then(|root| match mount.source.is_dir() {
                    true => root.make_dirs(&place),
                    false => root.make_file(&place),
                });
            }
            trees.push((copy(mount)?, plain(mount).to_owned()));
        }
        Ok(Late(Arc::new(trees)))
    }

    /// Puts them in place, inside the container. Needs CAP_SYS_ADMIN.
    pub fn apply(&self) -> io::Result<()> {
        for (tree, target) in self.0.iter() {
            let kept = if target == DEV { KEPT.as_slice() } else { &[] };
            let kept: Vec<(&str, OwnedFd)> = kept
                .iter()
                .filter_map(|path| Some((*path, tree::copy(Path::new(path), true).ok()?)))
                .collect();
            tree::put(tree, target.as_str())?;
            for (path, tree) in kept {
                match tree::put(&tree, path) {
                    Err(error) if !absent(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}

/// A copy of what a mount of the caller shows, with the access and propagation that it asks for.
pub(super) fn copy(mount: &Mount) -> io::Result<OwnedFd> {
    let has = |name: &str| mount.options.iter().any(|option| option == name);
    let tree = tree::copy(&mount.source, !has("bind"))?;
    let mut attributes = Attributes {
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    if has("rshared") || has("shared") {
        attributes.propagation = 0;
    } else if has("rslave") || has("slave") {
        attributes.propagation = libc::MS_SLAVE;
    }
    for (name, attribute) in [
        ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
        ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
        ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ] {
        if has(name) {
            attributes.set |= u64::from(attribute.bits());
        }
    }
    if mount.read_only {
        attributes.set |= u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    }
    tree::set(&tree, attributes, true)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_dev_waits_and_what_lies_in_it() {
        let mount = |target: &str| Mount {
            source: "/x".into(),
            target: target.into(),
            ..Mount::default()
        };
        let rows: [(&[&str], &[&str]); 4] = [
            (&["/dev/shm", "/data"], &[]),
            (&["/dev", "/dev/shm", "/data"], &["/dev", "/dev/shm"]),
            (&["/dev/", "/devices"], &["/dev/"]),
            (&["/device"], &[]),
        ];
        for (targets, expected) in rows {
            let container = ContainerSpec {
                mounts: targets.iter().map(|target| mount(target)).collect(),
                ..ContainerSpec::default()
            };
            let waiting: Vec<&str> = container
                .mounts
                .iter()
                .filter(|mount| waits(&container, mount))
                .map(|mount| mount.target.as_str())
                .collect();
            assert_eq!(waiting, expected);
        }
    }
}
