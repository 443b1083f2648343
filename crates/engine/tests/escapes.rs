//! Ways out of a container that other runtimes once had, through what an image or a volume brings: each with a real container.

mod common;

use common::{Session, World, eventually};
use engine::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

/// What is beneath a directory, as names.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("list")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// A directory outside of every root, with something in it.
fn outside(world: &Session) -> PathBuf {
    let outside = world.dir.join("outside");
    fs::create_dir_all(&outside).expect("mkdir");
    fs::write(outside.join("secret"), "of the host").expect("write");
    outside
}

async fn refusal(world: &Session, spec: ContainerSpec) -> String {
    let id = spec.id.clone();
    world.engine.create_container(spec).await.expect("create");
    match world.engine.start_container(&id).await {
        Ok(()) => panic!("{id} was started"),
        Err(error) => error.to_string(),
    }
}

/// A mount on a link lands beneath the root, but what is then made in it by name would be made where the link leads on the host.
#[test]
fn an_image_whose_dev_is_a_link_makes_nothing_outside() {
    World::run(async |world| {
        let outside = outside(&world);
        world.sandbox("plim-s").await;
        let absolute = outside.display().to_string();
        let climbing = format!("{}{absolute}", "../".repeat(20));
        for (number, name) in ["dev", "proc", "sys"].into_iter().enumerate() {
            let path = world.rootfs().join(name);
            fs::remove_dir(&path).expect("remove");
            for (way, target) in [&absolute, &climbing, "/etc", "/"].into_iter().enumerate() {
                symlink(target, &path).expect("link");
                let id = format!("plim-{number}-{way}");
                let error = refusal(&world, world.spec("plim-s", &id, &["true"])).await;
                assert!(
                    error.contains(&format!("/{name} of the image must be a directory")),
                    "{error}"
                );
                fs::remove_file(&path).expect("remove");
            }
            fs::write(&path, "a file").expect("write");
            let id = format!("plim-{number}-file");
            refusal(&world, world.spec("plim-s", &id, &["true"])).await;
            fs::remove_file(&path).expect("remove");
            fs::create_dir(&path).expect("mkdir");
        }
        assert_eq!(names(&outside), ["secret"]);
        // Not there at all is fine: they are made.
        for name in ["dev", "proc", "sys"] {
            fs::remove_dir(world.rootfs().join(name)).expect("remove");
        }
        let (exit, output) = world
            .run(world.spec(
                "plim-s",
                "plim-none",
                &[
                    "sh",
                    "-c",
                    "echo x > /dev/null && ls /proc/self/fd /sys/kernel > /dev/null && echo fine",
                ],
            ))
            .await;
        assert_eq!((exit.code, output.as_str()), (0, "fine\n"));
    });
}

/// CVE-2025-31133 (masked paths hidden by what /dev/null leads to), CVE-2025-52565 (/dev/console, /dev/pts).
#[test]
fn what_an_image_has_in_dev_and_proc_is_covered() {
    World::run(async |world| {
        let outside = outside(&world);
        let dev = world.rootfs().join("dev");
        for name in [
            "null", "zero", "console", "pts", "ptmx", "shm", "mqueue", "fd", "stdin", "tty",
            "core", "kcore",
        ] {
            symlink(outside.join("secret"), dev.join(name)).expect("link");
        }
        let proc = world.rootfs().join("proc");
        fs::create_dir_all(proc.join("self")).expect("mkdir");
        fs::create_dir_all(proc.join("sys/kernel")).expect("mkdir");
        fs::write(proc.join("self/status"), "Uid: fake").expect("write");
        fs::write(proc.join("keys"), "fake keys").expect("write");
        fs::write(proc.join("sys/kernel/core_pattern"), "fake").expect("write");
        symlink(&outside, proc.join("acpi")).expect("link");
        let script = "exec 2>&1; stat -c '%F %t %T' /dev/null /dev/zero; readlink /dev/ptmx; readlink /dev/fd; head -c 1 /proc/keys | wc -c; \
            grep -c fake /proc/self/status /proc/sys/kernel/core_pattern; stat -f -c %T /proc /dev/pts /dev/shm /dev; echo x > /proc/sys/kernel/core_pattern";
        for tty in [false, true] {
            let (_, output) = world
                .script_with(&format!("plim-dev-{tty}"), script, |spec| spec.tty = tty)
                .await;
            let output = output.replace('\r', "");
            let expected = "character special file 1 3\ncharacter special file 1 5\npts/ptmx\n/proc/self/fd\n0\n\
                /proc/self/status:0\n/proc/sys/kernel/core_pattern:0\nproc\ndevpts\ntmpfs\ntmpfs\n";
            assert!(output.starts_with(expected), "{output}");
            assert!(output.contains("Read-only file system"), "{output}");
        }
        assert_eq!(names(&outside), ["secret"]);
        assert_eq!(
            fs::read_to_string(outside.join("secret")).expect("read"),
            "of the host"
        );
        assert!(
            fs::metadata("/dev/null")
                .expect("null")
                .file_type()
                .is_char_device()
        );
    });
}

