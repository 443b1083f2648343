//! One `plimsoll up`: its name, ports and address ranges, derived from the data directory and written down in it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::backup::UNFINISHED;
use crate::ports;
use crate::settings::{Role, Settings};

mod ipv6;

/// Used when neither flag nor environment names a directory.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/plimsoll";
/// Names the data directory in the environment.
pub const DATA_DIR_VARIABLE: &str = "PLIMSOLL_DATA_DIR";

/// Says what a data directory is the data directory of.
pub const FILE: &str = "instance.json";
const FORMAT: u32 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const API_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;
/// Ports of instances whose usual ones are taken, two each.
const OTHER_PORTS: std::ops::Range<u16> = 16000..26000;

/// What `instance.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Version of this file's layout.
    pub format: u32,
    /// The program's version that last started here: the one to go back to when this one is refused.
    #[serde(default)]
    pub version: String,
    /// `plim-` and six hexadecimal digits.
    pub name: String,
    pub api_port: u16,
    pub kubelet_port: u16,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    /// The same for IPv6; none while the machine had no IPv6 or it was turned off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_cidr6: Option<Ipv6Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_cidr6: Option<Ipv6Net>,
    /// The settings say that there shall be no IPv6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6_off: bool,
    #[serde(skip)]
    pub data_dir: PathBuf,
}

/// What every layout of `instance.json` has.
#[derive(Deserialize)]
struct Stamp {
    format: u32,
    #[serde(default)]
    version: String,
}

impl Stamp {
    fn writer(&self) -> String {
        if self.version.is_empty() {
            "that version".into()
        } else {
            format!("plimsoll {} or newer", self.version)
        }
    }
}

