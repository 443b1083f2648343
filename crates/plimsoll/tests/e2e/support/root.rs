//! The directory of one run of the tests, and the janitor that removes what an interrupted run leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::repository;

static PATHS: OnceLock<PathBuf> = OnceLock::new();

/// Names another program to test, for example a release build.
const BINARY_VARIABLE: &str = "PLIMSOLL_E2E_BINARY";

const JANITOR: &str = r#"cat >/dev/null
for process in "$1"/processes/*; do
    [ -f "$process" ] && kill -9 "${process##*/}"
done
for instance in "$1"/instance-*; do
    [ -d "$instance" ] && "$1/plimsoll" down --purge --data-dir "$instance"
done
rm -rf "$1""#;

/// Exists as long as the tests run.
pub struct Root {
    directory: TempDir,
    janitor: Child,
}

impl Root {
    /// Checks that everything the tests need is there, and says what to do if not.
    pub fn make() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the end-to-end tests run real containers: run them as root"
        );
        for (program, remedy) in [
            (
                repository("target/clients/kubectl"),
                "run scripts/clients, which fetches it",
            ),
            (
                repository("target/clients/1.33/kubectl"),
                "run scripts/clients, which fetches it",
            ),
            (
                PathBuf::from("/bin/busybox"),
                "run scripts/setup, which installs busybox-static",
            ),
            (
                in_path("docker"),
                "run scripts/clients, which installs docker.io",
            ),
            (in_path("curl"), "run scripts/clients, which installs it"),
            (
                in_path("etcd"),
                "run scripts/clients, which installs etcd-server",
            ),
            (
                repository("target/clients/python/kubernetes/__init__.py"),
                "run scripts/clients, which fetches it",
            ),
            (
                in_path("promtool"),
                "run scripts/clients, which installs prometheus",
            ),
            (
                in_path("victoria-metrics"),
                "run scripts/clients, which installs it",
            ),
            (
                repository("target/clients/prometheus/root.tar"),
                "run scripts/clients, which gathers it",
            ),
            (
                repository("target/clients/postgres/root.tar"),
                "run scripts/clients, which gathers it",
            ),
        ] {
            assert!(
                program.is_file(),
                "{} is missing: {remedy}",
                program.display()
            );
        }
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-e2e-")
            .tempdir()
            .expect("a temporary directory");
        let path = directory.path();
        // a copy, because the tests run it as another user too, who may not look into the build directory
        let binary = std::env::var_os(BINARY_VARIABLE)
            .map_or_else(|| env!("CARGO_BIN_EXE_plimsoll").into(), PathBuf::from);
        fs::copy(&binary, path.join("plimsoll"))
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", binary.display()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::create_dir(path.join("home")).expect("a home directory");
        fs::create_dir(path.join("processes")).expect("a directory");
        PATHS.set(path.to_owned()).expect("one run a process");
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C ends the tests, not the one that cleans up after them
            .process_group(0)
            .spawn()
            .expect("sh");
        Self { directory, janitor }
    }

    /// The program under test.
    pub fn plimsoll() -> PathBuf {
        path().join("plimsoll")
    }

    /// The home directory of the clients.
    pub fn home() -> PathBuf {
        path().join("home")
    }

    /// A directory for one more instance.
    pub fn data_dir() -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        path().join(format!(
            "instance-{:02}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// Notes a process for the janitor, until the file that is returned is removed.
    pub fn note_process(pid: u32) -> PathBuf {
        let note = path().join("processes").join(pid.to_string());
        fs::write(&note, "").expect("written");
        note
    }

    /// An empty directory for anything else.
    pub fn scratch() -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let made = path().join(format!(
            "scratch-{}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&made).expect("a directory");
        made
    }

    /// The janitor removes what is left; returns what that was.
    pub fn clean(mut self) -> Vec<String> {
        let left = fs::read_dir(self.directory.path())
            .into_iter()
            .flatten()
            .flatten();
        let left = left.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left = left.filter(|name| name.starts_with("instance-")).collect();
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
        left
    }
}

fn path() -> &'static Path {
    PATHS.get().expect("main makes it first")
}

fn in_path(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| program.into())
}
