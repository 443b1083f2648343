//! Limits bind: the kernel kills, throttles and refuses; statistics are read.

mod common;

use common::{World, command, enter, eventually, unified};
use engine::*;
use std::path::Path;
use std::time::Duration;

#[test]
fn memory_over_the_limit_is_killed_and_told() {
    World::run(async |world| {
        let mut events = world.engine.events();
        let change = |spec: &mut ContainerSpec| {
            // Not in a child: the first process itself grows.
            spec.argv = ["awk", "BEGIN { s = \"x\"; while (1) s = s s }"]
                .map(str::to_owned)
                .to_vec();
            spec.resources.memory_limit_bytes = Some(32 << 20);
        };
        let (exit, _) = world.script_with("plim-oom", "", change).await;
        assert_eq!(
            (exit.code, exit.signal, exit.oom_killed),
            (137, Some(9), true)
        );
        let told = async {
            while !matches!(
                events.recv().await.expect("event"),
                Event::ContainerOomKilled { .. }
            ) {}
        };
        tokio::time::timeout(Duration::from_secs(20), told)
            .await
            .expect("told");
        let (exit, _) = world
            .script_with("plim-fits", "true", |spec| {
                spec.resources.memory_limit_bytes = Some(32 << 20)
            })
            .await;
        assert_eq!((exit.code, exit.oom_killed), (0, false));
    });
}

#[test]
fn the_sandbox_limit_binds_its_containers_together() {
    World::run(async |world| {
        let resources = Resources {
            memory_limit_bytes: Some(32 << 20),
            ..Resources::default()
        };
        world
            .sandbox_with(SandboxSpec {
                id: "plim-s".into(),
                resources,
                ..SandboxSpec::default()
            })
            .await;
        let (exit, _) = world
            .run(world.spec(
                "plim-s",
                "plim-c",
                &["awk", "BEGIN { s = \"x\"; while (1) s = s s }"],
            ))
            .await;
        assert_eq!((exit.code, exit.oom_killed), (137, true));
    });
}

#[test]
fn cpu_quota_throttles_and_statistics_grow() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let mut spec = world.spec(
            "plim-s",
            "plim-cpu",
            &["sh", "-c", "while true; do :; done"],
        );
        spec.resources = Resources {
            cpu_quota_us: Some(5_000),
            cpu_period_us: Some(20_000),
            ..Resources::default()
        };
        world.start(spec).await;
        eventually("throttling", async || {
            world
                .engine
                .stats("plim-cpu")
                .await
                .expect("stats")
                .throttled_periods
                >= 3
        })
        .await;
        let stats = world.engine.stats("plim-cpu").await.expect("stats");
        assert!(
            stats.cpu_usage_ns > 0
                && stats.memory_usage_bytes >= stats.memory_working_set_bytes
                && stats.pids >= 1,
            "{stats:?}"
        );
        assert_eq!(stats.memory_limit_bytes, None);
        assert!(
            world
                .engine
                .sandbox_stats("plim-s")
                .await
                .expect("stats")
                .pids
                >= 1
        );
        world
            .engine
            .stop_container("plim-cpu", None, Duration::ZERO)
            .await
            .expect("stop");
        assert!(matches!(
            world.engine.stats("plim-cpu").await,
            Err(Error::State { .. })
        ));
    });
}

#[test]
fn the_pids_limit_binds() {
    World::run(async |world| {
        let script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all";
        let (exit, output) = world
            .script_with("plim-pids", script, |spec| {
                spec.resources.pids_limit = Some(5)
            })
            .await;
        assert!(output.contains("can't fork"), "{exit:?} {output}");
        let (_, output) = world.script_with("plim-free", script, |_| {}).await;
        assert_eq!(output, "all\n");
    });
}

/// A fork bomb without a limit of its own: the sandbox has one.
#[test]
fn a_sandbox_never_takes_all_pids_of_the_machine() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let free = SandboxSpec {
            id: "plim-free".into(),
            resources: Resources {
                pids_limit: Some(0),
                ..Resources::default()
            },
            ..SandboxSpec::default()
        };
        world.sandbox_with(free).await;
        let number = |name: &str| -> u64 {
            let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect(name);
            text.trim().parse().expect("a number")
        };
        let half = number("pid_max").min(number("threads-max")) / 2;
        let limit = |id: &str| {
            let beneath = format!("{}/pods/{id}/pids.max", world.config.instance);
            let legacy = std::fs::read_to_string(format!("/sys/fs/cgroup/pids/{beneath}"));
            let text =
                legacy.or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/{beneath}")));
            text.expect("pids.max").trim().to_owned()
        };
        assert_eq!(limit("plim-s"), half.to_string());
        assert_eq!(limit("plim-free"), "max", "asked for");
    });
}

