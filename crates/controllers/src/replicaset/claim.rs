//! Which pods are a ReplicaSet's: adopts matching ones that nobody manages, releases those that no longer match.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Context;
use crate::error::{Error, is_not_found, status_code};
use crate::objects::{self, Matcher};
use crate::shared::{orphans_in, owned_by};

impl Context {
    /// The pods that this set manages after adoption and release.
    pub(super) async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, Error> {
        let matcher = Matcher::new(&set.spec.selector);
        let matches = |pod: &Pod| matcher.matches(pod.metadata.labels.as_ref());
        let mut claimed = Vec::new();
        for pod in self.shared.pods.by_index(&owned_by(objects::uid(set))) {
            if objects::namespace(&*pod) != objects::namespace(set) {
                continue;
            }
            if matches(&pod) {
                claimed.push(pod);
            } else if !objects::is_terminating(set) && !objects::is_terminating(&*pod) {
                self.release(set, &pod).await?;
            }
        }
        if objects::is_terminating(set) {
            return Ok(claimed);
        }
        for pod in self
            .shared
            .pods
            .by_index(&orphans_in(objects::namespace(set)))
        {
            // A finished pod is not worth adopting: it would only be collected with the set.
            if !objects::is_terminating(&*pod)
                && !objects::is_finished(&pod)
                && matches(&pod)
                && let Some(adopted) = self.adopt(set, &pod).await?
            {
                claimed.push(Arc::new(adopted));
            }
        }
        Ok(claimed)
    }

    async fn adopt(&self, set: &ReplicaSet, pod: &Pod) -> Result<Option<Pod>, Error> {
        let client = self.shared.client.clone();
        let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), objects::namespace(set));
        // The cache may not know yet that the set was deleted or replaced; adopting for it would lose the pod.
        let live = sets
            .get(objects::name(set))
            .await
            .map_err(Error::api("read ReplicaSet", objects::key(set)))?;
        if objects::uid(&live) != objects::uid(set) || objects::is_terminating(&live) {
            return Err(Error::Stale {
                object: objects::key(set),
            });
        }
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.push(objects::controller_reference(set));
        let change = json!({"metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "ownerReferences": owners,
        }});
        self.patch_owners(pod, &change, "adopt Pod").await
    }

    async fn release(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), Error> {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| owner.uid != objects::uid(set));
        let change = json!({"metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "ownerReferences": owners,
        }});
        self.patch_owners(pod, &change, "release Pod")
            .await
            .map(drop)
    }

    async fn patch_owners(
        &self,
        pod: &Pod,
        change: &serde_json::Value,
        action: &'static str,
    ) -> Result<Option<Pod>, Error> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), objects::namespace(pod));
        match api
            .patch(
                objects::name(pod),
                &PatchParams::default(),
                &Patch::Merge(change),
            )
            .await
        {
            Ok(pod) => Ok(Some(pod)),
            // Gone, or replaced under the same name.
            Err(error) if is_not_found(&error) || status_code(&error) == Some(422) => Ok(None),
            Err(error) => Err(Error::api(action, objects::key(pod))(error)),
        }
    }
}
