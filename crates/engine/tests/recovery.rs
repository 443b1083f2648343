//! The daemon goes and comes back; a supervising process is killed; everything is found again, or cleaned up and told honestly.

mod common;

use common::{World, eventually};
use engine::*;
use std::fs;
use std::process::Command;
use std::time::Duration;

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "))
}

#[test]
fn a_new_engine_finds_what_runs_and_what_ended_meanwhile() {
    World::run(async |world| {
        let sandbox = world.sandbox("plim-s").await;
        world
            .start(world.spec(
                "plim-s",
                "plim-long",
                &[
                    "sh",
                    "-c",
                    "while [ ! -e /stop ]; do sleep 0.02; done; exit 5",
                ],
            ))
            .await;
        world
            .start(world.spec(
                "plim-s",
                "plim-short",
                &[
                    "sh",
                    "-c",
                    "while [ ! -e /go ]; do sleep 0.02; done; echo done; exit 8",
                ],
            ))
            .await;
        let before = world.engine.container("plim-long").await.expect("known");
        let common::Session {
            engine,
            config,
            dir,
        } = world;
        drop(engine);
        fs::write(dir.join("rootfs/go"), "").expect("write");
        let state = config
            .root
            .join("sandboxes/plim-s/containers/plim-short/state.json");
        eventually("recorded without a daemon", async || {
            fs::read_to_string(&state).is_ok_and(|text| text.contains("\"code\":8"))
        })
        .await;

        let engine = Engine::open(config.clone()).await.expect("open again");
        let again = engine.sandbox("plim-s").await.expect("known");
        assert_eq!(
            (again.state, again.supervisor_pid, again.netns),
            (SandboxState::Running, sandbox.supervisor_pid, sandbox.netns)
        );
        let after = engine.container("plim-long").await.expect("known");
        assert_eq!(
            (after.state, after.pid, after.started_at),
            (State::Running, before.pid, before.started_at)
        );
        let exit = engine.wait_container("plim-short").await.expect("wait");
        assert_eq!((exit.code, exit.lost), (8, false));
        fs::write(dir.join("rootfs/stop"), "").expect("write");
        assert_eq!(
            engine.wait_container("plim-long").await.expect("wait").code,
            5
        );
        engine
            .start_container("plim-short")
            .await
            .expect("start again");
        assert_eq!(
            engine
                .wait_container("plim-short")
                .await
                .expect("wait")
                .code,
            8
        );
    });
}

/// The daemon dies while a container is being started for it: its successor finds the container running, and does not take it for
/// one that was never begun.
#[test]
fn a_start_that_was_under_way_is_taken_up() {
    World::run(async |world| {
        let sandbox = world.sandbox("plim-b").await;
        let supervisor = sandbox.supervisor_pid.expect("it runs");
        let spec = world.spec("plim-b", "plim-begun", &["sleep", "1000"]);
        world.engine.create_container(spec).await.expect("created");
        let common::Session { engine, config, .. } = world;
        // the process that makes the container is held before it has done so
        let starting = tokio::spawn({
            let engine = engine.clone();
            async move { engine.start_container("plim-begun").await }
        });
        let mut held = None;
        eventually("a process that makes the container", async || {
            held = making(supervisor);
            held.is_some()
        })
        .await;
        let held = rustix::process::Pid::from_raw(held.expect("found")).expect("a pid");
        rustix::process::kill_process(held, rustix::process::Signal::STOP).expect("held");
        starting.abort();
        let _ = starting.await;
        drop(engine);
        let opening = tokio::spawn(Engine::open(config.clone()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        rustix::process::kill_process(held, rustix::process::Signal::CONT).expect("let go on");
        let engine = opening.await.expect("no panic").expect("open again");
        let found = engine.container("plim-begun").await.expect("known");
        assert_eq!(found.state, State::Running);
        engine
            .stop_container("plim-begun", None, Duration::ZERO)
            .await
            .expect("stopped");
        engine.remove_sandbox("plim-b").await.expect("removed");
    });
}

/// The child of this supervising process that makes a container at present.
fn making(supervisor: u32) -> Option<i32> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(children).ok()?;
    children.split_whitespace().find_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let makes = line.split(|byte| *byte == 0).any(|word| word == b"create");
        makes.then(|| pid.parse().ok()).flatten()
    })
}

