//! User namespaces: root inside is nobody outside, and everything that is done with containers works as without.

mod common;

use common::{Session, World, command, enter, eventually};
use engine::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

async fn mapped(world: &Session, id: &str) -> UserNamespace {
    let status = world
        .sandbox_with(SandboxSpec {
            id: id.into(),
            user_namespace: true,
            hosts: "127.0.0.1 localhost\n".into(),
            resolv_conf: "nameserver 127.0.0.1\n".into(),
            ..SandboxSpec::default()
        })
        .await;
    status.user_namespace.expect("a user namespace")
}

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect("field")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn volume(source: &Path, target: &str) -> Mount {
    Mount {
        source: source.to_owned(),
        target: target.into(),
        ..Mount::default()
    }
}

#[test]
fn root_inside_is_nobody_outside_and_volumes_keep_their_owners() {
    World::run(async |world| {
        let namespace = mapped(&world, "plim-s").await;
        let first = namespace.first_id;
        let data = world.dir.join("data");
        fs::create_dir(&data).expect("mkdir");
        fs::write(data.join("secret"), "host").expect("write");
        let only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(data.join("secret"), only).expect("chmod");
        let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
        spec.mounts = vec![
            volume(&data, "/data"),
            Mount {
                read_only: true,
                options: vec!["noexec".into(), "nosuid".into()],
                ..volume(&data, "/closed")
            },
            volume(&data.join("secret"), "/deep/er/secret"),
            Mount {
                kind: MountKind::Tmpfs,
                options: vec!["size=64k".into()],
                ..volume(Path::new(""), "/scratch")
            },
        ];
        spec.oom_score_adj = 500;
        spec.ulimits = vec![Ulimit {
            name: "nofile".into(),
            soft: 100,
            hard: 1 << 40,
        }];
        world.start(spec).await;
        let pid = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        assert_eq!(
            field(pid, "Uid:"),
            [first; 4].map(|id| id.to_string()).join(" ")
        );
        assert_eq!(
            field(pid, "Gid:"),
            [first; 4].map(|id| id.to_string()).join(" ")
        );
        assert_eq!(
            fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))
                .expect("score")
                .trim(),
            "500"
        );
        for map in ["uid_map", "gid_map"] {
            let map = fs::read_to_string(format!("/proc/{pid}/{map}")).expect("map");
            let fields: Vec<&str> = map.split_whitespace().collect();
            assert_eq!(fields, ["0", &first.to_string(), "65536"]);
        }
        for name in ["user", "pid", "mnt", "ipc", "uts", "net"] {
            let own = fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("link");
            assert_ne!(
                own,
                fs::read_link(format!("/proc/self/ns/{name}")).expect("link"),
                "{name}"
            );
        }
        // One stream: two would come in any order.
        let script = "exec 2>&1; id -u; id -g; stat -c %u /data/secret /etc/hosts /etc/passwd /dev/shm /dev/null /proc/1; cat /data/secret /deep/er/secret; \
            echo > /data/made && chown 1000:1000 /data/made && echo > /root-made && echo > /dev/shm/x && echo > /scratch/x && echo done; \
            echo > /closed/x; cat /etc/resolv.conf; ulimit -n; hostname; cat /proc/self/uid_map; grep -c . /proc/mounts >/dev/null && ls /sys/class/net";
        let (code, said) = enter(&world, "plim-c", command(&["sh", "-c", script])).await;
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(code, 0, "{said}");
        // /dev/null is the host's own node, bound: nobody's.
        assert_eq!(
            lines[..8],
            ["0", "0", "0", "0", "0", "0", "65534", "0"],
            "{said}"
        );
        for line in [
            "hosthostdone",
            "nameserver 127.0.0.1",
            "100",
            "lo",
            &format!("0 {first}      65536"),
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                lines.iter().any(|said| squeezed(said) == squeezed(line)),
                "{line}: {said}"
            );
        }
        assert!(said.contains("/closed/x: Read-only file system"), "{said}");
        // Owners on the disk are those that are seen inside.
        assert_eq!(fs::metadata(data.join("made")).expect("made").uid(), 1000);
        assert_eq!(
            fs::metadata(world.rootfs().join("root-made"))
                .expect("made")
                .uid(),
            0
        );
        let (_, said) = enter(
            &world,
            "plim-c",
            ExecSpec {
                user: "web".into(),
                ..command(&["sh", "-c", "exec 2>&1; id -u; cat /data/secret"])
            },
        )
        .await;
        assert!(
            said.starts_with("1000\n") && said.contains("Permission denied"),
            "{said}"
        );
    });
}

