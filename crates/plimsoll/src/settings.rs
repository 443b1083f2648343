//! Settings of an instance: flags over environment over file over what the instance was made with.

mod pressure;
mod registries;
mod role;
mod store;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use jiff::SignedDuration;
use serde::Deserialize;

pub use pressure::Pressure;
pub use registries::Registries;
pub use role::Role;
pub use store::Etcd;

/// Read when it is there and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/plimsoll/config.yaml";
/// Names another file.
pub const FILE_VARIABLE: &str = "PLIMSOLL_CONFIG";

const FILE_BYTES_MAX: u64 = 1 << 20;

/// What may be set; nothing needs to be. The field's comment is its help text, and its comment in the template.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    // for the file only: as a flag it belongs to every verb
    #[arg(skip)]
    pub data_dir: Option<PathBuf>,
    /// Port of the Kubernetes API (default: 6443 if it is free, else one that derives from the data directory)
    #[arg(long, env = "PLIMSOLL_API_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// Port of the node's own API, on the pod bridge (default: 10250 if it is free)
    #[arg(long, env = "PLIMSOLL_KUBELET_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub kubelet_port: Option<u16>,
    /// Further addresses of this machine on which the Kubernetes API listens, beside 127.0.0.1 and the pod bridge
    #[arg(
        long = "api-address",
        env = "PLIMSOLL_API_ADDRESSES",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub api_addresses: Vec<IpAddr>,
    /// Addresses of pods and containers (default: a free /23); fixed once the instance is made
    #[arg(long, env = "PLIMSOLL_POD_CIDR", value_name = "RANGE")]
    pub pod_cidr: Option<Ipv4Net>,
    /// Addresses of services (default: a free /20); fixed once the instance is made
    #[arg(long, env = "PLIMSOLL_SERVICE_CIDR", value_name = "RANGE")]
    pub service_cidr: Option<Ipv4Net>,
    /// Whether pods and services have IPv6 addresses too, where this machine's kernel has IPv6 (default: true)
    #[arg(long, env = "PLIMSOLL_IPV6", value_name = "BOOL")]
    pub ipv6: Option<bool>,
    /// IPv6 addresses of pods and containers (default: a /64 of unique local addresses); fixed once the instance is made
    #[arg(long, env = "PLIMSOLL_POD_CIDR6", value_name = "RANGE")]
    pub pod_cidr6: Option<Ipv6Net>,
    /// IPv6 addresses of services, a /104 to /124 (default: a /112 of unique local addresses); fixed once the instance is made
    #[arg(long, env = "PLIMSOLL_SERVICE_CIDR6", value_name = "RANGE")]
    pub service_cidr6: Option<Ipv6Net>,
    /// Pods that this node takes at most (default 110)
    #[arg(long, env = "PLIMSOLL_MAX_PODS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_pods: Option<u32>,
    /// How often each autoscaler is looked at: 100ms to 5m (default 1s)
    #[arg(long, env = "PLIMSOLL_AUTOSCALER_PERIOD", value_name = "TIME", value_parser = autoscaler_period)]
    pub autoscaler_period: Option<SignedDuration>,
    /// Whether an autoscaler is also looked at at once when its specification changes (default: true)
    #[arg(long, env = "PLIMSOLL_AUTOSCALER_ON_CHANGE", value_name = "BOOL")]
    pub autoscaler_on_change: Option<bool>,
    /// Where objects are kept, etcd://HOST:PORT[,HOST:PORT]... or etcds:// (default: in a file of the data directory)
    #[arg(long, env = "PLIMSOLL_STORE", value_name = "URL", value_parser = store_url)]
    pub store: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    pub etcd: Etcd,
    /// Roles that this process leaves to others: controllers, scheduler, node; see `plimsoll controllers --help`
    #[arg(
        long,
        env = "PLIMSOLL_WITHOUT",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub without: Vec<Role>,
    #[command(flatten)]
    #[serde(default)]
    pub pressure: Pressure,
    #[command(flatten)]
    #[serde(default)]
    pub registries: Registries,
    /// What is logged, for example `info` or `debug,hyper=warn` (default: info, less from libraries)
    #[arg(long, env = "PLIMSOLL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Settings {
    /// Reads a file: the named one, which must be there, or the default one if it is.
    pub fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                bail!(
                    "{} is larger than 1 MiB: is it the right file?",
                    path.display()
                )
            }
            Ok(_) => fs::read_to_string(path),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => Self::parse(&text).with_context(|| format!("in {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                Ok(Self::default())
            }
            Err(error) => {
                let sudo = match error.kind() {
                    io::ErrorKind::PermissionDenied => " (run it with sudo)",
                    _ => "",
                };
                Err(error).with_context(|| format!("cannot read {}{sudo}", path.display()))
            }
        }
    }

    /// Reads the text of a file; an unknown key is an error that says where it is.
    pub fn parse(text: &str) -> Result<Self> {
        // a file of comments is an empty one
        let only_comments = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if text.lines().all(only_comments) {
            return Ok(Self::default());
        }
        let settings: Self = serde_saphyr::from_str(text)?;
        let positive = |name: &str, value: Option<u32>, max: u32| match value {
            Some(value) if value == 0 || value > max => {
                bail!("{name}: {value} is not between 1 and {max}")
            }
            _ => Ok(()),
        };
        positive("apiPort", settings.api_port.map(u32::from), 65535)?;
        positive("kubeletPort", settings.kubelet_port.map(u32::from), 65535)?;
        positive("maxPods", settings.max_pods, 1000)?;
        if let Some(period) = settings.autoscaler_period {
            check_period(period).context("autoscalerPeriod")?;
        }
        settings.pressure.resolve()?;
        if let Some(url) = &settings.store {
            store_url(url)
                .map_err(anyhow::Error::msg)
                .context("store")?;
        }
        Ok(settings)
    }

    /// Whether the daemon has this role.
    pub fn has(&self, role: Role) -> bool {
        !self.without.contains(&role)
    }

    /// How etcd is reached; none when objects are kept in the instance's own file.
    ///
    /// # Errors
    /// Files that cannot be read, or settings of which one needs another.
    pub fn etcd_options(&self) -> Result<Option<::store::etcd::Options>> {
        match &self.store {
            Some(url) => Ok(Some(self.etcd.options(url)?)),
            None if self.etcd != Etcd::default() => {
                bail!("the settings of etcd need --store etcd://HOST:PORT")
            }
            None => Ok(None),
        }
    }

    /// These, and where they say nothing, `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            api_port: self.api_port.or(below.api_port),
            kubelet_port: self.kubelet_port.or(below.kubelet_port),
            api_addresses: if self.api_addresses.is_empty() {
                below.api_addresses
            } else {
                self.api_addresses
            },
            pod_cidr: self.pod_cidr.or(below.pod_cidr),
            service_cidr: self.service_cidr.or(below.service_cidr),
            ipv6: self.ipv6.or(below.ipv6),
            pod_cidr6: self.pod_cidr6.or(below.pod_cidr6),
            service_cidr6: self.service_cidr6.or(below.service_cidr6),
            max_pods: self.max_pods.or(below.max_pods),
            autoscaler_period: self.autoscaler_period.or(below.autoscaler_period),
            autoscaler_on_change: self.autoscaler_on_change.or(below.autoscaler_on_change),
            store: self.store.or(below.store),
            etcd: self.etcd.over(below.etcd),
            without: if self.without.is_empty() {
                below.without
            } else {
                self.without
            },
            pressure: self.pressure.over(below.pressure),
            registries: self.registries.over(below.registries),
            log: self.log.or(below.log),
        }
    }

    /// The flags that say the same, for a process that this one starts.
    pub fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                flags.push(format!("--{name}={value}").into());
            }
        };
        flag("api-port", self.api_port.map(|port| port.to_string()));
        flag(
            "kubelet-port",
            self.kubelet_port.map(|port| port.to_string()),
        );
        for address in &self.api_addresses {
            flag("api-address", Some(address.to_string()));
        }
        flag("pod-cidr", self.pod_cidr.map(|range| range.to_string()));
        flag(
            "service-cidr",
            self.service_cidr.map(|range| range.to_string()),
        );
        flag("ipv6", self.ipv6.map(|on| on.to_string()));
        flag("pod-cidr6", self.pod_cidr6.map(|range| range.to_string()));
        flag(
            "service-cidr6",
            self.service_cidr6.map(|range| range.to_string()),
        );
        flag("max-pods", self.max_pods.map(|count| count.to_string()));
        let period = self.autoscaler_period;
        flag(
            "autoscaler-period",
            period.map(|time| format!("{}ms", time.as_millis())),
        );
        flag(
            "autoscaler-on-change",
            self.autoscaler_on_change.map(|on| on.to_string()),
        );
        flag("store", self.store.clone());
        for role in &self.without {
            flag("without", Some(role.name().to_owned()));
        }
        flag("log", self.log.clone());
        flags.extend(self.etcd.flags());
        flags.extend(self.pressure.flags());
        flags.extend(self.registries.flags());
        flags
    }
}

