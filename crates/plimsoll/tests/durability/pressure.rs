//! Running short: what is reclaimed, who has to go and in which order, who is kept away meanwhile, and how it ends.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::machine::Machine;
use super::run::{command, eventually, run};

/// A pod that writes so many MiB into its emptyDir and is ready then.
fn writer(name: &str, mib: u32, requests: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: writer}}}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: main
    image: "busybox:static"
    command: [sh, -c, "dd if=/dev/zero of=/data/x bs=1M count={mib} && touch /data/done; exec sleep 100000"]
    resources: {{requests: {{{requests}}}}}
    readinessProbe: {{exec: {{command: [test, -e, /data/done]}}, periodSeconds: 1}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
---
"#
    )
}

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

/// Takes space until so many percent of the disk are left.
fn leave(machine: &Machine, name: &str, percent: u64) {
    let disk = machine.disk.path();
    let stat = rustix::fs::statvfs(&disk).expect("statvfs");
    let left = stat.f_blocks * stat.f_frsize * percent / 100;
    let take = (stat.f_bavail * stat.f_frsize)
        .checked_sub(left)
        .expect("more is left");
    let file = disk.join(name);
    run(command(
        "fallocate",
        &format!("-l {take} {}", file.display()),
    ))
    .ok();
}

fn images(machine: &Machine) -> String {
    machine.docker("images -a -q --no-trunc").ok()
}