#[test]
fn ulimits_hold_for_all_processes_of_a_container() {
    World::run(async |world| {
        let ulimit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        world.sandbox("plim-s").await;
        let script = "ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; sleep 1000";
        let mut spec = world.spec("plim-s", "plim-c", &["sh", "-c", script]);
        // The last one is more than this machine gives away: it is then as high as that.
        spec.ulimits = vec![
            ulimit("nofile", 100, 200),
            ulimit("core", 0, 0),
            ulimit("nproc", -1, -1),
        ];
        world.start(spec).await;
        eventually("told", async || world.output("plim-c").lines().count() >= 4).await;
        assert_eq!(world.output("plim-c"), "100\n200\n0\n0\n");
        let exec = ExecSpec {
            argv: ["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"]
                .map(String::from)
                .to_vec(),
            ..ExecSpec::default()
        };
        let mut process = world.engine.exec("plim-c", exec).await.expect("exec");
        let mut text = Vec::new();
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = process.output.recv().await
        {
            text.extend_from_slice(&bytes);
        }
        assert_eq!(String::from_utf8_lossy(&text), "100\n200\n0\n");
        for wrong in [
            ulimit("speed", 1, 1),
            ulimit("nofile", 2, 1),
            ulimit("nofile", -1, 1),
        ] {
            let mut spec = world.spec("plim-s", "plim-wrong", &["true"]);
            spec.ulimits = vec![wrong.clone()];
            let refused = world.engine.create_container(spec).await;
            assert!(
                matches!(
                    refused,
                    Err(Error::Invalid {
                        field: "ulimits",
                        ..
                    })
                ),
                "{wrong:?}: {refused:?}"
            );
        }
    });
}

/// As the kubelet sets it by quality of service: where the right to lower it is missing the container runs all the same.
#[test]
fn the_oom_score_is_as_wanted_or_as_near_as_can_be() {
    World::run(async |world| {
        let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj")
            .expect("own")
            .trim()
            .parse()
            .expect("a number");
        let text = std::fs::read_to_string("/proc/self/status").expect("status");
        let rights = text
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .expect("CapEff")
            .trim()
            .to_owned();
        let free = u64::from_str_radix(&rights, 16).expect("hex") & 1 << 24 != 0;
        for (id, wanted) in [
            ("plim-best-effort", 1000),
            ("plim-burstable", 900),
            ("plim-guaranteed", -997),
        ] {
            let (exit, output) = world
                .script_with(id, "cat /proc/self/oom_score_adj", |spec| {
                    spec.oom_score_adj = wanted
                })
                .await;
            assert_eq!(exit.code, 0);
            let expected = if free { wanted } else { wanted.max(own) };
            assert_eq!(output.trim(), expected.to_string(), "{id}");
        }
    });
}

/// What enters a container is to be killed like what is in it, whatever protects the daemon and the supervising process.
#[test]
fn exec_has_the_containers_oom_score() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
        spec.oom_score_adj = 500;
        world.start(spec).await;
        let read = command(&["cat", "/proc/self/oom_score_adj"]);
        assert_eq!(enter(&world, "plim-c", read).await, (0, "500\n".into()));
    });
}

/// All sandboxes together weigh less than the rest of the machine, and may take so much memory and no more.
#[test]
fn the_machine_is_shared() {
    World::run(async |world| {
        let most = 64 << 20;
        assert!(world.engine.share_machine(most).await.expect("shared"));
        let group = |controller: &str| {
            let root = Path::new("/sys/fs/cgroup");
            let root = if unified() {
                root.to_owned()
            } else {
                root.join(controller)
            };
            root.join(world.config.cgroup_parent.trim_start_matches('/'))
        };
        let read = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            text.trim().parse::<u64>().expect("a number")
        };
        let weight = |name: &str| {
            let file = if unified() {
                "cpu.weight"
            } else {
                "cpu.shares"
            };
            read(group("cpu").join(name).join(file))
        };
        let rest = if unified() { 100 } else { 1024 };
        assert!(weight("") < rest, "what is beside the instance comes first");
        assert!(weight("pods") < weight("supervisors"));
        let file = if unified() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        assert_eq!(read(group("memory").join("pods").join(file)), most);
        assert_eq!(
            world
                .engine
                .sandboxes_stats()
                .expect("counted")
                .memory_limit_bytes,
            Some(most)
        );
        // no container has a limit of its own, and all together have one
        let script = "dd if=/dev/zero of=/dev/null bs=200M count=1 && echo fine; echo over";
        let (_, output) = world.script("plim-greedy", script).await;
        assert!(!output.contains("fine"), "200 MiB of 64: {output}");
        assert!(world.engine.share_machine(2 << 30).await.expect("more"));
        world.sandbox("plim-t").await;
        let hold = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 && sleep 1000";
        let spec = world.spec("plim-t", "plim-holder", &["sh", "-c", hold]);
        world.start(spec).await;
        eventually("it has taken its memory", async || {
            let stats = world.engine.sandboxes_stats().expect("counted");
            stats.memory_usage_bytes > 20 << 20
        })
        .await;
        assert!(
            !world.engine.share_machine(1 << 20).await.expect("told"),
            "less than is taken is not set"
        );
        assert_eq!(read(group("memory").join("pods").join(file)), 2 << 30);
    });
}

