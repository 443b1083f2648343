//! Services, endpoints and network policies, from the API to the network: what kube-proxy and a policy controller do on
//! other nodes.
//!
//! One task applies both, because the first application replaces what an earlier process left and must not lack either.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use network::{Network, PodPolicy};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::informer::{Objects, events};
use crate::policy::{self, PodView};
use crate::services;

/// The services that are known now; shared with the workers, who put them into environments.
pub type Known = Arc<RwLock<Vec<Service>>>;

/// How long a pod waits for its protection; then its worker tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What workers and the balancer share with the task.
pub struct Traffic {
    pub services: Known,
    /// Counts changes of services.
    pub changes: watch::Sender<u64>,
    policies: Mutex<Policies>,
    wake: Notify,
    /// The newest request (`Policies::wanted`) that the rules reflect.
    applied: watch::Sender<u64>,
}

#[derive(Default)]
struct Policies {
    policies: Objects<NetworkPolicy>,
    namespaces: Objects<Namespace>,
    pods: Objects<Pod>,
    /// Pods of this node by UID, with addresses that the API may not show yet.
    local: HashMap<String, PodView>,
    /// Counts requests of workers.
    wanted: u64,
}

impl Traffic {
    /// Waits until the services have been read for the first time.
    pub async fn read_once(&self) -> Result<(), String> {
        let mut changes = self.changes.subscribe();
        let read = changes.wait_for(|count| *count > 0);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(
                "services have not yet been read at least once, cannot construct envvars"
                    .to_owned(),
            ),
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            services: Known::default(),
            changes: watch::Sender::new(0),
            policies: Mutex::default(),
            wake: Notify::new(),
            applied: watch::Sender::new(0),
        }
    }
}

impl Traffic {
    /// Makes the policies that select a pod hold at its addresses. To be called before the first program of the pod runs;
    /// when it returns, no packet of it escapes them.
    ///
    /// # Errors
    /// When the rules could not be applied within ten seconds: nothing of the pod may run then.
    pub async fn protect(&self, pod: &Pod, addresses: &[IpAddr]) -> Result<(), String> {
        let mut applied = self.applied.subscribe();
        let wanted = {
            let mut state = self.policies.lock();
            let view = policy::view(pod, addresses);
            // Whoever had an address before is gone, or it would not have been given out.
            let shares = |other: &PodView| other.addresses.iter().any(|ip| addresses.contains(ip));
            state.local.retain(|_, other| !shares(other));
            state.local.insert(view.uid.clone(), view);
            let nothing_to_wait_for = state.complete() && state.policies.iter().next().is_none();
            if nothing_to_wait_for {
                return Ok(());
            }
            state.wanted += 1;
            state.wanted
        };
        self.wake.notify_one();
        let done = applied.wait_for(|applied| *applied >= wanted);
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!(
                "network policies could not be applied to {addresses:?} within {} s",
                PATIENCE.as_secs()
            )),
        }
    }

    /// Follows the API until `shutdown` and keeps the network's rules equal to it.
    pub async fn run(
        self: Arc<Self>,
        client: kube::Client,
        network: Network,
        node: String,
        shutdown: CancellationToken,
    ) {
        let all = watcher::Config::default;
        let mut service_events = events(Api::<Service>::all(client.clone()), all()).boxed();
        let mut slice_events = events(Api::<EndpointSlice>::all(client.clone()), all()).boxed();
        let mut policy_events = events(Api::<NetworkPolicy>::all(client.clone()), all()).boxed();
        let mut namespace_events = events(Api::<Namespace>::all(client.clone()), all()).boxed();
        let mut pod_events = events(Api::<Pod>::all(client), all()).boxed();
        let mut services: Objects<Service> = Objects::default();
        let mut slices: Objects<EndpointSlice> = Objects::default();
        let mut retry = Duration::from_secs(3600);
        let mut desired: Option<Vec<network::Service>> = None;
        // pods change often, services seldom: these are handed on when they are news
        let mut news = true;
        loop {
            let mut stale = false;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                Some(event) = service_events.next() => { services.take(event); stale = true; }
                Some(event) = slice_events.next() => { slices.take(event); stale = true; }
                Some(event) = policy_events.next() => self.policies.lock().policies.take(event),
                Some(event) = namespace_events.next() => self.policies.lock().namespaces.take(event),
                Some(event) = pod_events.next() => self.policies.lock().take_pod(event),
                () = tokio::time::sleep(retry) => {}
            }
            // what is ready already belongs to the same change
            while let Some(Some(event)) = service_events.next().now_or_never() {
                services.take(event);
                stale = true;
            }
            while let Some(Some(event)) = slice_events.next().now_or_never() {
                slices.take(event);
                stale = true;
            }
            while let Some(Some(event)) = policy_events.next().now_or_never() {
                self.policies.lock().policies.take(event);
            }
            while let Some(Some(event)) = namespace_events.next().now_or_never() {
                self.policies.lock().namespaces.take(event);
            }
            while let Some(Some(event)) = pod_events.next().now_or_never() {
                self.policies.lock().take_pod(event);
            }
            if stale && services.complete() && slices.complete() {
                *self.services.write() = services.iter().cloned().collect();
                self.changes.send_modify(|count| *count += 1);
                desired = Some(services::desired(services.iter(), slices.iter(), &node));
                news = true;
            }
            let (policies, wanted) = {
                let state = self.policies.lock();
                if !state.complete() {
                    continue;
                }
                (state.compile(&network), state.wanted)
            };
            let Some(desired) = &desired else { continue };
            let services_now = news.then(|| desired.clone());
            let applied = network.set_traffic(services_now, Some(policies)).await;
            news = applied.is_err();
            retry = match applied {
                Ok(()) => {
                    self.applied.send_modify(|applied| *applied = wanted);
                    Duration::from_secs(3600)
                }
                Err(error) => {
                    tracing::error!(%error, "rules of services and policies could not be applied; trying again in 1 s");
                    Duration::from_secs(1)
                }
            };
        }
    }
}

