//! A part of a volume as a mount of its own, found without being led out of the volume.
//!
//! Whoever writes in the volume may plant links and swap them at any moment. So the path is resolved by the kernel
//! beneath the volume (openat2, `RESOLVE_BENEATH`), step by step where directories have to be made, and what is mounted is
//! the descriptor that came of it, never a path that could mean something else by then.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

/// The kernel asks to try again when somebody renames beside us; an attacker may keep it from ever succeeding.
const ATTEMPTS: u32 = 64;

/// Mounts `inside` of the volume at `base` on `target`, which nobody but this program can write, without what is mounted
/// beneath it (as upstream). What was mounted there before goes. Directories that are missing are made with the volume's own
/// mode.
///
/// What is mounted in the volume later comes here; what is unmounted here stays where it is in the volume.
///
/// # Errors
/// `PermissionDenied` when a link leads out of the volume; else what the kernel says.
pub fn bind(base: &Path, inside: &Path, target: &Path) -> io::Result<()> {
    let found = open(base, inside)?;
    release(target)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    let is_directory = target.is_dir();
    if target.exists() && is_directory != kind.is_dir() {
        match is_directory {
            true => fs::remove_dir(target)?,
            false => fs::remove_file(target)?,
        }
    }
    if kind.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(target)?;
    }
    // through the descriptor: no name is looked up again
    let path = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    mount_bind(path, target)?;
    Ok(let_go(target)?)
}

/// Keeps what is unmounted beneath `target` from being unmounted wherever else it is mounted: copies of mounts on a machine
/// whose file systems are shared are peers, and what happens to one happens to all.
pub fn let_go(target: &Path) -> rustix::io::Result<()> {
    mount_change(target, MountPropagationFlags::DOWNSTREAM)
}

/// Unmounts whatever is mounted on `target`.
fn release(target: &Path) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        // one that an earlier version made has more in it; no mount at all is told below
        let _ = mount_change(
            target,
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        );
        match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

/// What is at `inside` beneath `base`.
pub fn open(base: &Path, inside: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(base, flags, Mode::empty())?;
    let mode = fs::metadata(format!("/proc/self/fd/{}", root.as_raw_fd()))?
        .permissions()
        .mode()
        & 0o7777;
    let mut at = resolve(&root, Path::new("."))?;
    let mut done = PathBuf::new();
    for part in inside.components() {
        done.push(part);
        at = match resolve(&root, &done) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match rustix::fs::mkdirat(
                    &at,
                    Path::new(part.as_os_str()),
                    Mode::from_raw_mode(0o700),
                ) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = resolve(&root, &done)?;
                // by the descriptor again, so that the umask does not matter
                fs::set_permissions(
                    format!("/proc/self/fd/{}", made.as_raw_fd()),
                    fs::Permissions::from_mode(mode),
                )?;
                made
            }
            outcome => outcome?,
        };
    }
    Ok(at)
}

fn resolve(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    for _ in 0..ATTEMPTS {
        let outcome = rustix::fs::openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        );
        match outcome {
            Err(Errno::AGAIN) => thread::yield_now(),
            Err(Errno::XDEV) => return Err(ErrorKind::PermissionDenied.into()),
            outcome => return Ok(outcome?),
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory")
    }

    #[test]
    fn links_inside_are_followed_and_links_out_are_not() {
        let held = directory();
        let base = held.path().join("v");
        fs::create_dir_all(base.join("real")).expect("made");
        fs::write(held.path().join("secret"), "x").expect("written");
        symlink("real", base.join("inner")).expect("linked");
        symlink("/etc", base.join("absolute")).expect("linked");
        symlink("../secret", base.join("up")).expect("linked");
        symlink("/proc/self/root", base.join("magic")).expect("linked");
        for path in ["real", "inner", "inner/made/deeper", "new"] {
            open(&base, Path::new(path)).expect(path);
        }
        assert!(base.join("real/made/deeper").is_dir());
        for path in [
            "absolute",
            "up",
            "absolute/passwd",
            "magic/etc",
            "real/../../secret",
        ] {
            let error = open(&base, Path::new(path)).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error}");
        }
        assert_eq!(
            fs::read(held.path().join("secret")).expect("untouched"),
            b"x"
        );
    }

    /// On a machine as systemd leaves it, where mounts are shared.
    #[test]
    fn what_is_mounted_in_a_volume_stays_when_its_part_goes() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let held = directory();
        let (top, target) = (held.path().join("host"), held.path().join("pod/part"));
        fs::create_dir_all(&top).expect("made");
        let mounted = super::super::place::in_memory(&top, None);
        mount_change(&top, MountPropagationFlags::SHARED).expect("shared");
        let (disk, later) = (top.join("log/audit"), top.join("log/later"));
        for path in [&disk, &later] {
            fs::create_dir_all(path).expect("made");
        }
        super::super::place::in_memory(&disk, None).expect("mounted");
        fs::write(disk.join("file"), "x").expect("written");
        let first = bind(&top, Path::new("log"), &target);
        let seen = target.join("audit/file").exists();
        super::super::place::in_memory(&later, None).expect("mounted");
        fs::write(later.join("file"), "x").expect("written");
        let came = target.join("later/file").exists();
        let again = bind(&top, Path::new("log"), &target);
        let released = super::super::place::release(&held.path().join("pod"));
        let stays = [&disk, &later].map(|path| path.join("file").exists());
        super::super::place::release(&top).expect("released");
        assert!(mounted.expect("mounted"));
        first.and(again).and(released).expect("bound and released");
        assert!(!seen, "upstream binds without what is mounted beneath");
        assert!(came, "what is mounted later is seen");
        assert_eq!(stays, [true; 2], "file systems of the host stay mounted");
    }

    /// Somebody inside swaps a directory and a link to the outside for each other, as fast as possible.
    #[test]
    fn a_race_of_links_never_mounts_the_outside() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let held = directory();
        let (base, outside, target) = (
            held.path().join("v"),
            held.path().join("outside"),
            held.path().join("mounts/t"),
        );
        for path in [&base.join("x/y"), &outside.join("y")] {
            fs::create_dir_all(path).expect("made");
        }
        fs::write(outside.join("y/secret"), "x").expect("written");
        symlink(&outside, base.join("link")).expect("linked");
        let over = AtomicBool::new(false);
        let (mut mounted, mut refused, mut leaked) = (0, 0, false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let _ = rustix::fs::renameat_with(
                        rustix::fs::CWD,
                        base.join("x"),
                        rustix::fs::CWD,
                        base.join("link"),
                        rustix::fs::RenameFlags::EXCHANGE,
                    );
                }
            });
            for round in 0..4000 {
                match bind(&base, Path::new("x/y"), &target) {
                    Ok(()) => mounted += 1,
                    Err(_) => refused += 1,
                }
                leaked |= target.join("secret").exists();
                if leaked || round > 400 && mounted > 20 && refused > 20 {
                    break;
                }
            }
            over.store(true, Ordering::Release);
        });
        release(&target).expect("unmounted");
        assert!(!leaked, "the outside was mounted");
        assert!(
            mounted > 0 && refused > 0,
            "the race took place: {mounted} {refused}"
        );
        assert!(!outside.join("y/made").exists());
    }
}
