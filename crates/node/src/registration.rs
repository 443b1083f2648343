//! The Node object: made or taken over at start, kept ready, and renewed by a Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::pressure::{Conditions, Pressure, conditions};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// The status is written when it changes, and at least this often.
const REPORT: Duration = Duration::from_secs(300);

/// What the machine has.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub cpu_milli: i64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

impl Capacity {
    /// Reads /proc and the file system under `directory`.
    pub fn read(directory: &std::path::Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| memory_total_bytes(&text))
            .unwrap_or(1 << 30);
        let disk = rustix_disk_bytes(directory).unwrap_or(1 << 30);
        Self {
            cpu_milli: i64::try_from(cpus).unwrap_or(1).saturating_mul(1000),
            memory_bytes: memory,
            disk_bytes: disk,
        }
    }
}

fn memory_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn rustix_disk_bytes(directory: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}

/// Makes the Node or brings an old one up to date, then keeps it and its Lease fresh until `shutdown`.
///
/// # Errors
/// When the Node cannot be written at start; later failures are logged and tried again.
pub async fn register(
    client: &Client,
    config: &Config,
    capacity: Capacity,
    pod_cidrs: &[String],
) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/control-plane", ""),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let node = match nodes.get_opt(&config.name).await? {
        Some(_) => {
            nodes
                .patch(
                    &config.name,
                    &PatchParams::default(),
                    &Patch::Merge(json!({ "metadata": { "labels": labels } })),
                )
                .await?
        }
        None => {
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(config.name.clone()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                ..Node::default()
            };
            nodes.create(&PostParams::default(), &node).await?
        }
    };
    let node = tell_ranges(&nodes, node, pod_cidrs).await;
    report(
        client,
        config,
        capacity,
        &node,
        Vec::new(),
        &BTreeSet::new(),
    )
    .await
}

/// Notes in the Node from which ranges its pods have their addresses. Under a control plane that has given it others that is
/// refused, and no reason not to run.
async fn tell_ranges(nodes: &Api<Node>, node: Node, pod_cidrs: &[String]) -> Node {
    let told = node
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_cidrs.as_deref());
    if told.unwrap_or_default() == pod_cidrs {
        return node;
    }
    let spec = json!({ "spec": { "podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs } });
    let name = node.metadata.name.clone().unwrap_or_default();
    match nodes
        .patch(&name, &PatchParams::default(), &Patch::Merge(spec))
        .await
    {
        Ok(node) => node,
        Err(error) => {
            tracing::warn!(%error, "the ranges of pods could not be noted in the node");
            node
        }
    }
}

/// Keeps status and Lease fresh.
pub async fn keep(
    client: Client,
    config: Config,
    capacity: Capacity,
    mut node: Node,
    images: image::Images,
    mut conditions: Conditions,
    shutdown: CancellationToken,
) {
    let mut since_report = Duration::ZERO;
    let mut listed = 0;
    let mut tick = tokio::time::interval(RENEW);
    let mut untold = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Ok(()) = conditions.changed() => untold = true,
            _ = tick.tick() => {
                if let Err(error) = renew(&client, &config, &node).await {
                    tracing::warn!(%error, "the node's lease could not be renewed");
                }
                // others may have written since: what they advertise is passed on
                match Api::<Node>::all(client.clone()).get(&config.name).await {
                    Ok(found) => {
                        untold |= extended(&found, false) != extended(&found, true);
                        node = found;
                    }
                    Err(error) => tracing::warn!(%error, "the node could not be read"),
                }
                since_report += RENEW;
            }
        }
        let present = images.list();
        if untold || since_report >= REPORT || present.len() != listed {
            let holding = conditions.borrow_and_update().clone();
            let summary = present
                .iter()
                .take(50)
                .map(|image| ContainerImage {
                    names: Some(image.digests.iter().chain(&image.tags).cloned().collect()),
                    size_bytes: i64::try_from(image.size_bytes).ok(),
                })
                .collect();
            match report(&client, &config, capacity, &node, summary, &holding).await {
                Ok(updated) => {
                    (node, since_report, listed) = (updated, Duration::ZERO, present.len());
                    untold = false;
                }
                Err(error) => tracing::warn!(%error, "the node's status could not be written"),
            }
        }
    }
}

