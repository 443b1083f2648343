//! Containers are apart from the host and have no more rights than Docker gives: seen from inside.

mod common;

use common::{World, eventually, unified};
use engine::*;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NAMESPACES: [&str; 5] = ["pid", "mnt", "ipc", "uts", "net"];

async fn links(world: &common::Session, id: &str) -> Vec<String> {
    // Both at a time: the number of a namespace that is gone is soon given to another.
    world
        .start(world.spec("plim-s", id, &["sleep", "1000"]))
        .await;
    let pid = world
        .engine
        .container(id)
        .await
        .and_then(|status| status.pid)
        .expect("pid");
    let link = |name: &&str| {
        fs::read_link(format!("/proc/{pid}/ns/{name}"))
            .expect("link")
            .display()
            .to_string()
    };
    NAMESPACES.iter().map(link).collect()
}

#[test]
fn every_namespace_is_its_own_and_the_sandbox_shares_some() {
    World::run(async |world| {
        let status = world.sandbox("plim-s").await;
        let (one, two) = (links(&world, "plim-1").await, links(&world, "plim-2").await);
        for (index, name) in NAMESPACES.iter().enumerate() {
            let host = fs::read_link(format!("/proc/self/ns/{name}"))
                .expect("link")
                .display()
                .to_string();
            assert_ne!(one[index], host, "{name}");
            let shared = ["ipc", "uts", "net"].contains(name);
            assert_eq!(
                one[index] == two[index],
                shared,
                "{name}: {} {}",
                one[index],
                two[index]
            );
        }
        use std::os::unix::fs::MetadataExt;
        let mounted = fs::metadata(status.netns.expect("netns"))
            .expect("mounted")
            .ino();
        assert_eq!(one[4], format!("net:[{mounted}]"));
    });
}

#[test]
fn the_hosts_network_is_an_option() {
    World::run(async |world| {
        let spec = SandboxSpec {
            id: "plim-s".into(),
            network: SandboxNetwork::Host,
            ..SandboxSpec::default()
        };
        assert_eq!(world.sandbox_with(spec).await.netns, None);
        let host = fs::read_link("/proc/self/ns/net")
            .expect("link")
            .display()
            .to_string();
        assert_eq!(links(&world, "plim-1").await[4], host);
    });
}

#[test]
fn rights_are_few_by_default() {
    World::run(async |world| {
        let script = "grep -E '^(Seccomp|CapEff|CapBnd|CapInh|CapAmb|SigBlk|SigIgn|NoNewPrivs|Uid):' /proc/self/status; ls /proc/self/fd | wc -l; ls /dev; umask";
        let (exit, output) = world.script("plim-rights", script).await;
        assert_eq!(exit.code, 0);
        let field = |name: &str| {
            output
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .unwrap_or_default()
        };
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("CapEff:"), "00000000a80425fb", "Docker's default set");
        assert_eq!(field("CapBnd:"), "00000000a80425fb");
        assert_eq!(
            (field("CapInh:"), field("CapAmb:")),
            ("0".repeat(16), "0".repeat(16))
        );
        assert_eq!(
            (field("SigBlk:"), field("SigIgn:")),
            ("0".repeat(16), "0".repeat(16))
        );
        assert_eq!(field("NoNewPrivs:"), "0");
        assert!(
            output.lines().any(|line| line == "4"),
            "three streams and the directory itself: {output}"
        );
        assert!(
            !output.contains("vda") && output.contains("null\n") && output.contains("shm\n"),
            "{output}"
        );
        assert!(output.ends_with("0022\n"), "{output}");

        let (_, output) = world
            .script_with(
                "plim-user",
                "grep -E '^(CapEff|Seccomp):' /proc/self/status",
                |spec| spec.user = "1000:1000".into(),
            )
            .await;
        assert_eq!(output, "CapEff:\t0000000000000000\nSeccomp:\t2\n");

        let change = |spec: &mut ContainerSpec| {
            spec.security.capabilities_drop = vec!["ALL".into()];
            spec.security.no_new_privileges = true;
        };
        let (_, output) = world
            .script_with(
                "plim-none",
                "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status",
                change,
            )
            .await;
        assert_eq!(
            output,
            "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
        );
    });
}