fn stop_daemon(machine: &Machine) {
    let pid = i32::try_from(machine.daemon_pid()).expect("a pid");
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::TERM).expect("told to end");
    eventually("the daemon has ended", || {
        let status = machine.plimsoll("status");
        if status.code == 3 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

#[test]
fn a_disk_that_fills_up_costs_rubbish_first_then_pods_in_order() {
    let machine = Machine::new(320).with_environment(&[
        (
            "PLIMSOLL_EVICTION_HARD",
            "nodefs.available<20%,imagefs.available<20%".into(),
        ),
        ("PLIMSOLL_EVICTION_TRANSITION", "2s".into()),
        ("PLIMSOLL_IMAGE_GC_HIGH", "100".into()),
        ("PLIMSOLL_IMAGE_GC_AGE", "0s".into()),
    ]);
    let machine = machine.started();
    assert_eq!(taints(&machine), "");

    // an image that was replaced by a newer build, and the newer one
    let context = machine.disk.outside().join("context");
    fs::create_dir(&context).expect("a directory");
    let mut built = Vec::new();
    for (version, mib) in [("old", 40), ("new", 5)] {
        let text =
            format!("FROM busybox:static\nRUN dd if=/dev/zero of=/{version} bs=1M count={mib}\n");
        fs::write(context.join("Dockerfile"), text).expect("written");
        machine
            .docker(&format!("build -q -t app {}", context.display()))
            .ok();
        built.push(
            machine
                .docker("images -q --no-trunc app")
                .ok()
                .trim()
                .to_owned(),
        );
    }
    machine
        .docker("run -d --name bystander busybox:static sleep 100000")
        .ok();
    let pods = writer("big", 60, "")
        + &writer("small", 10, "")
        + &writer("modest", 12, "ephemeral-storage: 20Mi");
    machine.apply(&pods).ok();
    ready(&machine, "pod -l app=writer");
    assert!(images(&machine).contains(&built[0]));

    leave(&machine, "first", 12);
    eventually("what nobody needs is gone", || {
        let images = images(&machine);
        if images.contains(&built[0]) {
            Err(images)
        } else {
            Ok(())
        }
    });
    assert!(
        images(&machine).contains(&built[1]),
        "what was built here stays"
    );
    becomes("DiskPressure", "False/KubeletHasNoDiskPressure", || {
        condition(&machine, "DiskPressure")
    });
    becomes("taints", "", || taints(&machine));
    let events = machine.kubectl("get events --field-selector involvedObject.kind=Node -o jsonpath={range.items[*]}{.reason}/{.message};{end}").ok();
    for part in [
        "EvictionThresholdMet/Attempting to reclaim ephemeral-storage;",
        "NodeHasDiskPressure/Node ",
        "NodeHasNoDiskPressure/Node ",
    ] {
        assert!(events.contains(part), "{part} is not in {events}");
    }
    for name in ["big", "small", "modest"] {
        assert_eq!(phase(&machine, name), "Running/", "{name} was not needed");
    }

    leave(&machine, "second", 10);
    let first = evicted(&machine, "big", "ephemeral-storage");
    let uid = machine.get("pod big")["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned();
    assert!(
        !machine
            .data_dir
            .join("node/pods")
            .join(&uid)
            .join("volumes/data")
            .exists(),
        "its space is given back"
    );
    becomes("DiskPressure", "False/KubeletHasNoDiskPressure", || {
        condition(&machine, "DiskPressure")
    });
    for name in ["small", "modest"] {
        assert_eq!(phase(&machine, name), "Running/", "the first was enough");
    }

    leave(&machine, "third", 8);
    let second = evicted(&machine, "small", "ephemeral-storage");
    let third = evicted(&machine, "modest", "ephemeral-storage");
    assert!(first < second && second < third, "{first} {second} {third}");
    // nothing is left that could go, and the node stays short
    becomes("DiskPressure", "True/KubeletHasDiskPressure", || {
        condition(&machine, "DiskPressure")
    });
    becomes(
        "taints",
        "node.kubernetes.io/disk-pressure:NoSchedule",
        || taints(&machine),
    );
    let name = node(&machine)["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    machine
        .apply(&(idle("waiting", "") + &idle("bound", &format!("nodeName: {name}"))))
        .ok();
    becomes("bound", "Failed/Evicted", || phase(&machine, "bound"));
    let bound = machine.get("pod bound");
    assert_eq!(
        bound["status"]["message"],
        "Pod was rejected: The node had condition: [DiskPressure]. "
    );
    assert_eq!(
        bound["status"]["containerStatuses"],
        Value::Null,
        "nothing of it ran"
    );
    eventually("the other one waits", || {
        let told = machine.kubectl("get events --field-selector involvedObject.name=waiting,reason=FailedScheduling -o jsonpath={.items[*].message}").ok();
        if told.contains("1 node(s) had untolerated taint(s)") {
            Ok(())
        } else {
            Err(told)
        }
    });
    assert_eq!(
        machine.container("bystander"),
        "running/0",
        "Docker's containers are not pods"
    );

    for name in ["first", "second", "third"] {
        fs::remove_file(machine.disk.path().join(name)).expect("removed");
    }
    ready(&machine, "pod/waiting");
    assert_eq!(taints(&machine), "");
    assert_eq!(
        condition(&machine, "DiskPressure"),
        "False/KubeletHasNoDiskPressure"
    );
    assert!(images(&machine).contains(&built[1]));
    assert_eq!(machine.docker("run --rm app echo runs").ok(), "runs\n");
}

#[test]
fn memory_that_runs_short_costs_who_takes_more_than_asked_for() {
    let machine = Machine::new(160).started();
    let hog = r#"
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  containers:
  - name: main
    image: "busybox:static"
    command: [sh, -c, "dd if=/dev/zero of=/mem/x bs=1M count=30 && touch /mem/done; exec sleep 100000"]
    readinessProbe: {exec: {command: [test, -e, /mem/done]}, periodSeconds: 1}
    volumeMounts: [{name: mem, mountPath: /mem}]
  volumes: [{name: mem, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  containers: [{name: main, image: "busybox:static", command: [sleep, "100000"], resources: {requests: {memory: 50Mi}}}]
---
"#;
    machine.apply(&(hog.to_owned() + &idle("little", ""))).ok();
    ready(&machine, "pod/hog pod/modest pod/little");
    let (capacity, room) = (
        memory(&machine, "capacity"),
        memory(&machine, "allocatable"),
    );
    assert!(
        room < capacity && room > capacity / 2,
        "{room} of {capacity}"
    );

    stop_daemon(&machine);
    // more than any machine has
    machine
        .plimsoll("up --eviction-hard=memory.available<100Ti --eviction-transition=2s")
        .ok();
    let first = evicted(&machine, "hog", "memory");
    let message = machine.get("pod hog")["status"]["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    assert!(
        message.contains("Threshold quantity: 100Ti, available: "),
        "{message}"
    );
    assert!(
        message.contains(". Container main was using ")
            && message.ends_with(", request is 0, has larger consumption of memory. "),
        "{message}"
    );
    let second = evicted(&machine, "little", "memory");
    let third = evicted(&machine, "modest", "memory");
    assert!(first < second && second < third, "{first} {second} {third}");
    assert_eq!(
        condition(&machine, "MemoryPressure"),
        "True/KubeletHasInsufficientMemory"
    );
    becomes(
        "taints",
        "node.kubernetes.io/memory-pressure:NoSchedule",
        || taints(&machine),
    );
    machine.apply(&idle("waiting", "")).ok();

    stop_daemon(&machine);
    machine.plimsoll("up").ok();
    ready(&machine, "pod/waiting");
    assert_eq!(taints(&machine), "");
    for name in ["hog", "little", "modest"] {
        evicted(&machine, name, "memory");
    }
}

/// Bytes, from `123Ki`.
fn memory(machine: &Machine, of: &str) -> u64 {
    let node = node(machine);
    let text = node["status"][of]["memory"]
        .as_str()
        .expect("memory")
        .to_owned();
    text.trim_end_matches("Ki")
        .parse::<u64>()
        .expect("a number")
        * 1024
}
