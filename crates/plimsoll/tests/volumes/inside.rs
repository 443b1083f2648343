//! Parts of volumes, the host's files, owners and limits.

use std::path::{Path, PathBuf};

use super::support::{Root, Run, Space, eventually, holds};
use super::{DATA, SLEEP, Shell, claim, pod, using};

pub fn parts_of_volumes_stay_inside(space: &Space) {
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

pub fn the_hosts_files_are_what_they_should_be(space: &Space) {
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

pub fn groups_and_users(space: &Space) {
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

pub fn emptydirs_are_bounded(space: &Space) {
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
