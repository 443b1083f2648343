//! What containers of a pod go through, from their first to their last words.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::{Root, Space, eventually, holds};
use crate::{QUICK, pod};

pub fn last_words_and_reasons(space: &Space) {
    let never = ", restartPolicy: Never";
    space.apply(&(pod("words", "echo bye > /dev/termination-log; echo noise; exit 3", "", never)
        + &pod("log", "echo from the log; exit 4", ", terminationMessagePolicy: FallbackToLogsOnError", never)
        + &pod("root", "true", ", securityContext: {runAsNonRoot: true}", never)
        + &pod("badname", "true", "", "").replace("busybox:static", "Bad:Image:Name")
        + "{apiVersion: v1, kind: Pod, metadata: {name: typo}, spec: {containers: [{name: main, image: 'busybox:static', command: [no-such-program]}]}}"));
    let ended = |pod: &str, field: &str| {
        space.field(
            &format!("pod/{pod}"),
            &format!(".status.containerStatuses[0].{field}"),
        )
    };
    for (pod, code, message) in [("words", "3", "bye\n"), ("log", "4", "from the log\n")] {
        space.until(&format!("pod/{pod}"), ".status.phase", "Failed");
        assert_eq!(
            (
                ended(pod, "state.terminated.exitCode").as_str(),
                ended(pod, "state.terminated.message").as_str()
            ),
            (code, message),
            "{pod}"
        );
    }
    space.until_says("get pod badname --no-headers", "InvalidImageName");
    space.until_says("get pod typo --no-headers", "CrashLoopBackOff");
    assert_eq!(ended("typo", "lastState.terminated.reason"), "StartError");
    assert_eq!(ended("typo", "lastState.terminated.exitCode"), "128");
    holds(
        &ended("typo", "lastState.terminated.message"),
        "executable file not found",
    );
    space.until_says("get pod root --no-headers", "CreateContainerConfigError");
    // a pod that waits for its next attempt goes at once
    space.kubectl("delete pod typo badname --timeout=20s").ok();
}

pub fn init_containers_sidecars_and_deadlines(space: &Space) {
    let sidecar = |script: &str| {
        format!(
            ", initContainers: [{{name: side, image: 'busybox:static', restartPolicy: Always, command: [sh, -c, '{script}']}}]"
        )
    };
    space.apply(&(pod("job", "exit 0", "", &(", restartPolicy: Never".to_owned() + &sidecar("trap \"exit 0\" TERM; while :; do sleep 0.1; done")))
        + &pod("late", "sleep 1000", "", ", terminationGracePeriodSeconds: 0, activeDeadlineSeconds: 1")
        + &pod("broken", "true", "", ", restartPolicy: Never, initContainers: [{name: first, image: 'busybox:static', command: [sh, -c, 'exit 5']}]")));
    space.until("pod/job", ".status.phase", "Succeeded");
    assert_eq!(
        space.field(
            "pod/job",
            ".status.initContainerStatuses[0].state.terminated.exitCode"
        ),
        "0",
        "the sidecar was asked to end"
    );
    space.until("pod/late", ".status.phase", "Failed");
    assert_eq!(
        space.field("pod/late", ".status.reason"),
        "DeadlineExceeded"
    );
    space.until("pod/broken", ".status.phase", "Failed");
    holds(
        &space.kubectl("get pod broken --no-headers").ok(),
        "Init:Error",
    );
    assert_eq!(
        space.field(
            "pod/broken",
            ".status.containerStatuses[0].state.waiting.reason"
        ),
        "PodInitializing"
    );
}

pub fn hooks_and_signals_come_in_order(space: &Space) {
    let scratch = Root::scratch();
    let log = scratch.join("log");
    let hook =
        |word: &str| format!("{{exec: {{command: [sh, -c, 'echo {word} >> /scratch/log']}}}}");
    let container = format!(
        ", volumeMounts: [{{name: s, mountPath: /scratch}}], lifecycle: {{postStart: {}, preStop: {}}}",
        hook("started"),
        hook("stopping")
    );
    let volume = format!(
        ", volumes: [{{name: s, hostPath: {{path: '{}', type: Directory}}}}]",
        scratch.display()
    );
    space.apply(
        &(pod(
            "polite",
            "trap \"echo term >> /scratch/log; exit 0\" TERM; while :; do sleep 0.1; done",
            &container,
            &volume,
        ) + &pod(
            "failing",
            "sleep 1000",
            ", lifecycle: {postStart: {exec: {command: [sh, -c, 'exit 7']}}}",
            ", terminationGracePeriodSeconds: 0",
        )),
    );
    space.ready("pod/polite");
    space.kubectl("delete pod polite").ok();
    assert_eq!(
        std::fs::read_to_string(log).expect("the hooks' log"),
        "started\nstopping\nterm\n"
    );
    space.until_says(
        "describe pod failing",
        "PostStartHook failed: command exited with code 7",
    );
    // a hook that is answered has done what it should, whatever the answer
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = server.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    // and one that is deleted at once has a moment to put its things in order
    let late = scratch.join("late");
    space.apply(&pod(
        "forced",
        "trap \"echo term > /scratch/late; exit 0\" TERM; while :; do sleep 0.1; done",
        &format!(
            ", volumeMounts: [{{name: s, mountPath: /scratch}}], lifecycle: {{postStart: {{httpGet: {{host: 127.0.0.1, port: {port}, path: /none}}}}}}"
        ),
        &volume,
    ));
    space.ready("pod/forced");
    space
        .kubectl("delete pod forced --grace-period=0 --force --timeout=30s")
        .ok();
    eventually("its last word", || {
        std::fs::read_to_string(&late).map_err(|error| error.to_string())
    });
}

pub fn deletion_works_at_awkward_moments(space: &Space) {
    // takes connections and never answers
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
    let image = format!("{}/none:1", registry.local_addr().expect("an address"));
    let stubborn = "trap : TERM; while :; do sleep 0.1; done";
    space.apply(
        &(pod("pulling", "true", "", "").replace("busybox:static", &image)
            + &pod("crashing", "exit 1", "", "")
            + &pod(
                "stubborn",
                stubborn,
                "",
                ", terminationGracePeriodSeconds: 600",
            )
            + &pod("slow", stubborn, "", ", terminationGracePeriodSeconds: 600")),
    );
    for (what, says) in [
        ("pod/stubborn", "Running"),
        ("pod/slow", "Running"),
        ("pod/crashing", "CrashLoopBackOff"),
    ] {
        space.until_says(&format!("get {what} --no-headers"), says);
    }
    space.until_says("get events", "Pulling image");
    space
        .kubectl("delete pod pulling crashing --timeout=30s")
        .ok();
    space.kubectl("delete pod stubborn slow --wait=false").ok();
    space.until_says("get pod stubborn --no-headers", "Terminating");
    space
        .kubectl("delete pod stubborn --grace-period=0 --force --timeout=30s")
        .ok();
    // a second deletion may shorten the first one's time
    space
        .kubectl("delete pod slow --grace-period=1 --timeout=30s")
        .ok();
    // and one that is deleted as soon as it is there leaves nothing either
    space.apply(&pod("brief", "sleep 1000", "", QUICK));
    space.kubectl("delete pod brief --timeout=30s").ok();
}
