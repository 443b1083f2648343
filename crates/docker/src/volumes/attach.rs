//! From a plan of mounts to mounts: volumes are made, new ones filled with what the image has in their place.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use engine::{Mount, MountKind};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::{ANONYMOUS, ensure, name_of};
use crate::mounts::{Point, Source, make_source};
use crate::reply::Refusal;
use crate::tree::{Existing, Found, Tree};
use crate::{Docker, containers, names};

/// Beside a volume's data: what it is filled with, until that is complete, and then until it has been moved.
const FILLING: &str = "_data.filling";
const FILLED: &str = "_data.filled";
/// An earlier version's mark of a volume that was being filled. What is there may be somebody's by now.
const OLD_MARK: &str = "filling";

/// Makes everything that the plan names. The caller has the turn of names, so that nobody removes a volume meanwhile.
/// `rootfs`: the container's own files. Volumes that were made for this container alone are told in `made`, also when a
/// later step fails.
pub async fn attach(
    docker: &Docker,
    plan: Vec<Point>,
    rootfs: &Path,
    made: &mut Vec<String>,
) -> Result<Vec<Mount>, Refusal> {
    let mut mounts = Vec::new();
    for point in plan {
        let (source, kind) = match point.source {
            Source::Tmpfs => (PathBuf::new(), MountKind::Tmpfs),
            Source::Host { path, make } => {
                if make {
                    make_source(&path)?;
                }
                (path, MountKind::Bind)
            }
            Source::Volume {
                name,
                copy,
                mut labels,
            } => {
                let name = match name {
                    Some(name) => name,
                    None => {
                        labels.insert(ANONYMOUS.to_owned(), String::new());
                        let name = names::id();
                        made.push(name.clone());
                        name
                    }
                };
                let data = ensure(docker, &name, &labels)?;
                if copy {
                    let (rootfs, target, into) =
                        (rootfs.to_owned(), point.target.clone(), data.clone());
                    let filled = tokio::task::spawn_blocking(move || fill(&rootfs, &target, &into));
                    filled.await?.map_err(|error| {
                        Refusal::internal(format!(
                            "the volume {name} could not be filled with the image's {}: {error}",
                            point.target
                        ))
                    })?;
                }
                (data, MountKind::Bind)
            }
        };
        mounts.push(Mount {
            source,
            target: point.target,
            kind,
            read_only: point.read_only,
            options: point.options,
        });
    }
    Ok(mounts)
}

