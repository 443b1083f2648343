//! Directories on this machine: made, backed by memory where that is asked for, measured, and removed with all that is
//! mounted in them.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::beneath;

/// An emptyDir: everybody may write in it. `memory`: a tmpfs, of that many bytes if some are named; it is mounted again if
/// the machine has restarted. `begins`: the pod has not had it yet. Returns whether there is nothing in it.
///
/// # Errors
/// What the kernel says.
pub fn empty_dir(path: &Path, memory: Option<Option<i64>>, begins: bool) -> io::Result<bool> {
    let mut new = begins;
    fs::create_dir_all(path)?;
    if let Some(bytes) = memory {
        new |= in_memory(path, bytes)?;
    }
    if new {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(new)
}

/// Mounts a tmpfs at `path` if there is no mount yet; returns whether it did.
///
/// # Errors
/// What the kernel says.
pub fn in_memory(path: &Path, bytes: Option<i64>) -> io::Result<bool> {
    fs::create_dir_all(path)?;
    if is_mounted(path)? {
        return Ok(false);
    }
    let size = bytes.map_or(String::new(), |bytes| format!(",size={bytes}"));
    let options = CString::new(format!("mode=0755{size}")).map_err(io::Error::other)?;
    mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )?;
    Ok(true)
}

/// Bytes of disk that a directory takes, hard links counted once, other file systems mounted in it not at all. What vanishes
/// meanwhile does not count.
pub fn usage_bytes(directory: &Path) -> u64 {
    usage(directory).0
}

/// As [`usage_bytes`], and the number of inodes.
pub fn usage(directory: &Path) -> (u64, u64) {
    let Ok(top) = fs::symlink_metadata(directory) else {
        return (0, 0);
    };
    let mut inodes = 1;
    let mut linked = HashSet::new();
    let mut blocks = top.blocks();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // of a link this is the link itself
            let Ok(data) = entry.metadata() else {
                continue;
            };
            if data.dev() != top.dev() {
                continue;
            }
            if data.is_dir() {
                waiting.push(entry.path());
            } else if data.nlink() > 1 && !linked.insert(data.ino()) {
                continue;
            }
            blocks += data.blocks();
            inodes += 1;
        }
    }
    (blocks * 512, inodes)
}

/// The mount points beneath `directory`, the last mounted first.
fn mounts_beneath(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| {
            let plain = field
                .replace("\\040", " ")
                .replace("\\011", "\t")
                .replace("\\012", "\n")
                .replace("\\134", "\\");
            PathBuf::from(plain)
        })
        .filter(|path| path.starts_with(directory))
        .collect();
    found.reverse();
    Ok(found)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    let real = path.canonicalize()?;
    Ok(mounts_beneath(&real)?.contains(&real))
}