impl Instance {
    /// The instance of a directory, if one was ever made there.
    pub fn find(data_dir: &Path) -> Result<Option<Self>> {
        let file = data_dir.join(FILE);
        if data_dir.join(UNFINISHED).exists() {
            bail!(
                "a restore into {0} was cut off; remove what is in {0} and restore again",
                data_dir.display()
            );
        }
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let sudo = match error.kind() {
                    io::ErrorKind::PermissionDenied => " (run it with sudo)",
                    _ => "",
                };
                return Err(error).with_context(|| format!("cannot read {}{sudo}", file.display()));
            }
        };
        let damaged = || {
            format!(
                "{} is damaged: put it back from a backup. To begin anew, restart the machine before you remove {}, because what is mounted in there may be volumes of the machine",
                file.display(),
                data_dir.display()
            )
        };
        // The stamp first: of a newer layout nothing else may be understood.
        let stamp: Stamp = serde_json::from_slice(&text).with_context(damaged)?;
        if stamp.format > FORMAT {
            bail!(
                "{} was written by a newer plimsoll (format {}, this one knows {FORMAT}); use {}",
                file.display(),
                stamp.format,
                stamp.writer()
            );
        }
        let mut instance: Self = serde_json::from_slice(&text).with_context(damaged)?;
        instance.data_dir = fs::canonicalize(data_dir)?;
        Ok(Some(instance))
    }

    /// The instance of a directory, or a clear word that there is none.
    pub fn existing(data_dir: &Path) -> Result<Self> {
        Self::find(data_dir)?.with_context(|| {
            format!(
                "there is no instance in {}; start one with `plimsoll up --data-dir {}`, or name another with --data-dir or {DATA_DIR_VARIABLE}",
                data_dir.display(),
                data_dir.display()
            )
        })
    }

    /// The instance of a directory, as `settings` want it. A new one takes ports and ranges that nobody on this machine uses,
    /// where the settings leave them open; of one that is there the ports may change, the ranges may not.
    pub fn find_or_make(data_dir: &Path, settings: &Settings) -> Result<Self> {
        if let Some(instance) = Self::find(data_dir)? {
            return instance.changed(settings);
        }
        fs::create_dir_all(data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        let data_dir = fs::canonicalize(data_dir)?;
        check_empty(&data_dir)?;
        let seed = seed(&data_dir);
        let name = Self::name_of(&data_dir);
        let mut taken = taken_ranges()?;
        for (flag, wanted) in [
            ("--pod-cidr", settings.pod_cidr),
            ("--service-cidr", settings.service_cidr),
        ] {
            let Some(wanted) = wanted.map(IpNet::V4) else {
                continue;
            };
            if let Some(other) = taken.iter().find(|range| overlap(range, &wanted)) {
                bail!(
                    "{flag} {wanted} overlaps {other}, which this machine uses already (see `ip route`): choose another range, or none to have one chosen"
                );
            }
            // so that the one that is chosen stays clear of the one that is given
            taken.push(wanted);
        }
        let (pod_cidr, service_cidr) = network::choose_ranges(seed, &taken)?;
        let (api_port, kubelet_port) = choose_ports(seed, data_dir == Path::new(DEFAULT_DATA_DIR))?;
        let mut instance = Self {
            format: FORMAT,
            version: VERSION.into(),
            name,
            api_port: settings.api_port.unwrap_or(api_port),
            kubelet_port: settings.kubelet_port.unwrap_or(kubelet_port),
            pod_cidr: settings.pod_cidr.unwrap_or(pod_cidr).trunc(),
            service_cidr: settings.service_cidr.unwrap_or(service_cidr).trunc(),
            pod_cidr6: None,
            service_cidr6: None,
            ipv6_off: false,
            data_dir,
        };
        instance.settle_ipv6(settings)?;
        // Before anything is written down that could never start.
        instance.network().check()?;
        if instance.api_port == instance.kubelet_port {
            bail!(
                "apiPort and kubeletPort are both {}; they are two",
                instance.api_port
            );
        }
        instance.write()?;
        Ok(instance)
    }

    /// This instance with other ports, written down if they differ.
    fn changed(mut self, settings: &Settings) -> Result<Self> {
        for (what, flag, fixed, wanted) in [
            ("pods", "podCidr", self.pod_cidr, settings.pod_cidr),
            (
                "services",
                "serviceCidr",
                self.service_cidr,
                settings.service_cidr,
            ),
        ] {
            if let Some(wanted) = wanted.filter(|wanted| wanted.trunc() != fixed) {
                bail!(
                    "the instance in {} was made with {fixed} for {what}, and running pods have addresses of it; {flag} cannot become {wanted}. Leave it away, or begin anew with `plimsoll down --purge`",
                    self.data_dir.display()
                );
            }
        }
        let ipv6_before = (self.pod_cidr6, self.ipv6_off);
        // What runs has been started with what there was.
        if self.daemon_pid().is_none() {
            self.settle_ipv6(settings)?;
        }
        let before = (self.api_port, self.kubelet_port);
        self.api_port = settings.api_port.unwrap_or(self.api_port);
        self.kubelet_port = settings.kubelet_port.unwrap_or(self.kubelet_port);
        if before != (self.api_port, self.kubelet_port) {
            if let Some(pid) = self.daemon_pid() {
                bail!(
                    "the daemon (pid {pid}) runs with the ports {} and {}; end it with `plimsoll down`, then start it with the new ones",
                    before.0,
                    before.1
                );
            }
            self.write()?;
        } else if ipv6_before != (self.pod_cidr6, self.ipv6_off) {
            self.write()?;
        }
        Ok(self)
    }

    /// Whether another version, as far as is known, was the last to start here.
    pub fn is_of_another_version(&self) -> bool {
        !self.version.is_empty() && self.version != VERSION
    }

    /// Notes that this version starts here, and returns which one did before, if it was another.
    pub fn note_version(&mut self) -> Result<Option<String>> {
        if self.version == VERSION {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.version, VERSION.into());
        self.write()?;
        Ok(Some(before))
    }

    /// What the instance of a directory is called.
    pub fn name_of(data_dir: &Path) -> String {
        format!("plim-{:06x}", seed(data_dir) & 0x00ff_ffff)
    }

    /// Writes `instance.json`, durably.
    pub fn write(&self) -> Result<()> {
        let file = self.data_dir.join(FILE);
        let mut temporary = tempfile::NamedTempFile::new_in(&self.data_dir)?;
        serde_json::to_writer_pretty(&mut temporary, self)?;
        temporary.as_file().sync_all()?;
        temporary
            .persist(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        fs::File::open(&self.data_dir)?.sync_all()?;
        Ok(())
    }

    /// Sockets and namespaces: gone after a reboot, as it should be.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    pub fn docker_socket(&self) -> PathBuf {
        self.run_dir().join("docker.sock")
    }

    /// Where the daemon gives out what a backup needs.
    pub fn backup_socket(&self) -> PathBuf {
        self.run_dir().join("backup.sock")
    }

    pub fn store_file(&self) -> PathBuf {
        self.data_dir.join("store").join("state.redb")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    /// What a role of its own process is to the API; written when the daemon starts without that role.
    pub fn role_kubeconfig(&self, role: Role) -> PathBuf {
        self.data_dir.join(format!("{}.kubeconfig", role.name()))
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir.join("daemon.log")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run_dir().join("daemon.pid")
    }

    /// Of a node in a process of its own.
    pub fn node_pid_file(&self) -> PathBuf {
        self.run_dir().join("node.pid")
    }

    /// The bridge's own address: pods' gateway, and the node's InternalIP.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr
            .hosts()
            .next()
            .unwrap_or(self.pod_cidr.network())
    }

    /// Service address of the cluster's DNS: the tenth of the range.
    pub fn dns_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 10)
    }

    pub fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    pub fn network(&self) -> network::Config {
        network::Config {
            instance: self.name.clone(),
            bridge: self.name.clone(),
            pod_cidr: self.pod_cidr,
            service_cidr: self.service_cidr,
            ipv6: self.ipv6_ranges(),
            cluster_domain: "cluster.local".into(),
            dns_ip: self.dns_ip(),
            state_dir: self.data_dir.join("network"),
        }
    }

    pub fn engine(&self) -> engine::Config {
        engine::Config {
            root: self.data_dir.join("engine"),
            run: self.run_dir().join("engine"),
            instance: self.name.clone(),
            cgroup_parent: format!("/{}", self.name),
            supervisor: vec!["/proc/self/exe".into(), "supervise".into()],
        }
    }

    /// Locked by the daemon, with its process in it.
    pub fn lock_file(&self) -> PathBuf {
        self.data_dir.join("daemon.lock")
    }

    /// Locked by whatever process has the node.
    pub fn node_lock_file(&self) -> PathBuf {
        self.data_dir.join("node.lock")
    }

    /// An error when the instance has been removed meanwhile.
    pub fn still_there(&self) -> Result<()> {
        match Self::find(&self.data_dir)? {
            Some(_) => Ok(()),
            None => bail!(
                "the instance in {} has been removed",
                self.data_dir.display()
            ),
        }
    }

    /// The daemon's process, if it runs, and is not just being killed.
    pub fn daemon_pid(&self) -> Option<u32> {
        running(&self.pid_file())
    }

    /// The node's process of its own from its first moment on.
    pub fn starting_node_pid(&self) -> Option<u32> {
        self.node_pid().or_else(|| running(&self.node_lock_file()))
    }

    /// The daemon's process from its first moment on, before it is ready.
    pub fn starting_pid(&self) -> Option<u32> {
        self.daemon_pid().or_else(|| running(&self.lock_file()))
    }

    /// The same of a node that has a process of its own.
    pub fn node_pid(&self) -> Option<u32> {
        running(&self.node_pid_file())
    }
}

