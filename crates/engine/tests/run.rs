//! Containers run: exit codes, output, logs, mounts, users, stopping, events.

mod common;

use common::{World, log_bytes};
use engine::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

#[test]
fn a_container_runs_and_exits_with_its_code() {
    World::run(async |world| {
        let (exit, output) = world
            .script("plim-code", "echo hello; echo oops >&2; exit 7")
            .await;
        assert_eq!(
            (exit.code, exit.signal, exit.oom_killed, exit.lost),
            (7, None, false, false)
        );
        assert!(
            output.contains("hello\n") && output.contains("oops\n"),
            "{output}"
        );
        let status = world.engine.container("plim-code").await.expect("known");
        assert_eq!((status.state, status.pid), (State::Exited, None));
        assert!(
            status
                .started_at
                .is_some_and(|started| started >= status.created_at)
        );

        // Started again, it is a new run and appends to the same log.
        world
            .engine
            .start_container("plim-code")
            .await
            .expect("start again");
        assert_eq!(
            world
                .engine
                .wait_container("plim-code")
                .await
                .expect("wait")
                .code,
            7
        );
        assert_eq!(world.output("plim-code").matches("hello").count(), 2);
    });
}

#[test]
fn output_is_kept_byte_for_byte() {
    World::run(async |world| {
        let script = r"printf 'no newline'; sleep 0.05; printf ' here\n\n'; printf '\000\377\r\001'; head -c 100000 /dev/zero | tr '\000' x; printf '\nend'";
        let (exit, _) = world
            .script_with("plim-bytes", script, |spec| {
                spec.argv = vec![
                    "busybox".into(),
                    "sh".into(),
                    "-c".into(),
                    script.replace("| tr", "| busybox tr"),
                ];
            })
            .await;
        assert_eq!(exit.code, 0);
        let mut expected = b"no newline here\n\n\x00\xff\r\x01".to_vec();
        expected.extend(std::iter::repeat_n(b'x', 100_000));
        expected.extend(b"\nend");
        let bytes = log_bytes(&world.log_path("plim-bytes"));
        assert_eq!(bytes.len(), expected.len());
        assert!(bytes == expected);
        let text = fs::read(world.log_path("plim-bytes")).expect("log");
        let first = text
            .split(|byte| *byte == b'\n')
            .next()
            .map(String::from_utf8_lossy)
            .expect("line")
            .into_owned();
        assert!(
            first.ends_with(" stdout P no newline")
                && first.as_bytes()[first.find(' ').expect("blank") - 1] == b'Z',
            "{first}"
        );
    });
}

#[test]
fn a_log_is_rotated() {
    World::run(async |world| {
        let (exit, _) = world
            .script_with("plim-rotate", "seq 1 2000", |spec| {
                spec.log.max_bytes = 20_000;
                spec.log.max_files = 3;
            })
            .await;
        assert_eq!(exit.code, 0);
        let dir = world
            .log_path("plim-rotate")
            .parent()
            .expect("dir")
            .to_owned();
        let mut names: Vec<String> = fs::read_dir(&dir)
            .expect("logs")
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        assert_eq!(names.first().map(String::as_str), Some("0.log"));
        assert!(names.len() <= 3, "{names:?}");
        assert!(world.output("plim-rotate").ends_with("2000\n") || names.len() > 1);
    });
}

#[test]
fn mounts_stay_inside_whatever_the_image_links_to() {
    World::run(async |world| {
        let outside = world.dir.join("outside");
        let source = world.dir.join("source");
        fs::create_dir_all(&outside).expect("mkdir");
        fs::create_dir_all(&source).expect("mkdir");
        fs::write(source.join("file"), "of the volume").expect("write");
        symlink(&outside, world.rootfs().join("dangling")).expect("link");
        symlink("/srv", world.rootfs().join("escape")).expect("link");
        symlink("../../../../../../../../..", world.rootfs().join("up")).expect("link");
        let mounted = |target: &str, read_only| Mount {
            source: source.clone(),
            target: target.into(),
            read_only,
            ..Mount::default()
        };
        let (exit, output) = world
            .script_with("plim-mounts", "cat /escape/vol/file /up/vol2/file /ro/file; touch /ro/x; touch /escape/vol/new; ls /scratch", |spec| {
                spec.mounts = vec![mounted("/escape/vol", false), mounted("/up/vol2", false), mounted("/ro", true)];
                spec.mounts.push(Mount { target: "/scratch".into(), kind: MountKind::Tmpfs, options: vec!["size=1m".into()], ..Mount::default() });
            })
            .await;
        assert!(
            output.matches("of the volume").count() >= 3 && output.contains("Read-only"),
            "{exit:?} {output}"
        );
        let mut spec = world.spec("s-plim-mounts", "plim-dangling", &["true"]);
        spec.mounts = vec![mounted("/dangling/vol", false)];
        world.engine.create_container(spec).await.expect("create");
        let _ = world.engine.start_container("plim-dangling").await;
        assert!(
            fs::read_dir(&outside).expect("outside").next().is_none(),
            "nothing was made outside"
        );
        assert!(source.join("new").exists());
    });
}

