//! One `plimsoll up` and the clients that talk to it; `down --purge` and a search for traces when it is dropped.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::root::Root;
use super::traces::Traces;
use super::{Beside, Run, eventually, repository};

/// An instance with a data directory of its own.
pub struct Instance {
    pub data_dir: PathBuf,
    /// `plim-XXXXXX`
    pub name: String,
    /// Port of the Kubernetes API.
    pub api_port: u64,
    /// The bridge's own address.
    pub gateway: String,
    beside: Beside,
    purged: bool,
}

impl Instance {
    /// Starts one; there is nothing in it.
    #[track_caller]
    pub fn up() -> Self {
        let data_dir = Root::data_dir();
        let mut beside = Beside::wanted();
        let up = format!("up --data-dir {}", data_dir.display());
        let up = beside.environment(Run::new(Root::plimsoll(), &up)).ran();
        if up.code != 0 {
            let down = Run::new(
                Root::plimsoll(),
                &format!("down --purge --data-dir {}", data_dir.display()),
            )
            .ran();
            panic!("the instance did not start: {up}\nand was removed: {down}");
        }
        let run_dir = Path::new("/run").join(Self::name_of(&data_dir));
        beside.start(&data_dir, &run_dir);
        Self::with(&data_dir, beside)
    }

    /// One that somebody else has started; it ends with what is returned.
    #[track_caller]
    pub fn of(data_dir: &Path) -> Self {
        Self::with(data_dir, Beside::nothing())
    }

    /// The same, with what runs beside it.
    #[track_caller]
    pub fn with(data_dir: &Path, beside: Beside) -> Self {
        let file = std::fs::read_to_string(data_dir.join("instance.json")).expect("instance.json");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        let range = file["pod_cidr"].as_str().expect("pod_cidr");
        let range: ipnet::Ipv4Net = range.parse().expect("a range");
        assert_eq!(file["name"].as_str(), Some(&*Self::name_of(data_dir)));
        Self {
            data_dir: data_dir.to_owned(),
            name: file["name"].as_str().expect("name").to_owned(),
            api_port: file["api_port"].as_u64().expect("api_port"),
            gateway: range.hosts().next().expect("an address").to_string(),
            beside,
            purged: false,
        }
    }

    /// The name of the instance of a directory, whether there is one or not: see `plimsoll::instance`.
    pub fn name_of(data_dir: &Path) -> String {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        format!("plim-{:02x}{:02x}{:02x}", digest[1], digest[2], digest[3])
    }

    /// `plimsoll ...` with this instance in its environment.
    pub fn plimsoll(&self, arguments: &str) -> Run {
        self.by_build(Root::plimsoll(), arguments)
    }

    /// The same by another build of the program.
    pub fn by_build(&self, program: impl AsRef<Path>, arguments: &str) -> Run {
        let run = Run::new(program, arguments).env("PLIMSOLL_DATA_DIR", &self.data_dir);
        self.beside.environment(run)
    }

    /// The real kubectl.
    pub fn kubectl(&self, arguments: &str) -> Run {
        Run::new(repository("target/clients/kubectl"), arguments)
            .env("KUBECONFIG", self.data_dir.join("kubeconfig"))
            .env("KUBECACHEDIR", Root::home().join(&self.name))
            .env("HOME", Root::home())
    }

    /// The real docker command, with its classic builder.
    pub fn docker(&self, arguments: &str) -> Run {
        Run::new("docker", arguments)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.run_dir().join("docker.sock").display()),
            )
            .env("DOCKER_BUILDKIT", "0")
            .env("HOME", Root::home())
    }

    /// The body at a URL, as soon as somebody answers.
    #[track_caller]
    pub fn fetch(&self, url: &str) -> String {
        eventually(&format!("an answer from {url}"), || {
            let ran = Run::new("curl", &format!("-sS -f -m 5 -g {url}")).ran();
            if ran.code == 0 {
                Ok(ran.stdout)
            } else {
                Err(ran)
            }
        })
    }

    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    /// `plimsoll status` as data.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.plimsoll("status -o json").ran().stdout).expect("JSON")
    }

    /// The daemon's process.
    #[track_caller]
    pub fn daemon_pid(&self) -> u32 {
        let pid = self.status()["pid"].as_u64().expect("the daemon runs");
        u32::try_from(pid).expect("a pid")
    }

    /// Kills the daemon, as a crash would.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let pid = i32::try_from(self.daemon_pid()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    }

    /// What there is of this instance on the machine.
    pub fn traces(&self) -> Traces {
        Traces::of(&self.name, &self.data_dir)
    }

    /// Ends it and removes everything, which must leave no trace.
    #[track_caller]
    pub fn purge(mut self) {
        let failure = self.remove();
        assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    }

    fn remove(&mut self) -> Option<String> {
        self.purged = true;
        self.beside.stop();
        let down = self.plimsoll("down --purge").ran();
        self.beside.wait();
        if down.code != 0 {
            return Some(format!("the instance was not removed: {down}"));
        }
        let left = self.traces();
        (!left.is_empty()).then(|| format!("`plimsoll down --purge` left behind:\n{left}"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.purged {
            return;
        }
        let failing = std::thread::panicking();
        if failing && let Ok(log) = std::fs::read_to_string(self.data_dir.join("daemon.log")) {
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- end of the daemon's log\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        if let Some(failure) = self.remove() {
            if failing {
                eprintln!("{failure}");
            } else {
                panic!("{failure}");
            }
        }
    }
}
