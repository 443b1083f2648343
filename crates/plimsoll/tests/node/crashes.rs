//! Sandboxes and daemons that die, and what must be gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Instance, Space, eventually, holds};
use crate::{QUICK, pod};

pub fn a_lost_sandbox_is_made_again(space: &Space) {
    space.apply(&pod(
        "victim",
        "echo here > /tmp/index.html; exec httpd -f -p 8080 -h /tmp",
        "",
        QUICK,
    ));
    space.ready("pod/victim");
    let uid = space.field("pod/victim", ".metadata.uid");
    let traces = space.instance.traces().to_string();
    let line = traces
        .lines()
        .find(|line| line.contains("supervise") && line.contains(&uid))
        .expect("its supervising process");
    let pid = line
        .split_whitespace()
        .nth(1)
        .and_then(|pid| pid.parse().ok())
        .and_then(rustix::process::Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    space.until(
        "pod/victim",
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    space.ready("pod/victim");
    holds(&space.kubectl("describe pod victim").ok(), "SandboxChanged");
    assert_eq!(
        space.instance.fetch(&format!(
            "http://{}:8080/index.html",
            space.field("pod/victim", ".status.podIP")
        )),
        "here\n"
    );
}

/// `kill -9` in the middle of a graceful deletion; memory stays memory, ready stays ready.
pub fn a_killed_daemon_finishes_what_it_began(instance: &Arc<Instance>) {
    let space = Space::within(instance.clone(), "killed");
    let volume = format!("{QUICK}, volumes: [{{name: m, emptyDir: {{medium: Memory}}}}]");
    let mount = ", volumeMounts: [{name: m, mountPath: /m}], readinessProbe: {exec: {command: [test, -f, /m/here]}, periodSeconds: 1}";
    space.apply(
        &(pod("steady", "echo kept > /m/here; sleep 1000", mount, &volume)
            + &pod(
                "going",
                "trap : TERM; while :; do sleep 0.1; done",
                "",
                ", terminationGracePeriodSeconds: 3",
            )),
    );
    space.ready("pod/steady");
    space.ready("pod/going");
    let revision = space.field("pod/steady", ".metadata.resourceVersion");
    space.kubectl("delete pod going --wait=false").ok();
    let daemon = i32::try_from(instance.daemon_pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).expect("killed");
    let ghost = a_start_that_never_came(instance);
    let up = Instant::now() + Duration::from_secs(30);
    while instance.plimsoll("up").ran().code != 0 {
        assert!(Instant::now() < up, "it does not come up again");
        std::thread::sleep(Duration::from_millis(100));
    }
    space
        .kubectl("wait --for=delete pod/going --timeout=30s")
        .ok();
    eventually("what the crash left alone is gone", || {
        let mounted = instance.traces();
        let mounted = mounted.of_sort("mount");
        let is_its = |mount: &&str| Path::new(mount).starts_with(&ghost);
        if ghost.exists() || mounted.iter().any(is_its) {
            Err(format!("{} {mounted:?}", ghost.display()))
        } else {
            Ok(())
        }
    });
    assert_eq!(space.kubectl("exec steady -- cat /m/here").ok(), "kept\n");
    assert_eq!(
        space.field("pod/steady", ".metadata.resourceVersion"),
        revision,
        "nothing had to be written about it"
    );
    space.kubectl("exec steady -- rm /m/here").ok();
    space.until(
        "pod/steady",
        ".status.conditions[?(@.type==\"Ready\")].status",
        "False",
    );
}

/// The mounted files of a container of a pod that nobody knows, as a daemon leaves them that dies before it has told the engine.
fn a_start_that_never_came(instance: &Instance) -> PathBuf {
    let directory = instance.data_dir.join("images");
    let images = eventually("the images are nobody's", || {
        image::Images::open(directory.clone(), image::Options::default())
    });
    let busybox = images.get("busybox:static").expect("the image");
    let id = "main-0-0d4c3b2a-1111-2222-3333-444455556666";
    let root = images.prepare(&busybox, id).expect("prepared");
    assert!(root.join("bin/busybox").exists());
    let ghost = root
        .ancestors()
        .find(|path| path.ends_with(id))
        .expect("a directory of its own");
    ghost.to_owned()
}

pub fn nothing_of_a_pod_stays_behind(instance: &Instance) {
    eventually("every pod is gone", || {
        let pods = instance.kubectl("get pods -A --no-headers").ran();
        if pods.code == 0 && pods.stdout.trim().is_empty() {
            Ok(())
        } else {
            Err(pods)
        }
    });
    eventually("no trace of any pod", || {
        let mut left: Vec<String> = Vec::new();
        for directory in ["node/pods", "logs/pods", "engine/sandboxes"] {
            let entries = std::fs::read_dir(instance.data_dir.join(directory))
                .into_iter()
                .flatten()
                .flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        let namespaces = std::fs::read_dir(instance.run_dir().join("engine/netns"))
            .into_iter()
            .flatten()
            .flatten();
        left.extend(namespaces.map(|entry| entry.path().display().to_string()));
        let traces = instance.traces();
        left.extend(
            traces
                .of_sort("mount")
                .into_iter()
                .filter(|mount| mount.contains("/snapshots/") || mount.contains("/node/"))
                .map(str::to_owned),
        );
        left.extend(
            traces
                .of_sort("process")
                .into_iter()
                .filter(|process| process.contains("supervise"))
                .map(str::to_owned),
        );
        left.extend(
            traces
                .of_sort("cgroup")
                .into_iter()
                .filter(|cgroup| cgroup.contains("/pods/"))
                .map(str::to_owned),
        );
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
}
