//! What a container sees, may and may not: volumes, users, profiles, namespaces.

use crate::support::{Root, Space, holds, lacks};
use crate::{QUICK, pod};

pub fn volumes_and_rights(space: &Space) {
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

pub fn profiles_and_namespaces(space: &Space) {
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
