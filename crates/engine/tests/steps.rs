//! Steps of image builds: exit code and output, changes kept, nothing left behind.

mod common;

use common::{World, eventually};
use engine::runner::*;
use engine::*;
use std::fs;

#[test]
fn a_step_changes_its_root_and_leaves_no_sandbox() {
    World::run(async |world| {
        let runner = EngineRunner::new(world.engine.clone(), RunNetwork::None);
        let step = |script: &str| RunStep {
            rootfs: world.rootfs(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: "/some/dir".into(),
            ..RunStep::default()
        };
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        let code = runner
            .run(step("echo one; echo two >&2; pwd > made; exit 3"), sender)
            .await
            .expect("run");
        let mut output = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            output.extend(bytes);
        }
        let output = String::from_utf8_lossy(&output).into_owned();
        assert_eq!(code, 3);
        assert!(
            output.contains("one\n") && output.contains("two\n"),
            "{output}"
        );
        assert_eq!(
            fs::read_to_string(world.rootfs().join("some/dir/made")).expect("made"),
            "/some/dir\n"
        );
        assert!(world.engine.sandboxes().await.is_empty());

        let (sender, _) = tokio::sync::mpsc::channel(1);
        let error = runner
            .run(
                RunStep {
                    argv: vec!["ghost".into()],
                    ..step("")
                },
                sender,
            )
            .await
            .expect_err("not found");
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH"),
            "{error}"
        );

        // Given up in the middle.
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let running = runner.run(step("echo up; sleep 1000"), sender);
        tokio::select! {
            _ = running => panic!("it sleeps"),
            up = receiver.recv() => assert!(up.is_some()),
        }
        eventually("nothing left", async || {
            world.engine.sandboxes().await.is_empty()
        })
        .await;
    });
}

#[test]
fn what_a_dead_daemon_left_of_a_step_is_removed() {
    World::run(async |world| {
        let labels = [(STEP_LABEL.to_owned(), String::new())].into();
        world
            .sandbox_with(SandboxSpec {
                id: "step-1".into(),
                labels,
                ..SandboxSpec::default()
            })
            .await;
        world
            .start(world.spec("step-1", "step-1", &["sleep", "1000"]))
            .await;
        let common::Session { engine, config, .. } = world;
        drop(engine);
        let engine = Engine::open(config).await.expect("open again");
        assert!(engine.sandboxes().await.is_empty() && engine.containers().await.is_empty());
    });
}
