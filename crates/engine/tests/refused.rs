//! What cannot or must not be started says so.

mod common;

use common::World;
use engine::*;
use std::fs;

#[test]
fn what_cannot_be_started_says_why() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        fs::write(world.rootfs().join("bin/plain"), "x").expect("write");
        fs::write(world.rootfs().join("bin/garbage"), "\x01\x02").expect("write");
        fs::set_permissions(
            world.rootfs().join("bin/garbage"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("chmod");
        let rows: [(&str, &[&str], &str, i32); 6] = [
            (
                "plim-1",
                &["ghost"],
                "exec: \"ghost\": executable file not found in $PATH",
                127,
            ),
            ("plim-2", &["/bin/ghost"], "no such file or directory", 127),
            ("plim-3", &["/bin/plain"], "permission denied", 126),
            ("plim-4", &["plain"], "permission denied", 126),
            ("plim-5", &["/etc"], "is a directory", 126),
            ("plim-6", &["/bin/garbage"], "exec format error", 126),
        ];
        for (id, argv, expected, code) in rows {
            world
                .engine
                .create_container(world.spec("plim-s", id, argv))
                .await
                .expect("create");
            let error = world.engine.start_container(id).await.expect_err(id);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.start_code(), Some(code), "{error}");
            assert_eq!(
                world.engine.container(id).await.map(|status| status.state),
                Some(State::Created)
            );
        }
        let changes: [(&str, fn(&mut ContainerSpec), &str); 6] = [
            (
                "plim-12",
                |spec| {
                    let source = "/nonexistent-plim".into();
                    spec.mounts = vec![Mount {
                        source,
                        target: "/x".into(),
                        ..Mount::default()
                    }];
                },
                "bind source path does not exist: /nonexistent-plim",
            ),
            (
                "plim-7",
                |spec| spec.user = "ghost".into(),
                "unable to find user ghost",
            ),
            (
                "plim-8",
                |spec| spec.security.run_as_non_root = true,
                "runAsNonRoot",
            ),
            (
                "plim-9",
                |spec| spec.rootfs = "/nonexistent-plim".into(),
                "cannot open the root filesystem",
            ),
            ("plim-10", |spec| spec.cwd = "/etc/passwd/x".into(), "chdir"),
            (
                "plim-11",
                |spec| spec.argv.push("x".repeat(200_000)),
                "argument list too long",
            ),
        ];
        for (id, change, expected) in changes {
            let mut spec = world.spec("plim-s", id, &["true"]);
            change(&mut spec);
            world.engine.create_container(spec).await.expect("create");
            let error = world.engine.start_container(id).await.expect_err(id);
            assert!(error.to_string().contains(expected), "{id}: {error}");
        }
        // The sandbox is none the worse for it.
        let (exit, _) = world
            .run(world.spec("plim-s", "plim-good", &["true"]))
            .await;
        assert_eq!(exit.code, 0);
    });
}

#[test]
fn hostile_specifications_are_refused_at_once() {
    World::run(async |world| {
        world
            .engine
            .create_sandbox(SandboxSpec {
                id: "plim-s".into(),
                ..SandboxSpec::default()
            })
            .await
            .expect("create");
        let changes: [fn(&mut ContainerSpec); 7] = [
            |spec| spec.argv.clear(),
            |spec| spec.argv[0] = "a\0b".into(),
            |spec| spec.env = vec!["A=\0".into()],
            |spec| spec.cwd = "relative".into(),
            |spec| spec.id = "../../x".into(),
            |spec| spec.env = vec![format!("A={}", "x".repeat(8 << 20))],
            |spec| {
                spec.mounts = vec![Mount {
                    source: "/tmp".into(),
                    target: "/a/../../b".into(),
                    ..Mount::default()
                }]
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut spec = world.spec("plim-s", "plim-c", &["true"]);
            change(&mut spec);
            let error = world
                .engine
                .create_container(spec)
                .await
                .expect_err("refused");
            assert!(matches!(error, Error::Invalid { .. }), "{number}: {error}");
        }
        assert!(world.engine.containers().await.is_empty());
        let twice = world
            .engine
            .create_sandbox(SandboxSpec {
                id: "plim-s".into(),
                ..SandboxSpec::default()
            })
            .await;
        assert!(matches!(twice, Err(Error::AlreadyExists { .. })));
        assert!(matches!(
            world.engine.start_container("plim-none").await,
            Err(Error::NotFound { .. })
        ));
    });
}