/// A directory becomes a data directory when there is nothing in it that is somebody else's: `down --purge` removes it whole.
fn check_empty(data_dir: &Path) -> Result<()> {
    let entries =
        fs::read_dir(data_dir).with_context(|| format!("cannot read {}", data_dir.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        // a file system's own, an authority and profiles that may be there first, what a start left that was cut off
        let may_be = |name: &str| {
            matches!(name, "lost+found" | "pki" | "seccomp") || name.starts_with(".tmp")
        };
        if !name.to_str().is_some_and(may_be) {
            bail!(
                "{} is not empty (it holds {name:?}) and has no instance in it: name an empty or a new directory with --data-dir, because `plimsoll down --purge` removes all that is in it",
                data_dir.display()
            );
        }
    }
    Ok(())
}

fn running(pid_file: &Path) -> Option<u32> {
    let text = fs::read_to_string(pid_file).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == start && !is_dying(pid)).then_some(pid)
}

/// Whether a process has been killed, or has begun to exit, and only does not know it yet on every processor.
fn is_dying(pid: u32) -> bool {
    const PF_EXITING: u32 = 4;
    const SIGKILL_MASK: u64 = 1 << 8;
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6);
    let exits = flags
        .and_then(|flags| flags.parse::<u32>().ok())
        .is_none_or(|flags| flags & PF_EXITING != 0);
    let status = read("status");
    let pending = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    exits || pending.fold(0, |all, mask| all | mask) & SIGKILL_MASK != 0
}

