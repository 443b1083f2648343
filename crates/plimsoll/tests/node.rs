//! The node as its users see it, in what the end-to-end tests leave out: volumes, last words, hooks, sidecars, deadlines, deletions
//! at awkward moments, lost sandboxes, host ports, streams, and that nothing of a pod stays behind.
#![forbid(unsafe_code)]

#[path = "e2e/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Instance, Root, Run, Space, eventually, holds, lacks};

/// `name: NAME` and one container `main` of the base image that runs a shell script; more fields of its spec in `more`.
fn pod(name: &str, script: &str, container: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: main, image: 'busybox:static', command: [sh, -c, '{script}']{container}}}]{more}}}\n---\n"
    )
}

const QUICK: &str = ", terminationGracePeriodSeconds: 0";

#[test]
fn a_node_does_what_a_kubelet_does() {
    let root = Root::make();
    let scenarios: &[(&str, fn(&Space))] = &[
        ("volumes", volumes_and_rights),
        ("words", last_words_and_reasons),
        ("turns", init_containers_sidecars_and_deadlines),
        ("hooks", hooks_and_signals_come_in_order),
        ("ends", deletion_works_at_awkward_moments),
        ("host", host_ports_and_the_hosts_network),
        ("lost", a_lost_sandbox_is_made_again),
        ("streams", logs_attach_copy_and_terminals),
        ("confined", profiles_and_namespaces),
        ("refusals", the_kubelets_api_refuses_strangers_and_nonsense),
    ];
    let outcome = std::panic::catch_unwind(|| {
        let instance = Arc::new(support::with_images());
        let failed: Vec<&str> = std::thread::scope(|scope| {
            let run = |name: &'static str, scenario: fn(&Space), instance: Arc<Instance>| {
                (
                    name,
                    scope.spawn(move || scenario(&Space::within(instance, name))),
                )
            };
            let running: Vec<_> = scenarios
                .iter()
                .map(|(name, scenario)| run(name, *scenario, instance.clone()))
                .collect();
            running
                .into_iter()
                .filter_map(|(name, thread)| thread.join().err().map(|_| name))
                .collect()
        });
        assert!(
            failed.is_empty(),
            "these scenarios failed, see above: {failed:?}"
        );
        a_killed_daemon_finishes_what_it_began(&instance);
        nothing_of_a_pod_stays_behind(&instance);
        Arc::into_inner(instance)
            .expect("every scenario has ended")
            .purge();
    });
    let left = root.clean();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(left.is_empty(), "{left:?}");
}

fn volumes_and_rights(space: &Space) {
    space
        .kubectl("create configmap settings --from-literal=COLOUR=green")
        .ok();
    space
        .kubectl("create secret generic key --from-literal=pw=s3cret")
        .ok();
    space.apply(
        r#"apiVersion: v1
kind: Pod
metadata: {name: all, labels: {app: all}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, fsGroup: 2000}
  initContainers:
  - {name: first, image: 'busybox:static', command: [sh, -c, 'echo made > /data/file'], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - name: name-of-nearly-sixty-three-bytes-that-does-not-fit-an-engine-id
    image: busybox:static
    command: [sleep, '1000']
    securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    resources: {limits: {memory: 64Mi}}
    env:
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    volumeMounts: [{name: data, mountPath: /data}, {name: fast, mountPath: /fast}, {name: all, mountPath: /all}, {name: key, mountPath: /key}, {name: data, mountPath: /sub, subPathExpr: $(MEMORY)}]
  - {name: other, image: 'busybox:static', command: [nc, -ll, -p, '9000', -e, echo, neighbour], volumeMounts: [{name: fast, mountPath: /fast}]}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: key, secret: {secretName: key, defaultMode: 0400, items: [{key: pw, path: deep/pw}]}}
  - {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: key}}, {secret: {name: none, optional: true}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}
"#,
    );
    space.ready("pod/all");
    let sh = |script: &str| space.kubectl(&format!("exec all -- sh -c '{script}'"));
    let id = sh("id").ok();
    holds(&id, "uid=1000");
    holds(&id, "2000");
    assert_eq!(
        sh("cat /data/file /all/COLOUR /all/pw /all/labels; stat -c %g:%a /data /key/deep/pw").ok(),
        "made\ngreens3cretapp=\"all\"2000:2777\n2000:440\n"
    );
    assert_eq!(
        sh("echo $IP $MEMORY").ok().trim(),
        format!("{} 64", space.field("pod/all", ".status.podIP"))
    );
    holds(&sh("grep /fast /proc/mounts").ok(), "size=1024k");
    sh("echo shared > /fast/x; echo x > /sub/y; cat /data/64/y").ok();
    assert_eq!(
        space.kubectl("exec all -c other -- cat /fast/x").ok(),
        "shared\n"
    );
    assert_eq!(
        sh("nc 127.0.0.1 9000").ok(),
        "neighbour\n",
        "containers of a pod share the network"
    );
    for refused in [
        "touch /x",
        "touch /all/COLOUR",
        "dd if=/dev/zero of=/fast/big bs=1M count=2",
        "chown 0 /data/file",
    ] {
        sh(refused).fails(1);
    }
    // what cannot be had is told
    let volume = |source: &str| format!("{QUICK}, volumes: [{{name: v, {source}}}]");
    space.apply(&pod(
        "absent",
        "true",
        "",
        &volume("configMap: {name: none}"),
    ));
    space.until_says(
        "get events",
        "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found",
    );
}

