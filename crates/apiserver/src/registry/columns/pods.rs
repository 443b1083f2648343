//! Columns of pods: readiness and one word for how the pod is doing (upstream `printPod`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, name, or, string, wide};
use crate::object::{at, items, text};

pub const POD: &[Column] = &[
    NAME,
    string("Ready"),
    string("Status"),
    string("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or(0);
        let finished = text(status, &["lastState", "terminated", "finishedAt"])
            .parse::<Timestamp>()
            .ok();
        self.last = self.last.max(finished);
    }

    fn show(&self) -> String {
        match self.last {
            Some(at) if self.count != 0 => {
                let ago = crate::time::human(Timestamp::now().as_second() - at.as_second());
                format!("{} ({ago} ago)", self.count)
            }
            _ => self.count.to_string(),
        }
    }
}

fn restartable_init(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// Why a terminated container ended, in one word.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, &["reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match terminated["signal"].as_i64() {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
    }
}

pub fn pod(object: &Value) -> Vec<Value> {
    let containers = items(object, &["spec", "containers"]);
    let inits = items(object, &["spec", "initContainers"]);
    let statuses = items(object, &["status", "containerStatuses"]);
    let init_statuses = items(object, &["status", "initContainerStatuses"]);
    let phase = text(object, &["status", "phase"]);
    let mut reason = phase.to_owned();
    if !text(object, &["status", "reason"]).is_empty() {
        reason = text(object, &["status", "reason"]).to_owned();
    }
    let conditions = items(object, &["status", "conditions"]);
    if conditions
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let mut total = containers.len();
    let mut ready = 0;
    let mut restarts = Restarts::default();
    let mut sidecars = Restarts::default();
    let is_sidecar = |n: usize, status: &Value| {
        let by_name = inits.iter().find(|c| c["name"] == status["name"]);
        by_name
            .or_else(|| inits.get(n))
            .is_some_and(restartable_init)
    };
    total += inits.iter().filter(|c| restartable_init(c)).count();

    let mut initialising = false;
    for (n, status) in init_statuses.iter().enumerate() {
        let sidecar = is_sidecar(n, status);
        restarts.add(status);
        if sidecar {
            sidecars.add(status);
        }
        let terminated = at(status, &["state", "terminated"]);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if let Some(terminated) = terminated
            && terminated["exitCode"].as_i64().unwrap_or(0) == 0
        {
            continue;
        }
        if sidecar && status["started"] == true {
            if status["ready"] == true {
                ready += 1;
            }
            continue;
        }
        reason = if let Some(terminated) = terminated {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{n}/{}", inits.len())
        };
        initialising = true;
        break;
    }
    let initialized = conditions
        .iter()
        .any(|c| c["type"] == "Initialized" && c["status"] == "True");
    if !initialising || initialized {
        restarts = sidecars;
        let mut running = false;
        for status in statuses.iter().rev() {
            restarts.add(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(terminated) = at(status, &["state", "terminated"]) {
                reason = ended(terminated);
            } else if status["ready"] == true && at(status, &["state", "running"]).is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            let pod_ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            reason = if pod_ready {
                "Running".into()
            } else {
                "NotReady".into()
            };
        }
    }
    if at(object, &["metadata", "deletionTimestamp"]).is_some() {
        if text(object, &["status", "reason"]) == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            reason = "Terminating".into();
        }
    }
    let gates = items(object, &["spec", "readinessGates"]);
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let met = gates
            .iter()
            .filter(|g| {
                conditions
                    .iter()
                    .any(|c| c["type"] == g["conditionType"] && c["status"] == "True")
            })
            .count();
        format!("{met}/{}", gates.len())
    };
    let ip = items(object, &["status", "podIPs"])
        .first()
        .map_or("", |ip| text(ip, &["ip"]));
    let ip = if ip.is_empty() {
        text(object, &["status", "podIP"])
    } else {
        ip
    };
    vec![
        name(object),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.show().into(),
        age(object),
        or(ip, "<none>"),
        or(text(object, &["spec", "nodeName"]), "<none>"),
        or(text(object, &["status", "nominatedNodeName"]), "<none>"),
        json!(gates),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(spec: Value, status: Value) -> (String, String, String) {
        let cells = pod(&json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
        let cell = |n: usize| cells[n].as_str().unwrap_or_default().to_owned();
        (cell(1), cell(2), cell(3))
    }

    #[test]
    fn status_words() {
        let one = json!({"containers": [{"name": "a"}]});
        let with_init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let cases = [
            (&one, json!({"phase": "Pending"}), ("0/1", "Pending", "0")),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {}}}]}),
                ("1/1", "Running", "0"),
            ),
            (
                &one,
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                ("0/1", "ContainerCreating", "0"),
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [{"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                ("0/1", "CrashLoopBackOff", "3"),
            ),
            (
                &one,
                json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
                ("0/1", "Completed", "0"),
            ),
            (
                &one,
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 7}}}]}),
                ("0/1", "ExitCode:7", "0"),
            ),
            (
                &one,
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 7, "signal": 9}}}]}),
                ("0/1", "Signal:9", "0"),
            ),
            (
                &with_init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                ("0/1", "Init:0/2", "0"),
            ),
            (
                &with_init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                ("0/1", "Init:Error", "2"),
            ),
            (
                &one,
                json!({"phase": "Failed", "reason": "Evicted"}),
                ("0/1", "Evicted", "0"),
            ),
        ];
        for (spec, status, (ready, reason, restarts)) in cases {
            let expected = (ready.to_owned(), reason.to_owned(), restarts.to_owned());
            assert_eq!(cells(spec.clone(), status.clone()), expected, "{status}");
        }
        let deleted = pod(
            &json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
        );
        assert_eq!(deleted[2], "Terminating");
    }
}
