//! Claims and the volumes that they are bound to.

use std::sync::Arc;

use super::support::{Instance, Root, Space, eventually, holds, lacks};
use super::{DATA, SLEEP, Shell, claim, pod, using};

pub fn a_claim_lives_longer_than_its_pods(space: &Space) {
    let classes = space.kubectl("get storageclass").ok();
    holds(&classes, "local (default)");
    holds(&classes, "plimsoll.dev/local");
    holds(&classes, "WaitForFirstConsumer");
    space.apply(&claim("disk", "1Gi", ""));
    space.until_says(
        "describe pvc disk",
        "waiting for first consumer to be created before binding",
    );
    assert_eq!(space.field("pvc/disk", ".spec.storageClassName"), "local");
    assert_eq!(space.field("pvc/disk", ".status.phase"), "Pending");
    space.apply(&pod(
        "writer",
        "echo kept > /data/file; sleep 100000",
        DATA,
        &using("disk"),
        "",
    ));
    space.ready("pod/writer");
    assert_eq!(space.field("pvc/disk", ".status.phase"), "Bound");
    let volume = space.field("pvc/disk", ".spec.volumeName");
    assert_eq!(
        volume,
        format!("pvc-{}", space.field("pvc/disk", ".metadata.uid"))
    );
    let shown = space.kubectl("get pvc disk --no-headers").ok();
    for part in ["Bound", &volume, "1Gi", "RWO", "local"] {
        holds(&shown, part);
    }
    let shown = space.kubectl(&format!("get pv {volume} --no-headers")).ok();
    for part in [
        "1Gi",
        "RWO",
        "Delete",
        "Bound",
        &format!("{}/disk", space.name),
        "local",
    ] {
        holds(&shown, part);
    }
    let described = space.kubectl("describe pvc disk").ok();
    holds(&described, "Used By:       writer");
    holds(&described, "Successfully provisioned volume");
    let directory = space.instance.data_dir.join("claims").join(&volume);
    assert_eq!(
        std::fs::read_to_string(directory.join("file")).expect("data"),
        "kept\n"
    );

    space.kubectl("delete pod writer --wait=true").ok();
    space.apply(&pod("reader", SLEEP, DATA, &using("disk"), ""));
    space.ready("pod/reader");
    assert_eq!(space.sh("reader", "cat /data/file").ok(), "kept\n");

    // it grows, and never shrinks
    let resize = |size: &str| {
        space.kubectl(&format!("patch pvc disk -p '{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{size}\"}}}}}}}}'"))
    };
    resize("2Gi").ok();
    space.until("pvc/disk", ".status.capacity.storage", "2Gi");
    assert_eq!(
        space.field(&format!("pv/{volume}"), ".spec.capacity.storage"),
        "2Gi"
    );
    holds(
        &resize("1Gi").fails(1),
        "field can not be less than status.capacity",
    );
    holds(
        &space
            .kubectl("patch pvc disk -p '{\"spec\":{\"accessModes\":[\"ReadWriteMany\"]}}'")
            .fails(1),
        "spec is immutable after creation except resources.requests",
    );

    // neither goes while it is used
    space.kubectl("delete pvc disk --wait=false").ok();
    holds(
        &space.kubectl("get pvc disk --no-headers").ok(),
        "Terminating",
    );
    space
        .kubectl(&format!("delete pv {volume} --wait=false"))
        .ok();
    holds(
        &space.kubectl(&format!("get pv {volume} --no-headers")).ok(),
        "Terminating",
    );
    assert_eq!(space.sh("reader", "cat /data/file").ok(), "kept\n");
    space.kubectl("delete pod reader --wait=true").ok();
    eventually("claim, volume and directory are gone", || {
        let left = space.kubectl(&format!("get pvc/disk pv/{volume}")).ran();
        if left.stdout.is_empty() && !directory.exists() {
            Ok(())
        } else {
            Err(left)
        }
    });
}

