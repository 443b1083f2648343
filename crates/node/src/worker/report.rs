//! The pod's status as the worker sees it, written when it differs from what the API has.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use engine::{ContainerStatus, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::{Worker, restart, restarts};
use crate::container::{self, label};
use crate::ending::{self, note};
use crate::resize;
use crate::status::{Doing, Observed, View, change, pod_status};

impl Worker {
    /// Computes the status and writes it if it differs from what was written last.
    pub(super) async fn report(&mut self) {
        let status = self.status(false).await;
        if self.written.as_ref() == Some(&status) && self.stands() {
            return;
        }
        match self.patch_status(&status).await {
            Ok(pod) => {
                self.told = Some(Told::of(&pod));
                // the next comparison must see the conditions that others wrote
                self.pod = Arc::new(pod);
                self.written = Some(status);
            }
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => {
                tracing::warn!(%error, pod = self.pod.name_any(), "the pod's status could not be written; trying again in 1 s");
                self.retry_at(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    /// Whether the API still has what was written: what only this node knows is not for others to say.
    fn stands(&mut self) -> bool {
        self.told
            .as_mut()
            .is_none_or(|told| told.is_still(&self.pod))
    }

    /// The status of now. `ending`: nothing is ready, and nothing starts again.
    pub(super) async fn status(&self, ending: bool) -> PodStatus {
        let records = self.records().await;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init_containers = spec.init_containers.unwrap_or_default();
        let idle = if init_containers.is_empty() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        let mut init: Vec<View> = init_containers
            .iter()
            .map(|c| self.view(c, &records, true, "PodInitializing"))
            .collect();
        let mut containers: Vec<View> = spec
            .containers
            .iter()
            .map(|c| self.view(c, &records, false, idle))
            .collect();
        let ephemeral: Vec<View> = container::ephemeral(&self.pod)
            .iter()
            .map(|c| View {
                // nobody waits for them
                ready: false,
                started: false,
                ..self.view(c, &records, false, "ContainerCreating")
            })
            .collect();
        if ending {
            for view in init.iter_mut().chain(&mut containers) {
                (view.ready, view.started) = (false, false);
            }
        }
        let mut status = pod_status(&Observed {
            pod: &self.pod,
            init: &init,
            containers: &containers,
            ephemeral: &ephemeral,
            sandbox_ready: self.sandbox_ready && !ending,
            pod_ips: &self.addresses,
            host_ips: &self.shared.config.addresses(),
            start_time: self.start_time,
            now: Timestamp::now(),
            ending,
            resizing: self.resizing.as_ref(),
            failure: self
                .failure
                .as_ref()
                .map(|(reason, message)| (reason.as_str(), message.as_str())),
        });
        self.note_disruption(&mut status);
        if records.is_empty() && self.finished() {
            // nothing of it ever ran, or it is forgotten here: what was told stays told
            let before = self.pod.status.clone().unwrap_or_default();
            status.container_statuses = before.container_statuses;
            status.init_container_statuses = before.init_container_statuses;
            status.ephemeral_container_statuses = before.ephemeral_container_statuses;
        }
        status
    }

    fn view(
        &self,
        container: &Container,
        records: &HashMap<String, Vec<ContainerStatus>>,
        init: bool,
        idle: &str,
    ) -> View {
        let attempts = records
            .get(&container.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let own = self.attempts.get(&container.name);
        let current = attempts.last();
        let previous = attempts
            .len()
            .checked_sub(2)
            .and_then(|index| attempts.get(index));
        let waiting = own.and_then(|attempt| attempt.waiting.clone());
        let (doing, last) = match (current, waiting) {
            (Some(status), Some((reason, message))) if status.state != State::Running => {
                let over = ending::code(status).is_some();
                (
                    Doing::Waiting { reason, message },
                    if over { Some(status) } else { previous },
                )
            }
            (Some(status), _) => (ending::doing(status), previous),
            (None, Some((reason, message))) => (Doing::Waiting { reason, message }, None),
            (None, None) => (Doing::waiting(idle), None),
        };
        let running = matches!(doing, Doing::Running { .. });
        let ended = current
            .and_then(ending::code)
            .or_else(|| previous.and_then(ending::code));
        let rules = container.restart_policy_rules.is_some() || container.restart_policy.is_some();
        let spec = self.pod.spec.as_ref();
        let policy = match spec.and_then(|spec| spec.restart_policy.as_deref()) {
            // one that has prepared the pod has ended for good
            None | Some("Always") if init => "OnFailure",
            policy => policy.unwrap_or("Always"),
        };
        let condemned =
            current.is_some_and(|status| status.spec.annotations.contains_key(note::CONDEMNED));
        let again = ended
            .filter(|_| rules || condemned)
            .zip(current)
            .map(|((code, _), current)| restart::comes_again(container, policy, current, code));
        let probes = current.and_then(|status| self.probes.get(&status.id));
        let sidecar = init && container::is_sidecar(container);
        let completed_init = init && !sidecar && matches!(doing, Doing::Terminated { code: 0, .. });
        let counts = !init || sidecar;
        View {
            name: container.name.clone(),
            // what runs, though the pod may ask for another one already
            image: current
                .and_then(|status| status.spec.labels.get(label::IMAGE))
                .or(container.image.as_ref())
                .cloned()
                .unwrap_or_default(),
            image_id: own
                .map(|attempt| attempt.image_id.clone())
                .filter(|id| !id.is_empty())
                .or_else(|| {
                    current.and_then(|status| status.spec.labels.get(label::IMAGE_ID).cloned())
                })
                .unwrap_or_default(),
            container_id: current.map(|status| format!("plimsoll://{}", status.id)),
            last: last.map(|status| (format!("plimsoll://{}", status.id), ending::doing(status))),
            restarts: current.map(restarts).unwrap_or(0),
            ready: completed_init
                || running && counts && probes.is_some_and(|p| p.ready && p.started),
            started: running && probes.is_some_and(|p| p.started),
            doing,
            sidecar,
            again,
            resources: current.and_then(|status| resize::given(&status.spec)),
        }
    }

    pub(super) async fn patch_status(&self, status: &PodStatus) -> Result<Pod, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        );
        let patch = json!({
            "metadata": { "uid": self.uid },
            "status": change::between(&json!(self.pod.status), &json!(status)),
        });
        pods.patch_status(
            &self.pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
    }
}

/// The status that the API had after it was last written here.
pub(super) struct Told {
    version: u64,
    digest: u64,
}

impl Told {
    fn of(pod: &Pod) -> Self {
        Self {
            version: version(pod),
            digest: digest(pod),
        }
    }

    /// Whether the pod, as it is now or was before that, still says the same. Conditions are not compared: others have some, too.
    fn is_still(&mut self, pod: &Pod) -> bool {
        let version = version(pod);
        if version > self.version {
            if digest(pod) != self.digest {
                return false;
            }
            self.version = version;
        }
        true
    }
}

fn version(pod: &Pod) -> u64 {
    let text = pod.metadata.resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

fn digest(pod: &Pod) -> u64 {
    let mut status = pod.status.clone().unwrap_or_default();
    status.conditions = None;
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&status)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_others_say_is_noticed_once_it_is_newer() {
        let pod = |version: &str, status: Value| -> Pod {
            let pod = json!({"metadata": {"resourceVersion": version}, "status": status});
            serde_json::from_value(pod).expect("a pod")
        };
        let ours = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let mut told = Told::of(&pod("5", ours));
        let other = |word: &str| json!({"phase": "Running", "message": word});
        assert!(told.is_still(&pod("4", other("older"))));
        assert!(told.is_still(&pod("6", json!({"phase": "Running", "conditions": []}))));
        assert!(told.is_still(&pod("6", other("known already"))));
        assert!(!told.is_still(&pod("7", other("newer"))));
        assert!(!told.is_still(&pod("8", json!({"phase": "Failed"}))));
    }
}
