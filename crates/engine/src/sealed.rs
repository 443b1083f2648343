//! A sealed copy of the program that is executed inside and around containers, so that no container can overwrite the one on disk
//! through `/proc/PID/exe` (CVE-2019-5736).

use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The program to execute: a sealed memory file, or the file on disk where the kernel refuses one.
#[derive(Debug)]
pub enum Program {
    Sealed(OwnedFd),
    OnDisk(PathBuf),
}

impl Program {
    /// Copies `path`, once; every later execution shares the pages.
    pub fn seal(path: &Path) -> Program {
        match copy(path) {
            Ok(fd) => Program::Sealed(fd),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot make a sealed copy of the program; using the file itself");
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

    #[test]
    fn the_copy_runs_and_cannot_be_written() {
        let Program::Sealed(fd) = Program::seal(Path::new("/bin/true")) else {
            panic!("no memory file")
        };
        assert!(
            File::from(fd.try_clone().expect("dup"))
                .write_all(b"x")
                .is_err()
        );
        let program = Program::Sealed(fd);
        assert!(
            std::process::Command::new(program.path())
                .status()
                .expect("run")
                .success()
        );
        assert!(matches!(
            Program::seal(Path::new("/nonexistent")),
            Program::OnDisk(_)
        ));
    }
}