/// Unmounts what is mounted beneath a directory and removes it. It need not exist.
///
/// # Errors
/// When something in it is still in use; nothing of a mounted volume is deleted then.
pub fn release(directory: &Path) -> io::Result<()> {
    unmount_beneath(directory)?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unmounts what is mounted beneath a directory, which need not exist, and at it. What is in it stays.
///
/// # Errors
/// What the kernel says.
fn unmount_beneath(directory: &Path) -> io::Result<()> {
    unmount_deeper(directory, None)
}

/// How often the table of mounts is read again, when some that it named were gone before they could be unmounted.
const ROUNDS_MAX: usize = 4;

/// As [`unmount_beneath`]; what is mounted at the directory, and up to `spared` levels beneath it, stays.
fn unmount_deeper(directory: &Path, spared: Option<usize>) -> io::Result<()> {
    let real = match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    let top = real.components().count();
    let is_meant =
        |path: &PathBuf| spared.is_none_or(|spared| path.components().count() - top > spared);
    unmount_all(|| {
        let mut found = mounts_beneath(&real)?;
        found.retain(is_meant);
        Ok(found)
    })
}

/// Unmounts what `table` names, as often as it names some: pods that are just ending unmount theirs themselves, and what
/// is gone by then is no failure.
fn unmount_all(mut table: impl FnMut() -> io::Result<Vec<PathBuf>>) -> io::Result<()> {
    let mut gone = Ok(());
    for _ in 0..ROUNDS_MAX {
        let found = table()?;
        if found.is_empty() {
            return Ok(());
        }
        for path in &found {
            // an earlier version's parts of volumes are peers of what they are parts of
            let _ = beneath::let_go(path);
        }
        for path in found {
            match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // its directory is gone, or it is no mount point any more
                Err(error @ (Errno::NOENT | Errno::INVAL)) => gone = Err(error.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    match table()?.is_empty() {
        true => Ok(()),
        false => gone.and(Err(Errno::BUSY.into())),
    }
}

/// A directory that volumes lie in.
#[derive(Clone, Debug)]
pub struct Held {
    pub path: PathBuf,
    /// How many levels beneath it the volumes begin: a disk that is mounted there or above is the administrator's. `None`:
    /// all that is mounted in it is this program's.
    pub volumes_at: Option<usize>,
}

/// Unmounts what is in the directories that volumes lie in, when nothing runs any more; with `remove` they go too.
/// Containers may have mounted something in any of them that reached this machine.
///
/// # Errors
/// As [`release`], with the directory in question.
pub fn release_all(directories: &[Held], remove: bool) -> Result<(), (PathBuf, io::Error)> {
    directories.iter().try_for_each(|held| {
        let released = match remove {
            true => release(&held.path),
            false => unmount_deeper(&held.path, held.volumes_at),
        };
        released.map_err(|error| (held.path.clone(), error))
    })
}

/// The path if it stays beneath where it starts.
pub fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory")
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for (path, stays) in [
            ("a/b", true),
            ("../a", false),
            ("a/../../b", false),
            ("/etc/passwd", false),
            ("a/./b", true),
        ] {
            assert_eq!(inside(path).is_some(), stays, "{path}");
        }
    }

    #[test]
    fn a_volume_in_memory_is_mounted_once_and_released() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory();
        let pod = directory.path().join("pod");
        let path = pod.join("volumes/fast");
        let made = empty_dir(&path, Some(Some(1 << 20)), true)
            .and_then(|_| empty_dir(&path, Some(Some(1 << 20)), false));
        let mounted = mounts_beneath(&pod).expect("table");
        let space = rustix::fs::statvfs(&path).map(|stat| stat.f_blocks * stat.f_frsize);
        let mode = fs::metadata(&path).map(|data| data.permissions().mode() & 0o7777);
        release(&pod).expect("released");
        assert!(!made.expect("made twice"), "it was there already");
        assert_eq!(mounted, [path], "mounted once");
        assert_eq!(space.expect("statvfs"), 1 << 20);
        assert_eq!(mode.expect("mode"), 0o777);
        assert!(!pod.exists());
        release(&pod).expect("nothing to do");
    }

    #[test]
    fn disks_of_the_administrator_stay_mounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory();
        let claims = directory.path().join("claims");
        let places = ["", "pvc-1", "pvc-1/of-a-container"].map(|path| claims.join(path));
        for path in &places {
            in_memory(path, None).expect("mounted");
        }
        let held = Held {
            path: claims.clone(),
            volumes_at: Some(1),
        };
        let released = release_all(&[held], false);
        let left = mounts_beneath(&claims).expect("table");
        release(&claims).expect("released");
        released.expect("released");
        assert_eq!(left, [places[1].clone(), claims]);
    }

    #[test]
    fn mounts_that_go_meanwhile_are_no_failure() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory();
        let place = |name: &str| directory.path().join(name);
        for name in ["a", "b", "c"] {
            in_memory(&place(name), None).expect("mounted");
        }
        let mut rounds = 0;
        let unmounted = unmount_all(|| {
            rounds += 1;
            let found = mounts_beneath(directory.path())?;
            if rounds == 1 {
                // One that is gone with its directory, and one whose directory stays.
                for name in ["a", "b"] {
                    unmount(place(name), UnmountFlags::DETACH)?;
                }
                fs::remove_dir(place("a"))?;
            }
            Ok(found)
        });
        let left = mounts_beneath(directory.path()).expect("table");
        release(directory.path()).expect("released");
        unmounted.expect("unmounted");
        assert_eq!(left, Vec::<PathBuf>::new());
        // One that is told of for ever: the bound holds, and it is said.
        let mut rounds = 0;
        let failed = unmount_all(|| {
            rounds += 1;
            Ok(vec![PathBuf::from("/nowhere/at/all")])
        });
        assert_eq!(
            failed.expect_err("it is still there").kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(rounds, ROUNDS_MAX + 1);
    }

    #[test]
    fn what_a_directory_takes() {
        let directory = directory();
        let before = usage_bytes(directory.path());
        fs::create_dir(directory.path().join("d")).expect("made");
        fs::write(directory.path().join("d/a"), vec![1; 1 << 20]).expect("written");
        fs::hard_link(directory.path().join("d/a"), directory.path().join("b")).expect("linked");
        std::os::unix::fs::symlink("/", directory.path().join("root")).expect("linked");
        let grown = usage_bytes(directory.path()) - before;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
        assert_eq!(
            usage(directory.path()).1,
            4,
            "a directory, a file with two names, a link, and the top"
        );
        assert_eq!(usage_bytes(Path::new("/nowhere")), 0);
    }
}
