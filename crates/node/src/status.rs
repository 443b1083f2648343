//! The status of a pod, computed from what its containers do: phase, conditions, container statuses.
//!
//! Follows the kubelet's `getPhase` and `pkg/kubelet/status/generate.go`.

pub mod change;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resize::Resizing;
use crate::resources::qos_class;

/// What one container does now.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: Timestamp,
    },
    Terminated {
        code: i32,
        reason: String,
        message: Option<String>,
        started: Option<Timestamp>,
        finished: Timestamp,
    },
}

impl Doing {
    /// Waiting for a reason that needs no further words.
    pub fn waiting(reason: &str) -> Self {
        Self::Waiting {
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    fn state(&self, container_id: Option<&str>) -> ContainerState {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match self {
            Self::Waiting { reason, message } => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: text(reason),
                    message: text(message),
                }),
                ..ContainerState::default()
            },
            Self::Running { since } => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(whole_seconds(*since)),
                }),
                ..ContainerState::default()
            },
            Self::Terminated {
                code,
                reason,
                message,
                started,
                finished,
            } => ContainerState {
                terminated: Some(ContainerStateTerminated {
                    container_id: container_id.map(str::to_owned),
                    exit_code: *code,
                    reason: Some(reason.clone()),
                    message: message.clone(),
                    started_at: started.map(whole_seconds),
                    finished_at: Some(whole_seconds(*finished)),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            },
        }
    }
}

/// One container of the pod as the node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub name: String,
    pub image: String,
    pub image_id: String,
    /// With scheme: `plimsoll://…`.
    pub container_id: Option<String>,
    pub doing: Doing,
    /// How the attempt before this one ended, with its container ID.
    pub last: Option<(String, Doing)>,
    pub restarts: i32,
    /// Readiness probe passed (or none), and running.
    pub ready: bool,
    /// Startup probe passed (or none), and running.
    pub started: bool,
    /// An init container that keeps running beside the others (`restartPolicy: Always`).
    pub sidecar: bool,
    /// Whether it starts again after its end, where it has rules or a policy of its own to say so.
    pub again: Option<bool>,
    /// What it was given, once it was started.
    pub resources: Option<ResourceRequirements>,
}

/// Everything that the status is made of.
pub struct Observed<'a> {
    pub pod: &'a Pod,
    pub init: &'a [View],
    pub containers: &'a [View],
    /// Those that were added to the running pod; they say nothing of how it is.
    pub ephemeral: &'a [View],
    pub sandbox_ready: bool,
    /// The first one first.
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    pub start_time: Timestamp,
    pub now: Timestamp,
    /// Nothing of the pod starts again, because it is being deleted.
    pub ending: bool,
    /// How it stands with resources that running containers were asked to have.
    pub resizing: Option<&'a Resizing>,
    /// Reason and message when the pod failed as a whole.
    pub failure: Option<(&'a str, &'a str)>,
}

/// The conditions that nobody but the node writes.
const OWN_CONDITIONS: [&str; 6] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodResizePending",
    "PodResizeInProgress",
];

