//! Volumes as their users see them: files that follow their objects, tokens, parts of volumes, claims and their volumes, limits,
//! owners; through the death of pods and of the daemon, and that nothing of it stays behind.
#![forbid(unsafe_code)]

#[path = "e2e/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::{Instance, Root, Run, Space, eventually, holds, lacks};

const QUICK: &str = ", terminationGracePeriodSeconds: 0";
const SLEEP: &str = "sleep 100000";

/// A pod of one container `main`; `mounts` are its volumeMounts, `volumes` the pod's, `more` further fields of its spec.
fn pod(name: &str, script: &str, mounts: &str, volumes: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: main, image: 'busybox:static', command: [sh, -c, '{script}'], volumeMounts: [{mounts}]}}], volumes: [{volumes}]{QUICK}{more}}}\n---\n"
    )
}

fn claim(name: &str, size: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}{more}}}\n---\n"
    )
}

fn using(claim: &str) -> String {
    format!("{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}")
}

const DATA: &str = "{name: data, mountPath: /data}";

trait Shell {
    /// A script in the pod's container; it holds no single quotes.
    fn sh(&self, pod: &str, script: &str) -> Run;
}

impl Shell for Space {
    fn sh(&self, pod: &str, script: &str) -> Run {
        self.kubectl(&format!("exec {pod} -- sh -c '{script}'"))
    }
}

