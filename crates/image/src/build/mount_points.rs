//! Mount points that a runner makes in a step's root: seen before the step, gone after it, whatever the step planted meanwhile.
//!
//! A step may put symbolic links where its mount points were; the kernel would read them at the root of the machine. So paths are
//! resolved inside the root before the step, and afterwards without following any link.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::unpack::confine::{Links, Root};

/// What runners mount over; deepest first.
const ALWAYS: [&str; 13] = [
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/console",
    "dev",
    "proc",
    "sys",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc",
    "run/secrets",
    "run",
];

/// The mount points that a root does not have yet, where they really are in it; deepest first.
pub(super) fn missing(root: &Path, more: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    // As the kernel writes it, to be taken off what it says.
    let root = root.canonicalize().map_err(Error::io("resolve", root))?;
    let inside = Root::open(&root, Links::InRoot)?;
    let wanted = ALWAYS.iter().map(Path::new);
    let wanted = wanted.chain(more.iter().map(PathBuf::as_path));
    let mut missing: Vec<PathBuf> = wanted
        .filter_map(|path| place(&inside, &root, path))
        .collect();
    missing.sort_by(|a, b| {
        let depth = |path: &Path| path.components().count();
        depth(b).cmp(&depth(a)).then_with(|| a.cmp(b))
    });
    missing.dedup();
    Ok(missing)
}

/// Where a path would be made; `None` when it is there, or when nothing can be made there.
fn place(inside: &Root, root: &Path, path: &Path) -> Option<PathBuf> {
    match inside.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => {}
        _ => return None,
    }
    // The empty path is the root, which is always there.
    let (there, fd) = path
        .ancestors()
        .skip(1)
        .find_map(|above| Some((above, inside.open_at(above, OFlags::PATH).ok()?)))?;
    let real = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    let real = real.strip_prefix(root).ok()?;
    Some(real.join(path.strip_prefix(there).ok()?))
}

/// Removes those of the paths that are an empty file or an empty directory beneath `upper`.
pub(super) fn remove(upper: &Path, paths: &[PathBuf]) -> Result<(), Error> {
    let root = Root::open(upper, Links::Nowhere)?;
    for path in paths {
        if let Err(error) = remove_empty(&root, path) {
            tracing::debug!(%error, path = %path.display(), "kept: the step used it");
        }
    }
    Ok(())
}

fn remove_empty(root: &Root, path: &Path) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = root.open_at(parent, OFlags::PATH | OFlags::DIRECTORY)?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
        FileType::RegularFile if stat.st_size == 0 => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let builder = tempfile::Builder::new()
            .prefix("plimsoll-mount-points-")
            .tempdir();
        builder.unwrap()
    }

    #[test]
    fn what_is_missing_is_named_by_where_it_will_be() {
        let dir = directory();
        let root = dir.path();
        for made in ["dev", "proc", "sys", "etc", "run", "var"] {
            fs::create_dir(root.join(made)).unwrap();
        }
        symlink("/run", root.join("var/run")).unwrap();
        symlink("/nowhere", root.join("var/lost")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let more = [
            "var/run/a/b",
            "var/run/a",
            "var/lost",
            "var/lost/x",
            "file/x",
            "new",
        ];
        let found = missing(root, &more.map(PathBuf::from)).unwrap();
        let own: Vec<_> = found
            .iter()
            .filter(|p| !ALWAYS.contains(&p.to_str().unwrap()))
            .collect();
        // A link to nowhere: the path would be made at its end, and `var` is all that is known of it.
        assert_eq!(
            own,
            ["run/a/b", "var/lost/x", "run/a", "new"]
                .map(Path::new)
                .iter()
                .collect::<Vec<_>>()
        );
        assert!(found.contains(&"run/secrets".into()) && !found.contains(&"run".into()));
    }

    #[test]
    fn only_empty_things_go_and_no_link_is_followed() {
        let dir = directory();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        for made in [&upper, &outside] {
            fs::create_dir_all(made.join("empty/deeper")).unwrap();
            fs::create_dir(made.join("full")).unwrap();
            fs::write(made.join("full/file"), "x").unwrap();
            fs::write(made.join("lock"), "").unwrap();
        }
        let before = names(&outside);
        symlink(&outside, upper.join("absolute")).unwrap();
        symlink("../outside", upper.join("climbing")).unwrap();
        symlink("empty", upper.join("within")).unwrap();
        symlink(outside.join("lock"), upper.join("last")).unwrap();
        let paths = [
            "absolute/lock",
            "absolute/empty/deeper",
            "absolute",
            "climbing/lock",
            "climbing/empty/deeper",
            "../outside/lock",
            "within/deeper",
            "last",
            "gone/x",
            "full/file",
            "full",
            "",
        ];
        remove(&upper, &paths.map(PathBuf::from)).unwrap();
        assert_eq!(names(&outside), before);
        let kept = [
            "absolute",
            "climbing",
            "empty",
            "empty/deeper",
            "full",
            "full/file",
            "last",
            "lock",
            "within",
        ];
        assert_eq!(names(&upper), kept);
        remove(
            &upper,
            &["empty/deeper", "empty", "lock"].map(PathBuf::from),
        )
        .unwrap();
        let kept = [
            "absolute",
            "climbing",
            "full",
            "full/file",
            "last",
            "within",
        ];
        assert_eq!(names(&upper), kept);
    }

    /// All paths beneath a directory, sorted.
    fn names(directory: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let mut ahead = vec![directory.to_owned()];
        while let Some(next) = ahead.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let name = path.strip_prefix(directory).unwrap();
                names.push(name.to_str().unwrap().to_owned());
                if entry.file_type().unwrap().is_dir() {
                    ahead.push(path);
                }
            }
        }
        names.sort();
        names
    }
}
