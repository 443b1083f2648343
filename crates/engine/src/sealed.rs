//! The program as it is executed inside and around containers: such that no container can overwrite the one on disk through
//! `/proc/PID/exe` (CVE-2019-5736).
//!
//! First choice is the file itself, opened through a read-only overlay without an upper layer that nothing can mount again: it
//! costs nothing, and its pages are the very ones that the daemon runs from. Where the kernel refuses that, a sealed copy in
//! memory. Either is a descriptor of the file as it was at the start of the daemon, so an upgrade that replaces the file on disk
//! never mixes versions; and since children are started through `/proc/self/exe`, a supervising process needs no daemon for it.

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The program to execute: protected, or the file on disk where the kernel refuses both ways to.
#[derive(Debug)]
pub enum Program {
    Sealed(OwnedFd),
    OnDisk(PathBuf),
}

impl Program {
    /// Protects `path`, once; every later execution shares the pages. `empty` is a directory to make and keep empty, on a file
    /// system that outlives the call.
    pub fn seal(path: &Path, empty: &Path) -> Program {
        let overlaid = overlay(path, empty);
        if let Err(error) = &overlaid {
            tracing::debug!(path = %path.display(), %error, "no overlay over the program; copying it into memory");
        }
        match overlaid.or_else(|_| copy(path)) {
            Ok(fd) => Program::Sealed(fd),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot protect the program from containers; using the file itself");
                Program::OnDisk(path.to_owned())
            }
        }
    }

    /// A path that executes it, valid in this process and between its fork and exec.
    pub fn path(&self) -> PathBuf {
        match self {
            Program::Sealed(fd) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            Program::OnDisk(path) => path.clone(),
        }
    }
}

/// The file through an overlay of its directory, mounted nowhere.
fn overlay(path: &Path, empty: &Path) -> io::Result<OwnedFd> {
    let opened = File::open(path)?.metadata()?;
    // Where the file has been replaced already its old name no longer leads to it.
    let real = fs::canonicalize(path)?;
    let replaced = || io::Error::new(io::ErrorKind::NotFound, "the file has been replaced");
    let (Some(dir), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(empty)?;
    // Named by descriptors: in a path, colons and commas would need escapes. An overlay without upper layer wants two lower ones.
    let (dir, empty) = (File::open(dir)?, File::open(empty)?);
    let lower = |dir: &File| format!("/proc/self/fd/{}", dir.as_raw_fd());
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let layers = format!("{}:{}", lower(&dir), lower(&empty));
    rustix::mount::fsconfig_set_string(&context, "lowerdir", layers)?;
    rustix::mount::fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let program = rustix::fs::openat(
        &mount,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let program = File::from(program);
    let same = |other: &Metadata| {
        (other.len(), other.mtime(), other.mtime_nsec())
            == (opened.len(), opened.mtime(), opened.mtime_nsec())
    };
    // Through the overlay the file has another device and perhaps another number.
    let by_name = fs::metadata(&real)?;
    if (by_name.dev(), by_name.ino()) != (opened.dev(), opened.ino()) || !same(&program.metadata()?)
    {
        return Err(replaced());
    }
    Ok(program.into())
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Where vm.memfd_noexec is set the file must ask to be executable; older kernels do not know the flag.
    let memory = rustix::fs::memfd_create("plimsoll", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("plimsoll", flags))?;
    let mut memory = File::from(memory);
    io::copy(&mut source, &mut memory)?;
    rustix::fs::fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;

    /// A program of our own that may be written to and replaced.
    fn program() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-sealed,with:signs-")
            .tempdir()
            .expect("temp dir");
        fs::create_dir(dir.path().join("bin")).expect("mkdir");
        let path = dir.path().join("bin/true");
        fs::copy("/bin/true", &path).expect("copy");
        (dir, path)
    }

    #[test]
    fn either_way_it_runs_and_cannot_be_written() {
        let (dir, path) = program();
        let empty = dir.path().join("empty");
        let both = [overlay(&path, &empty), copy(&path)];
        for (way, fd) in both.into_iter().enumerate() {
            let fd = fd.unwrap_or_else(|error| panic!("way {way}: {error}"));
            let program = Program::Sealed(fd);
            let opened = File::options().write(true).open(program.path());
            assert!(
                opened.and_then(|mut file| file.write_all(b"x")).is_err(),
                "{way}"
            );
            let truncated = File::options()
                .write(true)
                .truncate(true)
                .open(program.path());
            assert!(truncated.is_err(), "{way}");
            // The file that replaces it is another one.
            fs::remove_file(&path).expect("remove");
            fs::copy("/bin/false", &path).expect("replace");
            let status = Command::new(program.path()).status().expect("run");
            assert!(status.success(), "{way}");
            fs::remove_file(&path).expect("remove");
            fs::copy("/bin/true", &path).expect("again");
        }
        assert!(matches!(
            Program::seal(Path::new("/nonexistent"), &empty),
            Program::OnDisk(_)
        ));
    }

    #[test]
    fn a_replaced_program_is_not_taken_for_the_one_that_runs() {
        let (dir, path) = program();
        let running = File::open(&path).expect("open");
        let link = PathBuf::from(format!("/proc/self/fd/{}", running.as_raw_fd()));
        fs::remove_file(&path).expect("remove");
        fs::copy("/bin/false", &path).expect("replace");
        assert!(overlay(&link, &dir.path().join("empty")).is_err());
        let program = Program::seal(&link, &dir.path().join("empty"));
        assert!(
            Command::new(program.path())
                .status()
                .expect("run")
                .success()
        );
    }
}