pub fn volumes_made_by_hand(space: &Space) {
    let home = Root::scratch();
    let node = space
        .instance
        .kubectl("get nodes -o jsonpath={.items[0].metadata.name}")
        .ok();
    let volume = |name: &str, size: &str, source: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}, labels: {{tier: {name}}}}}\nspec: {{capacity: {{storage: {size}}}, accessModes: [ReadWriteOnce], storageClassName: plim-hand, {source}}}\n---\n"
        )
    };
    let on = |node: &str| {
        format!(
            "local: {{path: {}}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: ['{node}']}}]}}]}}}}",
            home.display()
        )
    };
    let host = format!("hostPath: {{path: {}}}", home.display());
    space.apply(&(volume("plim-small", "1Gi", &host) + &volume("plim-large", "9Gi", &host)));
    space.until("pv/plim-large", ".status.phase", "Available");
    space.apply(&claim("hand", "2Gi", ", storageClassName: plim-hand"));
    space.until("pvc/hand", ".status.phase", "Bound");
    assert_eq!(space.field("pvc/hand", ".spec.volumeName"), "plim-large");
    assert_eq!(space.field("pvc/hand", ".status.capacity.storage"), "9Gi");
    space.apply(&pod(
        "writer",
        "echo mine > /data/file; sleep 100000",
        DATA,
        &using("hand"),
        "",
    ));
    space.ready("pod/writer");
    assert_eq!(
        std::fs::read_to_string(home.join("file")).expect("data"),
        "mine\n"
    );
    // a volume that somebody replaced by what a file says is its claim's still
    space
        .kubectl("patch pv plim-large --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/claimRef\"}]'")
        .ok();
    space.apply(&claim("stranger", "2Gi", ", storageClassName: plim-hand"));
    space.until("pv/plim-large", ".spec.claimRef.name", "hand");
    space.until("pvc/hand", ".status.phase", "Bound");
    assert_eq!(space.field("pvc/stranger", ".status.phase"), "Pending");
    // a claim goes although a pod waits for it that has no node
    let nowhere = pod("pending", SLEEP, DATA, &using("stranger"), "");
    space.apply(&nowhere);
    space
        .kubectl("delete pvc stranger --wait=true --timeout=30s")
        .ok();
    space.kubectl("delete pod pending --wait=true").ok();
    // and does not while a pod has it that has ended
    let never = ", restartPolicy: Never";
    space.apply(&pod("ended", "true", DATA, &using("hand"), never));
    space.until("pod/ended", ".status.phase", "Succeeded");
    space.kubectl("delete pod writer --wait=true").ok();
    space.kubectl("delete pvc hand --wait=false").ok();
    holds(
        &space.kubectl("get pvc hand --no-headers").ok(),
        "Terminating",
    );
    space.kubectl("delete pod ended --wait=true").ok();
    // retained: it is released, keeps its data, and no other claim gets it
    space
        .kubectl("wait pvc/hand --for=delete --timeout=30s")
        .ok();
    space.until("pv/plim-large", ".status.phase", "Released");
    space.apply(&claim("hand", "2Gi", ", storageClassName: plim-hand"));
    assert_eq!(space.field("pv/plim-large", ".status.phase"), "Released");
    assert!(home.join("file").exists());
    // by name, and for whom it is kept
    space.apply(
        &(volume(
            "plim-kept",
            "3Gi",
            &format!(
                "{host}, claimRef: {{namespace: {}, name: kept}}",
                space.name
            ),
        ) + &claim(
            "kept",
            "1Gi",
            ", storageClassName: plim-hand, volumeName: plim-kept",
        )),
    );
    space.until("pvc/kept", ".status.phase", "Bound");
    // local volumes bind when a pod comes, on their node alone
    space.apply(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: plim-late}\nprovisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n",
    );
    let late =
        |text: String| text.replace("storageClassName: plim-hand", "storageClassName: plim-late");
    space.apply(&late(volume("plim-away", "1Gi", &on("elsewhere"))));
    space.apply(&claim("late", "1Gi", ", storageClassName: plim-late"));
    space.apply(&pod("waits", SLEEP, DATA, &using("late"), ""));
    space.until_says(
        "get events",
        "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
    );
    space.apply(&late(volume("plim-here", "1Gi", &on(&node))));
    space.ready("pod/waits");
    assert_eq!(space.field("pvc/late", ".spec.volumeName"), "plim-here");
    assert_eq!(space.sh("waits", "cat /data/file").ok(), "mine\n");
    space.kubectl("delete pod --all --wait=true").ok();
    space.kubectl("delete pvc --all --wait=true").ok();
    space
        .kubectl("delete pv plim-small plim-large plim-kept plim-away plim-here --wait=true")
        .ok();
    space.kubectl("delete storageclass plim-late").ok();
    assert!(home.join("file").exists(), "what the user made stays");
}