/// Copies what the image has at `target` into an empty volume, with the owner and rights of the directory itself. What comes
/// is complete before the first of it is there, and what is in a volume is never removed.
fn fill(rootfs: &Path, target: &str, data: &Path) -> io::Result<()> {
    missing_is_fine(std::fs::remove_file(data.with_file_name(OLD_MARK)))?;
    let (copy, complete) = (data.with_file_name(FILLING), data.with_file_name(FILLED));
    missing_is_fine(std::fs::remove_dir_all(&copy))?;
    if complete.exists() {
        return move_into(&complete, data);
    }
    if std::fs::read_dir(data)?.next().is_some() {
        return Ok(());
    }
    // `/.`: what is inside the directory, also when the path is a link to it
    let found = match Tree::open(rootfs)?.find(&format!("{target}/.")) {
        Ok(found) => found,
        // the image has nothing there, or no directory
        Err(error) if matches!(error.raw_os_error(), Some(2 | 20)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let device = |path: &Path| path.metadata().map(|data| data.dev());
    if device(data)? != device(data.parent().unwrap_or(data))? {
        // nothing can be moved into a disk of its own
        return copy_into(&found, data);
    }
    std::fs::create_dir(&copy)?;
    let copied = copy_into(&found, &copy).and_then(|()| std::fs::rename(&copy, &complete));
    if copied.is_err() {
        let _ = std::fs::remove_dir_all(&copy);
    }
    copied?;
    move_into(&complete, data)
}

/// Moves what a complete copy has into a volume, which somebody may have mounted already, and its owner and rights.
fn move_into(complete: &Path, data: &Path) -> io::Result<()> {
    let of = complete.metadata()?;
    std::os::unix::fs::chown(data, Some(of.uid()), Some(of.gid()))?;
    std::fs::set_permissions(data, of.permissions())?;
    for entry in std::fs::read_dir(complete)? {
        let entry = entry?;
        let place = data.join(entry.file_name());
        // what somebody has put there meanwhile stays
        let there = rustix::fs::renameat_with(
            rustix::fs::CWD,
            entry.path(),
            rustix::fs::CWD,
            place,
            RenameFlags::NOREPLACE,
        );
        match there {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    std::fs::remove_dir_all(complete)
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_into(found: &Found, data: &Path) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| found.pack(".", writer));
        let unpacked = Tree::open(data).and_then(|tree| tree.unpack("", reader, Existing::Replace));
        (packing.join(), unpacked)
    });
    unpacked?;
    packed.map_err(|_| io::Error::other("the copy was interrupted"))??;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let volume = rustix::fs::open(data, flags, Mode::empty())?;
    rustix::fs::chownat(
        volume.as_fd(),
        c"",
        Some(Uid::from_raw(found.stat.st_uid)),
        Some(Gid::from_raw(found.stat.st_gid)),
        AtFlags::EMPTY_PATH,
    )?;
    Ok(rustix::fs::chmod(
        data,
        Mode::from_raw_mode(found.stat.st_mode & 0o7777),
    )?)
}

/// Removes volumes that were made for one container alone and that no container uses any more. The caller has the turn of
/// names.
pub async fn drop_anonymous(docker: &Docker, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let used = super::users(docker).await;
    for name in names.iter().filter(|name| !used.contains_key(*name)) {
        if super::is_anonymous(docker, name)
            && let Err(refusal) = super::delete(docker, name).await
        {
            tracing::warn!(
                name,
                message = refusal.message,
                "a volume could not be removed"
            );
        }
    }
}

/// The volumes that go with a container: those that nobody named when it was made.
pub fn made_for(docker: &Docker, container: &containers::Container) -> Vec<String> {
    let record = &container.record;
    record.made_volumes.clone().unwrap_or_else(|| {
        let binds = record
            .host
            .binds
            .iter()
            .filter_map(|bind| bind.split(':').next());
        let mounts = record.host.mounts.iter().map(|mount| mount.source.as_str());
        let named: Vec<&str> = binds.chain(mounts).collect();
        let mut all = volumes_of(docker, container);
        all.retain(|name| !named.contains(&name.as_str()));
        all
    })
}

/// The volumes that a container uses, by name.
fn volumes_of(docker: &Docker, container: &containers::Container) -> Vec<String> {
    let mounts = container.status.spec.mounts.iter();
    mounts
        .filter_map(|mount| name_of(docker, &mount.source))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_empty_volume_gets_what_the_image_has() {
        let held = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("a directory");
        let (root, volume) = (held.path().join("root"), held.path().join("v"));
        let data = volume.join("_data");
        std::fs::create_dir_all(root.join("srv/deep")).expect("made");
        std::fs::create_dir_all(&data).expect("made");
        std::fs::write(root.join("srv/deep/file"), "image").expect("written");
        std::fs::set_permissions(root.join("srv"), std::fs::Permissions::from_mode(0o1770))
            .expect("mode");
        symlink("/srv", root.join("link")).expect("linked");
        symlink("../../../outside", root.join("out")).expect("linked");
        let read = || std::fs::read_to_string(data.join("deep/file")).ok();
        fill(&root, "/nothing", &data).expect("nothing to do");
        fill(&root, "/out", &data).expect("the link leads nowhere inside the image");
        assert_eq!(read(), None);
        fill(&root, "/link", &data).expect("filled");
        assert_eq!(read().as_deref(), Some("image"));
        assert_eq!(
            std::fs::metadata(&data).expect("there").mode() & 0o7777,
            0o1770
        );
        std::fs::write(data.join("deep/file"), "mine").expect("written");
        // also where an earlier version was broken off, and somebody has put other things there since
        std::fs::write(volume.join(OLD_MARK), "").expect("written");
        fill(&root, "/srv", &data).expect("it is not empty");
        assert_eq!(read().as_deref(), Some("mine"));
        // a crash in the middle
        std::fs::remove_dir_all(&data).expect("removed");
        for path in [&data, &volume.join(FILLING).join("half")] {
            std::fs::create_dir_all(path).expect("made");
        }
        fill(&root, "/srv", &data).expect("filled anew");
        assert_eq!(read().as_deref(), Some("image"));
        assert!(!data.join("half").exists());
        // and between the copy and its last move: what is there by then stays
        let complete = volume.join(FILLED);
        std::fs::create_dir_all(complete.join("deep")).expect("made");
        std::fs::write(complete.join("late"), "image").expect("written");
        std::fs::write(data.join("deep/file"), "mine").expect("written");
        fill(&root, "/srv", &data).expect("moved on");
        assert_eq!(read().as_deref(), Some("mine"));
        assert!(data.join("late").exists());
        for name in [OLD_MARK, FILLING, FILLED] {
            assert!(!volume.join(name).exists(), "{name}");
        }
    }
}
