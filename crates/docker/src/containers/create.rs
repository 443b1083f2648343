//! `POST /containers/create`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use engine::{ContainerSpec, LogConfig, Mount, Resources, SandboxNetwork, SandboxSpec};
use http::StatusCode;
use hyper::body::Incoming;
use image::Image;
use serde::Deserialize;
use serde_json::json;

use crate::mounts::{self, Borrowed};
use crate::query::Query;
use crate::record::{ANNOTATION, Config, HostConfig, OWNER, Record};
use crate::reply::{Answer, Refusal, json_with};
use crate::{Docker, body, health, names, ports, volumes};

use super::{devices, ignored, security, sharing};

const CPU_PERIOD_US: u64 = 100_000;
const LOG_BYTES_MAX: u64 = 10 << 20;
const LOG_FILES_MAX: u32 = 3;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    #[serde(flatten)]
    config: Config,
    #[serde(
        rename = "HostConfig",
        deserialize_with = "crate::record::null_default"
    )]
    host: HostConfig,
}

pub async fn create(docker: &Docker, query: &Query, incoming: Incoming) -> Answer {
    let mut request: Create = body::json(incoming).await?;
    let networking = request.config.rest.remove("NetworkingConfig");
    ignored::check_runtime(&request.host)?;
    let warnings = ignored::warnings(&request.config, &request.host, networking.as_ref());
    let image_name = request.config.image.clone();
    if image_name.is_empty() {
        return Err(Refusal::bad("no image specified"));
    }
    let image = docker
        .inner
        .images
        .get(&image_name)
        .map_err(|error| match error {
            image::Error::NotFound(_) => {
                Refusal::not_found(format!("No such image: {}", tagged(&image_name)))
            }
            other => other.into(),
        })?;
    let id = names::id();
    let config = completed(request.config, &image, &id);
    let wanted = query
        .get("name")
        .map(|name| name.trim_start_matches('/').to_owned());
    if let Some(name) = &wanted {
        if !names::valid(name) {
            return Err(Refusal::bad(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        // looked at again below; there is no need to make anything for a name that is taken
        free(docker, name).await?;
    }
    let mut record = Record {
        image: image_name,
        image_id: image.id.clone(),
        config,
        host: request.host,
        ..Record::default()
    };
    let (pid, ipc) = sharing::of(docker, &record.host).await?;
    let sandbox = SandboxSpec {
        pid,
        ipc,
        ..sandbox(docker, &id, &record)?
    };
    container(docker, &id, &record, Vec::new())?;
    let image_volumes = image.config.volumes.clone();
    let (borrowed, lent) = borrowed(docker, &record.host).await?;
    let plan = mounts::plan(
        &record.config,
        &record.host,
        image_volumes.into_iter(),
        borrowed,
    )?;
    let mut anonymous = Vec::new();
    let (images, snapshot) = (docker.inner.images.clone(), id.clone());
    let rootfs = tokio::task::spawn_blocking(move || images.prepare(&image, &snapshot)).await??;
    let made = async {
        let _names = docker.inner.turns.names().await;
        record.name = match wanted {
            Some(name) => {
                free(docker, &name).await?;
                name
            }
            None => {
                let existing = super::all(docker).await;
                names::invent(|name| existing.iter().any(|c| c.record.name == name))
            }
        };
        let mounts = volumes::attach(docker, plan, &rootfs, &mut anonymous).await?;
        record.made_volumes = Some([&anonymous[..], &lent].concat());
        let container = ContainerSpec {
            rootfs,
            ..container(docker, &id, &record, mounts)?
        };
        docker.inner.engine.create_sandbox(sandbox).await?;
        docker.inner.engine.create_container(container).await?;
        Ok::<_, Refusal>(())
    };
    if let Err(refusal) = made.await {
        let _ = docker.inner.engine.remove_sandbox(&id).await;
        let images = docker.inner.images.clone();
        let _ = tokio::task::spawn_blocking(move || images.remove_snapshot(&id)).await;
        let _names = docker.inner.turns.names().await;
        volumes::drop_anonymous(docker, &anonymous).await;
        return Err(refusal);
    }
    json_with(
        StatusCode::CREATED,
        &json!({ "Id": id, "Warnings": warnings }),
    )
}

/// The mounts of the containers that `--volumes-from` names, and the volumes that were made for these: the last that has one
/// takes it along.
async fn borrowed(
    docker: &Docker,
    host: &HostConfig,
) -> Result<(Vec<Borrowed>, Vec<String>), Refusal> {
    let (mut borrowed, mut lent) = (Vec::new(), Vec::new());
    for text in &host.volumes_from {
        let (name, read_only) = mounts::borrowed_from(text)?;
        // not as "not found": clients take that for a missing image
        let lender = super::find(docker, name)
            .await
            .map_err(|refusal| Refusal::bad(refusal.message))?;
        lent.extend(volumes::made_for(docker, &lender));
        borrowed.extend(
            lender
                .status
                .spec
                .mounts
                .iter()
                .cloned()
                .map(|mount| Borrowed {
                    volume: volumes::name_of(docker, &mount.source),
                    mount,
                    read_only,
                }),
        );
    }
    Ok((borrowed, lent))
}

async fn free(docker: &Docker, name: &str) -> Result<(), Refusal> {
    match super::all(docker)
        .await
        .iter()
        .find(|c| c.record.name == name)
    {
        None => Ok(()),
        Some(other) => Err(Refusal::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            other.id()
        ))),
    }
}

fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// The request's configuration, with what the image says where the request says nothing.
fn completed(mut config: Config, image: &Image, id: &str) -> Config {
    let of = &image.config;
    let mut env: Vec<String> = Vec::new();
    let has_path = of
        .env
        .iter()
        .chain(&config.env)
        .any(|variable| variable.starts_with("PATH="));
    if !has_path {
        env.push(PATH.to_owned());
    }
    for variable in of.env.iter().chain(&config.env) {
        let name = variable.split('=').next().unwrap_or(variable);
        let prefix = format!("{name}=");
        env.retain(|earlier| !earlier.starts_with(&prefix));
        // a name without a value takes a variable away
        if variable.contains('=') {
            env.push(variable.clone());
        }
    }
    config.env = env;
    // an entrypoint of one's own makes the image's arguments meaningless
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty)
        && config.cmd.as_ref().is_none_or(Vec::is_empty)
    {
        config.cmd = of.cmd.clone();
    }
    match &config.entrypoint {
        None => config.entrypoint = of.entrypoint.clone(),
        Some(words) if words.iter().all(String::is_empty) => config.entrypoint = Some(Vec::new()),
        Some(_) => {}
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&of.working_dir);
    }
    if config.user.is_empty() {
        config.user.clone_from(&of.user);
    }
    if config.stop_signal.as_ref().is_none_or(String::is_empty) {
        config.stop_signal.clone_from(&of.stop_signal);
    }
    config.healthcheck = health::merged(config.healthcheck.take(), of.healthcheck.as_ref());
    let mut labels = of.labels.clone();
    labels.append(&mut config.labels);
    config.labels = labels;
    for port in &of.exposed_ports {
        config
            .exposed_ports
            .entry(port.clone())
            .or_insert_with(|| json!({}));
    }
    if config.hostname.is_empty() {
        config.hostname = id.chars().take(12).collect();
    }
    config
}

