//! What a container with a user namespace is made from, put where its processes can reach it: they are nobody on this machine, and
//! every directory of ours is closed to them. A runtime child makes a mount namespace of its own, in which everything lies in one
//! open directory, with the owners that the user namespace makes of them.

use super::joined::Joined;
use super::late;
use crate::records::Layout;
use crate::spec::{ContainerSpec, MountKind};
use crate::sys;
use crate::tree;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the directory may be: anywhere that everybody can go and that nothing of ours lies in.
const PLACES: [&str; 8] = [
    "/mnt", "/media", "/opt", "/srv", "/home", "/tmp", "/var/tmp", "/var",
];
const OVERLAY_MAGIC: u64 = 0x794c_7630;
const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Whether the file system there is an overlay: one cannot be mapped as a whole, so its layers must be.
pub fn is_overlay(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == OVERLAY_MAGIC)
}

/// Leaves the host's mount namespace and changes the paths of everything that the container is made from. What waits for the
/// container's own process ([`late::waits`]) stays as it is.
///
/// Errors: what cannot be reached or mapped, for people.
pub fn set(
    layout: &Layout,
    container: &mut ContainerSpec,
    sandbox_dir: &mut PathBuf,
    joined: &mut Joined,
) -> Result<(), String> {
    let text = |what: &str, path: &Path, error: &io::Error| {
        format!("cannot {what} {}: {error}", path.display())
    };
    let user = joined
        .namespaces
        .iter()
        .find_map(|(kind, path)| path.as_ref().filter(|_| *kind == "user"))
        .ok_or("there is no user namespace")?;
    let user = File::open(user).map_err(|error| text("open", user, &error))?;
    // Opened by name while names still mean what the caller meant.
    let mut stage = Stage::default();

    let whole = &container.rootfs;
    let tree =
        tree::copy(whole, false).map_err(|error| text("copy the mount of", whole, &error))?;
    if !is_overlay(whole) {
        tree::map(&tree, &user, false)
            .map_err(|error| tree::unmappable(whole, &error).to_string())?;
    }
    let root = stage.add("root".into(), tree, true);
    for (kind, path) in &mut joined.namespaces {
        if let Some(path) = path {
            let tree =
                tree::copy(path, false).map_err(|error| text("copy the mount of", path, &error))?;
            *path = stage.add(format!("ns-{kind}"), tree, false);
        }
    }
    let tree = tree::copy(&joined.shared_memory, false)
        .map_err(|error| text("copy the mount of", &joined.shared_memory, &error))?;
    joined.shared_memory = stage.add("shm".into(), tree, true);
    for name in FILES {
        let path = sandbox_dir.join(name);
        let tree =
            tree::copy(&path, false).map_err(|error| text("copy the mount of", &path, &error))?;
        tree::map(&tree, &user, false)
            .map_err(|error| tree::unmappable(&path, &error).to_string())?;
        stage.add(name.into(), tree, false);
    }
    let waits: Vec<bool> = container
        .mounts
        .iter()
        .map(|mount| late::waits(container, mount))
        .collect();
    let mut sources = Vec::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        if mount.kind != MountKind::Bind || waits[index] {
            continue;
        }
        let source = &mount.source;
        let tree = late::copy(mount).map_err(|error| text("copy the mount of", source, &error))?;
        // All of it, or, where something that cannot be mapped is mounted in it, the rest: what is left out is nobody's inside.
        tree::map(&tree, &user, true)
            .or_else(|_| tree::map(&tree, &user, false))
            .map_err(|error| tree::unmappable(source, &error).to_string())?;
        sources.push((
            index,
            stage.add(format!("mount-{index}"), tree, source.is_dir()),
        ));
    }

    let place = place(&[&layout.root, &layout.run])
        .ok_or("there is no directory to prepare the container in")?;
    stage
        .show(place)
        .map_err(|error| text("prepare the container in", place, &error))?;
    container.rootfs = place.join(root);
    for (_, path) in &mut joined.namespaces {
        *path = path.take().map(|path| place.join(path));
    }
    joined.shared_memory = place.join(&joined.shared_memory);
    *sandbox_dir = place.to_owned();
    for (index, source) in sources {
        let mount = &mut container.mounts[index];
        mount.source = place.join(source);
        // The copy has its access already, and from within it could not be changed where the host's mount was closed in any way.
        mount.read_only = false;
        mount.options.retain(|option| {
            [
                "private", "slave", "shared", "rprivate", "rslave", "rshared",
            ]
            .contains(&option.as_str())
        });
    }
    Ok(())
}

/// The first place that is a directory for everybody and not above any of these.
fn place(ours: &[&Path]) -> Option<&'static Path> {
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| {
        fs::symlink_metadata(path)
            .is_ok_and(|data| data.is_dir() && data.permissions().mode() & 0o001 != 0)
    };
    PLACES
        .iter()
        .map(Path::new)
        .find(|place| open(place) && !ours.iter().any(|path| path.starts_with(place)))
}

#[derive(Default)]
struct Stage(Vec<(String, OwnedFd, bool)>);

impl Stage {
    /// Its path in the stage.
    fn add(&mut self, name: String, tree: OwnedFd, directory: bool) -> PathBuf {
        let path = PathBuf::from(&name);
        self.0.push((name, tree, directory));
        path
    }

    fn show(&self, place: &Path) -> io::Result<()> {
        sys::unshare(libc::CLONE_NEWNS)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", place, "tmpfs", flags, c"mode=755,size=1m")?;
        for (name, tree, directory) in &self.0 {
            let target = place.join(name);
            if *directory {
                fs::create_dir(&target)?;
            } else {
                File::create(&target)?;
            }
            tree::put(tree, &target)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_hides_nothing_of_ours() {
        assert!(
            PLACES
                .map(Path::new)
                .contains(&place(&[]).expect("a place"))
        );
        let mut ours: Vec<PathBuf> = Vec::new();
        while let Some(found) = place(&ours.iter().map(PathBuf::as_path).collect::<Vec<_>>()) {
            assert!(ours.len() < PLACES.len(), "{ours:?}");
            ours.push(found.join("plimsoll/run"));
        }
        assert!(!ours.is_empty());
    }
}