/// Names, hosts and resolvers are bound over what the image has there, wherever it leads.
#[test]
fn files_of_the_sandbox_do_not_follow_the_image_outside() {
    World::run(async |world| {
        let outside = outside(&world);
        let secret = outside.join("secret").display().to_string();
        let climbing = format!("{}{secret}", "../".repeat(20));
        let etc = world.rootfs().join("etc");
        let spec = |id: &str| SandboxSpec {
            id: id.into(),
            hosts: "10.0.0.1 told\n".into(),
            resolv_conf: "nameserver 10.0.0.2\n".into(),
            ..SandboxSpec::default()
        };
        for (number, target) in [
            secret.as_str(),
            climbing.as_str(),
            "../run/systemd/resolve/stub-resolv.conf",
            "/run/nowhere",
            "../../../run/nowhere-else",
        ]
        .into_iter()
        .enumerate()
        {
            let sandbox = format!("plim-s-{number}");
            world.sandbox_with(spec(&sandbox)).await;
            for name in ["hosts", "hostname", "resolv.conf"] {
                let _ = fs::remove_file(etc.join(name));
                symlink(target, etc.join(name)).expect("link");
            }
            let id = format!("plim-{number}");
            let (exit, output) = world
                .run(world.spec(&sandbox, &id, &["cat", "/etc/resolv.conf"]))
                .await;
            // All three lead to one file; the last one mounted is seen.
            assert_eq!(
                (exit.code, output.as_str()),
                (0, "nameserver 10.0.0.2\n"),
                "{target}"
            );
        }
        for (number, made) in ["a directory", "a pipe", "a socket of nobody"]
            .into_iter()
            .enumerate()
        {
            for name in ["hosts", "hostname", "resolv.conf"] {
                let path = etc.join(name);
                let _ = fs::remove_file(&path);
                let _ = fs::remove_dir(&path);
                match number {
                    0 => fs::create_dir(&path).expect("mkdir"),
                    1 => drop(
                        std::process::Command::new("mkfifo")
                            .arg(&path)
                            .status()
                            .expect("mkfifo"),
                    ),
                    _ => drop(std::os::unix::net::UnixListener::bind(&path).expect("bind")),
                }
            }
            let sandbox = format!("plim-t-{number}");
            world.sandbox_with(spec(&sandbox)).await;
            let spec = world.spec(
                &sandbox,
                &format!("plim-t-{number}"),
                &["cat", "/etc/hosts"],
            );
            world.engine.create_container(spec).await.expect("create");
            // A directory cannot be covered by a file; neither may hang.
            let started = world
                .engine
                .start_container(&format!("plim-t-{number}"))
                .await;
            assert_eq!(started.is_ok(), number > 0, "{made}: {started:?}");
        }
        assert_eq!(fs::read_to_string(&secret).expect("read"), "of the host");
        assert_eq!(names(&outside), ["secret"]);
    });
}

/// CVE-2019-16884, CVE-2025-52881: a volume that lands on the kernel's files takes the confinement away, or is written to by it.
#[test]
fn volumes_do_not_land_on_the_kernels_files() {
    World::run(async |world| {
        let outside = outside(&world);
        world.sandbox("plim-s").await;
        let rootfs = world.rootfs();
        for (number, (link, target)) in [
            ("a", "/proc"),
            ("b", "proc/sys/kernel"),
            ("c", "../../sys"),
            ("d", "/dev"),
            ("e", "d"),
        ]
        .into_iter()
        .enumerate()
        {
            symlink(target, rootfs.join(link)).expect("link");
            let mut spec = world.spec("plim-s", &format!("plim-{number}"), &["true"]);
            spec.mounts = vec![Mount {
                source: outside.clone(),
                target: format!("/{link}"),
                ..Mount::default()
            }];
            let error = refusal(&world, spec).await;
            assert!(error.contains("through a symbolic link"), "{error}");
        }
        // The link itself is in the volume, where nobody could have looked: it is followed beneath the root.
        let volume = world.dir.join("volume");
        fs::create_dir_all(&volume).expect("mkdir");
        symlink(&outside, volume.join("absolute")).expect("link");
        symlink("../../../../../../../../../../..", volume.join("up")).expect("link");
        let mount = |source: &Path, target: String| Mount {
            source: source.to_owned(),
            target,
            ..Mount::default()
        };
        let scratch = world.dir.join("scratch");
        fs::create_dir_all(&scratch).expect("mkdir");
        for (number, beneath) in [
            "absolute/x".to_owned(),
            format!("up{}/x", outside.display()),
        ]
        .iter()
        .enumerate()
        {
            let mut spec = world.spec(
                "plim-s",
                &format!("plim-n-{number}"),
                &["sh", "-c", "echo here > /vol/marker"],
            );
            spec.mounts = vec![
                mount(&volume, "/vol".into()),
                mount(&scratch, format!("/vol/{beneath}")),
            ];
            world.engine.create_container(spec).await.expect("create");
            let _ = world
                .engine
                .start_container(&format!("plim-n-{number}"))
                .await;
        }
        assert_eq!(names(&outside), ["secret"]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&outside.display().to_string()));
    });
}

