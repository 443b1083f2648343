//! What runs beside the daemon when the tests are told so: its roles, each in a process of its own, and etcd.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Run;
use super::eventually;
use super::process::{Etcd, role};

/// `apart`: each role in a process of its own.
const ROLES_VARIABLE: &str = "PLIMSOLL_E2E_ROLES";
/// `etcd`: objects are kept on an etcd, one for each instance.
const STORE_VARIABLE: &str = "PLIMSOLL_E2E_STORE";

const ROLES: [&str; 3] = ["controllers", "scheduler", "node"];
const PERIOD: Duration = Duration::from_millis(50);

/// Whether a test has nothing to do when roles are to run apart or objects to be kept on etcd; the reason is printed then.
pub fn skipped_beside(reason: &str) -> bool {
    skipped_with(&[ROLES_VARIABLE, STORE_VARIABLE], reason)
}

/// The same for a test that needs all roles in one process, on whatever store.
pub fn skipped_apart(reason: &str) -> bool {
    skipped_with(&[ROLES_VARIABLE], reason)
}

fn skipped_with(variables: &[&str], reason: &str) -> bool {
    let told = |variable: &&str| std::env::var_os(variable).is_some();
    let skipped = variables.iter().any(told);
    if skipped {
        eprintln!("--- skipped: {reason}");
    }
    skipped
}

/// Why nothing is signed by controllers that run alone: somebody else has to sign then.
pub const NO_SIGNER: &str = "controllers apart from the API server have no key of its authority";

/// What one instance has beside its daemon; nothing, unless told.
pub struct Beside {
    apart: bool,
    etcd: Option<Etcd>,
    stop: Arc<AtomicBool>,
    keepers: Vec<JoinHandle<()>>,
}

impl Beside {
    #[track_caller]
    pub fn wanted() -> Self {
        let told = |variable: &str, word: &str| match std::env::var(variable) {
            Err(_) => false,
            Ok(value) if value == word => true,
            Ok(value) => panic!("{variable} can be {word:?}, not {value:?}"),
        };
        Self {
            apart: told(ROLES_VARIABLE, "apart"),
            etcd: told(STORE_VARIABLE, "etcd").then(Etcd::start),
            stop: Arc::default(),
            keepers: Vec::new(),
        }
    }

    pub fn nothing() -> Self {
        Self {
            apart: false,
            etcd: None,
            stop: Arc::default(),
            keepers: Vec::new(),
        }
    }

    /// So that every `plimsoll up` of the instance says the same.
    pub fn environment(&self, mut run: Run) -> Run {
        if self.apart {
            run = run.env("PLIMSOLL_WITHOUT", ROLES.join(","));
        }
        if let Some(etcd) = &self.etcd {
            run = run.env("PLIMSOLL_STORE", etcd.url());
        }
        run
    }

    /// Starts the roles; each is started again when it has ended and the daemon runs, as a service manager would.
    #[track_caller]
    pub fn start(&mut self, data_dir: &Path, run_dir: &Path) {
        if !self.apart {
            return;
        }
        for name in ROLES {
            let (data_dir, run_dir) = (data_dir.to_owned(), run_dir.to_owned());
            let stop = self.stop.clone();
            self.keepers.push(thread::spawn(move || {
                keep(name, &data_dir, &run_dir, &stop)
            }));
        }
        let socket = run_dir.join("docker.sock");
        eventually("the node's Docker API", || {
            if socket.exists() {
                Ok(())
            } else {
                Err("not there")
            }
        });
    }

    /// Before `down`, which ends the node.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// After it.
    pub fn wait(&mut self) {
        for keeper in self.keepers.drain(..) {
            let _ = keeper.join();
        }
        self.etcd = None;
    }
}

fn keep(name: &'static str, data_dir: &Path, run_dir: &Path, stop: &AtomicBool) {
    let stopped = || stop.load(Ordering::Acquire);
    while !stopped() {
        if !run_dir.join("daemon.pid").exists() {
            thread::sleep(PERIOD);
            continue;
        }
        let mut process = role(name, data_dir);
        while process.runs() && !stopped() {
            thread::sleep(PERIOD);
        }
        if stopped() {
            process.end();
        }
    }
}