#[test]
fn an_upgrade_leaves_what_runs_with_the_program_that_it_has() {
    World::run(async |world| {
        let common::Session {
            engine,
            config,
            dir,
        } = world;
        drop(engine);
        let program = dir.join("bin/program");
        let install = |from: &std::path::Path| {
            fs::create_dir_all(dir.join("bin")).expect("mkdir");
            fs::copy(from, dir.join("bin/new")).expect("copy");
            fs::rename(dir.join("bin/new"), &program).expect("rename");
        };
        install(config.supervisor[0].as_ref());
        let config = Config {
            supervisor: vec![program.clone().into(), "supervise".into()],
            ..config
        };
        let engine = Engine::open(config.clone()).await.expect("open");
        let world = common::Session {
            engine,
            config: config.clone(),
            dir: dir.clone(),
        };
        let sandbox = world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-a", &["sleep", "1000"]))
            .await;
        // Something else under the name: neither the daemon that runs nor the one that follows may mix it in.
        install("/bin/false".as_ref());
        world.sandbox("plim-t").await;
        let (exit, output) = world
            .run(world.spec("plim-t", "plim-b", &["echo", "old"]))
            .await;
        assert_eq!((exit.code, output.as_str()), (0, "old\n"));
        drop(world);
        install(env!("CARGO_BIN_EXE_engine-supervisor").as_ref());
        let engine = Engine::open(config.clone()).await.expect("open again");
        let world = common::Session {
            engine,
            config,
            dir: dir.clone(),
        };
        let status = world.engine.sandbox("plim-s").await.expect("known");
        assert_eq!(status.supervisor_pid, sandbox.supervisor_pid);
        let run = ExecSpec {
            argv: vec!["true".into()],
            ..ExecSpec::default()
        };
        let process = world.engine.exec("plim-a", run).await.expect("exec");
        assert_eq!(process.wait().await.expect("wait").code, 0);
        let (exit, _) = world.run(world.spec("plim-s", "plim-c", &["true"])).await;
        assert_eq!(exit.code, 0);
    });
}

#[test]
fn a_killed_supervising_process_takes_its_containers_along() {
    World::run(async |world| {
        let sandbox = world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sh", "-c", "sleep 1000 & sleep 1000"]))
            .await;
        let pid = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        Command::new("kill")
            .args(["-9", &sandbox.supervisor_pid.expect("pid").to_string()])
            .status()
            .expect("kill");
        let exit = world.engine.wait_container("plim-c").await.expect("wait");
        assert_eq!((exit.code, exit.lost), (137, true));
        assert!(!alive(pid));
        eventually("stopped", async || {
            world
                .engine
                .sandbox("plim-s")
                .await
                .is_some_and(|status| status.state == SandboxState::Stopped)
        })
        .await;
        let cgroup = format!(
            "/sys/fs/cgroup/memory/{}/pods/plim-s",
            world.config.instance
        );
        assert!(!fs::exists(cgroup).expect("cgroup"));
        // And it can be started again.
        world
            .engine
            .start_sandbox("plim-s")
            .await
            .expect("start again");
        world
            .engine
            .start_container("plim-c")
            .await
            .expect("start again");
    });
}

#[test]
fn a_supervising_process_killed_while_the_daemon_is_away() {
    World::run(async |world| {
        let sandbox = world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sleep", "1000"]))
            .await;
        let pid = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        let common::Session { engine, config, .. } = world;
        drop(engine);
        Command::new("kill")
            .args(["-9", &sandbox.supervisor_pid.expect("pid").to_string()])
            .status()
            .expect("kill");
        let engine = Engine::open(config).await.expect("open again");
        let status = engine.container("plim-c").await.expect("known");
        assert_eq!(status.state, State::Exited);
        assert!(
            status
                .exit
                .is_some_and(|exit| exit.lost && exit.code == 137)
        );
        assert_eq!(
            engine.sandbox("plim-s").await.map(|status| status.state),
            Some(SandboxState::Stopped)
        );
        assert!(!alive(pid));
    });
}

#[test]
fn after_a_reboot_nothing_is_claimed_to_run() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world.start(world.spec("plim-s", "plim-c", &["true"])).await;
        world.engine.wait_container("plim-c").await.expect("wait");
        world.engine.stop_sandbox("plim-s").await.expect("stop");
        let common::Session { engine, config, .. } = world;
        drop(engine);
        // As a machine that lost power would have left it: running, in another boot, under the pid of someone else.
        let sandbox = config.root.join("sandboxes/plim-s/sandbox.json");
        let text = fs::read_to_string(&sandbox).expect("record");
        fs::write(&sandbox, text.replace("\"Stopped\"", "\"Running\"")).expect("write");
        let process = format!(
            "{{\"pid\":{},\"start_time\":1,\"boot_id\":\"another\"}}",
            std::process::id()
        );
        fs::write(
            config.root.join("sandboxes/plim-s/supervisor.json"),
            format!("{{\"process\":{process}}}"),
        )
        .expect("write");
        let state = format!(
            "{{\"process\":{process},\"started_at\":\"2024-01-01T00:00:00Z\",\"exit\":null}}"
        );
        fs::write(
            config
                .root
                .join("sandboxes/plim-s/containers/plim-c/state.json"),
            state,
        )
        .expect("write");
        let engine = Engine::open(config).await.expect("open again");
        let exit = engine
            .container("plim-c")
            .await
            .expect("known")
            .exit
            .expect("exited");
        assert_eq!((exit.code, exit.signal, exit.lost), (255, None, true));
        assert_eq!(
            engine.sandbox("plim-s").await.map(|status| status.state),
            Some(SandboxState::Stopped)
        );
    });
}