#[test]
fn users_directories_and_environment() {
    World::run(async |world| {
        let script = "id -u; id -g; id -G; pwd; echo $HOME $A $HOSTNAME; hostname; cat /etc/hosts /etc/resolv.conf; echo again > /dev/stdout";
        world
            .sandbox_with(SandboxSpec {
                id: "plim-s".into(),
                hostname: "web-0".into(),
                hosts: "127.0.0.1 localhost\n".into(),
                resolv_conf: "nameserver 10.0.0.1\n".into(),
                ..SandboxSpec::default()
            })
            .await;
        let mut spec = world.spec("plim-s", "plim-user", &["sh", "-c", script]);
        spec.user = "web".into();
        spec.cwd = "/made/for/it".into();
        spec.env = vec!["A=b c".into()];
        spec.security.supplementary_groups = vec![77];
        let (exit, output) = world.run(spec).await;
        assert_eq!(exit.code, 0, "{output}");
        assert_eq!(
            output,
            "1000\n1000\n1000 77 2000\n/made/for/it\n/srv b c web-0\nweb-0\n127.0.0.1 localhost\nnameserver 10.0.0.1\nagain\n"
        );
    });
}

#[test]
fn stopping_asks_first_and_kills_then() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let polite = world.spec(
            "plim-s",
            "plim-polite",
            &[
                "sh",
                "-c",
                "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done",
            ],
        );
        let deaf = world.spec(
            "plim-s",
            "plim-deaf",
            &[
                "sh",
                "-c",
                "trap '' TERM; echo up; while true; do sleep 0.05; done",
            ],
        );
        world.start(polite).await;
        world.start(deaf).await;
        for id in ["plim-polite", "plim-deaf"] {
            common::eventually("up", async || world.output(id).contains("up")).await;
        }
        let exit = world
            .engine
            .stop_container("plim-polite", None, Duration::from_secs(20))
            .await
            .expect("stop");
        assert_eq!((exit.code, exit.signal), (3, None));
        assert!(world.output("plim-polite").contains("bye"));
        let exit = world
            .engine
            .stop_container("plim-deaf", None, Duration::from_millis(200))
            .await
            .expect("stop");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        let again = world
            .engine
            .stop_container("plim-deaf", None, Duration::ZERO)
            .await
            .expect("stop again");
        assert_eq!(again, exit);
        assert!(matches!(
            world.engine.signal_container("plim-deaf", 15).await,
            Err(Error::State { .. })
        ));
    });
}

#[test]
fn events_tell_the_story_in_order() {
    World::run(async |world| {
        let mut events = world.engine.events();
        world.script("plim-c", "exit 2").await;
        world
            .engine
            .remove_container("plim-c")
            .await
            .expect("remove");
        world
            .engine
            .remove_sandbox("s-plim-c")
            .await
            .expect("remove");
        let mut story = Vec::new();
        while let Ok(event) = events.try_recv() {
            story.push(match event {
                Event::ContainerExited { status, .. } => format!("exited {}", status.code),
                other => format!("{other:?}")
                    .split([' ', '{'])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            });
        }
        assert_eq!(
            story,
            [
                "SandboxStarted",
                "ContainerCreated",
                "ContainerStarted",
                "exited 2",
                "ContainerRemoved",
                "SandboxStopped",
                "SandboxRemoved"
            ]
        );
        assert!(
            world.engine.containers().await.is_empty() && world.engine.sandboxes().await.is_empty()
        );
    });
}

#[test]
fn many_sandboxes_start_at_the_same_time() {
    World::run(async |world| {
        let world = std::sync::Arc::new(world);
        let tasks = (0..12).map(|number| {
            let world = world.clone();
            tokio::spawn(async move {
                let script = format!("echo {number}; exit {number}");
                let begun = std::time::Instant::now();
                let sandbox = format!("plim-s{number}");
                world.sandbox(&sandbox).await;
                let started = begun.elapsed();
                let spec = world.spec(&sandbox, &format!("plim-c{number}"), &["sh", "-c", &script]);
                let (exit, output) = world.run(spec).await;
                println!(
                    "sandbox {started:?}, container run to the end {:?}",
                    begun.elapsed() - started
                );
                assert_eq!((exit.code, output), (number, format!("{number}\n")));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("runs");
        }
        let (exit, _) = world.script("plim-alone", "true").await;
        assert_eq!(exit.code, 0);
        let begun = std::time::Instant::now();
        world.sandbox("plim-timed").await;
        let started = begun.elapsed();
        world
            .start(world.spec("plim-timed", "plim-timed", &["sleep", "1000"]))
            .await;
        println!(
            "alone: sandbox {started:?}, container {:?}",
            begun.elapsed() - started
        );
        let begun = std::time::Instant::now();
        let spec = ExecSpec {
            argv: vec!["true".into()],
            ..ExecSpec::default()
        };
        world
            .engine
            .exec("plim-timed", spec)
            .await
            .expect("exec")
            .wait()
            .await
            .expect("wait");
        println!("alone: exec {:?}", begun.elapsed());
    });
}
