//! Events about pods, services and the node: made here, counted and bounded ([`correlator`]), sent in the background.

mod correlator;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use correlator::{Correlator, Observed};

const QUEUED_MAX: usize = 1024;

struct Note {
    about: ObjectReference,
    component: &'static str,
    kind: &'static str,
    reason: String,
    message: String,
    at: Timestamp,
}

/// A cheap handle; events beyond the queue's bound are dropped, never waited for.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Arc<Note>>,
}

impl Recorder {
    /// Starts the sender. It ends when the last handle is dropped.
    pub fn start(client: kube::Client, node_name: String) -> Self {
        let (queue, mut notes) = mpsc::channel::<Arc<Note>>(QUEUED_MAX);
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            while let Some(note) = notes.recv().await {
                let Some(observed) = correlator.observe(&note) else {
                    continue;
                };
                match send(&client, &node_name, &note, observed).await {
                    Err(error) if is_of_ending_namespace(&error) => {
                        tracing::debug!(
                            reason = note.reason,
                            "an event came too late for its namespace"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(%error, reason = note.reason, "an event could not be written");
                    }
                    Ok(()) => {}
                }
            }
        });
        Self { queue }
    }

    /// `Normal` event about a pod, or about one container of it.
    pub fn normal(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.note(pod, container, "Normal", reason, message.into());
    }

    /// `Warning` event about a pod, or about one container of it.
    pub fn warning(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.note(pod, container, "Warning", reason, message.into());
    }

    /// `Normal` or `Warning` event about a service, by the component that upstream names there.
    pub fn service(&self, service: &Service, kind: &'static str, reason: &str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            uid: service.metadata.uid.clone(),
            resource_version: service.metadata.resource_version.clone(),
            field_path: None,
        };
        self.send(about, "service-controller", kind, reason, message);
    }

    /// `Normal` or `Warning` event about this node.
    pub fn node(&self, name: &str, kind: &'static str, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            // as kubelets have it, and kubectl looks for
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.send(about, "kubelet", kind, reason, message.into());
    }

    fn note(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: &'static str,
        reason: &str,
        message: String,
    ) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| field_path(pod, name)),
        };
        self.send(about, "kubelet", kind, reason, message);
    }

    fn send(
        &self,
        about: ObjectReference,
        component: &'static str,
        kind: &'static str,
        reason: &str,
        mut message: String,
    ) {
        if message.len() > 1024 {
            let cut = (0..=1021)
                .rev()
                .find(|at| message.is_char_boundary(*at))
                .unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let note = Note {
            about,
            component,
            kind,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if self.queue.try_send(Arc::new(note)).is_err() {
            tracing::debug!(reason, "an event was dropped: the queue is full");
        }
    }
}

/// Nothing new comes into a namespace that is being deleted.
fn is_of_ending_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// The object's name and the time; of one whose name leaves no room for that, its uid and the time.
fn name_of(about: &ObjectReference, at: Timestamp) -> String {
    const BYTES_MAX: usize = 253;
    let named = |name: Option<&str>| format!("{}.{:x}", name.unwrap_or("pod"), at.as_nanosecond());
    let name = named(about.name.as_deref());
    match name.len() <= BYTES_MAX {
        true => name,
        false => named(about.uid.as_deref()),
    }
}

async fn send(
    client: &kube::Client,
    node_name: &str,
    note: &Note,
    observed: Observed,
) -> Result<(), kube::Error> {
    // events about what is in no namespace are kept in this one
    let namespace = note.about.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let whole = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    let (first, last) = (whole(observed.first), whole(note.at));
    if observed.repeated {
        let patch =
            json!({ "count": observed.count, "lastTimestamp": last, "message": observed.message });
        match events
            .patch(
                &observed.name,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
    }
    let event = Event {
        metadata: ObjectMeta {
            name: Some(observed.name),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(observed.message),
        type_: Some(note.kind.to_owned()),
        source: Some(EventSource {
            component: Some(note.component.into()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some(note.component.into()),
        reporting_instance: Some(node_name.to_owned()),
        first_timestamp: Some(first),
        last_timestamp: Some(last),
        count: Some(observed.count),
        ..Event::default()
    };
    let created = events.create(&PostParams::default(), &event).await;
    created.map(drop)
}

/// Where in the pod the container stands, as events name it.
fn field_path(pod: &Pod, name: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut init = spec.iter().flat_map(|spec| &spec.init_containers).flatten();
    let mut added = spec
        .iter()
        .flat_map(|spec| &spec.ephemeral_containers)
        .flatten();
    let list = if init.any(|one| one.name == name) {
        "initContainers"
    } else if added.any(|one| one.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    format!("spec.{list}{{{name}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_long_names_have_names_too() {
        let about = |name: &str| ObjectReference {
            name: Some(name.to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectReference::default()
        };
        let at = Timestamp::from_second(1_700_000_000).expect("a time");
        assert!(name_of(&about("web"), at).starts_with("web."));
        assert!(name_of(&about(&"a".repeat(250)), at).starts_with("u."));
        assert!(name_of(&ObjectReference::default(), at).starts_with("pod."));
    }
}
