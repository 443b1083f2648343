//! The taint eviction controller: pods that do not tolerate a node's `NoExecute` taints go, at once or when their patience
//! ends.
//!
//! Follows `pkg/controller/tainteviction` of kube-controller-manager. Pods are read as a whole only where a node has such a
//! taint. Nodes that are not ready get no such taints here (see `taints`): there is nowhere else to go.

mod patience;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{is_not_found, status_code};
use crate::events::{Recorder, Severity};
use crate::informer::Informer;
use crate::objects;
use crate::shared::Shared;
use patience::{Patience, patience};

/// How soon what could not be done is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let nodes: Informer<Node> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    let mut changed_nodes = Box::pin(nodes.stream());
    let mut changed_pods = Box::pin(shared.pods.stream());
    let mut evictor = Evictor {
        recorder: Recorder::start(shared.client.clone(), "taint-eviction-controller"),
        client: shared.client.clone(),
        tainted: HashMap::new(),
        unseen: BTreeSet::new(),
        due: BTreeSet::new(),
        since: HashMap::new(),
    };
    loop {
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(node) = changed_nodes.next() => {
                let name = objects::name(&*node).to_owned();
                evictor.node(&name, nodes.get(None, &name)).await
            }
            Some(pod) = changed_pods.next() => {
                let key = (objects::namespace(&*pod).to_owned(), objects::name(&*pod).to_owned());
                let current = shared.pods.get(Some(&key.0), &key.1);
                evictor.pod(key, current).await
            }
            () = tokio::time::sleep(evictor.wait(Timestamp::now())) => evictor.expire(Timestamp::now()).await,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "taints not acted upon, trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            evictor.again().await;
        }
    }
}

type Key = (String, String);

struct Evictor {
    client: Client,
    recorder: Recorder,
    /// The `NoExecute` taints of the nodes that have any.
    tainted: HashMap<String, Vec<Taint>>,
    /// Nodes whose pods could not be looked at since their taints changed.
    unseen: BTreeSet<String>,
    /// When which pod goes.
    due: BTreeSet<(Timestamp, Key)>,
    /// Since when a pod's patience is tried, and until when it lasts.
    since: HashMap<Key, (Timestamp, Timestamp)>,
}

impl Evictor {
    /// The node is so now, or gone.
    async fn node(&mut self, name: &str, node: Option<Arc<Node>>) -> Result<(), kube::Error> {
        let spec = node.as_ref().and_then(|node| node.spec.as_ref());
        let taints: Vec<Taint> = spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter(|taint| taint.effect == "NoExecute")
            .cloned()
            .collect();
        if taints.is_empty() {
            if self.tainted.remove(name).is_none() {
                return Ok(());
            }
        } else if self.tainted.insert(name.to_owned(), taints.clone()) == Some(taints) {
            return Ok(());
        }
        self.look(name).await
    }

    /// Looks at all pods of the node.
    async fn look(&mut self, node: &str) -> Result<(), kube::Error> {
        self.unseen.insert(node.to_owned());
        let pods: Api<Pod> = Api::all(self.client.clone());
        let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
        for pod in pods.list(&here).await?.items {
            self.decide(&pod).await?;
        }
        self.unseen.remove(node);
        Ok(())
    }

    /// The pod is so now, or gone.
    async fn pod(&mut self, key: Key, pod: Option<Arc<Pod>>) -> Result<(), kube::Error> {
        let active = pod.filter(|pod| objects::is_active(pod));
        let node = active.and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        let Some(node) = node else {
            self.forget(&key);
            return Ok(());
        };
        if !self.tainted.contains_key(&node) || self.since.contains_key(&key) {
            return Ok(());
        }
        // the cached one has no tolerations
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        match api.get_opt(&key.1).await? {
            Some(whole) => self.decide(&whole).await,
            None => Ok(()),
        }
    }

    async fn decide(&mut self, pod: &Pod) -> Result<(), kube::Error> {
        let key = (
            objects::namespace(pod).to_owned(),
            objects::name(pod).to_owned(),
        );
        if !objects::is_active(pod) {
            self.forget(&key);
            return Ok(());
        }
        match self.patience(pod) {
            Patience::Endless => {
                if self.forget(&key) {
                    let message = format!("Cancelling deletion of Pod {}/{}", key.0, key.1);
                    self.recorder
                        .record(pod, Severity::Normal, "TaintManagerEviction", message);
                }
                Ok(())
            }
            Patience::None => {
                self.forget(&key);
                self.evict(pod).await
            }
            Patience::For(time) => {
                let now = Timestamp::now();
                let since = self.since.get(&key).map_or(now, |(since, _)| *since);
                let until = since.checked_add(time).unwrap_or(Timestamp::MAX);
                self.forget(&key);
                self.since.insert(key.clone(), (since, until));
                self.due.insert((until, key));
                Ok(())
            }
        }
    }

    fn forget(&mut self, key: &Key) -> bool {
        let Some((_, until)) = self.since.remove(key) else {
            return false;
        };
        self.due.remove(&(until, key.clone()))
    }

    /// Until the next pod goes.
    fn wait(&self, now: Timestamp) -> std::time::Duration {
        const LONG: std::time::Duration = std::time::Duration::from_secs(3600);
        let first = self.due.first().map(|(until, _)| until.duration_since(now));
        first.map_or(LONG, |left| {
            std::time::Duration::try_from(left)
                .unwrap_or_default()
                .min(LONG)
        })
    }

    /// Evicts those whose time has come, if their nodes' taints still want it.
    async fn expire(&mut self, now: Timestamp) -> Result<(), kube::Error> {
        while let Some((until, key)) = self.due.first().cloned()
            && until <= now
        {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
            match api.get_opt(&key.1).await?.filter(objects::is_active) {
                Some(pod) if self.is_due(&pod, &key, now) => {
                    self.evict(&pod).await?;
                    self.forget(&key);
                }
                Some(pod) => self.decide(&pod).await?,
                None => drop(self.forget(&key)),
            }
        }
        Ok(())
    }

    fn is_due(&self, pod: &Pod, key: &Key, now: Timestamp) -> bool {
        match self.patience(pod) {
            Patience::Endless => false,
            Patience::None => true,
            Patience::For(time) => {
                let since = self.since.get(key).map_or(now, |(since, _)| *since);
                since.checked_add(time).is_ok_and(|until| until <= now)
            }
        }
    }

    fn patience(&self, pod: &Pod) -> Patience {
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref());
        let taints = self.tainted.get(node.unwrap_or_default());
        let tolerations = spec.and_then(|spec| spec.tolerations.as_deref());
        patience(
            taints.map_or(&[][..], Vec::as_slice),
            tolerations.unwrap_or_default(),
        )
    }

    /// Looks again at every tainted node, and at those that could not be looked at.
    async fn again(&mut self) {
        let nodes: BTreeSet<String> = self.tainted.keys().chain(&self.unseen).cloned().collect();
        for node in nodes {
            if let Err(error) = self.look(&node).await {
                tracing::debug!(%error, node, "pods not looked at");
            }
        }
    }

    async fn evict(&self, pod: &Pod) -> Result<(), kube::Error> {
        let (namespace, name) = (objects::namespace(pod), objects::name(pod));
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.recorder
            .record(pod, Severity::Normal, "TaintManagerEviction", message);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let change = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastProbeTime": null,
            "lastTransitionTime": now.to_string(),
        }]}});
        let gone = |error: &kube::Error| is_not_found(error) || status_code(error) == Some(409);
        let patch = Patch::Strategic(&change);
        match api
            .patch_status(name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {}
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