/// The API's times have whole seconds.
fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. `ending`: nothing starts again, whatever the policy.
pub fn phase(
    restart_policy: &str,
    init: &[View],
    containers: &[View],
    ending: bool,
) -> &'static str {
    let (mut waiting, mut running, mut stopped, mut failed) = (0, 0, 0, 0);
    let (mut init_pending, mut init_failed, mut sidecars_pending) = (false, false, false);
    for view in init.iter().filter(|view| !view.sidecar) {
        match (&view.doing, &view.last) {
            (Doing::Terminated { code, .. }, _)
            | (Doing::Waiting { .. }, Some((_, Doing::Terminated { code, .. }))) => {
                let again = view.again.unwrap_or(restart_policy != "Never");
                init_failed |= *code != 0 && !again;
                init_pending |= *code != 0 && again;
            }
            _ => init_pending = true,
        }
    }
    for view in init.iter().filter(|view| view.sidecar) {
        match (&view.doing, &view.last) {
            (Doing::Running { .. }, _) => {
                running += 1;
                sidecars_pending |= !view.started;
            }
            (Doing::Waiting { .. }, None) => {
                waiting += 1;
                sidecars_pending = true;
            }
            // one that stopped does not decide over the pod
            _ => {}
        }
    }
    for view in containers {
        match (&view.doing, &view.last) {
            (Doing::Running { .. }, _) => running += 1,
            (Doing::Terminated { .. }, _) | (Doing::Waiting { .. }, Some(_))
                if view.again == Some(true) && !ending =>
            {
                running += 1;
            }
            (Doing::Terminated { code, .. }, _) => {
                stopped += 1;
                failed += usize::from(*code != 0);
            }
            (Doing::Waiting { .. }, Some(_)) => {
                stopped += 1;
                failed += 1;
            }
            (Doing::Waiting { .. }, None) => waiting += 1,
        }
    }
    if init_failed {
        return "Failed";
    }
    let initialized = containers
        .iter()
        .any(|view| !matches!(view.doing, Doing::Waiting { .. }) || view.last.is_some());
    if init_pending || sidecars_pending && !initialized || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    let by_policy = containers.iter().any(|view| view.again.is_none());
    match (stopped, failed) {
        (0, _) => "Pending",
        (_, 0) if ending => "Succeeded",
        _ if ending => "Failed",
        _ if restart_policy == "Always" && by_policy => "Running",
        (_, 0) => "Succeeded",
        _ if restart_policy == "Never" || !by_policy => "Failed",
        _ => "Running",
    }
}