#[test]
fn forbidden_calls_fail_and_allowed_ones_do_not() {
    World::run(async |world| {
        let script = "exec 2>&1; unshare -m true; unshare -U true; mount -t tmpfs x /tmp; chroot / true && echo chroot works; hostname other; id -u";
        // Either the filter or the missing right refuses these; the probe below asks the filter alone.
        let change =
            |spec: &mut ContainerSpec| spec.security.capabilities_drop = vec!["SYS_ADMIN".into()];
        let (_, output) = world.script_with("plim-calls", script, change).await;
        assert_eq!(
            output.matches("Operation not permitted").count()
                + output.matches("ermission denied").count(),
            4,
            "{output}"
        );
        assert!(
            output.contains("chroot works\n") && output.ends_with("0\n"),
            "{output}"
        );

        // Calls that no right is needed for are refused by the filter alone: keyctl, add_key, userfaultfd by number.
        let probe = world.rootfs().join("bin/probe");
        build_probe(&world.dir, &probe);
        let (exit, output) = world
            .run(world.spec("s-plim-calls", "plim-probe", &["probe"]))
            .await;
        assert_eq!(exit.code, 0);
        // What the filter lets through, the kernel answers: an older one has no fchmodat2 (Linux 6.6).
        let outside = Command::new(&probe).output().expect("the probe");
        let outside = String::from_utf8(outside.stdout).expect("text");
        let fchmodat2 = outside
            .lines()
            .find(|line| line.starts_with("fchmodat2 "))
            .expect("a line for each call");
        assert!(
            ["fchmodat2 14", "fchmodat2 38"].contains(&fchmodat2),
            "{outside}"
        );
        assert_eq!(
            output,
            format!(
                "keyctl 1\nadd_key 1\nuserfaultfd 1\nio_uring_setup 1\nclone3 38\nvsock 1\nalg 1\n{fchmodat2}\nnewest 38\ngetpid 0\n"
            )
        );
    });
}

