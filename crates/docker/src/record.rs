//! What only Docker knows of a container, kept as an annotation on the engine's record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::containers::devices::DeviceRequest;
use crate::containers::security::UlimitRequest;

/// The annotation that holds the [`Record`].
pub const ANNOTATION: &str = "plimsoll.dev/docker";
/// Marks the engine's objects that this API made.
pub const OWNER: (&str, &str) = ("plimsoll.dev/owner", "docker");

/// Docker's side of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Without a leading slash.
    pub name: String,
    /// As the user named it.
    pub image: String,
    pub image_id: String,
    /// `Config` of `inspect`: the request's, completed from the image.
    pub config: Config,
    /// `HostConfig` as given.
    pub host: HostConfig,
    /// The user stopped it: restart policies leave it alone until the user starts it.
    pub stopped_by_user: bool,
    pub restarts: u32,
    /// Restarts in a row after runs that were short: how long the next one waits.
    pub backoff: u32,
    /// Why the last start failed.
    pub error: String,
    /// The exit code that stands for that failure.
    pub failed_code: Option<i32>,
    /// Volumes that were made for it alone, or for a container whose volumes it has, and that nobody named. `None` where an
    /// earlier version made it.
    pub made_volumes: Option<Vec<String>>,
}

/// The part of Docker's container configuration that is acted upon; the rest is kept and shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    #[serde(deserialize_with = "null_default")]
    pub hostname: String,
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    pub image: String,
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Paths that shall be volumes.
    #[serde(deserialize_with = "null_default")]
    pub volumes: BTreeMap<String, Value>,
    pub stop_signal: Option<String>,
    /// Seconds; less than 0 is without end.
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<image::Healthcheck>,
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// The part of Docker's host configuration that is acted upon; the rest is kept and shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    #[serde(deserialize_with = "null_default")]
    pub binds: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<MountRequest>,
    #[serde(deserialize_with = "null_default")]
    pub tmpfs: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default")]
    pub volumes_from: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub network_mode: String,
    #[serde(deserialize_with = "null_default")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    pub publish_all_ports: bool,
    #[serde(deserialize_with = "null_default")]
    pub restart_policy: RestartPolicy,
    pub auto_remove: bool,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    #[serde(deserialize_with = "null_default")]
    pub cap_add: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub cap_drop: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub group_add: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub sysctls: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default")]
    pub extra_hosts: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub dns: Vec<String>,
    pub memory: i64,
    #[serde(rename = "NanoCpus")]
    pub nano_cpus: i64,
    pub cpu_shares: u64,
    pub cpu_period: u64,
    pub cpu_quota: i64,
    #[serde(deserialize_with = "null_default")]
    pub cpuset_cpus: String,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: i32,
    #[serde(deserialize_with = "null_default")]
    pub ulimits: Vec<UlimitRequest>,
    #[serde(deserialize_with = "null_default")]
    pub devices: Vec<DeviceRequest>,
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountRequest {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(deserialize_with = "null_default")]
    pub source: String,
    pub target: String,
    pub read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    #[serde(deserialize_with = "null_default")]
    pub propagation: String,
    pub create_mountpoint: bool,
    /// Without what is mounted beneath.
    pub non_recursive: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    pub no_copy: bool,
    #[serde(deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    pub driver_config: Option<DriverConfig>,
    /// Of a later version of the API.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub subpath: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverConfig {
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    #[serde(deserialize_with = "null_default")]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    pub size_bytes: i64,
    pub mode: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    #[serde(deserialize_with = "null_default")]
    pub host_ip: String,
    #[serde(deserialize_with = "null_default")]
    pub host_port: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    pub maximum_retry_count: u32,
}

impl RestartPolicy {
    /// Whether a container that ended by itself starts again.
    pub fn applies(&self, code: i32, restarts: u32, stopped_by_user: bool) -> bool {
        match self.name.as_str() {
            "always" | "unless-stopped" => !stopped_by_user,
            "on-failure" => {
                !stopped_by_user
                    && code != 0
                    && (self.maximum_retry_count == 0 || restarts < self.maximum_retry_count)
            }
            _ => false,
        }
    }
}

/// Go's clients write `null` for what is empty.
pub fn null_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    input: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// A command is a list, or one word.
fn words<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        List(Vec<String>),
        Word(String),
    }
    Ok(Option::<Form>::deserialize(input)?.map(|form| match form {
        Form::List(list) => list,
        Form::Word(word) => vec![word],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_docker_command_sends_is_understood_and_kept() {
        let text = r#"{"Hostname":"","Cmd":null,"Entrypoint":"/bin/sh","Env":null,"Volumes":{"/x":{}},"Labels":{"a":"b"},"Healthcheck":{"Test":["NONE"]}}"#;
        let config: Config = serde_json::from_str(text).expect("parses");
        assert_eq!(
            config.entrypoint.as_deref(),
            Some(&["/bin/sh".to_owned()][..])
        );
        assert_eq!(
            serde_json::to_value(&config).expect("written")["Healthcheck"]["Test"][0],
            "NONE"
        );
        let host: HostConfig = serde_json::from_str(r#"{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"NanoCpus":500000000,"Binds":null}"#)
            .expect("parses");
        assert_eq!(
            host.port_bindings["80/tcp"].as_ref().expect("bindings")[0].host_port,
            "8080"
        );
        assert_eq!(host.nano_cpus, 500_000_000);
    }

    #[test]
    fn policies() {
        let policy = |name: &str, most| RestartPolicy {
            name: name.into(),
            maximum_retry_count: most,
        };
        for (policy, code, restarts, by_user, want) in [
            (policy("", 0), 1, 0, false, false),
            (policy("no", 0), 1, 0, false, false),
            (policy("always", 0), 0, 9, false, true),
            (policy("always", 0), 0, 9, true, false),
            (policy("on-failure", 0), 0, 0, false, false),
            (policy("on-failure", 2), 1, 1, false, true),
            (policy("on-failure", 2), 1, 2, false, false),
        ] {
            assert_eq!(
                policy.applies(code, restarts, by_user),
                want,
                "{policy:?} {code} {restarts} {by_user}"
            );
        }
    }
}