#[test]
fn volumes_do_what_upstreams_do() {
    let root = Root::make();
    let scenarios: &[(&str, fn(&Space))] = &[
        ("live", files_follow_their_objects),
        ("tokens", pods_have_an_identity_and_no_rights),
        ("parts", parts_of_volumes_stay_inside),
        ("hosts", the_hosts_files_are_what_they_should_be),
        ("owners", groups_and_users),
        ("memory", emptydirs_are_bounded),
        ("claims", a_claim_lives_longer_than_its_pods),
        ("statics", volumes_made_by_hand),
        ("words", pods_wait_in_upstreams_words),
    ];
    let outcome = std::panic::catch_unwind(|| {
        let instance = Arc::new(support::with_images());
        let wanted = std::env::var("PLIMSOLL_SCENARIO").unwrap_or_default();
        let failed: Vec<&str> = std::thread::scope(|scope| {
            let run = |name: &'static str, scenario: fn(&Space), instance: Arc<Instance>| {
                (
                    name,
                    scope.spawn(move || scenario(&Space::within(instance, name))),
                )
            };
            let running: Vec<_> = scenarios
                .iter()
                .filter(|(name, _)| name.contains(&wanted))
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
        data_outlives_the_daemon(&instance);
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

fn files_follow_their_objects(space: &Space) {
    space
        .kubectl("create configmap settings --from-literal=colour=green --from-literal=size=1")
        .ok();
    space
        .kubectl("create secret generic key --from-literal=pw=old")
        .ok();
    let volumes = "{name: map, configMap: {name: settings, defaultMode: 0640}}, {name: key, secret: {secretName: key, items: [{key: pw, path: deep/pw, mode: 0400}]}}, \
        {name: none, configMap: {name: none, optional: true}}, \
        {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: key}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}";
    let mounts = "{name: map, mountPath: /map}, {name: key, mountPath: /key}, {name: all, mountPath: /all}, {name: none, mountPath: /none}, {name: map, mountPath: /part, subPath: colour}";
    space.apply(&pod("reader", SLEEP, mounts, volumes, ""));
    space.ready("pod/reader");
    let sh = |script: &str| space.sh("reader", script).ok();
    assert_eq!(
        sh("cat /map/colour /key/deep/pw /all/pw /part; ls /none"),
        "greenoldoldgreen"
    );
    assert_eq!(sh("stat -Lc %a /map/colour /key/deep/pw"), "640\n400\n");
    holds(&sh("ls -l /map"), "colour -> ..data/colour");
    holds(&sh("grep /key /proc/mounts"), "tmpfs");
    let started = space.field("pod/reader", ".status.containerStatuses[0].containerID");

    // one patch changes a key, takes one away and adds one: a reader sees all of it or nothing
    space
        .kubectl("patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"blue\",\"size\":null,\"shape\":\"round\"}}'")
        .ok();
    space
        .kubectl("patch secret key -p '{\"stringData\":{\"pw\":\"new\"}}'")
        .ok();
    space.kubectl("label pod reader tier=gold").ok();
    eventually("the new content", || {
        let seen =
            sh("cat /map/colour /all/colour /all/shape /key/deep/pw /all/pw /all/labels; ls /map");
        if seen == "blueblueroundnewnewtier=\"gold\"colour\nshape\n" {
            Ok(())
        } else {
            Err(seen)
        }
    });
    assert_eq!(
        sh("cat /part"),
        "green",
        "a part of a volume does not follow"
    );
    // an optional object that comes later is seen, and one that goes leaves what there was
    space
        .kubectl("create configmap none --from-literal=late=yes")
        .ok();
    eventually("the optional object", || {
        let seen = sh("cat /none/late || true");
        if seen == "yes" { Ok(()) } else { Err(seen) }
    });
    space.kubectl("delete secret key").ok();
    space.until_says(
        "get events",
        "MountVolume.SetUp failed for volume \"key\" : secret \"key\" not found",
    );
    assert_eq!(sh("cat /key/deep/pw"), "new");
    assert_eq!(
        space.field("pod/reader", ".status.containerStatuses[0].containerID"),
        started,
        "nothing was started anew"
    );
    // what may not change does not
    space
        .kubectl("create configmap fixed --from-literal=a=1")
        .ok();
    space
        .kubectl("patch configmap fixed -p '{\"immutable\":true}'")
        .ok();
    holds(
        &space
            .kubectl("patch configmap fixed -p '{\"data\":{\"a\":\"2\"}}'")
            .fails(1),
        "field is immutable when `immutable` is set",
    );
}

fn pods_have_an_identity_and_no_rights(space: &Space) {
    let own = "{name: own, projected: {sources: [{serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}}]}}";
    space.apply(
        &(pod("who", SLEEP, "{name: own, mountPath: /own}", own, "")
            + &pod(
                "nobody",
                SLEEP,
                "",
                "",
                ", automountServiceAccountToken: false",
            )
            + &pod(
                "user",
                SLEEP,
                "",
                "",
                ", securityContext: {runAsUser: 1234}",
            )),
    );
    for name in ["who", "nobody", "user"] {
        space.ready(&format!("pod/{name}"));
    }
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(
        space
            .sh("who", &format!("cat {at}/namespace; ls {at}"))
            .ok(),
        "tokensca.crt\nnamespace\ntoken\n"
    );
    space.sh("nobody", &format!("ls {at}")).fails(1);
    assert_eq!(
        space.sh("user", &format!("stat -Lc %u:%a {at}/token")).ok(),
        "1234:600\n"
    );
    let token = space.sh("who", &format!("cat {at}/token")).ok();
    let ca = space.sh("who", &format!("cat {at}/ca.crt")).ok();
    let ca_file = Root::scratch().join("ca.crt");
    std::fs::write(&ca_file, ca).expect("written");
    let api = format!("https://127.0.0.1:{}", space.instance.api_port);
    let ask = |token: &str, path: &str| {
        let url = format!(
            "-sS -m 20 --cacert {} -H 'Authorization: Bearer {token}' {api}{path}",
            ca_file.display()
        );
        Run::new("curl", &url).ok()
    };
    let pods = format!("/api/v1/namespaces/{}/pods", space.name);
    let said = ask(&token, &pods);
    holds(&said, "\"code\":403");
    holds(
        &said,
        &format!(
            "User \\\"system:serviceaccount:{}:default\\\" cannot list resource",
            space.name
        ),
    );
    holds(&ask(&token, "/version"), "gitVersion");
    holds(&ask("nonsense", &pods), "\"code\":401");
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    holds(&ask(&forged, &pods), "\"code\":401");
    let vault = space.sh("who", "cat /own/vault").ok();
    holds(&ask(&vault, &pods), "\"code\":401");

    // by the commands that people use
    space.kubectl("create serviceaccount robot").ok();
    let created = space.kubectl("create token robot --duration=20m").ok();
    let who = space.instance.kubectl(&format!(
        "--kubeconfig=/dev/null --server={api} --certificate-authority={} --token={} auth whoami -o jsonpath={{.status.userInfo.username}}",
        ca_file.display(),
        created.trim()
    ));
    assert_eq!(
        who.ok(),
        format!("system:serviceaccount:{}:robot", space.name)
    );
    holds(
        &space.kubectl("create token robot --duration=1m").fails(1),
        "may not specify a duration less than 10 minutes",
    );
    holds(
        &space.kubectl("create token nobody").fails(1),
        "serviceaccounts \"nobody\" not found",
    );
    holds(
        &space
            .kubectl("create -f -")
            .stdin(pod("stray", "true", "", "", ", serviceAccountName: stray"))
            .fails(1),
        &format!(
            "error looking up service account {}/stray: serviceaccount \"stray\" not found",
            space.name
        ),
    );
    // a token ends with what it was made for
    space.kubectl("delete serviceaccount robot").ok();
    holds(&ask(created.trim(), "/version"), "\"code\":401");
    space.kubectl("delete pod who --wait=true").ok();
    holds(&ask(&token, "/version"), "\"code\":401");
}

fn parts_of_volumes_stay_inside(space: &Space) {
    let with = |name: &str, script: &str, part: &str| {
        let init = format!(
            ", initContainers: [{{name: first, image: 'busybox:static', command: [sh, -c, '{script}'], volumeMounts: [{DATA}]}}]"
        );
        pod(
            name,
            "ls -la /x /data; sleep 100000",
            &format!("{DATA}, {{name: data, mountPath: /x, {part}}}"),
            "{name: data, emptyDir: {}}",
            &format!("{init}, restartPolicy: Never"),
        )
    };
    let outside = Root::scratch();
    std::fs::write(outside.join("secret"), "outside").expect("written");
    let planted = format!("ln -s {} /data/out", outside.display());
    space.apply(
        &(with("absolute", &planted, "subPath: out")
            + &with(
                "relative",
                "ln -s ../../../../../../../../../../etc /data/out",
                "subPath: out/passwd",
            )
            + &with("magic", "ln -s /proc/self/root /data/out", "subPath: out/etc")
            + &with(
                "inside",
                "mkdir -p /data/real; ln -s real /data/in; echo fine > /data/real/file",
                "subPath: in",
            )
            + &with("named", "true", "subPathExpr: $(NAME)/logs").replace(
                "name: main,",
                "name: main, env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],",
            )),
    );
    for name in ["absolute", "relative", "magic"] {
        space.until_says(
            &format!("get pod {name} --no-headers"),
            "CreateContainerConfigError",
        );
        holds(
            &space.kubectl(&format!("describe pod {name}")).ok(),
            "failed to prepare subPath for volumeMount \"data\" of container \"main\"",
        );
    }
    for name in ["inside", "named"] {
        space.ready(&format!("pod/{name}"));
    }
    assert_eq!(space.sh("inside", "cat /x/file").ok(), "fine\n");
    space
        .sh("named", "echo line > /x/log; cat /data/named/logs/log")
        .ok();
    assert_eq!(
        std::fs::read_dir(&outside).expect("there").count(),
        1,
        "nothing was made outside"
    );
    // a container that starts again gets its part again
    space.kubectl("delete pod --all --wait=true").ok();
    space.apply(&pod(
        "again",
        "echo run >> /x/runs; sleep 1",
        &format!("{DATA}, {{name: data, mountPath: /x, subPath: part}}"),
        "{name: data, emptyDir: {}}",
        ", restartPolicy: Always",
    ));
    space.until(
        "pod/again",
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    let uid = space.field("pod/again", ".metadata.uid");
    let runs = space
        .instance
        .data_dir
        .join(format!("node/pods/{uid}/volumes/data/part/runs"));
    eventually("both runs", || {
        let text = std::fs::read_to_string(&runs).unwrap_or_default();
        if text.lines().count() >= 2 {
            Ok(())
        } else {
            Err(text)
        }
    });
    space.kubectl("delete pod again --wait=true").ok();
    eventually("its mounts are gone", || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        if table.contains(&uid) {
            Err(table)
        } else {
            Ok(())
        }
    });
}

fn the_hosts_files_are_what_they_should_be(space: &Space) {
    let home = Root::scratch();
    let socket = std::os::unix::net::UnixListener::bind(home.join("socket")).expect("bound");
    std::fs::create_dir(home.join("dir")).expect("made");
    let host = |path: &str, kind: &str| {
        format!(
            "{{name: data, hostPath: {{path: {}, type: {kind}}}}}",
            if path.starts_with('/') {
                path.to_owned()
            } else {
                home.join(path).display().to_string()
            }
        )
    };
    let good = [
        ("made/here", "DirectoryOrCreate"),
        ("file", "FileOrCreate"),
        ("socket", "Socket"),
        ("dir", "Directory"),
        ("/dev/null", "CharDevice"),
    ];
    let bad = [
        ("dir", "File", "is not a file"),
        ("socket", "Directory", "is not a directory"),
        ("dir", "Socket", "is not a socket"),
        ("absent", "Directory", "is not a directory"),
        ("/dev/null", "BlockDevice", "is not a block device"),
    ];
    let mut manifest = String::new();
    for (n, (path, kind)) in good.iter().enumerate() {
        manifest += &pod(&format!("good-{n}"), SLEEP, DATA, &host(path, kind), "");
    }
    for (n, (path, kind, _)) in bad.iter().enumerate() {
        manifest += &pod(&format!("bad-{n}"), SLEEP, DATA, &host(path, kind), "");
    }
    space.apply(&manifest);
    for n in 0..good.len() {
        space.ready(&format!("pod/good-{n}"));
    }
    for (n, (_, _, why)) in bad.iter().enumerate() {
        let text = space.until_says(
            &format!("get events --field-selector involvedObject.name=bad-{n}"),
            why,
        );
        holds(&text, "hostPath type check failed");
    }
    holds(
        &space
            .kubectl("create -f -")
            .stdin(pod(
                "wrong",
                "true",
                DATA,
                "{name: data, hostPath: {path: /a/../b, type: Pipe}}",
                "",
            ))
            .fails(1),
        "must not contain '..'",
    );
    drop(socket);
    // what is mounted on the host later is seen inside, if that is asked for
    let shared = home.join("shared");
    std::fs::create_dir_all(shared.join("late")).expect("made");
    let mounts = Mounts::new(&shared);
    space.apply(
        &(pod(
            "sees",
            SLEEP,
            "{name: data, mountPath: /data, mountPropagation: HostToContainer}",
            &host("shared", "Directory"),
            "",
        ) + &pod("blind", SLEEP, DATA, &host("shared", "Directory"), "")),
    );
    space.ready("pod/sees");
    space.ready("pod/blind");
    mounts.tmpfs(&shared.join("late"));
    std::fs::write(shared.join("late/file"), "x").expect("written");
    space.sh("sees", "cat /data/late/file").ok();
    space.sh("blind", "cat /data/late/file").fails(1);
    space.kubectl("delete pod --all --wait=true").ok();
}

/// A shared mount point with what is mounted in it, as long as it is held.
struct Mounts(PathBuf);

impl Mounts {
    fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Run::new(
            "mount",
            &format!("-t tmpfs plimsoll-test {}", path.display()),
        )
        .ok();
        let made = Self(path.clone());
        Run::new("mount", &format!("--make-shared {}", path.display())).ok();
        std::fs::create_dir_all(path.join("late")).expect("made");
        made
    }

    fn tmpfs(&self, path: &Path) {
        Run::new(
            "mount",
            &format!("-t tmpfs plimsoll-test {}", path.display()),
        )
        .ok();
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = Run::new("umount", &format!("-R -l {}", self.0.display())).ran();
    }
}

fn groups_and_users(space: &Space) {
    let as_user = ", securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000]}";
    space.apply(
        &(claim("owned", "1Gi", "")
            + &pod("group", SLEEP, DATA, &using("owned"), as_user)
            + &pod(
                "locked",
                "touch /x; touch /data/x && sleep 100000",
                DATA,
                "{name: data, emptyDir: {}}",
                "",
            )
            .replace(
                "name: main,",
                "name: main, securityContext: {readOnlyRootFilesystem: true},",
            )
            + &pod(
                "root",
                SLEEP,
                "",
                "",
                ", securityContext: {runAsNonRoot: true}",
            )
            + &pod(
                "zero",
                SLEEP,
                "",
                "",
                ", securityContext: {runAsNonRoot: true, runAsUser: 0}",
            )),
    );
    space.ready("pod/group");
    space.ready("pod/locked");
    let sh = |script: &str| space.sh("group", script).ok();
    let id = sh("id");
    holds(&id, "uid=1000");
    holds(&id, "gid=3000");
    holds(&id, "2000");
    holds(&id, "4000");
    assert_eq!(
        sh("echo x > /data/file; stat -c %g:%a /data; stat -c %u:%g /data/file"),
        "2000:2777\n1000:2000\n"
    );
    holds(&space.kubectl("logs locked").ok(), "Read-only file system");
    for (name, why) in [
        (
            "root",
            "container has runAsNonRoot and image will run as root (pod: \"root_",
        ),
        (
            "zero",
            "container's runAsUser breaks non-root policy (pod: \"zero_",
        ),
    ] {
        space.until_says(
            &format!("get pod {name} --no-headers"),
            "CreateContainerConfigError",
        );
        holds(&space.kubectl(&format!("describe pod {name}")).ok(), why);
    }
    // the group's files stay as they are if the top directory is the group's already
    sh("chmod 600 /data/file");
    space.kubectl("delete pod group --wait=true").ok();
    let same = as_user.replace(
        "fsGroup: 2000",
        "fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch",
    );
    space.apply(&pod("group", SLEEP, DATA, &using("owned"), &same));
    space.ready("pod/group");
    assert_eq!(sh("stat -c %a /data/file"), "600\n");
    space.kubectl("delete pod group --wait=true").ok();
    space.apply(&pod("group", SLEEP, DATA, &using("owned"), as_user));
    space.ready("pod/group");
    assert_eq!(sh("stat -c %a /data/file"), "660\n");
}

fn emptydirs_are_bounded(space: &Space) {
    space.apply(
        &(pod(
            "fast",
            SLEEP,
            DATA,
            "{name: data, emptyDir: {medium: Memory, sizeLimit: 2Mi}}",
            "",
        ) + &pod(
            "greedy",
            "dd if=/dev/zero of=/data/big bs=1M count=8; sleep 100000",
            DATA,
            "{name: data, emptyDir: {sizeLimit: 4Mi}}",
            "",
        ) + &pod(
            "modest",
            "dd if=/dev/zero of=/data/small bs=1M count=1; sleep 100000",
            DATA,
            "{name: data, emptyDir: {sizeLimit: 4Mi}}",
            "",
        )),
    );
    space.ready("pod/fast");
    holds(
        &space
            .sh("fast", "dd if=/dev/zero of=/data/big bs=1M count=4")
            .fails(1),
        "No space left on device",
    );
    space.until("pod/greedy", ".status.phase", "Failed");
    assert_eq!(space.field("pod/greedy", ".status.reason"), "Evicted");
    assert_eq!(
        space.field("pod/greedy", ".status.message"),
        "Usage of EmptyDir volume \"data\" exceeds the limit \"4Mi\". "
    );
    space.until_says(
        "get events",
        "Usage of EmptyDir volume \"data\" exceeds the limit \"4Mi\"",
    );
    assert_eq!(space.field("pod/modest", ".status.phase"), "Running");
}

fn a_claim_lives_longer_than_its_pods(space: &Space) {
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

fn volumes_made_by_hand(space: &Space) {
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
    // retained: it is released, keeps its data, and no other claim gets it
    space.kubectl("delete pod writer --wait=true").ok();
    space.kubectl("delete pvc hand --wait=true").ok();
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

fn pods_wait_in_upstreams_words(space: &Space) {
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
fn data_outlives_the_daemon(instance: &Arc<Instance>) {
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
