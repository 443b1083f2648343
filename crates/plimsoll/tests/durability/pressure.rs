//! Running short: what is reclaimed, who has to go and in which order, who is kept away meanwhile, and how it ends.

mod disk;
mod memory;

use serde_json::Value;

use super::machine::Machine;
use super::run::eventually;

/// A pod that does nothing; bound by hand if a node is named.
fn idle(name: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  {more}
  containers: [{{name: main, image: "busybox:static", command: [sleep, "100000"]}}]
---
"#
    )
}

fn node(machine: &Machine) -> Value {
    machine.get("nodes")["items"][0].clone()
}

/// `STATUS/REASON` of a condition of the node.
fn condition(machine: &Machine, kind: &str) -> String {
    let node = node(machine);
    let conditions = node["status"]["conditions"].as_array().expect("conditions");
    let found = conditions.iter().find(|one| one["type"] == kind);
    let found = found.expect("the condition");
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("status"), text("reason"))
}

fn taints(machine: &Machine) -> String {
    let node = node(machine);
    let taints = node["spec"]["taints"].as_array().cloned();
    let taints = taints.unwrap_or_default();
    let texts: Vec<String> = taints
        .iter()
        .map(|taint| {
            format!(
                "{}:{}",
                taint["key"].as_str().unwrap_or_default(),
                taint["effect"].as_str().unwrap_or_default()
            )
        })
        .collect();
    texts.join(" ")
}

#[track_caller]
fn becomes(what: &str, wanted: &str, mut look: impl FnMut() -> String) {
    eventually(&format!("{what} is {wanted}"), || {
        let found = look();
        if found == wanted { Ok(()) } else { Err(found) }
    });
}

#[track_caller]
fn ready(machine: &Machine, pods: &str) {
    machine
        .kubectl(&format!("wait --for=condition=Ready --timeout=90s {pods}"))
        .ok();
}

fn phase(machine: &Machine, pod: &str) -> String {
    let pod = machine.get(&format!("pod {pod}"));
    let text = |key: &str| pod["status"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("phase"), text("reason"))
}

/// The pod was evicted, in upstream's words; the version of its object.
#[track_caller]
fn evicted(machine: &Machine, name: &str, resource: &str) -> u64 {
    becomes(name, "Failed/Evicted", || phase(machine, name));
    let pod = machine.get(&format!("pod {name}"));
    let message = pod["status"]["message"].as_str().expect("a message");
    let start = format!("The node was low on resource: {resource}. Threshold quantity: ");
    assert!(
        message.starts_with(&start) && message.contains(", available: "),
        "{message}"
    );
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let target = conditions
        .iter()
        .find(|one| one["type"] == "DisruptionTarget");
    let target = target.expect("a condition DisruptionTarget");
    assert_eq!(target["status"], "True");
    assert_eq!(target["reason"], "TerminationByKubelet");
    assert_eq!(target["message"].as_str(), Some(message));
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert!(ended["exitCode"].is_i64(), "its end is told: {pod}");
    let events = machine
        .kubectl(&format!(
            "get events --field-selector involvedObject.name={name},reason=Evicted -o name"
        ))
        .ok();
    assert_eq!(events.lines().count(), 1, "{events}");
    let version = pod["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    version.parse().expect("a number")
}