#[test]
fn all_rights_inside_are_none_outside() {
    World::run(async |world| {
        mapped(&world, "plim-s").await;
        let marker = world.dir.join("marker");
        fs::write(&marker, "safe").expect("write");
        let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
        spec.security.privileged = true;
        world.start(spec).await;
        let device = rustix::fs::stat("/").expect("stat").st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let said = world
            .said_by(
                "plim-c",
                &format!(
                    "grep CapEff /proc/self/status; mount -t tmpfs x /srv && echo mounted-tmpfs; hostname plim-new && hostname;
                     echo b > /proc/sysrq-trigger && echo sysrq; echo x > /proc/sys/kernel/core_pattern && echo pattern; echo 1 > /proc/sys/vm/drop_caches && echo caches;
                     busybox mknod /tmp/disk b {major} {minor} && echo node; mount -t proc proc /proc/1/root && echo proc; cat /proc/kcore > /dev/null && echo kcore;
                     mount -t cgroup -o memory c /tmp && echo cgroup; echo 0 > /proc/1/oom_score_adj; echo -900 > /proc/self/oom_score_adj && echo oom;
                     busybox nsenter -t 1 -m true; busybox mount -o remount,rw /sys && echo remounted; echo 1 > /sys/kernel/mm/ksm/run && echo ksm"
                ),
            )
            .await;
        assert!(
            said.contains("mounted-tmpfs") && said.contains("plim-new"),
            "{said}"
        );
        for escaped in [
            "\nsysrq",
            "\npattern",
            "\ncaches",
            "\nnode",
            "\nkcore",
            "\ncgroup",
            "\noom",
            "\nksm",
        ] {
            assert!(!said.contains(escaped), "{escaped}: {said}");
        }
        assert_eq!(fs::read_to_string(&marker).expect("read"), "safe");
    });
}

#[test]
fn processes_of_the_host_are_out_of_reach_even_when_their_ids_are_known() {
    World::run(async |world| {
        let namespace = mapped(&world, "plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sleep", "1000"]))
            .await;
        let pid = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        // From the container's user namespace, but with the host's processes in sight: what an escape would find.
        let script = format!(
            "kill -0 {0} && echo signal; cat /proc/{0}/environ && echo environ; ls -l /proc/{0}/root/ >/dev/null && echo root; \
             echo x >> {1} && echo wrote; cat {2} && echo record; id -u",
            std::process::id(),
            world.dir.join("marker").display(),
            world
                .config
                .root
                .join("sandboxes/plim-s/sandbox.json")
                .display(),
        );
        let output = std::process::Command::new("nsenter")
            .args([
                format!("--user=/proc/{pid}/ns/user"),
                "--setuid=0".into(),
                "--setgid=0".into(),
                "sh".into(),
                "-c".into(),
                script,
            ])
            .output()
            .expect("nsenter");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "0\n", "{}", String::from_utf8_lossy(&output.stderr));
        assert!(namespace.path.exists());
    });
}

#[test]
fn ranges_are_of_one_sandbox_each_and_survive_the_daemon() {
    World::run(async |world| {
        let one = mapped(&world, "plim-one").await;
        let two = mapped(&world, "plim-two").await;
        assert!(one.first_id.abs_diff(two.first_id) >= 65_536);
        world
            .start(world.spec(
                "plim-one",
                "plim-c",
                &[
                    "sh",
                    "-c",
                    "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.1; done",
                ],
            ))
            .await;
        let world = world.reopened().await;
        let again = &world.engine;
        let status = again.sandbox("plim-one").await.expect("known");
        assert_eq!(status.user_namespace, Some(one.clone()));
        // A third one meets neither.
        again
            .create_sandbox(SandboxSpec {
                id: "plim-three".into(),
                user_namespace: true,
                ..SandboxSpec::default()
            })
            .await
            .expect("create");
        let three = again
            .start_sandbox("plim-three")
            .await
            .expect("start")
            .user_namespace
            .expect("namespace");
        assert!(
            three.first_id.abs_diff(one.first_id) >= 65_536
                && three.first_id.abs_diff(two.first_id) >= 65_536
        );
        again.pause_container("plim-c").await.expect("pause");
        again.unpause_container("plim-c").await.expect("unpause");
        assert!(
            again
                .stats("plim-c")
                .await
                .expect("stats")
                .memory_usage_bytes
                > 0
        );
        eventually("output", async || world.output("plim-c").contains("up")).await;
        let exit = again
            .stop_container("plim-c", None, std::time::Duration::from_secs(20))
            .await
            .expect("stop");
        assert_eq!(
            (exit.code, world.output("plim-c").contains("told")),
            (7, true)
        );
        // Started again it has the same ids.
        again.stop_sandbox("plim-one").await.expect("stop");
        let started = again.start_sandbox("plim-one").await.expect("start");
        assert_eq!(started.user_namespace, Some(one));
        again.start_container("plim-c").await.expect("start");
    });
}

#[test]
fn what_cannot_be_had_in_a_user_namespace_is_told() {
    World::run(async |world| {
        mapped(&world, "plim-s").await;
        let start = async |change: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = world.spec("plim-s", "plim-c", &["true"]);
            change(&mut spec);
            world.engine.create_container(spec).await.expect("create");
            let error = world
                .engine
                .start_container("plim-c")
                .await
                .expect_err("refused")
                .to_string();
            world
                .engine
                .remove_container("plim-c")
                .await
                .expect("remove");
            error
        };
        let error = start(&|spec| spec.user = "70000".into()).await;
        assert!(error.contains("70000 is not mapped"), "{error}");
        let error = start(&|spec| spec.mounts = vec![volume(Path::new("/proc"), "/host")]).await;
        assert!(
            error.contains("MOUNT_ATTR_IDMAP")
                && error.contains("/proc")
                && error.contains("hostUsers"),
            "{error}"
        );
        let host = SandboxSpec {
            id: "plim-h".into(),
            user_namespace: true,
            network: SandboxNetwork::Host,
            ..SandboxSpec::default()
        };
        let error = world
            .engine
            .create_sandbox(host)
            .await
            .expect_err("refused");
        assert!(
            matches!(
                error,
                Error::Invalid {
                    field: "user_namespace",
                    ..
                }
            ),
            "{error}"
        );
    });
}
