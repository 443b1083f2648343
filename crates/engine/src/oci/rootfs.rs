//! Looking into a container's root filesystem from outside without being led out of it: every path is resolved with openat2
//! beneath the root, symbolic links included.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Longest file that is read.
const FILE_LENGTH_MAX: u64 = 4 << 20;
/// Symbolic links that are followed one after the other to where a file is to be.
const LINKS_MAX: usize = 16;
/// Where the kernel's file systems and our devices are mounted: never through a symbolic link, and nothing lands in them that
/// did not ask for them by name.
const OURS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// A root filesystem.
pub struct Root(OwnedFd);

impl Root {
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn open_in(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &self.0,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Content of a file; empty when there is none. Only plain files are opened: opening a device can do things.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let found = match self.open_in(path, OFlags::PATH) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if !FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a plain file",
            ));
        }
        // Opened by name again, because in a container /proc cannot be trusted to lead there.
        let file =
            File::from(self.open_in(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
        let mut bytes = Vec::new();
        file.take(FILE_LENGTH_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Refuses a root whose `/dev`, `/proc` or `/sys` is not a directory: a mount on a link lands where the link points, and what
    /// is then made beneath it by name lands outside of the root.
    pub fn check_ours(&self) -> io::Result<()> {
        for path in OURS {
            match rustix::fs::statat(&self.0, &path[1..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
                Err(Errno::NOENT) => {}
                Ok(_) => {
                    let reason = format!("{path} of the image must be a directory, and is not");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Refuses a mount target that leads into `/dev`, `/proc` or `/sys` without being named so (CVE-2019-16884, CVE-2025-52881).
    pub fn check_target(&self, target: &str) -> io::Result<()> {
        let beneath = |path: &Path| OURS.into_iter().find(|ours| path.starts_with(ours));
        if beneath(Path::new(target)).is_some() {
            return Ok(());
        }
        let real = self.real_path(target)?;
        match beneath(&real) {
            None => Ok(()),
            Some(ours) => {
                let reason = format!("it leads into {ours} through a symbolic link");
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
        }
    }

    /// Where a path leads beneath the root, whether or not it exists. Nobody else may change the root meanwhile.
    fn real_path(&self, path: &str) -> io::Result<PathBuf> {
        let parts = |path: &Path| -> Vec<OsString> {
            let parts = path.components().rev();
            parts.map(|part| part.as_os_str().to_owned()).collect()
        };
        let mut ahead = parts(Path::new(path));
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match part.as_bytes() {
                b"/" => real = PathBuf::from("/"),
                b"." => {}
                b".." => drop(real.pop()),
                _ => {
                    let next = real.join(&part);
                    let inside = next.strip_prefix("/").unwrap_or(&next);
                    match rustix::fs::readlinkat(&self.0, inside, Vec::new()) {
                        Ok(_) if links == LINKS_MAX => return Err(Errno::LOOP.into()),
                        Ok(target) => {
                            links += 1;
                            ahead.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
                        }
                        Err(_) => real = next,
                    }
                }
            }
        }
        Ok(real)
    }

    /// Makes an empty file for a mount where there is nothing, mode 0644, with the directories above it; where a symbolic link
    /// leads to nothing, the file is made at its end, as a process inside would.
    pub fn make_file(&self, path: &str) -> io::Result<()> {
        let real = self.real_path(path)?;
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = parent.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dirs(parent)?;
        let directory = self.open_in(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what was just made here, the directories above included, to the first of the ids of the root's user namespace: what is
    /// owned by an id outside of it. Without one nothing happens; what cannot be given stays root's.
    pub fn give(&self, path: &str, first: Option<u32>) {
        let Some(first) = first else {
            return;
        };
        let inside = first..first.saturating_add(crate::ids::COUNT);
        let mut part = Some(Path::new(path));
        while let Some(here) = part.filter(|here| here.parent().is_some()) {
            let opened = here.to_str().map(|here| self.open_in(here, OFlags::PATH));
            if let Some(Ok(found)) = opened
                && let Ok(stat) = rustix::fs::fstat(&found)
                && !inside.contains(&stat.st_uid)
            {
                let (uid, gid) = (
                    rustix::fs::Uid::from_raw(first),
                    rustix::fs::Gid::from_raw(first),
                );
                let _ = rustix::fs::chownat(&found, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
            }
            part = here.parent();
        }
    }

    /// Makes a directory and its parents where they are missing, mode 0755.
    pub fn make_dirs(&self, path: &str) -> io::Result<()> {
        let mut parent = self.open_in("/", OFlags::PATH)?;
        let mut done = String::new();
        for component in Path::new(path).components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            done.push('/');
            done.push_str(name);
            parent = match self.open_in(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                    self.open_in(&done, OFlags::PATH | OFlags::DIRECTORY)?
                }
                Err(error) => return Err(error),
            };
        }
        drop(parent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-rootfs")
            .tempdir()
            .expect("temp dir");
        let root_path = dir.path().join("root");
        std::fs::create_dir_all(root_path.join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("secret"), "outside").expect("write");
        std::fs::write(root_path.join("secret"), "inside").expect("write");
        symlink("/secret", root_path.join("etc/absolute")).expect("link");
        symlink("../../../secret", root_path.join("etc/relative")).expect("link");
        let root = Root::open(&root_path).expect("open");
        for path in ["/etc/absolute", "etc/relative", "/../../secret"] {
            assert_eq!(root.read(path).expect(path), b"inside", "{path}");
        }
        assert_eq!(root.read("/missing").expect("missing"), b"");
        assert!(root.read("/etc").is_err(), "a directory is not a file");
        symlink(dir.path(), root_path.join("out")).expect("link");
        assert!(root.make_dirs("/out/made").is_err());
        assert!(!dir.path().join("made").exists());
        root.make_dirs("/a/b/c").expect("make");
        root.make_dirs("/a/b/c").expect("again");
        assert!(root_path.join("a/b/c").is_dir());
    }

    fn fresh() -> (tempfile::TempDir, PathBuf, Root) {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-rootfs")
            .tempdir()
            .expect("temp dir");
        let path = dir.path().join("root");
        std::fs::create_dir_all(path.join("etc")).expect("mkdir");
        let root = Root::open(&path).expect("open");
        (dir, path, root)
    }

    #[test]
    fn files_for_mounts_are_made_where_links_end_and_never_outside() {
        let (dir, path, root) = fresh();
        let outside = dir.path().join("outside");
        for (link, target) in [
            ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
            ("etc/absolute", "/run/absolute"),
            ("etc/climbs", "../../../../../run/climbs"),
            ("etc/out", outside.to_str().expect("text")),
            ("etc/loop", "loop"),
        ] {
            symlink(target, path.join(link)).expect("link");
        }
        for (asked, made) in [
            ("/etc/hosts", "etc/hosts"),
            ("/etc/resolv.conf", "run/systemd/resolve/stub-resolv.conf"),
            ("/etc/absolute", "run/absolute"),
            ("/etc/climbs", "run/climbs"),
            ("/deep/er/file", "deep/er/file"),
        ] {
            root.make_file(asked).expect(asked);
            assert!(path.join(made).is_file(), "{asked}");
            root.make_file(asked).expect("again");
        }
        root.make_file("/etc/out").expect("inside");
        assert!(!outside.exists());
        assert!(root.make_file("/etc/loop").is_err());
        std::fs::write(path.join("etc/full"), "kept").expect("write");
        root.make_file("/etc/full").expect("there already");
        assert_eq!(root.read("/etc/full").expect("read"), b"kept");
    }

    #[test]
    fn nothing_that_can_do_things_is_opened() {
        let (_dir, path, root) = fresh();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("etc/passwd"),
            FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .expect("fifo");
        let error = root.read("/etc/passwd").expect_err("a fifo");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        symlink("passwd", path.join("etc/link")).expect("link");
        assert!(root.read("/etc/link").is_err());
        let huge = File::create(path.join("etc/group")).expect("create");
        huge.set_len(1 << 40).expect("grow");
        assert_eq!(
            root.read("/etc/group").expect("read").len(),
            FILE_LENGTH_MAX as usize
        );
    }

    #[test]
    fn where_our_mounts_are_there_is_no_link() {
        let (dir, path, root) = fresh();
        root.check_ours().expect("nothing there");
        for name in ["dev", "proc", "sys"] {
            std::fs::create_dir(path.join(name)).expect("mkdir");
            root.check_ours().expect("a directory");
            std::fs::remove_dir(path.join(name)).expect("remove");
            for target in ["/etc", dir.path().to_str().expect("text"), "nowhere"] {
                symlink(target, path.join(name)).expect("link");
                assert!(root.check_ours().is_err(), "{name} {target}");
                std::fs::remove_file(path.join(name)).expect("remove");
            }
        }
        for name in ["dev", "proc", "sys"] {
            std::fs::create_dir(path.join(name)).expect("mkdir");
        }
        for (link, target) in [
            ("a", "/proc"),
            ("b", "../../proc/sys"),
            ("c", "a"),
            ("d", "/etc"),
            ("etc/e", "../dev"),
        ] {
            symlink(target, path.join(link)).expect("link");
        }
        for (target, fine) in [
            ("/proc/acpi", true),
            ("/dev/shm", true),
            ("/data", true),
            ("/processes", true),
            ("/d/x", true),
            ("/a", false),
            ("/a/sys/kernel", false),
            ("/b", false),
            ("/c/new", false),
            ("/etc/e/null", false),
        ] {
            assert_eq!(root.check_target(target).is_ok(), fine, "{target}");
        }
    }
}
