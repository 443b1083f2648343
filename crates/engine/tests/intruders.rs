//! What a container that has been taken over can do to the runtime, the host and its neighbours: each attempt from a real one.

mod common;

use common::{World, command, enter, eventually};
use engine::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// CVE-2019-5736: the container's own loader is started in the name of the runtime's program.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_runtimes_program_cannot_be_overwritten() {
    World::run(async |world| {
        world.arm();
        let program = Path::new(&world.config.supervisor[0]).to_owned();
        let before = fs::read(&program).expect("read");
        // From outside, too: what runs is not the file on disk.
        let status = world.sandbox("plim-s").await;
        let running = format!("/proc/{}/exe", status.supervisor_pid.expect("pid"));
        let error = fs::File::options()
            .write(true)
            .open(running)
            .expect_err("write");
        let refused = [libc_erofs(), 1];
        assert!(
            refused.contains(&error.raw_os_error().unwrap_or(0)),
            "{error}"
        );

        let rootfs = world.rootfs();
        fs::create_dir_all(rootfs.join("lib64")).expect("mkdir");
        let flags = [
            "-O",
            "-C",
            "panic=abort",
            "-C",
            "relocation-model=pie",
            "-C",
            "link-args=-nostartfiles -nostdlib -static-pie",
        ];
        let loader = rootfs.join("lib64/ld-linux-x86-64.so.2");
        common::compile(include_str!("programs/loader.rs"), &flags, &loader);
        fs::write(rootfs.join("bin/trick"), "#!/proc/self/exe\n").expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(rootfs.join("bin/trick"), mode).expect("chmod");
        symlink("/proc/self/exe", rootfs.join("bin/link")).expect("link");
        let told = |output: &str| {
            assert!(
                output.contains("target /"),
                "the descriptor leads to the program: {output}"
            );
            // A read-only file system, or the seal of a copy; not merely "busy", which passes.
            assert!(
                output.contains("open refused 30") || output.contains("write refused 1"),
                "{output}"
            );
        };
        for (id, argv) in [
            ("plim-entry", "/proc/self/exe"),
            ("plim-trick", "/bin/trick"),
            ("plim-link", "/bin/link"),
        ] {
            let (_, output) = world.run(world.spec("plim-s", id, &[argv])).await;
            told(&output);
        }
        world
            .start(world.spec("plim-s", "plim-long", &["sleep", "1000"]))
            .await;
        for argv in ["/proc/self/exe", "/bin/trick", "/bin/link"] {
            let (_, output) = enter(&world, "plim-long", command(&[argv])).await;
            told(&output);
        }
        assert!(fs::read(&program).expect("read") == before, "overwritten");
    });
}

const fn libc_erofs() -> i32 {
    30
}

/// The same by whoever comes by: even with the right to look into other processes.
#[test]
fn who_enters_a_container_cannot_be_caught() {
    World::run(async |world| {
        world.arm();
        let program = Path::new(&world.config.supervisor[0]).to_owned();
        let before = fs::read(&program).expect("read");
        for (id, rights) in [
            ("plim-plain", vec![]),
            ("plim-trace", vec!["SYS_PTRACE".to_owned()]),
        ] {
            let sandbox = format!("s-{id}");
            world.sandbox(&sandbox).await;
            let mut spec = world.spec(&sandbox, id, &["hostile", "overwrite", "/stop"]);
            spec.security.capabilities_add = rights;
            let _ = fs::remove_file(world.rootfs().join("stop"));
            world.start(spec).await;
            eventually("attacking", async || world.output(id).contains("ready")).await;
            for _ in 0..15 {
                let (code, output) = enter(&world, id, command(&["true"])).await;
                assert_eq!(code, 0, "{output}");
            }
            fs::write(world.rootfs().join("stop"), "").expect("write");
            world.engine.wait_container(id).await.expect("wait");
            let output = world.output(id);
            println!("{id}: {}", output.lines().last().unwrap_or_default());
            assert!(!output.contains("overwritten"), "{output}");
            if id == "plim-plain" {
                assert!(
                    output.contains("seen 0"),
                    "nothing of it can be opened: {output}"
                );
            }
        }
        assert!(fs::read(&program).expect("read") == before, "overwritten");
    });
}