impl Policies {
    fn complete(&self) -> bool {
        self.policies.complete() && self.namespaces.complete() && self.pods.complete()
    }

    /// Keeps of a pod what policies look at: there may be many, and most of them is of no use here.
    fn take_pod(&mut self, event: watcher::Event<Pod>) {
        let event = match event {
            watcher::Event::Apply(pod) => watcher::Event::Apply(shortened(pod)),
            watcher::Event::InitApply(pod) => watcher::Event::InitApply(shortened(pod)),
            watcher::Event::Delete(pod) => {
                self.local.remove(&pod.uid().unwrap_or_default());
                watcher::Event::Delete(pod)
            }
            other => other,
        };
        let listed = matches!(event, watcher::Event::InitDone);
        self.pods.take(event);
        if listed {
            let pods: HashSet<String> = self.pods.iter().filter_map(ResourceExt::uid).collect();
            self.local.retain(|uid, _| pods.contains(uid));
        }
    }

    fn compile(&self, network: &Network) -> Vec<PodPolicy> {
        if self.policies.iter().next().is_none() {
            return Vec::new();
        }
        let namespaces: BTreeMap<String, policy::Labels> = self
            .namespaces
            .iter()
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect();
        let mut pods = self.views();
        pods.extend(policy::dns_server(&[
            network.gateway().into(),
            network.config().dns_ip.into(),
        ]));
        policy::compile(self.policies.iter(), &namespaces, &pods)
    }

    /// The pods that have an address. One that this node gave out belongs to whom it gave it last, whatever the API
    /// still shows; labels are the API's, because they change.
    fn views(&self) -> Vec<PodView> {
        let given: HashSet<&IpAddr> = self.local.values().flat_map(|v| &v.addresses).collect();
        let mut seen: HashSet<String> = HashSet::new();
        let mut views: Vec<PodView> = Vec::new();
        for pod in self.pods.iter() {
            let uid = pod.uid().unwrap_or_default();
            let addresses = match self.local.get(&uid) {
                Some(view) => view.addresses.clone(),
                None => {
                    let mut shown = shown_addresses(pod);
                    shown.retain(|address| !given.contains(address));
                    shown
                }
            };
            if !addresses.is_empty() {
                views.push(policy::view(pod, &addresses));
                seen.insert(uid);
            }
        }
        let unseen = self.local.values().filter(|view| !seen.contains(&view.uid));
        views.extend(unseen.cloned());
        views
    }
}

