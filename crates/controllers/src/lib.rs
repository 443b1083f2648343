//! The controllers that turn declared objects into other objects, one module per controller.
//!
//! They meet everything else only through the Kubernetes API and follow kube-controller-manager to the letter in
//! condition types, reasons and events, because scripts match on them.
#![forbid(unsafe_code)]

mod backoff;
mod certificates;
mod claim;
mod clusterroles;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod drive;
mod endpoints;
mod endpointslice;
mod error;
pub mod events;
mod evict;
mod expectations;
mod gc;
mod history;
pub mod hpa;
mod informer;
mod job;
mod mirroring;
mod namespace;
mod nodes;
mod objects;
mod own_version;
mod own_writes;
mod placement;
mod pod_control;
mod podgc;
mod quotas;
mod replicaset;
mod shared;
mod statefulset;
mod supervise;
mod taints;
mod tokens;
mod volumes;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use certificates::{Order, Signer};
use shared::Shared;
use supervise::Supervisor;

/// What the controllers need to know besides the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// PEM of the cluster's certificate authority, published as `kube-root-ca.crt` in every namespace.
    pub cluster_ca_pem: String,
    /// How long a node's Lease may be stale before its conditions become `Unknown`.
    pub node_grace: Duration,
    /// How long a node must be missing before the pods on it are removed.
    pub orphan_quarantine: Duration,
    /// How often autoscalers are looked at.
    pub autoscalers: hpa::Pace,
    /// Signs what CertificateSigningRequests ask for; without it none is.
    pub signer: Option<Signer>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_ca_pem: String::new(),
            node_grace: Duration::from_secs(50),
            orphan_quarantine: Duration::from_secs(40),
            autoscalers: hpa::Pace::default(),
            signer: None,
        }
    }
}

/// Runs every controller until `shutdown` is cancelled. A controller that panics is started again by itself.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) {
    let shared = Shared::start(client.clone(), &shutdown);
    if !shared.ready().await {
        return;
    }
    let supervisor = Supervisor::default();
    let decisions = hpa::KeptDecisions::default();
    let kept = decisions.clone();
    let mut tasks = JoinSet::new();
    let mut keep =
        |name: &'static str,
         mut start: Box<dyn FnMut(Shared, Config, CancellationToken) -> Task + Send>| {
            let (shared, config) = (shared.clone(), config.clone());
            let (supervisor, shutdown) = (supervisor.clone(), shutdown.clone());
            tasks.spawn(async move {
                let again = move |own| start(shared.clone(), config.clone(), own);
                supervisor.keep(name, shutdown, again).await;
            });
        };
    keep(
        "deployment",
        Box::new(|shared, _, stop| Box::pin(deployment::run(shared, stop))),
    );
    keep(
        "replicaset",
        Box::new(|shared, _, stop| Box::pin(replicaset::run(shared, stop))),
    );
    keep(
        "job",
        Box::new(|shared, _, stop| Box::pin(job::run(shared, stop))),
    );
    keep(
        "job-orphans",
        Box::new(|shared, _, stop| Box::pin(job::run_orphans(shared, stop))),
    );
    keep(
        "cronjob",
        Box::new(|shared, _, stop| Box::pin(cronjob::run(shared, stop))),
    );
    keep(
        "pod-garbage-collector",
        Box::new(|shared, config, stop| {
            Box::pin(podgc::run(shared, config.orphan_quarantine, stop))
        }),
    );
    keep(
        "replicationcontroller",
        Box::new(|shared, _, stop| Box::pin(replicaset::run_replication_controllers(shared, stop))),
    );
    keep(
        "statefulset",
        Box::new(|shared, _, stop| Box::pin(statefulset::run(shared, stop))),
    );
    keep(
        "daemonset",
        Box::new(|shared, _, stop| Box::pin(daemonset::run(shared, stop))),
    );
    keep(
        "endpointslice",
        Box::new(|shared, _, stop| Box::pin(endpointslice::run(shared, stop))),
    );
    keep(
        "endpoints",
        Box::new(|shared, _, stop| Box::pin(endpoints::run(shared, stop))),
    );
    keep(
        "endpointslicemirroring",
        Box::new(|shared, _, stop| Box::pin(mirroring::run(shared, stop))),
    );
    keep(
        "namespace",
        Box::new(|shared, _, stop| Box::pin(namespace::run(shared, stop))),
    );
    keep(
        "namespace-furniture",
        Box::new(|shared, config, stop| {
            Box::pin(namespace::furnish(shared, config.cluster_ca_pem, stop))
        }),
    );
    keep(
        "clusterrole-aggregation",
        Box::new(|shared, _, stop| Box::pin(clusterroles::run(shared, stop))),
    );
    keep(
        "serviceaccount-tokens",
        Box::new(|shared, config, stop| Box::pin(tokens::run(shared, config.cluster_ca_pem, stop))),
    );
    keep(
        "resource-quota",
        Box::new(|shared, _, stop| Box::pin(quotas::run(shared, stop))),
    );
    keep(
        "certificates",
        Box::new(|shared, config, stop| Box::pin(certificates::run(shared, config.signer, stop))),
    );
    keep(
        "persistent-volumes",
        Box::new(|shared, _, stop| Box::pin(volumes::run(shared, stop))),
    );
    keep(
        "garbage-collector",
        Box::new(|shared, _, stop| Box::pin(gc::run(shared.client, stop))),
    );
    keep(
        "node-lifecycle",
        Box::new(|shared, config, stop| {
            Box::pin(nodes::run(
                shared.client,
                shared.pods,
                config.node_grace,
                stop,
            ))
        }),
    );
    keep(
        "node-taints",
        Box::new(|shared, _, stop| Box::pin(taints::run(shared.client, stop))),
    );
    keep(
        "disruption",
        Box::new(|shared, _, stop| Box::pin(disruption::run(shared, stop))),
    );
    keep(
        "taint-eviction",
        Box::new(|shared, _, stop| Box::pin(evict::run(shared, stop))),
    );
    keep(
        "horizontal-pod-autoscaler",
        Box::new(move |shared, config, stop| {
            let sink = Arc::new(decisions.clone());
            Box::pin(hpa::run_with(
                shared.client,
                shared.pods,
                config.autoscalers,
                sink,
                stop,
            ))
        }),
    );
    keep(
        "scaling-decisions",
        Box::new(move |shared, _, stop| {
            Box::pin(hpa::keep_decisions(
                shared.client,
                shared.pods,
                kept.clone(),
                stop,
            ))
        }),
    );
    while tasks.join_next().await.is_some() {}
    if supervisor.restarts() > 0 {
        tracing::warn!(
            restarts = supervisor.restarts(),
            "controllers had to be started again"
        );
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
