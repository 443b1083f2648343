//! A machine: a disk, an instance on it, the clients, and how it goes down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::disk::Disk;
use super::run::{Ran, command, eventually, run};

pub struct Machine {
    pub disk: Disk,
    pub data_dir: PathBuf,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// With a disk of so many MiB and nothing on it.
    pub fn new(disk_mib: u64) -> Self {
        let disk = Disk::new(disk_mib);
        let data_dir = disk.path().join("data");
        Self {
            disk,
            data_dir,
            environment: Vec::new(),
        }
    }

    /// What `up` and therefore the daemon find in their environment.
    pub fn with_environment(mut self, variables: &[(&str, String)]) -> Self {
        self.environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self
    }

    /// Up, with the image `busybox:static`.
    #[track_caller]
    pub fn started(self) -> Self {
        self.plimsoll("up").ok();
        self.plimsoll("import /bin/busybox busybox:static --busybox")
            .ok();
        self
    }

    #[track_caller]
    pub fn plimsoll(&self, words: &str) -> Ran {
        self.plimsoll_at(&self.data_dir, words)
    }

    #[track_caller]
    pub fn plimsoll_at(&self, data_dir: &Path, words: &str) -> Ran {
        let mut command = self.client(program(), words);
        command.env("PLIMSOLL_DATA_DIR", data_dir);
        if words.starts_with("up") {
            command.envs(self.environment.iter().cloned());
        }
        run(command)
    }

    #[track_caller]
    pub fn kubectl(&self, words: &str) -> Ran {
        self.kubectl_at(&self.data_dir, words)
    }

    #[track_caller]
    pub fn kubectl_at(&self, data_dir: &Path, words: &str) -> Ran {
        let mut command = self.client(kubectl(), words);
        command.env("KUBECONFIG", data_dir.join("kubeconfig"));
        run(command)
    }

    /// `kubectl apply` of this text.
    #[track_caller]
    pub fn apply(&self, text: &str) -> Ran {
        let file = self.disk.outside().join("manifest.yaml");
        fs::write(&file, text).expect("written");
        self.kubectl(&format!("apply -f {}", file.display()))
    }

    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get -o json {what}")).ok()).expect("JSON")
    }

    #[track_caller]
    pub fn docker(&self, words: &str) -> Ran {
        self.docker_with(words, &[])
    }

    /// With more words, which may hold blanks.
    #[track_caller]
    pub fn docker_with(&self, words: &str, more: &[&str]) -> Ran {
        let mut command = self.client("docker", words);
        let socket = self.run_dir().join("docker.sock");
        command.args(more).env("DOCKER_BUILDKIT", "0");
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        run(command)
    }

    /// `State.Status/State.ExitCode` of a container.
    #[track_caller]
    pub fn container(&self, name: &str) -> String {
        let format = "{{.State.Status}}/{{.State.ExitCode}}";
        self.docker(&format!("inspect -f {format} {name}"))
            .ok()
            .trim()
            .to_owned()
    }

    pub fn name(&self) -> String {
        let text = fs::read(self.data_dir.join("instance.json")).expect("instance.json");
        let instance: Value = serde_json::from_slice(&text).expect("JSON");
        instance["name"].as_str().expect("a name").to_owned()
    }

    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(self.name())
    }

    #[track_caller]
    pub fn daemon_pid(&self) -> u64 {
        let status: Value =
            serde_json::from_str(&self.plimsoll("status -o json").out).expect("JSON");
        status["pid"].as_u64().expect("the daemon runs")
    }

    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.data_dir.join("daemon.log")).unwrap_or_default()
    }

    /// The power goes and comes back: what was not synced is lost, and everything that the kernel knew.
    pub fn lose_power(&self) {
        let name = self.name();
        self.disk.cut_power();
        self.vanish(&name);
        self.disk.unmount();
        self.disk.mount();
    }

    /// Ends every process of the instance and removes whatever of it the kernel has: mounts, links, rules, cgroups, and
    /// the directory beneath `/run`.
    fn vanish(&self, name: &str) {
        eventually("no process is left", || {
            let left = self.processes(name);
            thaw(Path::new("/sys/fs/cgroup"), name);
            for pid in &left {
                if let Some(pid) = Pid::from_raw(*pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        let disk = format!("{}/", self.disk.path().display());
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mut points: Vec<&str> = points
            .filter(|point| point.starts_with(&disk) || point.contains(name))
            .collect();
        points.reverse();
        for point in points {
            run(command("umount", &format!("-l {point}"))).ok();
        }
        let ports = run(command("ip", &format!("-o link show master {name}"))).out;
        let ports = ports
            .lines()
            .filter_map(|line| line.split([':', '@']).nth(1));
        for link in ports.chain([name]) {
            run(command("ip", &format!("link del {}", link.trim())));
        }
        let tables = run(command("/usr/sbin/nft", "list tables")).ok();
        for table in tables
            .lines()
            .filter(|line| line.contains(&name.replace('-', "_")))
        {
            run(command("/usr/sbin/nft", &format!("delete {table}"))).ok();
        }
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root)
            .expect("cgroups")
            .flatten()
            .map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_owned()]) {
            remove_cgroup(&hierarchy.join(name));
        }
        let _ = fs::remove_dir_all(Path::new("/run").join(name));
    }

    /// Processes in cgroups of the instance, or with its directory in their command line.
    fn processes(&self, name: &str) -> Vec<i32> {
        let directory = self.data_dir.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let ours = String::from_utf8_lossy(&read("cgroup")).contains(name)
                || command.contains(&directory);
            // the dead have no command line, and nobody of theirs may have waited for them yet
            if ours && !command.is_empty() {
                found.push(pid);
            }
        }
        found
    }

    fn client(&self, program: impl AsRef<Path>, words: &str) -> Command {
        let mut command = command(program, words);
        command
            .env("HOME", self.disk.outside())
            .env("KUBECACHEDIR", self.disk.outside().join("cache"));
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.daemon_log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- end of the daemon's log\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        if !self.data_dir.exists() {
            return;
        }
        let ran = self.plimsoll("down --purge");
        if ran.code != 0 {
            eprintln!("the instance was not removed: {ran}");
        }
        assert!(ran.code == 0 || std::thread::panicking());
    }
}

/// The program under test; `PLIMSOLL_E2E_BINARY` names another one, for example a release build.
pub fn program() -> PathBuf {
    std::env::var_os("PLIMSOLL_E2E_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_plimsoll").into(), PathBuf::from)
}

fn kubectl() -> PathBuf {
    let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/kubectl");
    assert!(
        kubectl.is_file(),
        "{} is missing: run scripts/clients, which fetches it",
        kubectl.display()
    );
    kubectl
}

/// Lets go on what a supervising process had frozen when it was killed: frozen processes do not die.
fn thaw(root: &Path, name: &str) {
    let mut left = vec![root.join("freezer").join(name), root.join(name)];
    while let Some(group) = left.pop() {
        // each kernel has one of them
        let _ = fs::write(group.join("freezer.state"), "THAWED");
        let _ = fs::write(group.join("cgroup.freeze"), "0");
        let inner = fs::read_dir(&group).into_iter().flatten().flatten();
        left.extend(inner.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
