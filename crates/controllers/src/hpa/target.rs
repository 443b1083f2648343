//! The target's scale subresource: which resource it is, reading it, writing it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, discovery};
use parking_lot::Mutex;

use crate::error::{message, reason, status_code};

/// Kinds whose resource needs no asking, whatever version of their group is named.
const KNOWN: [(&str, &str, &str, &str); 4] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
];
/// How long an answer of discovery is believed.
const DISCOVERY_TTL: Duration = Duration::from_secs(60);
const KINDS_MAX: usize = 256;
const CONFLICT_RETRIES: u32 = 5;

/// What discovery said, and when.
type Answer = (Instant, Result<ApiResource, String>);

/// Resolves kinds to resources.
pub struct Targets {
    client: Client,
    kinds: Mutex<HashMap<GroupVersionKind, Answer>>,
}

impl Targets {
    /// Nothing resolved yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kinds: Mutex::default(),
        }
    }

    /// The resource of a kind; the error is upstream's text.
    pub async fn resolve(
        &self,
        api_version: Option<&str>,
        kind: &str,
    ) -> Result<ApiResource, String> {
        let version = api_version.unwrap_or_default();
        let (group, version) = match version.split('/').collect::<Vec<_>>()[..] {
            [version] => ("", version),
            [group, version] => (group, version),
            _ => return Err(format!("unexpected GroupVersion string: {version}")),
        };
        let known = |known: &&(&str, &str, &str, &str)| {
            (known.0, known.2) == (group, kind)
                && (group == "apps" || version.is_empty() || version == "v1")
        };
        if let Some((_, version, _, plural)) = KNOWN.iter().find(known) {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            return Ok(ApiResource::from_gvk_with_plural(&gvk, plural));
        }
        // the version that is named says nothing: the group may not serve it any more
        let gvk = GroupVersionKind::gvk(group, "", kind);
        if let Some((_, found)) = self
            .kinds
            .lock()
            .get(&gvk)
            .filter(|(at, _)| at.elapsed() < DISCOVERY_TTL)
        {
            return found.clone();
        }
        let discovered = match group {
            "" => discovery::pinned_kind(&self.client, &GroupVersionKind::gvk("", "v1", kind))
                .await
                .map(|(resource, _)| Some(resource)),
            group => discovery::group(&self.client, group).await.map(|group| {
                let all = group.resources_by_stability().into_iter();
                all.map(|(resource, _)| resource)
                    .find(|resource| resource.kind == kind)
            }),
        };
        let found = match discovered {
            Ok(Some(resource)) => Ok(resource),
            Ok(None) => Err(no_match(kind, group)),
            Err(kube::Error::Discovery(_)) => Err(no_match(kind, group)),
            Err(error) if status_code(&error) == Some(404) => Err(no_match(kind, group)),
            // Not an answer: ask again next time.
            Err(error) => return Err(message(&error)),
        };
        let mut kinds = self.kinds.lock();
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        kinds.insert(gvk, (Instant::now(), found.clone()));
        found
    }

    /// The target's scale.
    pub async fn read(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Scale, String> {
        self.api(resource, namespace)
            .get_scale(name)
            .await
            .map_err(|error| message(&error))
    }

    /// Sets the target's size. A conflict is tried again on the newest version, unless somebody else has set the size: what is wanted
    /// was decided of the one before, and none (a pause) is not to be undone.
    pub async fn write(
        &self,
        resource: &ApiResource,
        namespace: &str,
        mut scale: Scale,
        replicas: i32,
    ) -> Result<(), String> {
        let api = self.api(resource, namespace);
        let name = scale.metadata.name.clone().unwrap_or_default();
        let size = |scale: &Scale| scale.spec.as_ref().and_then(|spec| spec.replicas);
        let decided_of = size(&scale);
        let mut pause = Duration::from_millis(10);
        for attempt in 1.. {
            scale.spec.get_or_insert_default().replicas = Some(replicas);
            let error = match api
                .replace_scale(&name, &PostParams::default(), &scale)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if attempt == CONFLICT_RETRIES
                || status_code(&error) != Some(409)
                || reason(&error) != "Conflict"
            {
                return Err(message(&error));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            if let Ok(latest) = api.get_scale(&name).await {
                if size(&latest) != decided_of {
                    return Err(message(&error));
                }
                scale = latest;
            }
        }
        Ok(())
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }
}

fn no_match(kind: &str, group: &str) -> String {
    format!("no matches for kind {kind:?} in group {group:?}")
}
