//! Containers of a pod that was changed while it runs: started again with another image, or with other resources; or given those
//! as they run.

use std::time::Duration;

use engine::{ContainerSpec, ContainerStatus, SandboxUpdate, State};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;
use tokio::time::Instant;

use super::start::Records;
use super::{Worker, container};
use crate::ending::note;
use crate::resize::{Change, Resizing, as_given, change, room, text_of, wider};
use crate::{pods, resources};

/// When what was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Worker {
    /// Finds out whether containers are to have other resources, and whether the node has them. The pod's own limits are made
    /// wide enough for both.
    pub(super) async fn begin_resizing(&mut self, spec: &PodSpec) {
        let records = self.records().await;
        let wanted = resources::pod_resources(spec);
        let Some(sandbox) = self.shared.engine.sandbox(&self.sandbox_id()).await else {
            return;
        };
        if !differs(spec, &records) && sandbox.spec.resources == wanted {
            self.resizing = None;
            return;
        }
        if let Err((reason, message)) = self.room_for(spec, &records) {
            let event = match reason {
                "Deferred" => "ResizeDeferred",
                _ => "ResizeInfeasible",
            };
            let told = Resizing::Pending {
                reason,
                message: message.clone(),
            };
            self.hold_resize(told, event, message);
            return;
        }
        match self
            .limit_pod(wider(&sandbox.spec.resources, &wanted))
            .await
        {
            // what the kernel refused is told until it is done
            Ok(()) if matches!(self.resizing, Some(Resizing::InProgress { .. })) => {}
            Ok(()) => self.resizing = Some(Resizing::InProgress { error: None }),
            Err(error) => self.refused(error),
        }
    }

    fn room_for(&self, spec: &PodSpec, records: &Records) -> Result<(), (&'static str, String)> {
        let given = as_given(spec, |name| running(records, name));
        let pods = self.shared.pods.read();
        let others: Vec<&Pod> = pods
            .values()
            .map(|other| &**other)
            .filter(|other| pods::is_active(other) && other.uid() != self.pod.uid())
            .collect();
        let allocatable = &self.shared.division.allocatable;
        room(&self.pod, &given, &others, allocatable)
    }

    /// Does what the change of its pod means to a container that runs. Whether it has been stopped, to start again.
    pub(super) async fn follow(&mut self, container: &Container, last: &ContainerStatus) -> bool {
        let name = container.name.as_str();
        let init = self.pod.spec.iter().flat_map(|spec| &spec.init_containers);
        let passes =
            init.flatten().any(|one| one.name == name) && !container::is_sidecar(container);
        if passes {
            return false;
        }
        let message = match change(container, &last.spec) {
            Change::None => return false,
            Change::Image => format!("Container {name} definition changed, will be restarted"),
            Change::Resources { .. } if !self.may_resize() => return false,
            Change::Resources { restart: true } => {
                format!("Container {name} resize requires restart")
            }
            Change::Resources { restart: false } => {
                self.resize_one(container, last).await;
                return false;
            }
        };
        let recorder = &self.shared.recorder;
        recorder.normal(&self.pod, Some(name), "Killing", message);
        if let Some(probes) = self.probes.remove(&last.id) {
            probes.stop.cancel();
        }
        tokio::select! {
            () = self.stop_one(&last.id, name, self.grace()) => true,
            () = self.interrupted() => false,
        }
    }

    /// After all containers: the pod's own limits are what they sum up to, once each has its own.
    pub(super) async fn end_resizing(&mut self, spec: &PodSpec) {
        if !self.may_resize() || differs(spec, &self.records().await) {
            return;
        }
        match self.limit_pod(resources::pod_resources(spec)).await {
            Ok(()) => {
                self.resizing = None;
                let message = "Pod resize completed";
                let recorder = &self.shared.recorder;
                recorder.normal(&self.pod, None, "ResizeCompleted", message);
            }
            Err(error) => self.refused(error),
        }
    }

    fn may_resize(&self) -> bool {
        matches!(self.resizing, Some(Resizing::InProgress { .. }))
    }

    async fn resize_one(&mut self, container: &Container, last: &ContainerStatus) {
        let mut notes = last.spec.annotations.clone();
        notes.insert(note::RESOURCES.to_owned(), text_of(container));
        let wanted = resources::container_resources(container);
        let engine = &self.shared.engine;
        match engine.update_container(&last.id, wanted, notes).await {
            Ok(()) => tracing::info!(
                pod = self.pod.name_any(),
                container = container.name,
                "resized"
            ),
            Err(error) => self.refused(error.to_string()),
        }
    }

    async fn limit_pod(&self, limits: engine::Resources) -> Result<(), String> {
        let update = SandboxUpdate {
            resources: Some(limits),
            ..SandboxUpdate::default()
        };
        let engine = &self.shared.engine;
        let updated = engine.update_sandbox(&self.sandbox_id(), update).await;
        updated.map_err(|error| error.to_string())
    }

    /// The kernel does not give, or take, what was asked for: usually because more memory is in use than shall be allowed.
    fn refused(&mut self, error: String) {
        let told = Resizing::InProgress {
            error: Some(error.clone()),
        };
        self.hold_resize(told, "ResizeError", error);
    }

    /// Keeps for the status what stands against it, with an event when that is new, and tries again later.
    fn hold_resize(&mut self, how: Resizing, event: &str, message: String) {
        if self.resizing.as_ref() != Some(&how) {
            let recorder = &self.shared.recorder;
            recorder.warning(&self.pod, None, event, message);
            self.resizing = Some(how);
        }
        self.retry_at(Instant::now() + AGAIN);
    }
}

/// The attempt of this container that runs.
fn running<'a>(records: &'a Records, name: &str) -> Option<&'a ContainerSpec> {
    let last = records.get(name)?.last()?;
    (last.state == State::Running).then_some(&*last.spec)
}

/// Whether a container runs with other resources than the pod asks for.
fn differs(spec: &PodSpec, records: &Records) -> bool {
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|one| container::is_sidecar(one));
    spec.containers.iter().chain(sidecars).any(|one| {
        running(records, &one.name)
            .is_some_and(|runs| matches!(change(one, runs), Change::Resources { .. }))
    })
}
