//! What can be seen of this machine. Nothing here changes anything, and nothing here judges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::instance::{DEFAULT_DATA_DIR, Instance};
use crate::ports::{self, Holder};
use crate::settings::Settings;

/// Kernel settings that matter, by their path beneath /proc/sys.
pub const SYSCTLS: [&str; 6] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/disable_ipv6",
    "net/bridge/bridge-nf-call-iptables",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "kernel/pid_max",
];

/// Programs that do some of what plimsoll does, by their process's name.
const OTHERS: [&str; 9] = [
    "dockerd",
    "containerd",
    "k3s-server",
    "k3s",
    "kubelet",
    "kube-apiserver",
    "k0s",
    "crio",
    "firewalld",
];

/// The machine as it was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub root: bool,
    /// `uname -r`
    pub kernel: String,
    /// What the engine's own check says; `Err` with its words.
    pub engine: Option<Result<(), String>>,
    /// Lines of /proc/self/mountinfo.
    pub mounts: String,
    /// Version of nft, or why it does not work.
    pub nft: Option<Result<String, String>>,
    pub sysctls: BTreeMap<&'static str, String>,
    /// Hard limit of open files.
    pub descriptors_max: u64,
    pub memory_total_mib: u64,
    pub memory_available_mib: u64,
    pub disk: Option<Disk>,
    /// (what for, port, who has it)
    pub ports: Vec<(&'static str, u16, Option<Holder>)>,
    /// Other programs of this trade that run.
    pub others: Vec<Holder>,
    /// Whether ufw is switched on.
    pub ufw: bool,
    pub resolvers: Vec<String>,
    /// The enabled security module, if any: `apparmor`, `selinux`.
    pub security_modules: String,
    /// What the engine makes of AppArmor.
    pub app_armor: Option<engine::AppArmor>,
    /// The instance of the data directory.
    pub instance: Option<Result<Known, String>>,
}

/// The file system under the data directory.
#[derive(Clone, Debug)]
pub struct Disk {
    pub path: PathBuf,
    /// `ext4`, `xfs`, ...
    pub kind: String,
    pub free_bytes: u64,
    pub size_bytes: u64,
    /// With less than this free pods are evicted.
    pub enough_bytes: u64,
    pub free_inodes: u64,
}

/// What `instance.json` says, and whether the daemon runs.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: String,
    pub log: PathBuf,
    pub daemon: Option<u32>,
}

/// Looks at everything. What cannot be seen is left out.
pub fn gather(data_dir: &Path, settings: &Settings) -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let instance = Instance::find(data_dir);
    let own = instance.as_ref().ok().and_then(Option::as_ref);
    let daemon = own.and_then(Instance::daemon_pid);
    let (api, kubelet) = match own {
        Some(instance) => (instance.api_port, instance.kubelet_port),
        None if data_dir == Path::new(DEFAULT_DATA_DIR) => (6443, 10250),
        None => (0, 0),
    };
    let wanted = [
        ("the Kubernetes API", settings.api_port.unwrap_or(api)),
        ("the node's API", settings.kubelet_port.unwrap_or(kubelet)),
    ];
    let known = instance
        .as_ref()
        .map_err(|error| format!("{error:#}"))
        .map(|instance| {
            instance.as_ref().map(|instance| Known {
                name: instance.name.clone(),
                log: instance.log(),
                daemon,
            })
        });
    let meminfo = read("/proc/meminfo");
    Facts {
        root: rustix::process::geteuid().is_root(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        engine: Some(engine::check_kernel().map_err(|error| error.to_string())),
        mounts: read("/proc/self/mountinfo"),
        nft: Some(nft()),
        sysctls: SYSCTLS
            .into_iter()
            .filter_map(|name| {
                let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
                Some((name, value.trim().to_owned()))
            })
            .collect(),
        descriptors_max: rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .maximum
            .unwrap_or(u64::MAX),
        memory_total_mib: mib(&meminfo, "MemTotal:"),
        memory_available_mib: mib(&meminfo, "MemAvailable:"),
        disk: disk(data_dir, settings),
        ports: wanted
            .into_iter()
            .filter(|(_, port)| *port != 0)
            .map(|(what, port)| {
                (
                    what,
                    port,
                    ports::holder(port).filter(|h| Some(h.pid) != daemon),
                )
            })
            .collect(),
        others: others(),
        ufw: read("/etc/ufw/ufw.conf")
            .lines()
            .any(|line| line.trim() == "ENABLED=yes"),
        resolvers: read("/etc/resolv.conf")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver"))
            .map(|address| address.trim().to_owned())
            .collect(),
        security_modules: read("/sys/kernel/security/lsm"),
        app_armor: Some(engine::app_armor()),
        instance: known.transpose(),
    }
}

fn nft() -> Result<String, String> {
    let run = |argument: &[&str]| {
        let paths = format!(
            "{}:/usr/sbin:/sbin",
            std::env::var("PATH").unwrap_or_default()
        );
        Command::new("nft")
            .args(argument)
            .env("PATH", paths)
            .output()
    };
    let version = run(&["--version"]).map_err(|error| format!("it cannot be run: {error}"))?;
    let listed = run(&["list", "tables"]).map_err(|error| format!("it cannot be run: {error}"))?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&version.stdout).trim().to_owned())
}

fn mib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn disk(data_dir: &Path, settings: &Settings) -> Option<Disk> {
    // the directory may not be there yet: its nearest parent decides
    let path = data_dir.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(path).ok()?;
    let full = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mount = PathBuf::from(left.split(' ').nth(4)?);
            full.starts_with(&mount)
                .then(|| (mount.components().count(), right.split(' ').next()))
        })
        // of two mounts on one place the later is seen
        .max_by_key(|(depth, _)| *depth)
        .and_then(|(_, kind)| kind.map(str::to_owned))?;
    let size_bytes = stat.f_blocks * stat.f_frsize;
    let thresholds = settings.pressure.eviction_hard.clone().unwrap_or_default();
    Some(Disk {
        path: path.to_owned(),
        kind,
        free_bytes: stat.f_bavail * stat.f_frsize,
        size_bytes,
        enough_bytes: thresholds.disk_bytes(size_bytes),
        free_inodes: stat.f_favail,
    })
}

fn others() -> Vec<Holder> {
    let mut found: Vec<Holder> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let program = fs::read_to_string(process.path().join("comm"))
                .ok()?
                .trim()
                .to_owned();
            OTHERS
                .contains(&program.as_str())
                .then_some(Holder { pid, program })
        })
        .collect();
    found.sort_by_key(|holder| holder.pid);
    found
}
