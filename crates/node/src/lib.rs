//! The kubelet role: pods that are bound to this node become sandboxes and containers of the engine, and their state goes back to
//! the API; the kubelet's HTTP API serves logs, exec and measurements.
//!
//! Deliberately absent: namespaces, mounts and cgroups (the engine's), addresses and rules (the network's), images' bytes. The node
//! knows the API only through the client it is given.
#![forbid(unsafe_code)]

mod balancer;
mod confinement;
mod container;
mod credentials;
mod downward;
mod ending;
mod environment;
mod events;
mod informer;
mod leash;
mod measure;
mod pods;
mod policy;
mod port_forward;
pub mod pressure;
mod probe;
mod provision;
mod registration;
mod resize;
mod resolv;
mod resources;
mod runtime_class;
mod server;
mod services;
mod spdy;
mod status;
mod streams;
mod traffic;
mod volumes;
mod worker;

pub use volumes::{Held as HeldVolumes, release_all as release_volumes};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use image::Images;
use network::Network;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What a node needs to know of itself.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node object.
    pub name: String,
    /// The node's InternalIP: pods' hostIP, and where the API server finds the kubelet's API.
    pub address: IpAddr,
    /// Its address of the other family, if it has one.
    pub further_address: Option<IpAddr>,
    /// Port of the kubelet's API on that address.
    pub port: u16,
    /// Certificates of the kubelet's API; clients must show one signed by the cluster's CA.
    pub tls: Arc<rustls::ServerConfig>,
    /// Where logs of pods lie (`DIR/logs/pods`).
    pub logs_dir: PathBuf,
    /// Volumes of pods lie beneath `state_dir/pods`.
    pub state_dir: PathBuf,
    /// Where the volumes of claims lie that this node provisions: `claims_dir/pvc-UID`.
    pub claims_dir: PathBuf,
    /// Where `localhostProfile` of a seccomp profile is looked up, as the kubelet does beneath its `seccomp`.
    pub seccomp_dir: PathBuf,
    pub cluster_domain: String,
    /// Pods that this node takes.
    pub pods_max: u32,
    /// What happens when memory, disk or process ids run short.
    pub pressure: pressure::Settings,
}

impl Config {
    fn division(&self, capacity: &registration::Capacity) -> pressure::Division {
        let settings = &self.pressure;
        let reserved = settings.reserved.as_ref();
        pressure::divide(capacity, self.pods_max, reserved, &settings.eviction_hard)
    }

    /// All its addresses, the first one first.
    fn addresses(&self) -> Vec<String> {
        let all = std::iter::once(self.address).chain(self.further_address);
        all.map(|address| address.to_string()).collect()
    }
}

/// Why the role could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} could not be made: {source}", path = path.display())]
    Directory {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Between two attempts to register.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Runs until `shutdown`. Pods keep running when it ends.
///
/// # Errors
/// When its directories cannot be made. What the API refuses is tried again: its disk may be full for a while.
pub async fn run(
    config: Config,
    client: kube::Client,
    engine: Engine,
    images: Images,
    network: Network,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    for path in [&config.logs_dir, &config.state_dir, &config.seccomp_dir] {
        std::fs::create_dir_all(path).map_err(|source| Error::Directory {
            path: path.clone(),
            source,
        })?;
    }
    let capacity = registration::Capacity::read(&config.state_dir);
    let ranges = network.config().pod_cidrs();
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    let Some(node) = registered(&client, &config, capacity, &ranges, &shutdown).await else {
        return Ok(());
    };
    let claims_dir = config.claims_dir.clone();
    let traffic = Arc::new(traffic::Traffic::default());
    let recorder = events::Recorder::start(client.clone(), config.name.clone());
    let name = config.name.as_str();
    recorder.node(name, "Normal", "Starting", "Starting kubelet.");
    let ready = format!("Node {name} status is now: NodeReady");
    recorder.node(name, "Normal", "NodeReady", ready);
    let (told, conditions) = tokio::sync::watch::channel(BTreeSet::new());
    let (evictions, orders) = tokio::sync::mpsc::channel(1);
    let pods = pods::Pods::default();
    let shared = Arc::new(worker::Shared {
        config: config.clone(),
        client: client.clone(),
        engine,
        images: images.clone(),
        network: network.clone(),
        recorder,
        traffic: traffic.clone(),
        starts: Semaphore::new(4),
        memory_capacity_bytes: capacity.memory_bytes,
        cpu_capacity_milli: capacity.cpu_milli,
        oom_score: measure::own_oom_score(),
        division: config.division(&capacity),
        pods: pods.clone(),
        conditions: conditions.clone(),
    });
    let node_name = config.name.clone();
    let balancer = balancer::Balancer {
        client: client.clone(),
        network: network.clone(),
        recorder: shared.recorder.clone(),
        traffic: traffic.clone(),
    };
    tokio::join!(
        registration::keep(
            client.clone(),
            config,
            capacity,
            node,
            images,
            conditions,
            shutdown.clone()
        ),
        traffic.run(client.clone(), network, node_name.clone(), shutdown.clone()),
        balancer.run(shutdown.clone()),
        server::serve(listener, shared.clone(), pods.clone(), shutdown.clone()),
        pressure::run(
            shared.clone(),
            pods.clone(),
            evictions,
            told,
            shutdown.clone()
        ),
        pods::run(client.clone(), shared, pods, orders, shutdown.clone()),
        provision::run(client, node_name, claims_dir, shutdown.clone()),
    );
    Ok(())
}

/// Registers as often as it takes; `None` at shutdown.
async fn registered(
    client: &kube::Client,
    config: &Config,
    capacity: registration::Capacity,
    pod_cidrs: &[String],
    shutdown: &CancellationToken,
) -> Option<k8s_openapi::api::core::v1::Node> {
    let mut told = String::new();
    loop {
        let error = match registration::register(client, config, capacity, pod_cidrs).await {
            Ok(node) => return Some(node),
            Err(error) => error.to_string(),
        };
        if told != error {
            tracing::error!(
                error,
                node = config.name,
                "the node could not be registered, and no pod is started; trying again each second"
            );
            told = error;
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(REGISTER_AGAIN) => {}
        }
    }
}