/// A small static program that makes system calls and prints what they answer.
fn build_probe(dir: &std::path::Path, program: &std::path::Path) {
    let source = dir.join("probe.rs");
    let text = r#"
        unsafe extern "C" { fn syscall(number: i64, ...) -> i64; }
        fn main() {
            let [keyctl, add_key, userfaultfd, socket, getpid] =
                if cfg!(target_arch = "x86_64") { [250, 248, 323, 41, 39] } else { [219, 217, 282, 198, 172] };
            for (name, number, first) in [("keyctl", keyctl, 0), ("add_key", add_key, 0), ("userfaultfd", userfaultfd, 0),
                ("io_uring_setup", 425, 1), ("clone3", 435, 0), ("vsock", socket, 40), ("alg", socket, 38), ("fchmodat2", 452, 0),
                ("newest", 500, 0), ("getpid", getpid, 0i64)] {
                let result = unsafe { syscall(number, first, 1i64, 0i64, 0i64, 0i64) };
                let error = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
                println!("{name} {error}");
            }
        }"#;
    fs::write(&source, text).expect("write");
    let mut rustc = Command::new("rustc");
    rustc
        .arg0("rustc")
        .args([
            "--edition",
            "2024",
            "-C",
            "target-feature=+crt-static",
            "-o",
        ])
        .args([program, &source]);
    let output = rustc.output().expect("rustc");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn sensitive_files_are_masked_and_the_rest_of_proc_and_sys_is_read_only() {
    World::run(async |world| {
        let script = "exec 2>&1; head -c 1 /proc/timer_list | wc -c; head -c 1 /proc/keys | wc -c; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname; \
            touch /sys/x; ls /sys/fs/cgroup | head -n 1; mkdir /sys/fs/cgroup/memory/x; echo -1 > /sys/fs/cgroup/memory/memory.limit_in_bytes; touch /sys/fs/cgroup/x";
        let script = if unified() {
            script
                .replace("/memory.limit_in_bytes", ".max")
                .replace("cgroup/memory/x", "cgroup/x")
        } else {
            script.to_owned()
        };
        let (_, output) = world.script("plim-masked", &script).await;
        assert!(output.starts_with("0\n0\n0\n"), "{output}");
        assert_eq!(
            output.matches("Read-only file system").count(),
            5,
            "{output}"
        );
        let (_, output) = world
            .script_with(
                "plim-ro",
                "exec 2>&1; touch /x; touch /tmp/x; echo ok > /dev/shm/x && cat /dev/shm/x",
                |spec| spec.security.read_only_root = true,
            )
            .await;
        assert_eq!(
            (
                output.matches("Read-only file system").count(),
                output.ends_with("ok\n")
            ),
            (2, true),
            "{output}"
        );
        assert!(!world.rootfs().join("x").exists());
        let (_, output) = world
            .script_with(
                "plim-priv",
                "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
                |spec| spec.security.privileged = true,
            )
            .await;
        assert_eq!(output, "Seccomp:\t0\nmounted\n");
    });
}

#[test]
fn on_v2_a_container_sees_its_own_cgroup_as_the_only_one() {
    if !unified() {
        return;
    }
    World::run(async |world| {
        let script = "cat /proc/self/cgroup; readlink /proc/self/ns/cgroup; ls /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/pids.max";
        world.sandbox("plim-s").await;
        let mut spec = world.spec(
            "plim-s",
            "plim-c",
            &["sh", "-c", &format!("{script}; sleep 1000")],
        );
        spec.resources.pids_limit = Some(77);
        world.start(spec).await;
        eventually("it has looked", async || {
            world.output("plim-c").contains("77")
        })
        .await;
        let seen = world.output("plim-c");
        let host = fs::read_link("/proc/self/ns/cgroup")
            .expect("link")
            .display()
            .to_string();
        assert!(
            seen.starts_with("0::/\n") && !seen.contains(&host),
            "{seen}"
        );
        assert_eq!(
            world.said_by("plim-c", script).await,
            seen,
            "a command in it sees the same"
        );
    });
}

#[test]
fn shared_memory_is_the_sandboxs() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let say = |argv: &[&str], id: &str| world.spec("plim-s", id, argv);
        let (exit, output) = world
            .run(say(
                &[
                    "sh",
                    "-c",
                    "echo told > /dev/shm/x; chmod 600 /dev/shm/x; stat -c %a /dev/shm",
                ],
                "plim-a",
            ))
            .await;
        assert_eq!((exit.code, output.as_str()), (0, "1777\n"));
        // Also after the one that wrote it has ended.
        let (_, output) = world.run(say(&["cat", "/dev/shm/x"], "plim-b")).await;
        assert_eq!(output, "told\n");
        let (_, output) = world
            .run(say(&["grep", " /dev/shm ", "/proc/mounts"], "plim-c"))
            .await;
        for word in ["nosuid", "nodev", "noexec", "size=65536k"] {
            assert!(output.contains(word), "{output}");
        }
        let (exit, _) = world.script("plim-other", "cat /dev/shm/x").await;
        assert_eq!(exit.code, 1, "another sandbox has its own");
        let mounted = || {
            std::fs::read_to_string("/proc/self/mountinfo")
                .expect("mounts")
                .contains(&world.config.run.join("shm/plim-s").display().to_string())
        };
        assert!(mounted());
        world.engine.stop_sandbox("plim-s").await.expect("stop");
        assert!(!mounted());
    });
}
