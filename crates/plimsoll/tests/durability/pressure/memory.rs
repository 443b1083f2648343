//! Memory and process ids run short: by thresholds that no machine can keep.

use rustix::process::{Pid, Signal, kill_process};

use super::super::machine::Machine;
use super::super::run::eventually;
use super::{becomes, condition, evicted, idle, node, ready, taints};

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

    let told = machine.plimsoll("status").out;
    assert!(
        told.contains("MemoryPressure: kubelet has insufficient memory available"),
        "{told}"
    );

    stop_daemon(&machine);
    // images that could be collected there are none
    machine.plimsoll("up --image-gc-high=1").ok();
    ready(&machine, "pod/waiting");
    assert_eq!(taints(&machine), "");
    for name in ["hog", "little", "modest"] {
        evicted(&machine, name, "memory");
    }
    eventually("the collector of images tells that it failed", || {
        let told = machine.kubectl("get events --field-selector reason=FreeDiskSpaceFailed -o jsonpath={.items[*].message}").ok();
        let words = "Failed to garbage collect required amount of images. Attempted to free ";
        if told.starts_with(words) && told.contains(" bytes eligible to free.") {
            Ok(())
        } else {
            Err(told)
        }
    });

    stop_daemon(&machine);
    machine
        .plimsoll("up --eviction-hard=pid.available<100% --eviction-transition=2s")
        .ok();
    evicted(&machine, "waiting", "pids");
    assert_eq!(
        condition(&machine, "PIDPressure"),
        "True/KubeletHasInsufficientPID"
    );
    becomes(
        "taints",
        "node.kubernetes.io/pid-pressure:NoSchedule",
        || taints(&machine),
    );
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
