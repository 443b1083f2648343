//! Looking into a container's root filesystem from outside without being led out of it: every path is resolved with openat2
//! beneath the root, symbolic links included.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// Longest file that is read.
const FILE_LENGTH_MAX: u64 = 4 << 20;

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

    /// Content of a file; empty when there is none. Only plain files are opened.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let fd = match self.open_in(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a plain file",
            ));
        }
        let mut bytes = Vec::new();
        file.take(FILE_LENGTH_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
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
}
