//! Seccomp profiles of one's own, on this kernel.

mod common;

use common::{World, command, enter};
use engine::*;

/// Everything is allowed but making directories, and for those without CAP_NET_ADMIN making links.
const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":null,"syscalls":[
    {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28,"comment":"as on a full disk","includes":{},"excludes":{}},
    {"names":["symlink","symlinkat"],"action":"SCMP_ACT_ERRNO","args":[],"excludes":{"caps":["CAP_NET_ADMIN"]}}]}"#;

#[test]
fn a_profile_of_its_own_holds_also_for_who_enters() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let start = async |id: &str, change: &dyn Fn(&mut Security)| {
            let mut spec = world.spec("plim-s", id, &["sleep", "1000"]);
            spec.security.seccomp_profile = PROFILE.into();
            change(&mut spec.security);
            world.start(spec).await;
        };
        start("plim-plain", &|_| {}).await;
        start("plim-admin", &|security| {
            security.capabilities_add = vec!["NET_ADMIN".into()]
        })
        .await;
        start("plim-privileged", &|security| security.privileged = true).await;
        start("plim-powerless", &|security| {
            security.no_new_privileges = true
        })
        .await;
        let script = "mkdir /tmp/made; busybox ln -s x /tmp/link; grep Seccomp: /proc/self/status; unshare -m true && echo unshared";
        for (id, may_link, may_unshare) in [
            ("plim-plain", false, false),
            ("plim-admin", true, false),
            ("plim-privileged", true, true),
            ("plim-powerless", false, false),
        ] {
            let _ = std::fs::remove_file(world.rootfs().join("tmp/link"));
            let (_, said) = enter(&world, id, command(&["sh", "-c", script])).await;
            assert!(said.contains("No space left on device"), "{id}: {said}");
            assert_eq!(said.contains("unshared"), may_unshare, "{id}: {said}");
            assert_eq!(
                world.rootfs().join("tmp/link").is_symlink(),
                may_link,
                "{id}: {said}"
            );
            assert!(said.contains("Seccomp:\t2"), "{id}: {said}");
        }
    });
}

#[test]
fn its_own_process_is_confined_too_and_an_empty_profile_confines_nobody() {
    World::run(async |world| {
        let with = |profile: &'static str| {
            move |spec: &mut ContainerSpec| spec.security.seccomp_profile = profile.into()
        };
        let script = "mkdir /tmp/own; grep Seccomp: /proc/self/status";
        let (_, said) = world.script_with("plim-own", script, with(PROFILE)).await;
        assert!(
            said.contains("No space left") && said.contains("Seccomp:\t2"),
            "{said}"
        );
        let (_, said) = world.script_with("plim-none", script, with("{}")).await;
        assert!(said.contains("Seccomp:\t0"), "{said}");
    });
}

#[test]
fn what_is_no_profile_is_refused_before_anything_is_made() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let rule = |name: &str, value: u64| {
            let arguments: Vec<String> = (0..6)
                .map(|index| {
                    format!(
                        r#"{{"index":{index},"value":{},"op":"SCMP_CMP_EQ"}}"#,
                        value + index
                    )
                })
                .collect();
            let arguments = arguments.join(",");
            format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","args":[{arguments}]}}"#)
        };
        let of = |rules: Vec<String>| {
            let rules = rules.join(",");
            format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rules}]}}"#)
        };
        // The library would be busy for hours.
        let endless = of((1..1500).map(|value| rule("read", value << 32)).collect());
        let calls = [
            "read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap",
            "mprotect", "munmap", "brk", "ioctl", "access", "pipe", "select", "dup", "dup2",
            "pause",
        ];
        let long = of((0..240)
            .map(|value| rule(calls[value as usize % calls.len()], 1 + (value << 30)))
            .collect());
        for (profile, expected) in [
            ("no profile", "no JSON object"),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO""#, "EOF while parsing"),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_PDP11"]}"#,
                "unknown architecture",
            ),
            (&endless, "more than 12 rules"),
            (&long, "instructions"),
        ] {
            let mut spec = world.spec("plim-s", "plim-c", &["true"]);
            spec.security.seccomp_profile = profile.to_owned();
            let error = world
                .engine
                .create_container(spec)
                .await
                .expect_err("refused");
            let Error::Invalid { field, reason } = &error else {
                panic!("{error}");
            };
            assert_eq!(*field, "seccomp");
            assert!(
                reason.contains("seccomp profile") && reason.contains(expected),
                "{error}"
            );
            assert!(!world.container_dir("plim-s", "plim-c").exists());
        }
    });
}