#[test]
fn weight_and_cpus_arrive_in_the_kernel() {
    World::run(async |world| {
        let (script, expected) = if unified() {
            (
                "cd /sys/fs/cgroup; cat cpu.weight cpuset.cpus memory.max memory.swap.max",
                "59\n0\n33554432\n0\n",
            )
        } else {
            (
                "cd /sys/fs/cgroup; cat cpu*/cpu.shares cpuset*/cpuset.cpus memory/memory.limit_in_bytes",
                "512\n0\n33554432\n",
            )
        };
        let change = |spec: &mut ContainerSpec| {
            spec.resources = Resources {
                cpu_shares: Some(512),
                cpuset: Some("0".into()),
                memory_limit_bytes: Some(32 << 20),
                ..Resources::default()
            };
        };
        let (exit, output) = world.script_with("plim-c", script, change).await;
        assert!(
            exit.code == 0 && output.starts_with(expected),
            "{exit:?} {output}"
        );
    });
}

/// On v2 the container is one thing to the killer, if so wanted: no half of it lives on.
#[test]
fn out_of_memory_may_be_the_end_of_all() {
    World::run(async |world| {
        let script = "(tail /dev/zero); echo survived";
        for (id, group) in [("plim-one", false), ("plim-all", true)] {
            let change = |spec: &mut ContainerSpec| {
                spec.resources.memory_limit_bytes = Some(16 << 20);
                spec.resources.memory_oom_group = group;
            };
            let (exit, output) = world.script_with(id, script, change).await;
            assert!(exit.oom_killed, "{id}: {exit:?}");
            let all = group && unified();
            assert_eq!(exit.code, if all { 137 } else { 0 }, "{id}: {output}");
            assert_eq!(output.contains("survived"), !all, "{id}: {output}");
        }
    });
}

/// The unfavourable case: nobody else runs the program, so that every page of it counts as its own.
#[test]
fn a_lone_supervising_process_is_small() {
    World::run(async |world| is_small(&world).await);
}

/// Where no overlay protects the program, it is a sealed copy in memory that runs.
#[test]
fn one_that_runs_from_a_copy_in_memory_is_small_too() {
    World::run(async |world| {
        let common::Session {
            engine,
            config,
            dir,
        } = world;
        drop(engine);
        // A file that has no directory cannot be overlaid.
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create("plimsoll-test", flags).expect("memfd");
        let mut memory = std::fs::File::from(memory);
        let mut program = std::fs::File::open(&config.supervisor[0]).expect("open");
        std::io::copy(&mut program, &mut memory).expect("copy");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
        let config = Config {
            supervisor: vec![path.into(), "supervise".into()],
            ..config
        };
        let engine = Engine::open(config.clone()).await.expect("open");
        let world = common::Session {
            engine,
            config,
            dir,
        };
        is_small(&world).await;
        let pid = world
            .engine
            .sandbox("plim-s")
            .await
            .and_then(|status| status.supervisor_pid);
        let running = std::fs::read_link(format!("/proc/{}/exe", pid.expect("pid"))).expect("exe");
        assert!(
            running.to_string_lossy().contains("memfd:plimsoll"),
            "{running:?}"
        );
        let write = std::fs::File::options()
            .write(true)
            .open(format!("/proc/{}/exe", pid.expect("pid")));
        assert!(write.is_err(), "sealed, and busy");
    });
}

async fn is_small(world: &common::Session) {
    let status = world.sandbox("plim-s").await;
    let (exit, _) = world
        .run(world.spec("plim-s", "plim-c", &["seq", "1", "10000"]))
        .await;
    assert_eq!(exit.code, 0);
    world
        .start(world.spec("plim-s", "plim-d", &["sleep", "1000"]))
        .await;
    let pid = status.supervisor_pid.expect("pid");
    // It gives back what it does not need once it has been quiet for a while.
    let mut private = 0;
    eventually("less than 2 MiB private", async || {
        private = private_kib(pid);
        private < 2048
    })
    .await;
    println!("supervising process: {private} KiB private");
    // And it is still all there.
    world
        .engine
        .stop_container("plim-d", None, Duration::ZERO)
        .await
        .expect("stop");
}

fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let private = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    private.sum()
}