fn sandbox(docker: &Docker, id: &str, record: &Record) -> Result<SandboxSpec, Refusal> {
    let network = match record.host.network_mode.as_str() {
        "" | "default" | "bridge" => SandboxNetwork::Own,
        "host" => SandboxNetwork::Host,
        "none" => SandboxNetwork::None,
        other if other.starts_with("container:") => {
            return Err(Refusal::bad(
                "sharing another container's network is not supported yet; use bridge, host or none",
            ));
        }
        other => {
            // not as "not found": clients take that for a missing image
            return Err(Refusal::bad(format!(
                "network {other} not found: bridge, host and none exist"
            )));
        }
    };
    let resolv_conf = match (network, record.host.dns.as_slice()) {
        (SandboxNetwork::Host, []) => {
            std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
        }
        (_, []) => docker.inner.network.resolv_conf(None),
        (_, servers) => servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect(),
    };
    if network == SandboxNetwork::Own {
        // chosen anew at each start
        ports::wanted(&record.config, &record.host)?;
    }
    Ok(SandboxSpec {
        id: id.to_owned(),
        hostname: record.config.hostname.clone(),
        labels: BTreeMap::from([(OWNER.0.to_owned(), OWNER.1.to_owned())]),
        network,
        hosts: hosts(record, &[], docker.inner.network.gateway().into()),
        resolv_conf,
        ..SandboxSpec::default()
    })
}

/// What stands for this machine, as containers reach it.
const HOST_GATEWAY: &str = "host-gateway";

