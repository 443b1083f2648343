//! The disk is full while everything runs: what fails says so, what runs goes on, and nothing has to be started again.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::machine::Machine;
use super::run::{Ran, eventually};

const PODS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: talker}
spec:
  replicas: 1
  selector: {matchLabels: {app: talker}}
  template:
    metadata: {labels: {app: talker}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "busybox:static", command: [sh, -c, "trap exit TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.05; done"]}
"#;

/// It failed, and the word for why is somewhere in what was said.
#[track_caller]
fn no_space(what: &str, ran: Ran) {
    assert!(ran.code != 0, "{what} on a full disk: {ran}");
    let said = format!("{}{}", ran.out, ran.err).to_lowercase();
    let words = ["no space left", "0 bytes free"];
    assert!(
        words.iter().any(|word| said.contains(word)),
        "{what}: {ran}"
    );
}

#[test]
fn a_full_disk_stops_nothing_that_runs_and_loses_nothing() {
    // a node that watches its disk would evict pods before it is full (see `pressure`)
    let machine = Machine::new(160).with_environment(&[
        ("PLIMSOLL_EVICTION_HARD", String::new()),
        ("PLIMSOLL_IMAGE_GC_HIGH", "100".into()),
    ]);
    let machine = machine.started();
    machine.apply(PODS).ok();
    machine
        .kubectl("rollout status deployment/talker --timeout=90s")
        .ok();
    machine
        .docker("run -d --name holder busybox:static sleep 100000")
        .ok();
    machine
        .docker("run -d --name doomed busybox:static sleep 100000")
        .ok();
    machine
        .kubectl("create configmap before --from-literal=a=1")
        .ok();
    let pod = machine
        .kubectl("get pods -l app=talker -o jsonpath={.items[0].metadata.uid}")
        .ok();
    let mut daemon = machine.daemon_pid();
    let context = machine.disk.outside().join("context");
    fs::create_dir(&context).expect("a directory");
    let dockerfile = "FROM busybox:static\nRUN dd if=/dev/zero of=/big bs=1M count=20\n";
    fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    let build = format!("build -q -t big {}", context.display());

    for round in 1..=2 {
        machine.disk.fill();
        // what needs space fails and says why
        let big = "a".repeat(400_000);
        let file = machine.disk.outside().join("big.txt");
        fs::write(&file, big).expect("written");
        let mut made = 0;
        // the store may have room for some inside of its file
        let refused = loop {
            let ran = machine.kubectl(&format!(
                "create configmap during-{round}-{made} --from-file={}",
                file.display()
            ));
            if ran.code != 0 {
                break ran;
            }
            made += 1;
            assert!(made < 200, "the disk is not full");
        };
        no_space("creating an object", refused);
        no_space("building", machine.docker(&build));
        no_space("running", machine.docker("run -d busybox:static sleep 1"));
        let write = "exec holder dd if=/dev/zero of=/x bs=64k count=100";
        no_space("writing in a container", machine.docker(write));
        // reading works, also of what was acknowledged a moment ago
        assert_eq!(
            machine
                .kubectl("get configmap before -o jsonpath={.data.a}")
                .ok(),
            "1"
        );
        for n in 0..made {
            machine
                .kubectl(&format!("get configmap during-{round}-{n}"))
                .ok();
        }
        machine.kubectl("get pods -o wide").ok();
        machine.docker("ps -a").ok();
        machine.docker("exec holder true").ok();
        // removing is how people make space
        if round == 1 {
            machine.docker("rm -f doomed").ok();
        }
        assert_eq!(machine.daemon_pid(), daemon, "the same daemon");
        if round == 2 {
            // a start needs no space
            let pid = i32::try_from(daemon).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a pid"), Signal::KILL).expect("it runs");
            machine.plimsoll("up").ok();
            daemon = machine.daemon_pid();
            machine.docker("exec holder true").ok();
            machine.kubectl("get configmap before").ok();
        }

        machine.disk.free();
        eventually("an object can be made again", || {
            let ran = machine.kubectl(&format!(
                "create configmap after-{round} --from-literal=a=1"
            ));
            if ran.code == 0 {
                Ok(())
            } else {
                Err(ran.to_string())
            }
        });
        machine.docker(&build).ok();
        machine.docker("rmi -f big").ok();
        assert_eq!(
            machine.docker("run --rm busybox:static echo runs").ok(),
            "runs\n"
        );
        for n in 0..made {
            machine
                .kubectl(&format!("delete configmap during-{round}-{n}"))
                .ok();
        }
        machine.docker("exec holder rm -f /x").ok();
        // the log goes on after the gap
        let lines = machine.kubectl("logs deployment/talker --tail=1").ok();
        eventually("the pod's log goes on", || {
            let now = machine.kubectl("logs deployment/talker --tail=1").ok();
            if now != lines { Ok(()) } else { Err(now) }
        });
    }
    let container = machine.get("pods -l app=talker");
    assert_eq!(
        container["items"][0]["metadata"]["uid"].as_str(),
        Some(&*pod)
    );
    assert_eq!(
        container["items"][0]["status"]["containerStatuses"][0]["restartCount"],
        0
    );
    assert_eq!(machine.daemon_pid(), daemon, "the same daemon");
    // and what was acknowledged is on the disk
    machine.lose_power();
    machine.plimsoll("up").ok();
    for name in ["before", "after-1", "after-2"] {
        machine.kubectl(&format!("get configmap {name}")).ok();
    }
    assert_eq!(machine.docker("ps -aq --filter name=doomed").ok(), "");
}