fn last_words_and_reasons(space: &Space) {
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

fn init_containers_sidecars_and_deadlines(space: &Space) {
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

fn hooks_and_signals_come_in_order(space: &Space) {
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
}

fn deletion_works_at_awkward_moments(space: &Space) {
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

fn profiles_and_namespaces(space: &Space) {
    let profiles = space.instance.data_dir.join("seccomp");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(profiles.join("no-directories.json"), profile).expect("profile");
    let secured = |name: &str, file: &str| {
        pod(
            name,
            "exec sleep 1000",
            "",
            &format!(
                "{QUICK}, securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: {file}}}}}"
            ),
        )
    };
    space.apply(&(secured("local", "no-directories.json") + &secured("none", "none.json")));
    space.ready("pod/local");
    holds(
        &space.kubectl("exec local -- mkdir /tmp/x").fails(1),
        "No space left on device",
    );
    space.until_says(
        "get events",
        &format!(
            "cannot load seccomp profile \"{0}\": open {0}: no such file or directory",
            profiles.join("none.json").display()
        ),
    );

    space
        .kubectl("create configmap settings --from-literal=COLOUR=green")
        .ok();
    space
        .kubectl("create secret generic key --from-literal=pw=s3cret")
        .ok();
    let shared = Root::scratch();
    space.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: users, labels: {{app: users}}}}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: first, image: 'busybox:static', command: [sh, -c, 'echo made > /data/file'], volumeMounts: [{{name: data, mountPath: /data}}]}}
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, 'trap exit TERM; echo up; echo words > /dev/termination-log; httpd -f -p 8080 -h /config & wait']
    readinessProbe: {{httpGet: {{port: 8080, path: /COLOUR}}, periodSeconds: 1}}
    livenessProbe: {{exec: {{command: [test, -e, /data/file]}}, periodSeconds: 1}}
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: fast, mountPath: /fast}}, {{name: config, mountPath: /config}}, {{name: key, mountPath: /key}}, {{name: host, mountPath: /host}}, {{name: data, mountPath: /sub, subPath: part}}]
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: fast, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: config, configMap: {{name: settings}}}}
  - {{name: key, secret: {{secretName: key, defaultMode: 0400}}}}
  - {{name: host, hostPath: {{path: {}}}}}