/// /etc/hosts.
pub fn hosts(record: &Record, addresses: &[IpAddr], gateway: IpAddr) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for extra in &record.host.extra_hosts {
        if let Some((name, ip)) = extra.split_once(':').or_else(|| extra.split_once('=')) {
            match ip {
                HOST_GATEWAY => text += &format!("{gateway}\t{name}\n"),
                ip => text += &format!("{ip}\t{name}\n"),
            }
        }
    }
    for address in addresses {
        text += &format!("{address}\t{}\n", record.config.hostname);
    }
    text
}

fn container(
    docker: &Docker,
    id: &str,
    record: &Record,
    mounts: Vec<Mount>,
) -> Result<ContainerSpec, Refusal> {
    let (config, host) = (&record.config, &record.host);
    let argv: Vec<String> = config
        .entrypoint
        .iter()
        .flatten()
        .chain(config.cmd.iter().flatten())
        .cloned()
        .collect();
    if argv.is_empty() {
        return Err(Refusal::bad("no command specified"));
    }
    let annotation =
        serde_json::to_string(record).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut labels = config.labels.clone();
    labels.insert(OWNER.0.to_owned(), OWNER.1.to_owned());
    Ok(ContainerSpec {
        id: id.to_owned(),
        sandbox: id.to_owned(),
        name: record.name.clone(),
        labels,
        annotations: BTreeMap::from([(ANNOTATION.to_owned(), annotation)]),
        argv,
        env: with_defaults(config),
        cwd: if config.working_dir.is_empty() {
            "/".into()
        } else {
            config.working_dir.clone()
        },
        user: config.user.clone(),
        tty: config.tty,
        stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        mounts,
        devices: devices::of(host)?,
        no_shared_memory: sharing::no_shared_memory(host),
        resources: resources(host),
        security: security::of(host)?,
        ulimits: security::ulimits(host),
        log: LogConfig {
            path: log_path(docker, id),
            max_bytes: LOG_BYTES_MAX,
            max_files: LOG_FILES_MAX,
        },
        oom_score_adj: host.oom_score_adj,
        stop_signal: config
            .stop_signal
            .as_deref()
            .and_then(engine::signal_number),
        stop_seconds: config
            .stop_timeout
            .and_then(|seconds| u64::try_from(seconds).ok()),
        ..ContainerSpec::default()
    })
}

fn log_path(docker: &Docker, id: &str) -> PathBuf {
    docker.inner.logs.join(format!("{id}.log"))
}

fn with_defaults(config: &Config) -> Vec<String> {
    let mut env = config.env.clone();
    for (name, value) in [("HOSTNAME", config.hostname.as_str()), ("TERM", "xterm")] {
        let wanted = name != "TERM" || config.tty;
        if wanted
            && !env
                .iter()
                .any(|variable| variable.starts_with(&format!("{name}=")))
        {
            env.push(format!("{name}={value}"));
        }
    }
    env
}

/// The engine's words for the limits.
pub fn resources(host: &HostConfig) -> Resources {
    let (quota, period) = if host.nano_cpus > 0 {
        (Some(host.nano_cpus / 10_000), Some(CPU_PERIOD_US))
    } else {
        let period = if host.cpu_period > 0 {
            host.cpu_period
        } else {
            CPU_PERIOD_US
        };
        (
            // less than nothing takes a limit away
            Some(host.cpu_quota).filter(|quota| *quota != 0),
            Some(period).filter(|_| host.cpu_quota != 0),
        )
    };
    Resources {
        cpu_shares: Some(host.cpu_shares).filter(|shares| *shares > 0),
        cpu_quota_us: quota,
        cpu_period_us: period,
        memory_limit_bytes: Some(host.memory).filter(|bytes| *bytes > 0),
        // as dockerd: one process of many may be killed
        memory_oom_group: false,
        pids_limit: host.pids_limit,
        cpuset: Some(host.cpuset_cpus.clone()).filter(|set| !set.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let host = HostConfig {
            nano_cpus: 500_000_000,
            memory: 64 << 20,
            ..HostConfig::default()
        };
        let resources = resources(&host);
        assert_eq!(
            (
                resources.cpu_quota_us,
                resources.cpu_period_us,
                resources.memory_limit_bytes
            ),
            (Some(50_000), Some(100_000), Some(64 << 20))
        );
    }

    #[test]
    fn names_get_a_tag() {
        assert_eq!(tagged("nginx"), "nginx:latest");
        assert_eq!(tagged("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(tagged("a:1"), "a:1");
    }
}
