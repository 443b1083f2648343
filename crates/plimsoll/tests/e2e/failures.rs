//! What goes wrong in a pod, and how one sees it.

use crate::support::{Space, eventually, holds, pod};

pub fn a_crashing_container_is_restarted_with_backoff() {
    let space = Space::new("crash");
    space.apply(&pod("crash", "echo falling; exit 3"));
    space.until_says("get pod crash --no-headers", "CrashLoopBackOff");
    let status = &space.get("pod/crash")["status"]["containerStatuses"][0];
    assert!(status["restartCount"].as_u64() >= Some(1), "{status}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3, "{status}");
    assert_eq!(
        status["lastState"]["terminated"]["reason"], "Error",
        "{status}"
    );
    let described = space.kubectl("describe pod crash").ok();
    holds(&described, "BackOff");
    holds(&described, "restarting failed container");
    // one that is never restarted
    space.apply(&(pod("once", "exit 4") + "  restartPolicy: Never\n"));
    space.until("pod/once", ".status.phase", "Failed");
    assert_eq!(
        space.get("pod/once")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        4
    );
}

pub fn a_container_over_its_memory_limit_is_oom_killed() {
    let space = Space::new("oom");
    let limited = pod("eater", "tail /dev/zero; exit 137")
        + "    resources: {limits: {memory: 16Mi}}\n  restartPolicy: Never\n";
    // the shell would live on if only its child were killed: let tail be the container's own process
    space.apply(&limited.replace("tail /dev/zero; exit 137", "exec tail /dev/zero"));
    space.until("pod/eater", ".status.phase", "Failed");
    let ended = &space.get("pod/eater")["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["reason"], "OOMKilled", "{ended}");
    assert_eq!(ended["exitCode"], 137, "{ended}");
    holds(&space.kubectl("get pod eater").ok(), "OOMKilled");
}

pub fn an_image_that_does_not_exist_is_told() {
    let space = Space::new("images");
    // nobody listens there
    space.apply(&pod("lost", "true").replace("busybox:static", "127.0.0.1:1/none:1"));
    space.apply(
        &(pod("never", "true").replace("busybox:static", "none-such:1")
            + "    imagePullPolicy: Never\n"),
    );
    space.until_says("get pod lost --no-headers", "ImagePullBackOff");
    space.until_says("get pod never --no-headers", "ErrImageNeverPull");
    space.until_says("describe pod lost", "Error: ImagePullBackOff");
    let described = space.kubectl("describe pod lost").ok();
    holds(&described, "Error: ErrImagePull");
    holds(&described, "Failed to pull image \"127.0.0.1:1/none:1\"");
    holds(&described, "Back-off pulling image \"127.0.0.1:1/none:1\"");
    holds(&space.kubectl("logs lost").fails(1), "is waiting to start");
    holds(&space.instance.plimsoll("status").fails(1), "images/lost");
}

/// Who asks for an image before it is built, or mistypes its name, does not wait for the next of ever rarer attempts.
pub fn an_image_that_comes_meanwhile_is_taken() {
    let space = Space::new("late-images");
    space.apply(
        &(pod("early", "sleep 1000").replace("busybox:static", "late-app:1")
            + "    imagePullPolicy: Never\n"),
    );
    // tried every five minutes
    space.apply(&pod("typo", "sleep 1000").replace("busybox:static", "Late_App:1"));
    space.until_says("get pod typo --no-headers", "InvalidImageName");
    space.kubectl("set image pod/typo main=busybox:static").ok();
    space.ready("pod/typo");
    // its third failure: it would be tried again after 40 s
    eventually("three attempts", || {
        let described = space.kubectl("describe pod early").ok();
        let told = described.contains("(x3 ") || described.contains("(x4 ");
        if told { Ok(()) } else { Err(described) }
    });
    space.instance.docker("tag busybox:static late-app:1").ok();
    space
        .kubectl("wait --for=condition=Ready pod/early --timeout=20s")
        .ok();
    space.instance.docker("rmi late-app:1").ok();
}

pub fn a_command_that_does_not_exist_is_told() {
    let space = Space::new("commandless");
    space.apply("{apiVersion: v1, kind: Pod, metadata: {name: typo}, spec: {restartPolicy: Never, containers: [{name: main, image: 'busybox:static', command: [no-such-program]}]}}");
    space.until("pod/typo", ".status.phase", "Failed");
    let described = space.kubectl("describe pod typo").ok();
    holds(&described, "no-such-program");
    // settings that are not there
    space.apply("{apiVersion: v1, kind: Pod, metadata: {name: unset}, spec: {containers: [{name: main, image: 'busybox:static', command: [sleep, '1000'], envFrom: [{configMapRef: {name: settings}}]}]}}");
    space.until_says("get pod unset --no-headers", "CreateContainerConfigError");
    holds(
        &space.kubectl("describe pod unset").ok(),
        "configmap \"settings\" not found",
    );
    space
        .kubectl("create configmap settings --from-literal=COLOUR=green")
        .ok();
    space.ready("pod/unset");
    assert_eq!(
        space.kubectl("exec unset -- sh -c 'echo $COLOUR'").ok(),
        "green\n"
    );
}