async fn report(
    client: &Client,
    config: &Config,
    capacity: Capacity,
    node: &Node,
    images: Vec<ContainerImage>,
    holding: &BTreeSet<Pressure>,
) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let status = status(config, capacity, node, images, holding, Timestamp::now());
    let mut status = json!(status);
    // what nobody advertises any more is not to be had
    for name in extended(node, true).into_keys() {
        if status["allocatable"].get(&name).is_none() {
            status["allocatable"][name] = Value::Null;
        }
    }
    let patch = Patch::Merge(json!({ "status": status }));
    nodes
        .patch_status(&config.name, &PatchParams::default(), &patch)
        .await
}

fn status(
    config: &Config,
    capacity: Capacity,
    node: &Node,
    images: Vec<ContainerImage>,
    holding: &BTreeSet<Pressure>,
    now: Timestamp,
) -> NodeStatus {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let before = node.status.clone().unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let same = before
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
        }
    };
    let resources = |cpu_milli: i64, memory_bytes: i64, disk_bytes: i64| {
        let cpu = match cpu_milli % 1000 {
            0 => (cpu_milli / 1000).to_string(),
            _ => format!("{cpu_milli}m"),
        };
        let amounts: BTreeMap<String, Quantity> = [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory_bytes / 1024)),
            ("ephemeral-storage", format!("{}Ki", disk_bytes / 1024)),
            ("pods", config.pods_max.to_string()),
        ]
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .collect();
        amounts
    };
    let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (memory, disk) = (whole(capacity.memory_bytes), whole(capacity.disk_bytes));
    let room = config.division(&capacity).allocatable;
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(
            config
                .addresses()
                .into_iter()
                .map(|own| address("InternalIP", own))
                .chain([address("Hostname", config.name.clone())])
                .collect(),
        ),
        // what others say of the node (devices that only they know) may be asked for as it is
        allocatable: Some({
            let mut own = resources(room.cpu_milli, room.memory_bytes, room.disk_bytes);
            own.extend(extended(node, false));
            own
        }),
        capacity: Some(resources(capacity.cpu_milli, memory, disk)),
        conditions: Some(
            conditions(holding)
                .iter()
                .map(|told| condition(told.kind, told.holds, told.reason, told.message))
                .chain([condition(
                    "Ready",
                    true,
                    "KubeletReady",
                    "kubelet is posting ready status",
                )])
                .collect(),
        ),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(config.port),
            }),
        }),
        images: Some(images),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!("plimsoll://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            kube_proxy_version: String::new(),
            kubelet_version: format!("v1.37.0+plimsoll-{}", env!("CARGO_PKG_VERSION")),
            machine_id: read("/etc/machine-id"),
            operating_system: "linux".to_owned(),
            os_image: os_image(&read("/etc/os-release")),
            system_uuid: read("/sys/class/dmi/id/product_uuid"),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// What the node's capacity, or what is allocatable of it, has of extended resources.
fn extended(node: &Node, allocatable: bool) -> BTreeMap<String, Quantity> {
    let status = node.status.as_ref();
    let amounts = match allocatable {
        true => status.and_then(|status| status.allocatable.as_ref()),
        false => status.and_then(|status| status.capacity.as_ref()),
    };
    let mut amounts = amounts.cloned().unwrap_or_default();
    amounts.retain(|name, _| is_extended(name));
    amounts
}

/// Whether a resource is neither the kernel's nor Kubernetes' own: `example.com/dongle`.
fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

fn os_image(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn renew(client: &Client, config: &Config, node: &Node) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let renewed = leases
        .patch(
            &config.name,
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "renewTime": now } })),
        )
        .await;
    match renewed {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(config.name.clone()),
                    namespace: Some(LEASE_NAMESPACE.to_owned()),
                    owner_references: Some(vec![OwnerReference {
                        api_version: "v1".into(),
                        kind: "Node".into(),
                        name: config.name.clone(),
                        uid: node.uid().unwrap_or_default(),
                        ..OwnerReference::default()
                    }]),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(config.name.clone()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            leases
                .create(&PostParams::default(), &lease)
                .await
                .map(drop)
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_machine_says() {
        assert_eq!(
            memory_total_bytes("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(memory_total_bytes("nothing"), None);
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
