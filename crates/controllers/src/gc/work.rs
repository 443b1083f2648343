//! What workers do about one object: let it go, let its dependents go, or take it off its owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, PartialObjectMeta};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Collector;
use super::graph::{self, FOREGROUND, Identity, Node, ORPHAN, Owner, Step, Verdict};
use crate::error::{Error, is_not_found};

type Meta = PartialObjectMeta<DynamicObject>;

impl Collector {
    pub(super) async fn work(self: std::sync::Arc<Self>, stop: CancellationToken) {
        loop {
            let uid = tokio::select! {
                () = stop.cancelled() => return,
                uid = self.queue.next() => uid,
            };
            let outcome = self.handle(&uid).await;
            self.queue.done(&uid);
            if outcome.is_ok() {
                self.failures.succeeded(&uid);
            }
            if let Err(error) = outcome {
                if error.is_stale() {
                    tracing::debug!(%error, "collection retried");
                } else {
                    tracing::warn!(%error, "collection failed, trying again");
                }
                let pause = self.failures.failed(&uid);
                let (collector, stop) = (self.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => collector.queue.add([uid]),
                    }
                });
            }
        }
    }

    async fn handle(&self, uid: &str) -> Result<(), Error> {
        let (node, step, dependents) = {
            let graph = self.graph.lock();
            let Some(node) = graph.get(uid).cloned() else {
                return Ok(());
            };
            let step = graph::step(&graph, &node);
            let dependents: Vec<Node> = graph.dependents(uid).cloned().collect();
            (node, step, dependents)
        };
        match step {
            Step::Nothing => Ok(()),
            Step::Orphan => {
                for dependent in &dependents {
                    let mut owners = dependent.owners.clone();
                    owners.retain(|owner| owner.uid != uid);
                    self.set_owners(dependent, &owners).await?;
                }
                self.take_finalizer(&node, ORPHAN).await
            }
            Step::Release => self.take_finalizer(&node, FOREGROUND).await,
            Step::Judge => self.judge(&node, &dependents).await,
        }
    }

    async fn judge(&self, node: &Node, dependents: &[Node]) -> Result<(), Error> {
        let mut owners = Vec::with_capacity(node.owners.len());
        for owner in &node.owners {
            let Some(standing) = self.standing(node, owner).await? else {
                return Ok(());
            };
            owners.push((owner.clone(), standing));
        }
        match graph::judge(&owners, !dependents.is_empty()) {
            Verdict::Keep => Ok(()),
            Verdict::Unlink(solid) => self.set_owners(node, &solid).await,
            Verdict::Delete { foreground } => {
                if foreground && let Some(owners) = graph::unblocked(node, dependents) {
                    self.set_owners(node, &owners).await?;
                    // the version that is judged next has them
                    return Ok(());
                }
                let policy = if node.has_finalizer(ORPHAN) {
                    PropagationPolicy::Orphan
                } else if foreground || node.has_finalizer(FOREGROUND) {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                };
                self.delete(node, policy).await
            }
        }
    }

    /// Whether the owner exists: by the graph, or, should the graph not know it, by the API itself. Nothing for the owner in a
    /// namespace of an object that is in none: nobody can tell which one is meant, so such an object is never collected.
    async fn standing(&self, node: &Node, owner: &OwnerReference) -> Result<Option<Owner>, Error> {
        {
            let graph = self.graph.lock();
            if let Some(known) = graph.get(&owner.uid) {
                return Ok(graph::standing_of(known, &node.identity));
            }
        }
        if self.gone.lock().contains(&owner.uid) {
            return Ok(Some(Owner::Absent));
        }
        let identity = Identity {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: node.identity.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        let Some(api) = self.api(&identity) else {
            // A kind that is not served: its objects may exist and be served again, so nothing is concluded.
            tracing::debug!(
                kind = owner.kind,
                api_version = owner.api_version,
                "owner of an unknown kind"
            );
            return Ok(Some(Owner::Solid));
        };
        if node.identity.namespace.is_none() && self.is_namespaced(&identity) {
            return Ok(None);
        }
        match api.get(&owner.name).await {
            Ok(live) if live.metadata.uid.as_deref() != Some(&owner.uid) => Ok(Some(Owner::Absent)),
            Ok(live) => {
                let live = Node::new(&owner.api_version, &owner.kind, live.metadata);
                Ok(graph::standing_of(&live, &node.identity))
            }
            Err(error) if is_not_found(&error) => Ok(Some(Owner::Absent)),
            Err(error) => Err(Error::api("read the owner", describe(&identity))(error)),
        }
    }

    async fn delete(&self, node: &Node, policy: PropagationPolicy) -> Result<(), Error> {
        let Some(api) = self.api(&node.identity) else {
            return Ok(());
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            // the version that was judged: its owners may have let it go since (an orphan), which the graph learns a moment later
            preconditions: Some(Preconditions {
                uid: Some(node.identity.uid.clone()),
                resource_version: node.resource_version.clone(),
            }),
            ..Default::default()
        };
        match api.delete(&node.identity.name, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api("collect", describe(&node.identity))(error)),
        }
    }

    async fn set_owners(&self, node: &Node, owners: &[OwnerReference]) -> Result<(), Error> {
        let change = json!({"metadata": {
            "uid": node.identity.uid,
            "resourceVersion": node.resource_version,
            "ownerReferences": owners,
        }});
        self.patch(node, &change, "update the owners of").await
    }

    async fn take_finalizer(&self, node: &Node, name: &str) -> Result<(), Error> {
        let left: Vec<&String> = node
            .finalizers
            .iter()
            .filter(|finalizer| *finalizer != name)
            .collect();
        let change = json!({"metadata": {
            "uid": node.identity.uid,
            "resourceVersion": node.resource_version,
            "finalizers": left,
        }});
        self.patch(node, &change, "take a finalizer off").await
    }

    async fn patch(
        &self,
        node: &Node,
        change: &serde_json::Value,
        action: &'static str,
    ) -> Result<(), Error> {
        let Some(api) = self.api(&node.identity) else {
            return Ok(());
        };
        let patch = Patch::Merge(change);
        match api
            .patch_metadata(&node.identity.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api(action, describe(&node.identity))(error)),
        }
    }

    fn is_namespaced(&self, identity: &Identity) -> bool {
        let key = (identity.api_version.clone(), identity.kind.clone());
        let kinds = self.kinds.read();
        kinds.get(&key).is_some_and(|(_, namespaced)| *namespaced)
    }

    fn api(&self, identity: &Identity) -> Option<Api<Meta>> {
        let key = (identity.api_version.clone(), identity.kind.clone());
        let kinds = self.kinds.read();
        let (resource, namespaced) = kinds.get(&key)?;
        Some(match &identity.namespace {
            Some(namespace) if *namespaced => {
                Api::namespaced_with(self.client.clone(), namespace, resource)
            }
            _ => Api::all_with(self.client.clone(), resource),
        })
    }
}

fn describe(identity: &Identity) -> String {
    let namespace = identity.namespace.as_deref().unwrap_or_default();
    format!("{} {namespace}/{}", identity.kind, identity.name)
}
