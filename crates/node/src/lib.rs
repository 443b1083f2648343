//! The kubelet role: pods that are bound to this node become sandboxes and containers of the engine, and their state goes back to
//! the API; the kubelet's HTTP API serves logs, exec and measurements.
//!
//! Deliberately absent: namespaces, mounts and cgroups (the engine's), addresses and rules (the network's), images' bytes. The node
//! knows the API only through the client it is given.
#![forbid(unsafe_code)]

mod balancer;
mod confinement;
mod container;
mod downward;
mod ending;
mod environment;
mod events;
mod informer;
mod measure;
mod pods;
mod policy;
mod probe;
mod provision;
mod registration;
mod resolv;
mod resources;
mod server;
mod services;
mod status;
mod streams;
mod traffic;
mod volumes;
mod worker;

pub use volumes::release_all as release_volumes;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

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
}

/// Why the role could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the node {name} could not be registered: {source}")]
    Register {
        name: String,
        source: Box<kube::Error>,
    },
    #[error("{path} could not be made: {source}", path = path.display())]
    Directory {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Runs until `shutdown`. Pods keep running when it ends.
///
/// # Errors
/// When the Node object cannot be made; afterwards failures are retried.
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
    let node = registration::register(&client, &config, capacity)
        .await
        .map_err(|source| Error::Register {
            name: config.name.clone(),
            source: Box::new(source),
        })?;
    let claims_dir = config.claims_dir.clone();
    let traffic = Arc::new(traffic::Traffic::default());
    let recorder = events::Recorder::start(client.clone(), config.name.clone());
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
    });
    let pods = pods::Pods::default();
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
            shutdown.clone()
        ),
        traffic.run(client.clone(), network, node_name.clone(), shutdown.clone()),
        balancer.run(shutdown.clone()),
        server::serve(listener, shared.clone(), pods.clone(), shutdown.clone()),
        pods::run(client.clone(), shared, pods, shutdown.clone()),
        provision::run(client, node_name, claims_dir, shutdown.clone()),
    );
    Ok(())
}