/// CVE-2024-21626: a working directory through a descriptor that the runtime left open.
#[test]
fn no_descriptor_of_the_runtime_leads_out() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-long", &["sleep", "1000"]))
            .await;
        let inside = |output: &str| output.trim() == "inside";
        // A directory outside of the root has no path, or that of another one.
        let script = "d=$(busybox pwd); [ \"$(stat -c %d:%i .)\" = \"$(stat -c %d:%i \"$d\")\" ] && test -e /bin/busybox && echo inside";
        for number in 3..16 {
            for (way, prefix) in ["/proc/self/fd", "/proc/1/fd", "/dev/fd"]
                .into_iter()
                .enumerate()
            {
                for tail in ["", "/../../../.."] {
                    let cwd = format!("{prefix}/{number}{tail}");
                    let id = format!("plim-{number}-{way}-{}", tail.len());
                    if way == 0 {
                        let mut spec = world.spec("plim-s", &id, &["sh", "-c", script]);
                        spec.cwd = cwd.clone();
                        world.engine.create_container(spec).await.expect("create");
                        if world.engine.start_container(&id).await.is_ok() {
                            world.engine.wait_container(&id).await.expect("wait");
                            assert!(inside(&world.output(&id)), "{cwd}: {}", world.output(&id));
                        }
                    }
                    let spec = ExecSpec {
                        cwd: cwd.clone(),
                        ..command(&["sh", "-c", script])
                    };
                    let (code, output) = enter(&world, "plim-long", spec).await;
                    assert!(code != 0 || inside(&output), "{cwd}: {output}");
                }
            }
        }
        // Nothing but the standard streams, and what `ls` itself opens.
        let list = "for fd in /proc/self/fd/*; do readlink $fd; done | grep -v -e pipe: -e /dev/null -e /proc/ | wc -l";
        let (_, output) = world.script("plim-list", list).await;
        assert_eq!(output, "0\n");
        let (_, output) = enter(&world, "plim-long", command(&["sh", "-c", list])).await;
        assert_eq!(output, "0\n");
    });
}

/// The image's user database is read by the runtime before anything is confined.
#[test]
fn a_hostile_user_database_neither_hangs_nor_leads_out() {
    World::run(async |world| {
        let outside = world.dir.join("passwd");
        fs::write(&outside, "spy:x:4242:4242::/:/bin/sh\n").expect("write");
        world.sandbox("plim-s").await;
        let etc = world.rootfs().join("etc");
        let path = etc.join("passwd");
        let climbing = format!("{}{}", "../".repeat(20), outside.display());
        let by_name = |number: usize, what: &str| {
            let mut spec = world.spec("plim-s", &format!("plim-{number}-{what}"), &["id", "-u"]);
            spec.user = "spy".into();
            spec
        };
        world
            .start(world.spec("plim-s", "plim-long", &["sleep", "1000"]))
            .await;
        for number in 0..8 {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
            let what = match number {
                0 => symlink(&outside, &path).map(|()| "link"),
                1 => symlink(&climbing, &path).map(|()| "climbing"),
                2 => symlink("passwd", &path).map(|()| "loop"),
                3 => fs::create_dir(&path).map(|()| "directory"),
                4 => std::process::Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .map(|_| "fifo"),
                5 => fs::File::create(&path)
                    .and_then(|file| file.set_len(1 << 40))
                    .map(|()| "huge"),
                6 => fs::write(&path, vec![b':'; 3 << 20]).map(|()| "colons"),
                _ => symlink("/proc/self/environ", &path).map(|()| "kernel"),
            };
            let what = what.expect("make");
            let spec = by_name(number, what);
            let id = spec.id.clone();
            world.engine.create_container(spec).await.expect("create");
            let error = world
                .engine
                .start_container(&id)
                .await
                .expect_err(what)
                .to_string();
            assert!(error.contains("passwd"), "{what}: {error}");
            let user = ExecSpec {
                user: "spy".into(),
                ..command(&["id", "-u"])
            };
            let (code, output) = enter(&world, "plim-long", user).await;
            assert_ne!(code, 0, "{what}: {output}");
        }
    });
}

/// WORKDIR is made where it is missing: beneath the root, whatever links are on its way.
#[test]
fn a_working_directory_is_made_inside() {
    World::run(async |world| {
        let outside = world.dir.join("outside");
        fs::create_dir_all(&outside).expect("mkdir");
        world.sandbox("plim-s").await;
        let root = world.rootfs();
        let climbing = format!("{}{}", "../".repeat(20), outside.display());
        for (number, target) in [outside.display().to_string(), climbing]
            .into_iter()
            .enumerate()
        {
            let link = format!("link{number}");
            symlink(&target, root.join(&link)).expect("link");
            let id = format!("plim-{number}");
            let mut spec = world.spec("plim-s", &id, &["pwd"]);
            spec.cwd = format!("/{link}/made/deep");
            world.engine.create_container(spec).await.expect("create");
            // Either inside, or not at all.
            let _ = world.engine.start_container(&id).await;
            assert_eq!(fs::read_dir(&outside).expect("list").count(), 0);
        }
        let mut spec = world.spec("plim-s", "plim-fine", &["pwd"]);
        symlink("srv", root.join("www")).expect("link");
        spec.cwd = "/www/made/deep".into();
        let (_, output) = world.run(spec).await;
        assert_eq!(output, "/srv/made/deep\n");
    });
}

