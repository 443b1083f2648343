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

/// Numbers 300:7 and 300:8 belong to no driver, so that a permitted open tells "No such device", and a refused one does not.
#[test]
fn a_device_that_is_given_may_be_used_as_far_as_it_is_given() {
    World::run(async |world| {
        let make = |name: &str, minor: &str| {
            let path = world.dir.join("host").join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            let mut mknod = Command::new("mknod");
            let made = mknod
                .args(["-m", "640"])
                .arg(&path)
                .args(["c", "300", minor]);
            assert!(made.status().expect("mknod").success());
            std::os::unix::fs::chown(&path, Some(1000), Some(2000)).expect("chown");
            path
        };
        let given = make("given", "7");
        make("all/one", "8");
        make("all/deep/two", "9");
        std::fs::write(world.dir.join("host/all/text"), "none").expect("write");
        let device = |source: &std::path::Path, target: &str, access: &str| Device {
            source: source.to_owned(),
            target: target.into(),
            access: access.into(),
        };
        let script = "exec 2>&1
            stat -c '%n %A %u:%g %t:%T' /dev/mine /dev/all/one /dev/all/deep/two
            test -e /dev/all/text && echo text
            head -c 1 /dev/mine; echo x > /dev/mine; head -c 1 /dev/all/one; head -c 1 /srv/same; ls -l /srv/same
            busybox mknod /tmp/other c 300 10; head -c 1 /tmp/other
            head -c 1 /dev/zero | wc -c; sleep 1000";
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["sh", "-c", script]);
        spec.devices = vec![
            device(&given, "/dev/mine", "r"),
            device(&world.dir.join("host/all"), "/dev/all", "rwm"),
            device(&given, "/srv/same", "r"),
        ];
        world.start(spec).await;
        eventually("it has tried", async || {
            world.output("plim-c").ends_with("\n1\n")
        })
        .await;
        let output = world.output("plim-c");
        // read: no such device; written: not permitted
        for expected in [
            "/dev/mine crw-r----- 1000:2000 12c:7",
            "/dev/all/one crw-r----- 1000:2000 12c:8",
            "/dev/all/deep/two crw-r----- 1000:2000 12c:9",
            "head: /dev/mine: No such device",
            "can't create /dev/mine: Operation not permitted",
            "head: /dev/all/one: No such device",
            "head: /srv/same: No such device",
            "head: /tmp/other: Operation not permitted",
        ] {
            assert!(output.contains(expected), "{expected}: {output}");
        }
        assert!(!output.contains("text"), "{output}");
        let said = world
            .said_by(
                "plim-c",
                "exec 2>&1; head -c 1 /dev/mine; echo x > /dev/mine",
            )
            .await;
        assert!(
            said.contains("No such device") && said.contains("Operation not permitted"),
            "{said}"
        );
        let nodes = std::fs::read_dir(world.rootfs().join("dev")).expect("dev");
        assert_eq!(nodes.count(), 0, "nothing is left in the image");
    });
}

#[test]
fn a_device_that_there_is_not_is_told() {
    World::run(async |world| {
        for (id, source, reason) in [
            ("plim-a", "/dev/plim-none", "no such file or directory"),
            ("plim-b", "/etc/passwd", "not a device node"),
        ] {
            world.sandbox(&format!("s-{id}")).await;
            let mut spec = world.spec(&format!("s-{id}"), id, &["true"]);
            spec.devices = vec![Device {
                source: source.into(),
                target: "/dev/x".into(),
                access: "rwm".into(),
            }];
            world.engine.create_container(spec).await.expect("create");
            let error = world.engine.start_container(id).await.expect_err("started");
            let words = format!(
                "error gathering device information while adding custom device \"{source}\": {reason}"
            );
            assert!(error.to_string().contains(&words), "{error}");
        }
        let tunnel = |spec: &mut ContainerSpec| {
            spec.devices = vec![Device {
                source: "/dev/null".into(),
                target: "/dev/../srv/x".into(),
                access: "rwm".into(),
            }];
        };
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["true"]);
        tunnel(&mut spec);
        assert!(world.engine.create_container(spec).await.is_err());
    });
}
