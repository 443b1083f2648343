//! A program that runs beside the tests: killed or ended when they say so, and at the latest with them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::disk::ANY_DISK;
use super::poll::deadline;
use super::{Root, free_port};

/// A running program; killed when it is dropped.
pub struct Process {
    child: Child,
    directory: PathBuf,
    note: PathBuf,
}

impl Process {
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let directory = Root::scratch();
        let log = File::create(directory.join("log")).expect("a log");
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new(program.as_ref())
            .args(arguments)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .envs(ANY_DISK)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", program.as_ref()));
        let note = Root::note_process(child.id());
        Self {
            child,
            directory,
            note,
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(pid.expect("a pid"), Signal::TERM);
    }

    /// Asks it to end, and waits; returns its exit code.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        self.terminate();
        let until = Instant::now() + deadline();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.note);
    }
}

/// A real etcd, on loopback, with data of its own.
pub struct Etcd {
    process: Option<Process>,
    data: PathBuf,
    port: u16,
    peer_port: u16,
}

impl Etcd {
    #[track_caller]
    pub fn start() -> Self {
        let mut etcd = Self {
            process: None,
            data: Root::scratch(),
            port: free_port(),
            peer_port: free_port(),
        };
        etcd.run();
        etcd
    }

    /// Starts it, again on the same data.
    #[track_caller]
    pub fn run(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let arguments = [
            "--name=e2e".into(),
            format!("--data-dir={}", self.data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=e2e={peer}"),
        ];
        self.process = Some(Process::start("etcd", arguments));
    }

    /// As a power failure would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// For `--store`.
    pub fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.port)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// `plimsoll ROLE` of an instance that was started `--without` it.
#[track_caller]
pub fn role(name: &str, data_dir: &Path) -> Process {
    role_with(name, data_dir, &[])
}

/// The same with more arguments.
pub fn role_with(name: &str, data_dir: &Path, more: &[&OsStr]) -> Process {
    let file = format!("{name}.kubeconfig");
    let kubeconfig = data_dir.join(&file);
    if name == "node" {
        let arguments: [&OsStr; 5] = [
            name.as_ref(),
            "--kubeconfig".as_ref(),
            kubeconfig.as_ref(),
            "--data-dir".as_ref(),
            data_dir.as_ref(),
        ];
        return Process::start(Root::plimsoll(), arguments);
    }
    // the others could as well be on another machine, and are no part of the instance
    let copy = Root::scratch().join(file);
    fs::copy(kubeconfig, &copy).expect("the daemon has written it");
    let arguments: [&OsStr; 3] = [name.as_ref(), "--kubeconfig".as_ref(), copy.as_ref()];
    let arguments = arguments.into_iter().chain(more.iter().copied());
    Process::start(Root::plimsoll(), arguments)
}
