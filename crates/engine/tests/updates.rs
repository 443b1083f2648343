//! Limits that change while a container runs.

mod common;

use common::{Session, World, unified};
use engine::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// The limits as the kernel has them now: memory, time per period, pids.
async fn limits(world: &Session, id: &str) -> [String; 3] {
    // v1 has them in directories of their own, some of which are named after several controllers.
    let files = if unified() {
        ["memory.max", "cpu.max", "pids.max"]
    } else {
        [
            "memory/memory.limit_in_bytes",
            "*cpu*/cpu.cfs_quota_us",
            "pids/pids.max",
        ]
    };
    let mut found = files.map(str::to_owned);
    for (place, file) in files.iter().enumerate() {
        let script = format!("cat /sys/fs/cgroup/{file} | head -1");
        let said = world.said_by(id, &script).await;
        found[place] = said
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
    }
    found
}

#[test]
fn new_limits_bind_at_once_and_after_the_next_start() {
    World::run(async |world| {
        let unlimited = if unified() { "max" } else { "-1" };
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
        spec.resources = Resources {
            memory_limit_bytes: Some(32 << 20),
            cpu_quota_us: Some(50_000),
            pids_limit: Some(20),
            ..Resources::default()
        };
        let first = spec.resources.clone();
        world.start(spec).await;
        let update = async |resources: Resources, note: &str| {
            let notes = BTreeMap::from([("note".to_owned(), note.to_owned())]);
            world
                .engine
                .update_container("plim-c", resources, notes)
                .await
        };
        assert_eq!(limits(&world, "plim-c").await, ["33554432", "50000", "20"]);
        let more = Resources {
            memory_limit_bytes: Some(64 << 20),
            cpu_quota_us: Some(80_000),
            pids_limit: Some(30),
            ..Resources::default()
        };
        update(more, "more").await.expect("more");
        assert_eq!(limits(&world, "plim-c").await, ["67108864", "80000", "30"]);
        update(first, "less").await.expect("less");
        assert_eq!(limits(&world, "plim-c").await, ["33554432", "50000", "20"]);
        let free = Resources {
            memory_limit_bytes: Some(48 << 20),
            cpu_quota_us: Some(-1),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        update(free, "free").await.expect("free");
        let expected = ["50331648", unlimited, "max"];
        assert_eq!(limits(&world, "plim-c").await, expected);
        // what is known of it outlives the daemon, and binds the next run
        let again = world.reopened().await;
        let status = again.engine.container("plim-c").await.expect("known");
        assert_eq!(status.spec.annotations["note"], "free");
        let stopped = again.engine.stop_container("plim-c", None, Duration::ZERO);
        stopped.await.expect("stop");
        again.engine.start_container("plim-c").await.expect("start");
        assert_eq!(limits(&again, "plim-c").await, expected);
    });
}

#[test]
fn limits_that_the_kernel_refuses_change_nothing() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
        spec.resources.pids_limit = Some(20);
        world.start(spec).await;
        let impossible = Resources {
            pids_limit: Some(30),
            cpuset: Some("none".into()),
            ..Resources::default()
        };
        let refused = world
            .engine
            .update_container("plim-c", impossible, BTreeMap::new())
            .await;
        assert!(refused.is_err());
        assert_eq!(limits(&world, "plim-c").await[2], "20");
        let status = world.engine.container("plim-c").await.expect("known");
        assert_eq!(status.spec.resources.pids_limit, Some(20));
    });
}

/// The kernel ends what does not fit any longer, as it would with any container of that limit.
#[test]
fn less_memory_than_is_used_and_cannot_be_freed() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        // 24 MiB in the shell's own memory
        let script = "s=$(head -c 24m /dev/zero | busybox tr '\\0' x); echo ready; while :; do sleep 1; done";
        let mut spec = world.spec("plim-s", "plim-c", &["sh", "-c", script]);
        spec.resources.memory_limit_bytes = Some(256 << 20);
        world.start(spec).await;
        common::eventually("it is full", async || {
            world.output("plim-c").contains("ready")
        })
        .await;
        let less = Resources {
            memory_limit_bytes: Some(8 << 20),
            ..Resources::default()
        };
        let updated = world
            .engine
            .update_container("plim-c", less, BTreeMap::new())
            .await;
        if unified() {
            updated.expect("taken");
            let exit = world.engine.wait_container("plim-c").await.expect("wait");
            assert!(exit.oom_killed, "{exit:?}");
        } else {
            // v1 refuses, and the old limit holds
            assert!(updated.is_err());
            assert_eq!(limits(&world, "plim-c").await[0], "268435456");
        }
    });
}