/// The whole status, with transition times kept where nothing changed.
pub fn pod_status(observed: &Observed) -> PodStatus {
    let empty = PodStatus::default();
    let before = observed.pod.status.as_ref().unwrap_or(&empty);
    let spec = observed.pod.spec.clone().unwrap_or_default();
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    // what has ended stays ended
    let over = before
        .phase
        .as_deref()
        .filter(|phase| matches!(*phase, "Succeeded" | "Failed"));
    let phase = match over {
        Some(phase) => phase,
        None if observed.failure.is_some() => "Failed",
        None => match phase(policy, observed.init, observed.containers, observed.ending) {
            // Whoever keeps the object by a finalizer is told that nothing of it comes any more, as the kubelet does.
            "Pending" | "Running" if observed.ending => "Failed",
            phase => phase,
        },
    };
    let done = matches!(phase, "Succeeded" | "Failed");

    let unready: Vec<&str> = observed
        .init
        .iter()
        .filter(|view| view.sidecar)
        .chain(observed.containers)
        .filter(|view| !view.ready)
        .map(|view| view.name.as_str())
        .collect();
    let containers_ready = if phase == "Succeeded" {
        (false, "PodCompleted", String::new())
    } else if phase == "Failed" {
        (false, "PodFailed", String::new())
    } else if unready.is_empty() {
        (true, "", String::new())
    } else {
        (
            false,
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )
    };
    // a sidecar that starts again later does not undo what was begun
    let begun = observed
        .containers
        .iter()
        .any(|view| !matches!(view.doing, Doing::Waiting { .. }) || view.last.is_some());
    let uninitialized: Vec<&str> = observed
        .init
        .iter()
        .filter(|view| {
            if view.sidecar {
                !view.started && !begun
            } else {
                !matches!(view.doing, Doing::Terminated { code: 0, .. })
            }
        })
        .map(|view| view.name.as_str())
        .collect();
    let initialized = if phase == "Succeeded" {
        (true, "PodCompleted", String::new())
    } else if uninitialized.is_empty() {
        (true, "", String::new())
    } else {
        (
            false,
            "ContainersNotInitialized",
            format!(
                "containers with incomplete status: [{}]",
                uninitialized.join(" ")
            ),
        )
    };
    let gates = spec.readiness_gates.iter().flatten();
    let closed: Vec<String> = gates
        .filter_map(|gate| {
            let gate = gate.condition_type.as_str();
            let mut told = before.conditions.iter().flatten();
            match told
                .find(|condition| condition.type_ == gate)
                .map(|condition| &*condition.status)
            {
                Some("True") => None,
                Some(status) => Some(format!(
                    "the status of pod readiness gate \"{gate}\" is not \"True\", but {status}"
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{gate}\" does not exist."
                )),
            }
        })
        .collect();
    let ready = if containers_ready.0 && !closed.is_empty() {
        (false, "ReadinessGatesNotReady", closed.join(", "))
    } else {
        containers_ready.clone()
    };

    let mut conditions: Vec<PodCondition> = Vec::new();
    for (kind, (holds, reason, message)) in [
        (
            "PodReadyToStartContainers",
            (observed.sandbox_ready && !done, "", String::new()),
        ),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ] {
        conditions.push(condition(before, observed, kind, holds, reason, message));
    }
    if let Some(resizing) = observed.resizing.filter(|_| !done) {
        let (kind, reason, message) = match resizing {
            Resizing::Pending { reason, message } => ("PodResizePending", *reason, message.clone()),
            Resizing::InProgress { error: None } => ("PodResizeInProgress", "", String::new()),
            Resizing::InProgress { error: Some(error) } => {
                ("PodResizeInProgress", "Error", error.clone())
            }
        };
        conditions.push(condition(before, observed, kind, true, reason, message));
    }
    conditions.extend(
        before
            .conditions
            .iter()
            .flatten()
            .filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str()))
            .cloned(),
    );
    if !conditions.iter().any(|c| c.type_ == "PodScheduled") {
        conditions.push(condition(
            before,
            observed,
            "PodScheduled",
            true,
            "",
            String::new(),
        ));
    }

    let statuses = |views: &[View]| views.iter().map(container_status).collect::<Vec<_>>();
    let kept = |text: &Option<String>| over.and(text.clone());
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: kept(&before.reason)
            .or_else(|| observed.failure.map(|(reason, _)| reason.to_owned())),
        message: kept(&before.message)
            .or_else(|| observed.failure.map(|(_, message)| message.to_owned())),
        conditions: Some(conditions),
        container_statuses: Some(statuses(observed.containers)),
        init_container_statuses: (!observed.init.is_empty()).then(|| statuses(observed.init)),
        ephemeral_container_statuses: (!observed.ephemeral.is_empty())
            .then(|| statuses(observed.ephemeral)),
        host_ip: observed.host_ips.first().cloned(),
        host_ips: Some(owned(observed.host_ips, |ip| HostIP { ip })),
        pod_ip: observed.pod_ips.first().cloned(),
        pod_ips: (!observed.pod_ips.is_empty()).then(|| owned(observed.pod_ips, |ip| PodIP { ip })),
        qos_class: Some(qos_class(&spec).to_owned()),
        start_time: Some(whole_seconds(observed.start_time)),
        observed_generation: observed.pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn owned<T>(ips: &[String], make: impl Fn(String) -> T) -> Vec<T> {
    ips.iter().cloned().map(make).collect()
}

fn condition(
    before: &PodStatus,
    observed: &Observed,
    kind: &str,
    holds: bool,
    reason: &str,
    message: String,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let previous = before
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        last_transition_time: previous
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(whole_seconds(observed.now))),
        observed_generation: observed.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn container_status(view: &View) -> ContainerStatus {
    ContainerStatus {
        name: view.name.clone(),
        image: view.image.clone(),
        image_id: view.image_id.clone(),
        container_id: view.container_id.clone(),
        state: Some(view.doing.state(view.container_id.as_deref())),
        last_state: Some(
            view.last
                .as_ref()
                .map(|(id, doing)| doing.state(Some(id)))
                .unwrap_or_default(),
        ),
        ready: view.ready,
        started: Some(view.started),
        restart_count: view.restarts,
        allocated_resources: view
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.clone()),
        resources: view.resources.clone(),
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests;