pub fn pods_wait_in_upstreams_words(space: &Space) {
    space.apply(
        &(pod("lost", SLEEP, DATA, &using("nowhere"), "")
            + &claim("classless", "1Gi", ", storageClassName: none")
            + &pod("unbound", SLEEP, DATA, &using("classless"), "")
            + &claim("plain", "1Gi", ", storageClassName: \"\"")),
    );
    let rest = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    space.until_says(
        "get events",
        &format!("0/1 nodes are available: persistentvolumeclaim \"nowhere\" not found. {rest}"),
    );
    space.until_says(
        "get events",
        &format!(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. {rest}"
        ),
    );
    space.until_says(
        "get events",
        "storageclass.storage.k8s.io \"none\" not found",
    );
    space.until_says(
        "get events",
        "no persistent volumes available for this claim and no storage class is set",
    );
    // it goes on as soon as the claim is there
    space.apply(&claim("nowhere", "1Gi", ""));
    space.ready("pod/lost");
    // what the provisioner cannot make is told
    space.apply(
        &(claim("raw", "1Gi", ", volumeMode: Block") + &pod("raw", SLEEP, "", &using("raw"), "")),
    );
    space.until_says(
        "get events",
        "failed to provision volume with StorageClass \"local\"",
    );
    for (manifest, why) in [
        (claim("bad", "0", ""), "must be greater than zero"),
        (
            claim("bad", "1Gi", "").replace("ReadWriteOnce", "Often"),
            "supported values: \"ReadOnlyMany\"",
        ),
    ] {
        holds(&space.kubectl("create -f -").stdin(manifest).fails(1), why);
    }
    lacks(&space.kubectl("get pvc").ok(), "bad");
}

/// kill -9, and `down` and `up`: pods, their volumes and mounts are there again, and purge finds all of it.
pub fn data_outlives_the_daemon(instance: &Arc<Instance>) {
    let space = Space::within(instance.clone(), "outlives");
    space
        .kubectl("create configmap settings --from-literal=a=1")
        .ok();
    let mounts = format!(
        "{DATA}, {{name: data, mountPath: /part, subPath: part}}, {{name: fast, mountPath: /fast}}, {{name: map, mountPath: /map}}"
    );
    let volumes = format!(
        "{}, {{name: fast, emptyDir: {{medium: Memory}}}}, {{name: map, configMap: {{name: settings}}}}",
        using("disk")
    );
    space.apply(&(claim("disk", "1Gi", "") + &pod("app", SLEEP, &mounts, &volumes, "")));
    space.ready("pod/app");
    space
        .sh("app", "echo kept > /data/file; echo part > /part/file")
        .ok();
    let started = space.field("pod/app", ".status.containerStatuses[0].containerID");
    kill_daemon(instance);
    instance.plimsoll("up").ok();
    space
        .kubectl("patch configmap settings -p '{\"data\":{\"a\":\"2\"}}'")
        .ok();
    eventually("the update after the restart", || {
        let seen = space.sh("app", "cat /map/a").ran();
        if seen.stdout == "2" {
            Ok(())
        } else {
            Err(seen)
        }
    });
    assert_eq!(
        space.field("pod/app", ".status.containerStatuses[0].containerID"),
        started
    );
    instance.plimsoll("down").ok();
    instance.plimsoll("up").ok();
    eventually("the pod runs again with its data", || {
        let seen = space
            .sh("app", "cat /data/file /part/file /data/part/file /map/a")
            .ran();
        if seen.stdout == "kept\npart\npart\n2" {
            Ok(())
        } else {
            Err(seen)
        }
    });
    // everything is in use: `purge` comes next, and must leave nothing of it
    instance.kubectl("create namespace doomed").ok();
    let manifest = claim("disk", "1Gi", "")
        + &pod("app", SLEEP, &mounts, &volumes, "")
            .replace("name: settings", "name: kube-root-ca.crt");
    instance
        .kubectl("-n doomed apply -f -")
        .stdin(manifest)
        .ok();
    instance
        .kubectl("-n doomed wait --for=condition=Ready pod/app --timeout=75s")
        .ok();
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    holds(&table, "volume-subpaths");
}

/// kill -9; returns when the process is gone, so that `up` does not take it for a running one.
fn kill_daemon(instance: &Instance) {
    let pid = instance.daemon_pid();
    let process = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    eventually("the end of the daemon", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // a zombie has ended
        match stat.is_empty() || stat.contains(") Z ") {
            true => Ok(()),
            false => Err(stat),
        }
    });
}