"#,
        shared.display()
    ));
    space.ready("pod/users");
    let sh = |script: &str| space.kubectl(&format!("exec users -- sh -c '{script}'"));
    assert_eq!(
        sh("id -u; cat /data/file /config/COLOUR /key/pw; stat -c %u /data /data/file /key/pw /etc/hosts /bin/busybox /var/run/secrets/kubernetes.io/serviceaccount/token").ok(),
        "0\nmade\ngreens3cret0\n0\n0\n0\n0\n0\n"
    );
    sh("echo x > /fast/x && echo y > /sub/y && cat /data/part/y && touch /host/made /root-made && chown 1000 /host/made && test -s /var/run/secrets/kubernetes.io/serviceaccount/token").ok();
    let map = sh("cat /proc/self/uid_map").ok();
    let ids: Vec<u64> = map
        .split_whitespace()
        .map(|id| id.parse().expect("a number"))
        .collect();
    assert!(
        ids.len() == 3 && ids[0] == 0 && ids[1] >= 65_536 && ids[2] == 65_536,
        "{map}"
    );
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        std::fs::metadata(shared.join("made")).expect("made").uid(),
        1000
    );
    holds(&space.kubectl("logs users").ok(), "up");
    let copied = Root::scratch().join("file");
    std::fs::write(&copied, "copied").expect("write");
    space
        .kubectl(&format!("cp {} users:/data/copied", copied.display()))
        .ok();
    assert_eq!(
        sh("cat /data/copied; stat -c %u /data/copied").ok(),
        "copied0\n"
    );
    // whoever is inside goes with the first process
    sh("kill 1").ran();
    space.until(
        "pod/users",
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    space.until(
        "pod/users",
        ".status.containerStatuses[0].lastState.terminated.message",
        "words\n",
    );
    space.ready("pod/users");
    assert_eq!(sh("cat /proc/self/uid_map").ok(), map, "the same ids");

    let two = |name: &str, more: &str| {
        pod(
            name,
            "exec sleep 4001",
            "}, {name: other, image: 'busybox:static', command: [sleep, '4002']",
            &format!("{QUICK}{more}"),
        )
    };
    space.apply(
        &(two("together", ", shareProcessNamespace: true")
            + &two("host", ", hostPID: true, hostIPC: true")),
    );
    for name in ["together", "host"] {
        space.ready(&format!("pod/{name}"));
        let seen = space
            .kubectl(&format!("exec {name} -c other -- ps -o args"))
            .ok();
        holds(&seen, "sleep 4001");
        holds(&seen, "sleep 4002");
    }
    let refused = pod(
        "refused",
        "true",
        "",
        ", hostUsers: false, hostPID: true, hostNetwork: true",
    );
    let said = space.kubectl("apply -f -").stdin(refused).fails(1);
    holds(
        &said,
        "spec.hostNetwork: Forbidden: when `hostUsers` is false",
    );
    holds(&said, "spec.HostPID: Forbidden: when `hostUsers` is false");
    let refused = pod(
        "refused",
        "true",
        "",
        ", hostPID: true, shareProcessNamespace: true, securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}",
    );
    let said = space.kubectl("apply -f -").stdin(refused).fails(1);
    holds(
        &said,
        "ShareProcessNamespace and HostPID cannot both be enabled",
    );
    holds(&said, "must not contain '..'");

    // the docker command's words for the same
    let docker = |arguments: &str| space.instance.docker(arguments);
    let file = profiles.join("no-directories.json").display().to_string();
    let said = docker(&format!(
        "run --rm --security-opt seccomp={file} busybox:static mkdir /tmp/x"
    ))
    .fails(1);
    holds(&said, "No space left on device");
    docker("run -d --name plim-lender --ipc shareable busybox:static sleep 4003").ok();
    let seen = docker("run --rm --pid container:plim-lender --ipc container:plim-lender busybox:static ps -o args").ok();
    holds(&seen, "sleep 4003");
    holds(
        &docker("run --rm --pid host busybox:static ps -o args").ok(),
        "sleep 4003",
    );
    lacks(
        &docker("run --rm busybox:static ps -o args").ok(),
        "sleep 4003",
    );
    docker("rm -f plim-lender").ok();
    holds(
        &docker("run --rm --pid container:plim-lender busybox:static true").fails(125),
        "No such container",
    );
}

fn host_ports_and_the_hosts_network(space: &Space) {
    let port = support::free_port();
    let own = support::free_port();
    let serve =
        |port: u16| format!("echo hello > /tmp/index.html; exec httpd -f -p {port} -h /tmp");
    space.apply(
        &(pod(
            "published",
            &serve(8080),
            &format!(", ports: [{{containerPort: 8080, hostPort: {port}}}]"),
            QUICK,
        ) + &pod(
            "shared",
            &serve(own),
            "",
            &format!("{QUICK}, hostNetwork: true"),
        )),
    );
    space.ready("pod/published");
    space.ready("pod/shared");
    for port in [port, own] {
        assert_eq!(
            space
                .instance
                .fetch(&format!("http://127.0.0.1:{port}/index.html")),
            "hello\n"
        );
    }
    assert_eq!(
        space.field("pod/shared", ".status.podIP"),
        space.field("pod/shared", ".status.hostIP")
    );
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    assert_eq!(space.kubectl("exec shared -- hostname").ok(), name);
    space.kubectl("delete pod published --timeout=30s").ok();
    eventually("the port is free", || {
        TcpListener::bind(("0.0.0.0", port)).map(drop)
    });
}

