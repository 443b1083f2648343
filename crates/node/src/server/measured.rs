//! What agents ask the kubelet for: `/metrics/resource`, `/metrics`, `/metrics/probes` and `/stats/summary`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use engine::ContainerStatus;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Api, flag};
use crate::container::label;
use crate::measure::claims::{self, Mounted, Space};
use crate::measure::own::{self, Figures, Process};
use crate::measure::samples::{PodName, Samples};
use crate::measure::summary::{self, Around, PodFacts};
use crate::measure::{self, Machine, resource, traffic};
use crate::pressure;

fn page(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// CPU and memory of what runs.
pub(super) async fn resources(State(api): State<Api>) -> Response {
    let samples = Samples::read(&api.shared.engine).await;
    page(resource::render(&samples, Machine::read()))
}

/// Probes are not counted.
pub(super) async fn probes() -> Response {
    page(String::new())
}

/// The process and what it runs.
pub(super) async fn of_process(State(api): State<Api>) -> Response {
    let engine = &api.shared.engine;
    let containers = of_pods(engine.containers().await);
    let sandboxes = engine.sandboxes().await;
    let running_pods = sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == engine::SandboxState::Running)
        .filter(|sandbox| api.pods.read().contains_key(&sandbox.id))
        .count();
    let states = [
        ("created", engine::State::Created),
        ("running", engine::State::Running),
        ("exited", engine::State::Exited),
    ];
    let states = states.map(|(name, state)| {
        let count = containers.values().flatten().filter(|c| c.state == state);
        (name, count.count())
    });
    let node = api.shared.config.name.clone();
    let pods: Vec<Arc<Pod>> = api.pods.read().values().cloned().collect();
    // file systems may take their time to answer
    let text = tokio::task::spawn_blocking(move || {
        let claims: Vec<_> = pods
            .iter()
            .flat_map(|pod| claims_of(pod, &containers))
            .collect();
        own::render(&Figures {
            node: &node,
            process: Process::read(),
            running_pods,
            containers: &states,
            claims: &claims,
        })
    });
    page(text.await.unwrap_or_default())
}

/// The node and its pods in one document; `only_cpu_and_memory=true`: the short form.
pub(super) async fn summary(
    State(api): State<Api>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let samples = Samples::read(&api.shared.engine).await;
    let containers = of_pods(api.shared.engine.containers().await);
    let short = flag(&query, "only_cpu_and_memory");
    let document = tokio::task::spawn_blocking(move || {
        let around = around(&api, &containers, short);
        summary::document(&samples, &around, &api.rates)
    });
    axum::Json(document.await.unwrap_or_default()).into_response()
}

/// Containers of pods, by the pod's uid.
fn of_pods(containers: Vec<ContainerStatus>) -> HashMap<String, Vec<ContainerStatus>> {
    let mut pods: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
    for status in containers {
        if let Some(uid) = status.spec.labels.get(label::POD_UID) {
            pods.entry(uid.clone()).or_default().push(status);
        }
    }
    pods
}

fn claims_of(
    pod: &Pod,
    containers: &HashMap<String, Vec<ContainerStatus>>,
) -> Vec<(PodName, Mounted, Space)> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let of_pod: Vec<&ContainerStatus> = containers.get(&uid).into_iter().flatten().collect();
    let name = PodName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid,
    };
    claims::mounted(pod, &of_pod)
        .into_iter()
        .filter_map(|mounted| {
            let space = Space::of(&mounted.path)?;
            Some((name.clone(), mounted, space))
        })
        .collect()
}

fn around(api: &Api, containers: &HashMap<String, Vec<ContainerStatus>>, short: bool) -> Around {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let booted = measure::boot_seconds(&read("/proc/stat"));
    let mut around = Around {
        node: api.shared.config.name.clone(),
        machine: Machine::read(),
        memory_available_bytes: measure::memory(&meminfo).map(|(_, available)| available),
        memory_used_bytes: measure::memory_not_free(&meminfo),
        booted: booted.and_then(|at| Timestamp::from_second(i64::try_from(at).ok()?).ok()),
        ..Around::default()
    };
    let pods: Vec<Arc<Pod>> = api.pods.read().values().cloned().collect();
    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let started = pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.clone());
        let mut facts = PodFacts {
            started: started.map(|time| time.0),
            ..PodFacts::default()
        };
        if !short {
            facts.interfaces = interfaces_of(&pod, containers.get(&uid));
            let claims = claims_of(&pod, containers).into_iter();
            facts.volumes = claims.map(|(_, mounted, space)| (mounted, space)).collect();
        }
        around.pods.insert(uid, facts);
    }
    if !short {
        around.interfaces = traffic::interfaces(&read("/proc/net/dev"));
        let way_out = read("/proc/net/route");
        around.way_out = traffic::default_interface(&way_out).map(str::to_owned);
        around.disk = Space::of(&api.shared.config.state_dir);
        around.images = Space::of(api.shared.images.directory());
        around.tasks = pressure::tasks_of_machine();
    }
    around
}

/// Traffic of a pod that has a network of its own, which its processes see.
fn interfaces_of(pod: &Pod, containers: Option<&Vec<ContainerStatus>>) -> Vec<traffic::Interface> {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return Vec::new();
    }
    let pid = containers
        .into_iter()
        .flatten()
        .find_map(|status| status.pid);
    let text = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
    traffic::interfaces(&text.unwrap_or_default())
}
