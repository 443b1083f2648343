//! The last steps inside the container: go to the working directory, find the program, become it. Errors are worded as Docker's.

use super::late::Late;
use crate::oci::filter::Filter;
use crate::oci::user::User;
use crate::oci::{self, capabilities};
use crate::records::Layout;
use crate::spec::Security;
use crate::sys;
use crate::wire::{Failure, FailureKind};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{Access, AtFlags, CWD};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Longest failure that is read back.
const REPORT_LENGTH_MAX: u64 = 64 << 10;

/// A program to become.
#[derive(Clone, Debug)]
pub struct Launch {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub kind: FailureKind,
}

impl Launch {
    /// Goes to the working directory and finds the program; call it inside the container.
    pub fn prepare(&self) -> Result<CString, Failure> {
        self.enter()?;
        let path = self.locate()?;
        CString::new(path).map_err(|_| self.failure("the program's name holds a NUL byte", 128))
    }

    /// Becomes the program; returns only the failure.
    pub fn become_program(&self, program: &CString) -> Failure {
        let strings = |list: &[String]| {
            list.iter()
                .map(|text| CString::new(text.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
        };
        let (Ok(argv), Ok(env)) = (strings(&self.argv), strings(&self.env)) else {
            return self.failure("an argument or variable holds a NUL byte", 128);
        };
        sys::reset_signals();
        let error = sys::execve(program, &argv, &env);
        self.of_path(&self.argv[0], &error)
    }

    fn enter(&self) -> Result<(), Failure> {
        let cwd = if self.cwd.is_empty() { "/" } else { &self.cwd };
        let fail = |error: io::Error| {
            self.failure(
                &format!(
                    "chdir to cwd ({cwd:?}) set in config.json failed: {}",
                    words(&error)
                ),
                126,
            )
        };
        if let Err(error) = std::env::set_current_dir(cwd) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(fail(error));
            }
            std::fs::create_dir_all(cwd)
                .and_then(|()| std::env::set_current_dir(cwd))
                .map_err(fail)?;
        }
        // A directory outside the root (through a leaked descriptor, CVE-2024-21626) has no path from here.
        let here = rustix::process::getcwd(Vec::new()).map_err(|error| fail(error.into()))?;
        if here.as_bytes().first() != Some(&b'/') {
            return Err(self.failure("the working directory is outside of the container", 126));
        }
        Ok(())
    }

    fn locate(&self) -> Result<String, Failure> {
        let name = self
            .argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| self.failure("no command specified", 128))?;
        if name.contains('/') {
            return match executable(name) {
                Ok(()) => Ok(name.clone()),
                Err(error) => Err(self.of_path(name, &error)),
            };
        }
        let path = self
            .env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or_default();
        let mut refused = false;
        for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
            let candidate = format!("{}/{name}", dir.trim_end_matches('/'));
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = true,
                Err(_) => {}
            }
        }
        if refused {
            return Err(self.failure(&format!("exec: {name:?}: permission denied"), 126));
        }
        Err(self.failure(
            &format!("exec: {name:?}: executable file not found in $PATH"),
            127,
        ))
    }

    fn of_path(&self, name: &str, error: &io::Error) -> Failure {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => self.failure(
                &format!("exec: {name:?}: stat {name}: no such file or directory"),
                127,
            ),
            Some(libc::EACCES | libc::EPERM) => {
                self.failure(&format!("exec: {name:?}: permission denied"), 126)
            }
            Some(libc::EISDIR) => self.failure(&format!("exec: {name:?}: is a directory"), 126),
            Some(libc::ENOEXEC) => self.failure(&format!("exec {name}: exec format error"), 126),
            Some(libc::E2BIG) => self.failure(&format!("exec {name}: argument list too long"), 126),
            _ => self.failure(&format!("exec {name}: {}", words(error)), 128),
        }
    }

    fn failure(&self, reason: &str, code: i32) -> Failure {
        Failure::new(self.kind, reason).with_code(code)
    }
}

fn executable(path: &str) -> io::Result<()> {
    let metadata = Path::new(path).metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(rustix::fs::accessat(
        CWD,
        path,
        Access::EXEC_OK,
        AtFlags::EACCESS,
    )?)
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

/// What remains to be given up when libcontainer has done its part.
#[derive(Clone)]
pub struct Confinement {
    filter: Option<Filter>,
    effective: CapabilitySet,
}

impl Confinement {
    pub fn of(security: &Security, user: &User, layout: &Layout) -> Result<Confinement, String> {
        let capabilities = capabilities::of(security);
        let filter = oci::seccomp_profile(security, &capabilities)?
            .map(|profile| Filter::of(&profile, &layout.filters()))
            .transpose()?;
        let effective = if user.uid == 0 {
            capabilities::bits(&capabilities)
        } else {
            0
        };
        Ok(Confinement {
            filter,
            effective: CapabilitySet::from_bits_retain(effective),
        })
    }

    fn apply(&self) -> io::Result<()> {
        if let Some(filter) = &self.filter {
            filter.load()?;
        }
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.effective,
            inheritable: CapabilitySet::empty(),
        };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }
}

/// Lets libcontainer's container process do these steps, and tells failures over a pipe that a successful exec closes.
#[derive(Clone)]
pub struct Steps {
    pub launch: Launch,
    pub late: Late,
    pub confinement: Confinement,
    pub failures: Arc<OwnedFd>,
}

impl Steps {
    fn tell(&self, failure: &Failure) -> String {
        if let (Ok(fd), Ok(bytes)) = (self.failures.try_clone(), serde_json::to_vec(failure)) {
            let _ = File::from(fd).write_all(&bytes);
        }
        failure.reason.clone()
    }
}

impl Executor for Steps {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let told = |failure| ExecutorValidationError::ArgValidationError(self.tell(&failure));
        self.launch.prepare().map(drop).map_err(told)
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment is given to exec as it was asked for, order and all.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let fail = |what: &str, error: io::Error| {
            self.launch.failure(&format!("cannot {what}: {error}"), 128)
        };
        let ready = self
            .late
            .apply()
            .map_err(|error| fail("mount over /dev", error))
            .and_then(|()| self.launch.prepare())
            .and_then(|program| match self.confinement.apply() {
                Ok(()) => Ok(program),
                Err(error) => Err(fail("take the container's rights", error)),
            });
        let failure = match ready {
            Ok(program) => self.launch.become_program(&program),
            Err(failure) => failure,
        };
        Err(ExecutorError::Other(self.tell(&failure)))
    }
}

/// Waits until the writing ends are closed; the failure that was told, if any.
pub fn read_failure(pipe: OwnedFd) -> Option<Failure> {
    let mut bytes = Vec::new();
    let _ = File::from(pipe)
        .take(REPORT_LENGTH_MAX)
        .read_to_end(&mut bytes);
    serde_json::from_slice(&bytes).ok()
}