/// The addresses that the API shows, if they are the pod's own and still in use.
fn shown_addresses(pod: &Pod) -> Vec<IpAddr> {
    let (Some(status), Some(spec)) = (&pod.status, &pod.spec) else {
        return Vec::new();
    };
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if ended || spec.host_network == Some(true) {
        return Vec::new();
    }
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut found: Vec<IpAddr> = all
        .chain(&status.pod_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let mut seen = HashSet::new();
    found.retain(|ip| seen.insert(*ip));
    found
}

fn shortened(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    if let Some(status) = &mut pod.status {
        status.conditions = None;
        status.container_statuses = None;
        status.init_container_statuses = None;
    }
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.affinity = None;
        let init = spec.init_containers.iter_mut().flatten();
        for container in spec.containers.iter_mut().chain(init) {
            let kept = std::mem::take(container);
            container.name = kept.name;
            container.ports = kept.ports;
            container.restart_policy = kept.restart_policy;
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, ip: Option<&str>, more: serde_json::Value) -> Pod {
        let mut pod = json!({ "metadata": { "namespace": "n", "name": uid, "uid": uid, "labels": { "of": "api" } },
            "spec": { "containers": [] }, "status": { "podIP": ip } });
        for key in ["spec", "status"] {
            for (name, value) in more[key].as_object().into_iter().flatten() {
                pod[key][name] = value.clone();
            }
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn shown(state: &Policies) -> Vec<String> {
        let mut all: Vec<String> = state
            .views()
            .iter()
            .map(|view| {
                let ips: Vec<String> = view.addresses.iter().map(IpAddr::to_string).collect();
                format!("{} {}", view.uid, ips.join(" "))
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn an_address_belongs_to_whom_this_node_gave_it() {
        let mut state = Policies::default();
        state.take_pod(watcher::Event::Init);
        for pod in [
            pod("old", Some("10.0.0.2"), json!({})),
            pod("other", Some("10.0.0.3"), json!({})),
            pod("unready", None, json!({})),
            pod(
                "both",
                Some("10.0.0.5"),
                json!({ "status": { "podIPs": [{ "ip": "10.0.0.5" }, { "ip": "fd00::5" }] } }),
            ),
            pod(
                "ended",
                Some("10.0.0.4"),
                json!({ "status": { "phase": "Failed" } }),
            ),
            pod(
                "host",
                Some("10.0.0.1"),
                json!({ "spec": { "hostNetwork": true } }),
            ),
        ] {
            state.take_pod(watcher::Event::InitApply(pod));
        }
        state.take_pod(watcher::Event::InitDone);
        assert_eq!(
            shown(&state),
            ["both 10.0.0.5 fd00::5", "old 10.0.0.2", "other 10.0.0.3"]
        );
        let new = pod("new", None, json!({}));
        let view = policy::view(&new, &["10.0.0.2".parse().expect("an address")]);
        state.local.insert("new".into(), view);
        assert_eq!(
            shown(&state),
            ["both 10.0.0.5 fd00::5", "new 10.0.0.2", "other 10.0.0.3"]
        );
        state.take_pod(watcher::Event::Apply(new.clone()));
        assert_eq!(
            shown(&state),
            ["both 10.0.0.5 fd00::5", "new 10.0.0.2", "other 10.0.0.3"],
            "not twice"
        );
        state.take_pod(watcher::Event::Delete(new));
        assert_eq!(
            shown(&state),
            ["both 10.0.0.5 fd00::5", "old 10.0.0.2", "other 10.0.0.3"]
        );
    }
}
