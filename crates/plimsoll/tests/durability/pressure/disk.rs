//! The disk fills up.

use std::fs;

use serde_json::Value;

use super::super::machine::Machine;
use super::super::run::{command, eventually, run};
use super::{becomes, condition, evicted, idle, node, phase, ready, taints};

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