/// When a process started, in the kernel's clock ticks: with the PID it names one process for ever.
pub fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the command's name may hold spaces and parentheses
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // a dead process that nobody has waited for runs no more, and may stay so for ever
    if fields
        .next()
        .is_none_or(|state| state == "Z" || state == "X")
    {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

fn seed(data_dir: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    let hash = Sha256::digest(data_dir.as_os_str().as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn choose_ports(seed: u32, usual: bool) -> Result<(u16, u16)> {
    let free = |port: u16| ports::is_free(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    if usual && free(API_PORT) && free(KUBELET_PORT) {
        return Ok((API_PORT, KUBELET_PORT));
    }
    let slots = u32::from(OTHER_PORTS.end - OTHER_PORTS.start) / 2;
    for offset in 0..slots {
        let slot = (seed.wrapping_add(offset)) % slots;
        let port = OTHER_PORTS.start + u16::try_from(slot * 2)?;
        if free(port) && free(port + 1) {
            return Ok((port, port + 1));
        }
    }
    bail!(
        "no two free ports between {} and {} on this machine",
        OTHER_PORTS.start,
        OTHER_PORTS.end
    )
}

/// The data directory: flag or environment (clap reads both), else the file's, else the default.
pub fn data_dir(given: Option<PathBuf>, settings: &Settings) -> PathBuf {
    given
        .or_else(|| settings.data_dir.clone())
        .unwrap_or_else(|| DEFAULT_DATA_DIR.into())
}

fn taken_ranges() -> Result<Vec<IpNet>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(network::taken_ranges())
        .context("cannot read this machine's routes and addresses")
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_derive_from_the_directory() {
        let instance = Instance {
            format: FORMAT,
            version: String::new(),
            name: format!("plim-{:06x}", seed(Path::new("/a")) & 0x00ff_ffff),
            api_port: 1,
            kubelet_port: 2,
            pod_cidr: "10.80.2.0/23".parse().expect("range"),
            service_cidr: "10.112.16.0/20".parse().expect("range"),
            pod_cidr6: None,
            service_cidr6: None,
            ipv6_off: false,
            data_dir: "/a".into(),
        };
        assert!(instance.name.len() <= 15, "a bridge's name");
        assert_eq!(instance.gateway(), Ipv4Addr::new(10, 80, 2, 1));
        assert_eq!(instance.dns_ip(), Ipv4Addr::new(10, 112, 16, 10));
        assert_ne!(seed(Path::new("/a")), seed(Path::new("/b")));
    }

    #[test]
    fn who_was_killed_counts_as_gone_before_anybody_waits_for_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("a process");
        assert!(!is_dying(child.id()) && !is_dying(std::process::id()));
        child.kill().expect("killed");
        // at once, whether the signal is pending, the process exits, or has
        assert!(is_dying(child.id()));
        child.wait().expect("its end");
        assert!(is_dying(child.id()), "nobody");
    }

    #[test]
    fn what_is_somebody_elses_becomes_no_data_directory() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-instance-")
            .tempdir()
            .expect("directory");
        let path = directory.path();
        for name in ["lost+found", "pki", "seccomp"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        let range = |text: &str| Some(text.parse().expect("a range"));
        let small = Settings {
            pod_cidr: range("198.18.0.0/30"),
            ..Settings::default()
        };
        // nothing is written down that could never start
        let error = Instance::find_or_make(path, &small).expect_err("too small");
        assert!(error.to_string().contains("too small"), "{error}");
        assert!(Instance::find(path).expect("readable").is_none());
        fs::write(path.join("main.rs"), "").expect("written");
        let error = Instance::find_or_make(path, &Settings::default()).expect_err("not empty");
        assert!(error.to_string().contains("is not empty"), "{error}");
        fs::remove_file(path.join("main.rs")).expect("removed");
        Instance::find_or_make(path, &Settings::default()).expect("an instance");
    }

    #[test]
    fn ports_may_change_and_ranges_may_not() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-instance-")
            .tempdir()
            .expect("directory");
        let made = Settings {
            api_port: Some(20001),
            kubelet_port: Some(20002),
            pod_cidr: Some("198.18.0.7/23".parse().expect("range")),
            ..Settings::default()
        };
        let instance = Instance::find_or_make(directory.path(), &made).expect("made");
        assert_eq!(instance.pod_cidr.to_string(), "198.18.0.0/23");
        let again = Instance::find_or_make(
            directory.path(),
            &Settings {
                api_port: Some(20003),
                ..made.clone()
            },
        );
        assert_eq!(again.expect("changed").api_port, 20003);
        let kept = Instance::find_or_make(directory.path(), &Settings::default()).expect("kept");
        assert_eq!((kept.api_port, kept.kubelet_port), (20003, 20002));
        let refused = Instance::find_or_make(
            directory.path(),
            &Settings {
                pod_cidr: Some("198.19.0.0/23".parse().expect("range")),
                ..made
            },
        );
        let said = refused.expect_err("refused").to_string();
        assert!(
            said.contains("podCidr cannot become 198.19.0.0/23"),
            "{said}"
        );
    }

    #[test]
    fn a_range_that_the_machine_uses_is_refused() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-instance-")
            .tempdir()
            .expect("directory");
        let settings = Settings {
            service_cidr: Some("127.0.0.0/16".parse().expect("range")),
            ..Settings::default()
        };
        let said = Instance::find_or_make(directory.path(), &settings)
            .expect_err("loopback is in use")
            .to_string();
        assert!(
            said.contains("--service-cidr 127.0.0.0/16 overlaps"),
            "{said}"
        );
        assert!(!directory.path().join(FILE).exists());
    }

    #[test]
    fn a_newer_file_and_a_damaged_one_are_refused() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-instance-")
            .tempdir()
            .expect("directory");
        let file = directory.path().join(FILE);
        fs::write(&file, r#"{"format":99,"name":"plim-000000","api_port":1,"kubelet_port":2,"pod_cidr":"10.0.0.0/24","service_cidr":"10.1.0.0/24"}"#).expect("written");
        assert!(
            Instance::find(directory.path())
                .expect_err("newer")
                .to_string()
                .contains("newer plimsoll")
        );
        fs::write(&file, r#"{"format":2,"version":"7.8.9"}"#).expect("written");
        let error = Instance::find(directory.path()).expect_err("newer");
        assert!(
            error.to_string().ends_with("use plimsoll 7.8.9 or newer"),
            "{error}"
        );
        fs::write(&file, "{").expect("written");
        assert!(
            Instance::find(directory.path())
                .expect_err("damaged")
                .to_string()
                .contains("damaged")
        );
    }

    #[test]
    fn processes_are_named_by_pid_and_start() {
        let own = start_time(std::process::id()).expect("it runs");
        assert!(own.parse::<u64>().is_ok_and(|ticks| ticks > 0), "{own}");
        assert_eq!(start_time(u32::MAX), None);
        let mut ended = std::process::Command::new("true").spawn().expect("spawned");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while start_time(ended.id()).is_some() {
            assert!(
                std::time::Instant::now() < deadline,
                "a process that has ended still counts"
            );
            std::thread::yield_now();
        }
        ended.wait().expect("waited for");
    }
}