/// The records of a start are not synced: after a power cut they are empty or missing.
#[test]
fn what_ran_when_the_power_went_is_known_without_the_record_of_its_start() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        for id in ["plim-torn", "plim-gone"] {
            world.start(world.spec("plim-s", id, &["true"])).await;
            world.engine.wait_container(id).await.expect("wait");
        }
        world.engine.stop_sandbox("plim-s").await.expect("stop");
        let never = engine::SandboxSpec {
            id: "plim-new".into(),
            ..engine::SandboxSpec::default()
        };
        world.engine.create_sandbox(never).await.expect("create");
        let never = world.spec("plim-new", "plim-never", &["true"]);
        world.engine.create_container(never).await.expect("create");
        let common::Session { engine, config, .. } = world;
        drop(engine);
        let directory = config.root.join("sandboxes/plim-s");
        let sandbox = directory.join("sandbox.json");
        let text = fs::read_to_string(&sandbox).expect("record");
        fs::write(&sandbox, text.replace("\"Stopped\"", "\"Running\"")).expect("write");
        fs::write(directory.join("supervisor.json"), "").expect("write");
        fs::write(directory.join("containers/plim-torn/state.json"), "").expect("write");
        fs::remove_file(directory.join("containers/plim-gone/state.json")).expect("remove");
        let engine = Engine::open(config).await.expect("open again");
        for id in ["plim-torn", "plim-gone"] {
            let status = engine.container(id).await.expect("known");
            let exit = status.exit.expect("it ran");
            assert_eq!((exit.code, exit.lost), (255, true), "{id}");
        }
        let never = engine.container("plim-never").await.expect("known");
        assert_eq!(never.state, engine::State::Created);
    });
}

#[test]
fn damaged_records_do_not_keep_others_from_being_found() {
    World::run(async |world| {
        world.sandbox("plim-good").await;
        let common::Session { engine, config, .. } = world;
        drop(engine);
        for (name, content) in [
            ("plim-empty", ""),
            ("plim-torn", "{\"spec\":"),
            ("plim-none", ""),
        ] {
            let dir = config.root.join("sandboxes").join(name);
            fs::create_dir_all(&dir).expect("mkdir");
            if name != "plim-none" {
                fs::write(dir.join("sandbox.json"), content).expect("write");
            }
        }
        let engine = Engine::open(config.clone()).await.expect("open again");
        let found: Vec<String> = engine
            .sandboxes()
            .await
            .into_iter()
            .map(|status| status.id)
            .collect();
        assert_eq!(found, ["plim-good"]);
        assert!(
            !config.root.join("sandboxes/plim-none").exists(),
            "half made, so removed"
        );
    });
}

#[test]
fn orphans_and_zombies_are_reaped() {
    World::run(async |world| {
        let sandbox = world.sandbox("plim-s").await;
        // Grandchildren outlive their parents; the container's first process ends before them.
        let (exit, _) = world
            .run(world.spec(
                "plim-s",
                "plim-c",
                &["sh", "-c", "(sleep 300 & sleep 300 &) ; (true &) ; exit 1"],
            ))
            .await;
        assert_eq!(exit.code, 1);
        world
            .start(world.spec("plim-s", "plim-d", &["sleep", "1000"]))
            .await;
        for _ in 0..3 {
            let spec = ExecSpec {
                argv: ["sh", "-c", "(sleep 0.01 &) ; exit 0"]
                    .map(str::to_owned)
                    .to_vec(),
                ..ExecSpec::default()
            };
            world
                .engine
                .exec("plim-d", spec)
                .await
                .expect("exec")
                .wait()
                .await
                .expect("wait");
        }
        let supervisor = sandbox.supervisor_pid.expect("pid");
        eventually("no zombies", async || {
            let children =
                fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))
                    .expect("children");
            children.split_whitespace().count() == 1
        })
        .await;
    });
}

#[test]
fn purge_removes_everything_and_again() {
    let config = {
        let world = World::new();
        let config = world.config.clone();
        let copy = config.clone();
        let rootfs = config.root.parent().expect("dir").join("rootfs");
        world.block_on(async move {
            let engine = Engine::open(copy.clone()).await.expect("open");
            for number in 0..3 {
                let sandbox = format!("plim-s{number}");
                engine
                    .create_sandbox(SandboxSpec {
                        id: sandbox.clone(),
                        ..SandboxSpec::default()
                    })
                    .await
                    .expect("create");
                engine.start_sandbox(&sandbox).await.expect("start");
                let spec = ContainerSpec {
                    id: format!("plim-c{number}"),
                    sandbox,
                    rootfs: rootfs.clone(),
                    argv: vec!["sleep".into(), "1000".into()],
                    ..ContainerSpec::default()
                };
                let id = spec.id.clone();
                engine.create_container(spec).await.expect("create");
                engine.start_container(&id).await.expect("start");
            }
            assert!(
                common::leftovers(&copy).len() > 6,
                "there is something to remove"
            );
            engine.purge().await.expect("purge");
            assert_eq!(common::leftovers(&copy), Vec::<String>::new());
            engine.purge().await.expect("purge again");
        });
        config
    };
    assert_eq!(common::leftovers(&config), Vec::<String>::new());
}
