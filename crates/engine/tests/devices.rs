//! Containers use no devices but the few that everybody may: on v1 by the controller, on v2 by a BPF program.

mod common;

use common::{World, eventually};
use engine::*;
use std::process::Command;
use std::time::Duration;

#[test]
fn devices_are_refused_by_the_cgroup() {
    World::run(async |world| {
        let script = "exec 2>&1; busybox mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; head -c 1 /dev/zero | wc -c";
        let (_, output) = world.script("plim-devices", script).await;
        assert!(
            output.contains("Operation not permitted") && output.ends_with("1\n"),
            "{output}"
        );
    });
}

/// The numbers belong to no driver: who may open such a file is told so, who may not is told that instead.
#[test]
fn a_device_that_is_in_the_image_is_refused_too() {
    World::run(async |world| {
        let device = world.rootfs().join("srv/device");
        let mut mknod = Command::new("mknod");
        let made = mknod.arg(&device).args(["c", "300", "7"]).status();
        assert!(made.expect("mknod").success());
        let script = "exec 2>&1; head -c 1 /srv/device; rm -f /tmp/mine; busybox mknod /tmp/mine c 300 7 && head -c 1 /tmp/mine; \
            head -c 1 /dev/zero > /dev/null && echo usable; sleep 1000";
        world.sandbox("plim-s").await;
        let spec = world.spec("plim-s", "plim-c", &["sh", "-c", script]);
        world.start(spec).await;
        eventually("it has tried", async || {
            world.output("plim-c").contains("usable")
        })
        .await;
        let output = world.output("plim-c");
        assert_eq!(
            output.matches("Operation not permitted").count(),
            2,
            "{output}"
        );
        // who comes in later has no more rights
        let said = world
            .said_by(
                "plim-c",
                "exec 2>&1; head -c 1 /srv/device; head -c 1 /dev/zero | wc -c",
            )
            .await;
        assert!(
            said.contains("Operation not permitted") && said.ends_with("1\n"),
            "{said}"
        );
        let change = |spec: &mut ContainerSpec| spec.security.privileged = true;
        let (_, output) = world
            .script_with("plim-free", "exec 2>&1; head -c 1 /srv/device", change)
            .await;
        assert!(output.contains("No such device"), "{output}");
        // a second run in what may be the same group
        world
            .engine
            .stop_container("plim-c", None, Duration::ZERO)
            .await
            .expect("stop");
        world.engine.start_container("plim-c").await.expect("again");
        let twice = || {
            world
                .output("plim-c")
                .matches("Operation not permitted")
                .count()
                == 4
        };
        eventually("it has tried again", async || twice()).await;
    });
}