fn a_lost_sandbox_is_made_again(space: &Space) {
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

fn logs_attach_copy_and_terminals(space: &Space) {
    space.apply(
        &(pod(
            "talker",
            "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; sleep 1000",
            "",
            QUICK,
        ) + &pod(
            "echo",
            "while read line; do echo got $line; done",
            ", stdin: true, stdinOnce: true",
            ", restartPolicy: Never",
        )),
    );
    space.ready("pod/talker");
    space.until_says("logs talker", "line 5");
    assert_eq!(
        space.kubectl("logs talker --tail=2").ok().lines().count(),
        2
    );
    assert_eq!(space.kubectl("logs talker --tail=0").ok(), "");
    assert_eq!(
        space.kubectl("logs talker --limit-bytes=8").ok(),
        "line 1\nl"
    );
    let stamped = space.kubectl("logs talker --timestamps --since=1h").ok();
    let stamp = stamped.split(' ').next().unwrap_or_default();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    assert_eq!(
        space
            .kubectl("logs talker --since-time=2999-01-01T00:00:00Z")
            .ok(),
        ""
    );
    holds(
        &space.kubectl("logs talker -p").fails(1),
        "previous terminated container \"main\" in pod \"talker\" not found",
    );
    holds(&space.kubectl("logs talker -c none").fails(1), "none");
    // what a container reads, by attach
    space.ready("pod/echo");
    holds(
        &space.kubectl("attach -i echo").stdin("one\ntwo\n").ok(),
        "got two",
    );
    space.until("pod/echo", ".status.phase", "Succeeded");
    // files in both directions; the base image has tar
    let scratch = Root::scratch();
    std::fs::write(scratch.join("there"), "back and forth").expect("written");
    space
        .kubectl(&format!(
            "cp {} talker:/tmp/there",
            scratch.join("there").display()
        ))
        .ok();
    space
        .kubectl(&format!(
            "cp talker:/tmp/there {}",
            scratch.join("again").display()
        ))
        .ok();
    assert_eq!(
        std::fs::read_to_string(scratch.join("again")).expect("copied"),
        "back and forth"
    );
    // a program that is not there is named
    let missing = space.kubectl("exec talker -- no-such-program").fails(127);
    holds(&missing, "no-such-program");
    holds(&missing, "not found");
    holds(
        &space.kubectl("exec echo -- true").fails(1),
        "completed pod",
    );
}

fn the_kubelets_api_refuses_strangers_and_nonsense(space: &Space) {
    space.apply(&pod("quiet", "sleep 1000", "", QUICK));
    space.ready("pod/quiet");
    let node = space.field("pod/quiet", ".spec.nodeName");
    let field = |path: &str| space.field(&format!("node/{node}"), path);
    let address = format!(
        "{}:{}",
        field(".status.addresses[0].address"),
        field(".status.daemonEndpoints.kubeletEndpoint.Port")
    );
    for path in ["pods", "exec/refusals/quiet/main?command=id", "healthz"] {
        let ran = Run::new("curl", &format!("-sS -k -m 5 https://{address}/{path}")).ran();
        assert!(
            ran.code != 0 && ran.stdout.is_empty(),
            "no client certificate, no answer: {ran}"
        );
    }
    let raw = |path: &str| space.kubectl(&format!("get --raw '/api/v1/nodes/{node}/proxy/{path}'"));
    holds(&raw("pods").ok(), "\"quiet\"");
    holds(&raw("metrics/resource").ok(), "pod=\"quiet\"");
    for path in [
        "containerLogs/refusals/none/main",
        "containerLogs/refusals/quiet/none",
        "containerLogs/refusals/quiet/main?tailLines=abc",
        "containerLogs/refusals/quiet/main?sinceSeconds=99999999999999999999",
        "containerLogs/refusals/quiet/main?sinceTime=yesterday",
        "containerLogs/refusals/quiet/main?limitBytes=-",
        "containerLogs/..%2F..%2Fetc/passwd/x",
        "exec/refusals/quiet/main?command=id",
        "attach/refusals/none/main",
        "nothing",
    ] {
        let said = raw(path).fails(1);
        lacks(&said, "root:");
    }
    lacks(
        &raw("containerLogs/refusals/quiet/main?sinceSeconds=-5&tailLines=-1")
            .ran()
            .both(),
        "panic",
    );
    space.kubectl("logs quiet").ok();
}

/// `kill -9` in the middle of a graceful deletion; memory stays memory, ready stays ready.
fn a_killed_daemon_finishes_what_it_began(instance: &Arc<Instance>) {
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

fn nothing_of_a_pod_stays_behind(instance: &Instance) {
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