fn store_url(text: &str) -> Result<String, String> {
    ::store::etcd::parse_url(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn autoscaler_period(text: &str) -> Result<SignedDuration, String> {
    let period = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    check_period(period).map_err(|error| error.to_string())?;
    Ok(period)
}

/// Shorter ones would measure nothing new, longer ones would not follow any load.
fn check_period(period: SignedDuration) -> Result<()> {
    let allowed = SignedDuration::from_millis(100)..=SignedDuration::from_mins(5);
    if !allowed.contains(&period) {
        bail!("{period:#} is not between 100ms and 5m");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn a_file_is_read_strictly() {
        let settings = Settings::parse(
            "dataDir: /srv/plimsoll\napiPort: 7443\napiAddresses: [192.0.2.1, '2001:db8::1']\npodCidr: 10.9.0.0/16\n",
        )
        .expect("valid");
        assert_eq!(
            settings.data_dir.as_deref(),
            Some(Path::new("/srv/plimsoll"))
        );
        assert_eq!(settings.api_port, Some(7443));
        assert_eq!(settings.api_addresses.len(), 2);
        for (text, part) in [
            ("apiport: 7443", "apiport"),
            ("apiPort: x", "line 1"),
            ("apiPort: 0", "apiPort"),
            ("maxPods: 5000", "maxPods"),
            ("autoscalerPeriod: 50ms", "autoscalerPeriod"),
            ("autoscalerPeriod: 1h", "autoscalerPeriod"),
            ("autoscalerPeriod: soon", "line 1"),
            ("store: redis://a", "etcd://HOST:PORT"),
            ("without: [apiserver]", "line 1"),
            ("registries: {insecure: ['http://a']}", "registry.lan:5000"),
            ("registries: {mirrors: [a.lan]}", "https://mirror.lan:5000"),
            ("podCidr: 10.9.0.0", "line 1 column 10"),
            ("apiPort: 1\napiPort: 2", "apiPort"),
            ("- a\n- b", "line 1"),
        ] {
            let error = format!("{:#}", Settings::parse(text).expect_err(text));
            assert!(error.contains(part), "{text:?} gave {error:?}");
        }
        for nothing in ["", "\n", "# apiPort: 1\n\n  # more\n"] {
            assert_eq!(
                Settings::parse(nothing).expect("empty"),
                Settings::default()
            );
        }
    }

    #[test]
    fn the_template_is_a_valid_file_and_names_every_setting() {
        let template = include_str!("settings.yaml");
        assert_eq!(
            Settings::parse(template).expect("valid"),
            Settings::default()
        );
        let used: String = template
            .lines()
            .filter_map(|line| line.strip_prefix("#"))
            // words follow one blank, what belongs to the key above two
            .filter(|line| !line.starts_with(' ') || line.starts_with("  "))
            .map(|line| format!("{line}\n"))
            .collect();
        let settings = Settings::parse(&used).expect("valid when it is used");
        let debug = format!("{settings:?}");
        assert!(!debug.contains("None") && !debug.contains("[]"), "{debug}");
    }

    #[test]
    fn flags_are_above_the_file() {
        let file = Settings::parse("apiPort: 1000\nmaxPods: 20\napiAddresses: [192.0.2.1]")
            .expect("valid");
        let flags = Settings {
            api_port: Some(2000),
            ..Settings::default()
        };
        let merged = flags.over(file);
        assert_eq!((merged.api_port, merged.max_pods), (Some(2000), Some(20)));
        assert_eq!(merged.api_addresses.len(), 1);
    }

    #[test]
    fn what_is_handed_on_says_the_same() {
        let settings = Settings {
            api_port: Some(2000),
            kubelet_port: Some(2001),
            api_addresses: vec![
                "192.0.2.1".parse().expect("address"),
                "::1".parse().expect("address"),
            ],
            pod_cidr: Some("10.9.0.0/16".parse().expect("range")),
            service_cidr: Some("10.10.0.0/16".parse().expect("range")),
            ipv6: Some(false),
            pod_cidr6: Some("fd00:1::/64".parse().expect("range")),
            service_cidr6: Some("fd00:2::/112".parse().expect("range")),
            max_pods: Some(7),
            autoscaler_period: Some(SignedDuration::from_millis(2500)),
            autoscaler_on_change: Some(false),
            pressure: Pressure {
                eviction_hard: Some(
                    "memory.available<1Gi,pid.available<5%"
                        .parse()
                        .expect("valid"),
                ),
                eviction_minimum_reclaim: Some("nodefs.available=1Gi".parse().expect("valid")),
                eviction_transition: Some(SignedDuration::from_secs(90)),
                image_gc_high: Some(90),
                image_gc_low: Some(70),
                image_gc_age: Some(SignedDuration::from_secs(0)),
                reserved: Some("cpu=100m,memory=1Gi".parse().expect("valid")),
            },
            registries: Registries {
                insecure: vec![
                    "a.lan:5000".parse().expect("valid"),
                    "b".parse().expect("valid"),
                ],
                mirrors: vec!["http://c.lan".parse().expect("valid")],
            },
            store: Some("etcd://a:1,b:2".into()),
            etcd: Etcd {
                cafile: Some("/a/ca".into()),
                certfile: Some("/a/cert".into()),
                keyfile: Some("/a/key".into()),
                user: Some("root".into()),
                password_file: Some("/a/password".into()),
            },
            without: vec![Role::Controllers, Role::Node],
            log: Some("debug,hyper=warn".into()),
            data_dir: None,
        };
        let line = std::iter::once("test".into()).chain(settings.flags());
        assert_eq!(Line::parse_from(line).settings, settings);
        assert_eq!(Settings::default().flags(), Vec::<OsString>::new());
    }
}
