//! Limits bind: the kernel kills, throttles and refuses; statistics are read.

mod common;

use common::{World, eventually, unified};
use engine::*;
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
    World::run(async |world| {
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
    });
}

fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let private = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    private.sum()
}
