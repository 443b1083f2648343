//! One pod by kubectl: what it is told, what it says, what one does in it.

use crate::support::{Root, Space, holds, pod};

pub fn watching_shows_changes_as_they_come() {
    let space = Space::new("watching");
    let pods = space.kubectl("get pods --watch").background();
    let maps = space
        .kubectl("get configmap settings --watch --ignore-not-found -o name")
        .background();
    space.apply(&pod("seen", "sleep 1000"));
    pods.line_with("Running");
    space.kubectl("delete pod seen --wait=false").ok();
    pods.line_with("Terminating");
    drop(pods);
    drop(maps);

    // of a list: watching an object by its name, kubectl leaves out the first event, which is the change itself if it came
    // between its reading and its watch
    space.kubectl("create configmap a").ok();
    let change = space
        .kubectl("get configmaps --field-selector=metadata.name=a -o jsonpath={.data.x} --watch")
        .background();
    space
        .kubectl("patch configmap a -p '{\"data\":{\"x\":\"changed\\n\"}}'")
        .ok();
    change.line_with("changed");
}

pub fn a_pod_gets_its_settings_and_ends_gracefully() {
    let space = Space::new("settings");
    space
        .kubectl("create configmap settings --from-literal=colour=green --from-literal=page=hello")
        .ok();
    space
        .kubectl("create secret generic password --from-literal=word=secret")
        .ok();
    space.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: told, labels: {tier: front}}
spec:
  initContainers:
  - {name: first, image: 'busybox:static', command: [sh, -c, 'echo prepared > /shared/note'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, \"trap 'echo farewell; exit 0' TERM; echo began; while :; do sleep 0.1; done\"]
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: settings, mountPath: /settings}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
",
    );
    space.ready("pod/told");
    let address = space.field("pod/told", ".status.podIP");
    let said = space.kubectl("exec told -- sh -c 'echo $COLOUR $WORD $POD $ADDRESS; cat /shared/note /settings/page'").ok();
    assert_eq!(
        said,
        format!("green secret told {address}\nprepared\nhello")
    );
    let logs = space.kubectl("logs -f told").background();
    logs.line_with("began");
    space.kubectl("delete pod told --wait=false").ok();
    logs.line_with("farewell");
    space
        .kubectl("wait --for=delete pod/told --timeout=75s")
        .ok();
}

pub fn exec_hands_through_input_output_and_exit_code() {
    let space = Space::new("exec");
    space.apply(&pod("shell", "sleep 1000"));
    space.ready("pod/shell");
    assert_eq!(space.kubectl("exec shell -- hostname").ok(), "shell\n");
    let ran = space
        .kubectl("exec shell -- sh -c 'echo out; echo err >&2; exit 7'")
        .ran();
    assert_eq!((ran.stdout.as_str(), ran.code), ("out\n", 7), "{ran}");
    holds(&ran.stderr, "err\n");
    holds(&ran.stderr, "command terminated with exit code 7");
    let input: String = (0..20_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(
        space
            .kubectl("exec -i shell -- sh -c 'wc -c; echo done'")
            .stdin(input.clone())
            .ok(),
        format!("{}\ndone\n", input.len())
    );
    assert!(
        space
            .kubectl("exec -i shell -- cat")
            .stdin(input.clone())
            .ok()
            == input,
        "what goes in comes out"
    );
    let copy = Root::scratch().join("passwd");
    space
        .kubectl(&format!("cp shell:/etc/passwd {}", copy.display()))
        .ok();
    holds(
        &std::fs::read_to_string(copy).expect("copied"),
        "root:x:0:0",
    );
    let ran = space.kubectl("run brief --rm -i --restart=Never --image=busybox:static --quiet -- sh -c 'cat; exit 0'").stdin("attached\n").ran();
    assert_eq!((ran.stdout.as_str(), ran.code), ("attached\n", 0), "{ran}");
    holds(
        &space.kubectl("exec shell -- no-such-program").ran().stderr,
        "no-such-program",
    );
    holds(
        &space.kubectl("exec nobody -- true").fails(1),
        "pods \"nobody\" not found",
    );
}