/// `--volume /dev:/dev`: the host's devices are there, and the host's directory is left as it is.
#[test]
fn a_directory_bound_over_dev_is_not_written_to() {
    World::run(async |world| {
        let outside = outside(&world);
        fs::write(outside.join("ptmx"), "of the host").expect("write");
        let before = names(&outside);
        for (id, tty, privileged, user) in [
            ("plim-plain", false, false, ""),
            ("plim-tty", true, false, ""),
            ("plim-priv", false, true, ""),
            ("plim-user", false, false, "1000"),
        ] {
            let (_, output) = world
                .script_with(id, "cat /dev/secret; echo; ls /dev/pts/ptmx; ls -d /dev/shm; stat -f -c %T /dev/pts", |spec| {
                    spec.mounts = vec![Mount {
                        source: outside.clone(),
                        target: "/dev".into(),
                        ..Mount::default()
                    }];
                    spec.tty = tty;
                    spec.user = user.into();
                    spec.security.privileged = privileged;
                    spec.security.no_new_privileges = id == "plim-user";
                })
                .await;
            assert!(output.starts_with("of the host"), "{id}: {output}");
            // As far as the directory has places for them; this one has none.
            assert_eq!(names(&outside), before, "{id}");
            assert_eq!(
                fs::read_to_string(outside.join("ptmx")).expect("read"),
                "of the host",
                "{id}"
            );
        }
        for name in ["pts", "shm", "mqueue"] {
            fs::create_dir(outside.join(name)).expect("mkdir");
        }
        let (_, output) = world
            .script_with("plim-places", "stat -f -c %T /dev/pts; touch /dev/shm/x && echo written; grep -c ' /dev/mqueue mqueue ' /proc/mounts; id -u; grep CapEff /proc/self/status", |spec| {
                spec.mounts = vec![Mount {
                    source: outside.clone(),
                    target: "/dev".into(),
                    read_only: true,
                    ..Mount::default()
                }];
            })
            .await;
        assert_eq!(output, "devpts\nwritten\n2\n0\nCapEff:\t00000000a80425fb\n");
        let (_, output) = world
            .script_with("plim-ro", "touch /dev/new 2>&1", |spec| {
                spec.mounts = vec![Mount {
                    source: outside.clone(),
                    target: "/dev/".into(),
                    read_only: true,
                    ..Mount::default()
                }];
            })
            .await;
        assert!(output.contains("Read-only"), "{output}");
    });
}

/// CVE-2021-30465: the target of a mount is exchanged for a link while another container with the same volume starts.
#[test]
fn a_mount_target_that_is_exchanged_meanwhile_leads_nowhere() {
    World::run(async |world| {
        world.arm();
        let outside = outside(&world);
        let volume = world.dir.join("volume");
        fs::create_dir_all(volume.join("real")).expect("mkdir");
        symlink(&outside, volume.join("link")).expect("link");
        let scratch = world.dir.join("scratch");
        fs::create_dir_all(&scratch).expect("mkdir");
        let mount = |source: &Path, target: &str| Mount {
            source: source.to_owned(),
            target: target.into(),
            ..Mount::default()
        };
        world.sandbox("plim-s").await;
        let mut attacker = world.spec(
            "plim-s",
            "plim-attacker",
            &["hostile", "swap", "/vol/real", "/vol/link", "/vol/stop"],
        );
        attacker.mounts = vec![mount(&volume, "/vol")];
        world.start(attacker).await;
        eventually("exchanging", async || {
            world.output("plim-attacker").contains("ready")
        })
        .await;
        let mut started = 0;
        for number in 0..25 {
            let id = format!("plim-victim-{number}");
            let script = "grep -c ' /vol' /proc/self/mountinfo; echo marker > /vol/real/sub/marker";
            let mut victim = world.spec("plim-s", &id, &["sh", "-c", script]);
            victim.mounts = vec![mount(&volume, "/vol"), mount(&scratch, "/vol/real/sub")];
            world.engine.create_container(victim).await.expect("create");
            if world.engine.start_container(&id).await.is_ok() {
                started += 1;
                world.engine.wait_container(&id).await.expect("wait");
            }
            world.engine.remove_container(&id).await.expect("remove");
            assert_eq!(names(&outside), ["secret"], "start {number}");
        }
        fs::write(volume.join("stop"), "").expect("write");
        world
            .engine
            .wait_container("plim-attacker")
            .await
            .expect("wait");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&scratch.display().to_string()));
        println!("{started} of 25 started while the target was exchanged");
    });
}