/// Keys of whoever started the daemon: even where no filter forbids to ask for them.
#[test]
fn a_container_has_a_keyring_of_its_own() {
    World::run(async |world| {
        world.arm();
        let ask = std::process::Command::new(world.rootfs().join("bin/hostile"))
            .arg("keyring")
            .output()
            .expect("run");
        let mut seen = vec![String::from_utf8_lossy(&ask.stdout).into_owned()];
        assert!(
            seen[0].trim().parse::<i32>().is_ok_and(|id| id > 0),
            "{seen:?}"
        );
        world.sandbox("plim-s").await;
        for (id, privileged) in [("plim-open", false), ("plim-priv", true)] {
            let mut spec = world.spec("plim-s", id, &["hostile", "keyring"]);
            spec.security.seccomp_unconfined = true;
            spec.security.privileged = privileged;
            seen.push(world.run(spec).await.1);
        }
        let mut long = world.spec("plim-s", "plim-long", &["sleep", "1000"]);
        long.security.seccomp_unconfined = true;
        world.start(long).await;
        seen.push(
            enter(&world, "plim-long", command(&["hostile", "keyring"]))
                .await
                .1,
        );
        let distinct: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), 4, "{seen:?}");
        assert!(seen.iter().all(|id| !id.starts_with('-')), "{seen:?}");
        let (_, output) = world
            .run(world.spec("plim-s", "plim-plain", &["hostile", "keyring"]))
            .await;
        assert_eq!(output, "-1\n", "the filter refuses");
    });
}

/// Processes of the host have no number inside; those of the runtime cannot be looked into.
#[test]
fn processes_of_the_host_are_out_of_reach() {
    World::run(async |world| {
        world.arm();
        let status = world.sandbox("plim-s").await;
        let supervisor = status.supervisor_pid.expect("pid").to_string();
        let own = std::process::id().to_string();
        for (id, rights) in [
            ("plim-plain", vec![]),
            (
                "plim-trace",
                vec!["SYS_PTRACE".to_owned(), "KILL".to_owned()],
            ),
        ] {
            for (what, pid) in [("supervisor", &supervisor), ("test", &own)] {
                let mut spec = world.spec(
                    "plim-s",
                    &format!("{id}-{what}"),
                    &["hostile", "reach", pid],
                );
                spec.security.capabilities_add.clone_from(&rights);
                let (_, output) = world.run(spec).await;
                assert_eq!(
                    output, "signal refused\ntrace refused\nmemory refused\nroot refused\n",
                    "{id} {what}"
                );
            }
        }
        // All that it may signal, once and for all: only its own.
        world
            .start(world.spec("plim-s", "plim-neighbour", &["sleep", "1000"]))
            .await;
        world.script("plim-all", "kill -9 -1; true").await;
        let neighbour = world
            .engine
            .container("plim-neighbour")
            .await
            .expect("known");
        assert_eq!(neighbour.state, State::Running);
        assert_eq!(
            world
                .engine
                .sandbox("plim-s")
                .await
                .map(|status| status.state),
            Some(SandboxState::Running)
        );
    });
}

/// A terminal is made from inside: what is in the place of the device must not be taken for it (CVE-2025-52565).
#[test]
fn a_faked_terminal_is_not_used() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-long", &["sleep", "1000"]))
            .await;
        for (number, replace) in [
            "rm /dev/ptmx; busybox mkfifo /dev/ptmx",
            "rm /dev/ptmx; echo x > /dev/ptmx",
            "rm /dev/ptmx; busybox ln -s /dev/null /dev/ptmx",
            "rm /dev/ptmx; busybox ln -s /dev/tty /dev/ptmx",
            "rm /dev/ptmx; mkdir /dev/ptmx",
        ]
        .into_iter()
        .enumerate()
        {
            let (code, output) = enter(&world, "plim-long", command(&["sh", "-c", replace])).await;
            assert_eq!(code, 0, "{output}");
            let terminal = ExecSpec {
                tty: true,
                ..command(&["echo", "entered"])
            };
            let entered = tokio::time::timeout(
                Duration::from_secs(60),
                enter(&world, "plim-long", terminal),
            )
            .await;
            let (code, output) = entered.unwrap_or_else(|_| panic!("{number} hangs"));
            assert_ne!(code, 0, "{number}: {output}");
        }
        // And others are still served.
        assert_eq!(enter(&world, "plim-long", command(&["true"])).await.0, 0);
    });
}
