//! What the controllers of one process share: the client, one informer per kind, the recorders.

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Affinity, Container, Endpoints, Namespace, NodeAffinity, Pod, PodSpec, Service, Volume,
};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::informer::Informer;
use crate::objects;

/// Caches of the kinds that more than one controller reads.
#[derive(Clone)]
pub struct Shared {
    /// The API.
    pub client: Client,
    /// All Deployments.
    pub deployments: Informer<Deployment>,
    /// All ReplicaSets, indexed by owner (see [`owned_by`]).
    pub replica_sets: Informer<ReplicaSet>,
    /// All ControllerRevisions, indexed by owner.
    pub revisions: Informer<ControllerRevision>,
    /// All Pods, indexed by owner and namespace.
    pub pods: Informer<Pod>,
    /// All Jobs, indexed by owner.
    pub jobs: Informer<Job>,
    /// All CronJobs.
    pub cron_jobs: Informer<CronJob>,
    /// All Services, indexed by namespace.
    pub services: Informer<Service>,
    /// All Endpoints.
    pub endpoints: Informer<Endpoints>,
    /// All Namespaces.
    pub namespaces: Informer<Namespace>,
}

impl Shared {
    /// Starts the informers; they end with `shutdown`.
    pub fn start(client: Client, shutdown: &CancellationToken) -> Self {
        let config = || watcher::Config::default().any_semantic();
        Self {
            deployments: Informer::start(
                Api::all(client.clone()),
                config(),
                |_| Vec::new(),
                |_| {},
                shutdown.clone(),
            ),
            replica_sets: Informer::start(
                Api::all(client.clone()),
                config(),
                owner_entry,
                |_| {},
                shutdown.clone(),
            ),
            revisions: Informer::start(
                Api::all(client.clone()),
                config(),
                owner_entry,
                |_| {},
                shutdown.clone(),
            ),
            pods: Informer::start(
                Api::all(client.clone()),
                config(),
                |pod| {
                    let mut entries = owner_entry(pod);
                    entries.push(in_namespace(objects::namespace(pod)));
                    entries
                },
                prune_pod,
                shutdown.clone(),
            ),
            jobs: Informer::start(
                Api::all(client.clone()),
                config(),
                owner_entry,
                |_| {},
                shutdown.clone(),
            ),
            cron_jobs: Informer::start(
                Api::all(client.clone()),
                config(),
                |_| Vec::new(),
                |_| {},
                shutdown.clone(),
            ),
            services: Informer::start(
                Api::all(client.clone()),
                config(),
                |service| vec![in_namespace(objects::namespace(service))],
                |_| {},
                shutdown.clone(),
            ),
            endpoints: Informer::start(
                Api::all(client.clone()),
                config(),
                |_| Vec::new(),
                |_| {},
                shutdown.clone(),
            ),
            namespaces: Informer::start(
                Api::all(client.clone()),
                config(),
                |_| Vec::new(),
                |_| {},
                shutdown.clone(),
            ),
            client,
        }
    }
}

impl Shared {
    /// Returns once every cache has been filled for the first time; false if one ended before.
    pub async fn ready(&self) -> bool {
        self.deployments.ready().await
            && self.replica_sets.ready().await
            && self.revisions.ready().await
            && self.pods.ready().await
            && self.jobs.ready().await
            && self.cron_jobs.ready().await
            && self.services.ready().await
            && self.endpoints.ready().await
            && self.namespaces.ready().await
    }
}

/// Index entry of the objects whose managing owner has this uid.
pub fn owned_by(uid: &str) -> String {
    format!("owner/{uid}")
}

/// Index entry of the objects in a namespace that nobody manages.
pub fn orphans_in(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// Index entry of the objects in a namespace.
pub fn in_namespace(namespace: &str) -> String {
    format!("namespace/{namespace}")
}

fn owner_entry<K: kube::Resource>(object: &K) -> Vec<String> {
    vec![match objects::controller_of(object) {
        Some(owner) => owned_by(&owner.uid),
        None => orphans_in(objects::namespace(object)),
    }]
}

/// Drops what no controller reads of a pod. Controllers change pods by patches only, so that nothing is lost by this.
fn prune_pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.take() else {
        return;
    };
    let containers = |containers: Vec<Container>| {
        let container = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            resources: container.resources,
            restart_policy: container.restart_policy,
            ..Default::default()
        };
        containers.into_iter().map(container).collect()
    };
    pod.spec = Some(PodSpec {
        containers: containers(spec.containers),
        init_containers: spec.init_containers.map(containers),
        node_name: spec.node_name,
        volumes: claims(spec.volumes),
        hostname: spec.hostname,
        subdomain: spec.subdomain,
        host_network: spec.host_network,
        resources: spec.resources,
        affinity: spec.affinity.and_then(pinned),
        ..Default::default()
    });
}

/// The part of a pod's affinity that names its node, as DaemonSets' pods have it.
fn pinned(affinity: Affinity) -> Option<Affinity> {
    let required = affinity
        .node_affinity?
        .required_during_scheduling_ignored_during_execution?;
    let mut terms = required.node_selector_terms.iter();
    terms
        .any(|term| term.match_fields.is_some())
        .then(|| Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(required),
                ..Default::default()
            }),
            ..Default::default()
        })
}

/// The volumes that are claims.
fn claims(volumes: Option<Vec<Volume>>) -> Option<Vec<Volume>> {
    let claims: Vec<Volume> = volumes
        .into_iter()
        .flatten()
        .filter(|volume| volume.persistent_volume_claim.is_some())
        .collect();
    Some(claims).filter(|claims| !claims.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cached_pod_has_what_controllers_read_and_no_more() {
        let pinned_to = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node"]}]});
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "nodeName": "node", "hostname": "a", "subdomain": "b", "hostNetwork": true,
                "resources": {"requests": {"cpu": "1"}},
                "containers": [{
                    "name": "web", "image": "web", "env": [{"name": "A", "value": "B"}], "command": ["x"],
                    "ports": [{"name": "http", "containerPort": 80}],
                    "resources": {"requests": {"cpu": "100m"}},
                }],
                "initContainers": [{"name": "side", "image": "web", "restartPolicy": "Always"}],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "tolerations": [{"operator": "Exists"}],
                "affinity": {
                    "podAntiAffinity": {},
                    "nodeAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [],
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned_to]},
                    },
                },
            },
            "status": {"phase": "Running"},
        }))
        .unwrap();
        prune_pod(&mut pod);
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {
                "nodeName": "node", "hostname": "a", "subdomain": "b", "hostNetwork": true,
                "resources": {"requests": {"cpu": "1"}},
                "containers": [{
                    "name": "web",
                    "ports": [{"name": "http", "containerPort": 80}],
                    "resources": {"requests": {"cpu": "100m"}},
                }],
                "initContainers": [{"name": "side", "restartPolicy": "Always"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned_to]}}},
            },
            "status": {"phase": "Running"},
        });
        assert_eq!(json!(pod), expected);
    }
}
