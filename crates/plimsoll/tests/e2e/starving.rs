//! Pods that take all they can get: the daemon still answers and acts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Instance, Space, alone, holds, with_images};

/// More processes that do nothing but count than any test machine has processors.
const GREEDY: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: greedy}
spec:
  replicas: 4
  selector: {matchLabels: {app: greedy}}
  template:
    metadata: {labels: {app: greedy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: 'busybox:static', command: [sh, -c, "n=0; while [ $n -lt 8 ]; do n=$((n+1)); (while :; do :; done) & done; wait"]}
"#;

/// Where the kernel keeps what it was told about the instance.
fn file(instance: &Instance, controller: &str, file: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let legacy = root.join(controller).join(&instance.name);
    let group = if legacy.is_dir() {
        legacy
    } else {
        root.join(&instance.name)
    };
    group.join(file)
}

fn number(path: &Path) -> u64 {
    let text = fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let number = text.trim().parse();
    number.unwrap_or_else(|_| panic!("{}: {text}", path.display()))
}

fn kibibytes(space: &Space, of: &str) -> u64 {
    let text = space.field("nodes", &format!(".items[0].status.{of}.memory"));
    text.trim_end_matches("Ki").parse().expect("Ki")
}

fn oom_score(pid: u64) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a process");
    text.trim().parse().expect("a number")
}

pub fn the_daemon_answers_and_acts_while_pods_burn_all_processors() {
    let _load = alone();
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "starving");
        space.apply(GREEDY);
        space.rolled_out("greedy");

        // what pods may take is less than there is, in what the scheduler is told and in what the kernel is
        let (capacity, room) = (
            kibibytes(&space, "capacity"),
            kibibytes(&space, "allocatable"),
        );
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (limit, weight, rest) = if unified {
            ("memory.max", "cpu.weight", 100)
        } else {
            ("memory.limit_in_bytes", "cpu.shares", 1024)
        };
        let limit = number(&file(&instance, "memory", &format!("pods/{limit}"))) / 1024;
        assert!(
            room < limit && limit < capacity,
            "{room} {limit} {capacity}"
        );
        let of = |name: &str| number(&file(&instance, "cpu", &format!("{name}{weight}")));
        assert!(of("") < rest, "the daemon, outside, comes first");
        assert!(of("pods/") < of("supervisors/"));
        // memory: the kernel kills pods before the daemon
        let pod = space.get("pods -l app=greedy");
        assert_eq!(pod["items"][0]["status"]["qosClass"], "BestEffort");
        let daemon = u64::from(instance.daemon_pid());
        let procs = file(&instance, "memory", "pods");
        let of_pod = processes(&procs);
        assert!(!of_pod.is_empty());
        for pid in of_pod {
            // one that has ended meanwhile has none
            if Path::new(&format!("/proc/{pid}")).exists() {
                assert_eq!(oom_score(pid), 1000);
            }
        }
        assert!(oom_score(daemon) < 1000);

        // and it acts
        for n in 0..10 {
            space
                .kubectl(&format!("create configmap c{n} --from-literal=n={n}"))
                .ok();
            let read = space.field(&format!("configmap/c{n}"), ".data.n");
            assert_eq!(read, n.to_string());
        }
        space
            .kubectl("create deployment another --image=busybox:static --replicas=2 -- sleep 1000")
            .ok();
        space.rolled_out("another");
        holds(
            &space.kubectl("exec deployment/greedy -- echo inside").ok(),
            "inside",
        );
        space
            .kubectl("delete deployment greedy another --wait=true")
            .ok();
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}

/// In a group and those beneath it.
fn processes(group: &Path) -> Vec<u64> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// As many pods as a kubelet takes, and one more; `PLIMSOLL_E2E_PODS` names another number.
pub fn a_node_takes_so_many_pods_and_no_more() {
    let _load = alone();
    let most: u32 = std::env::var("PLIMSOLL_E2E_PODS")
        .ok()
        .map_or(PODS, |text| text.parse().expect("a number"));
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "many");
        let idle = |name: &str, replicas: u32| {
            format!(
                "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: 'busybox:static', command: [sleep, '100000']}}]
"
            )
        };
        assert_eq!(
            space.field("nodes", ".items[0].status.allocatable.pods"),
            "110"
        );
        space.apply(&idle("crowd", most));
        space.rolled_out("crowd");
        assert_eq!(
            space.field("deployment/crowd", ".status.readyReplicas"),
            most.to_string()
        );
        if most == 110 {
            space.apply(&idle("late", 1));
            let told = space.until_says(
                "get events --field-selector reason=FailedScheduling",
                "Too many pods",
            );
            holds(&told, "0/1 nodes are available: 1 Too many pods.");
            // one that is bound without asking the scheduler
            let node = space.field("nodes", ".items[0].metadata.name");
            space.apply(&format!(
                "apiVersion: v1
kind: Pod
metadata: {{name: bound}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: 'busybox:static', command: [sleep, '100000']}}]
"
            ));
            space.until("pod/bound", ".status.reason", "OutOfpods");
            assert_eq!(
                space.field("pod/bound", ".status.message"),
                "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110"
            );
            holds(&space.kubectl("get pods bound").ok(), "OutOfpods");
            // room for one is used by the one that waits
            space.kubectl("scale deployment crowd --replicas=109").ok();
            space.rolled_out("late");
        }
        space.kubectl("delete deployment --all --wait=true").ok();
        space.until("pods -l app=crowd", ".items", "[]");
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}

const PODS: u32 = 110;
