//! A paused container does nothing, keeps what it has, and goes on where it was.

mod common;

use common::{Session, World, eventually};
use engine::*;
use std::fs;
use std::time::Duration;

const COUNTER: &str = "trap 'echo asked; exit 3' TERM; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done";

fn count(world: &Session) -> u64 {
    let text = fs::read_to_string(world.rootfs().join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

async fn counting(world: &Session, what: &str) {
    let before = count(world);
    // it may be read between being emptied and written
    eventually(what, async || count(world) > before + 1).await;
}

async fn stands_still(world: &Session) {
    let before = fs::read_to_string(world.rootfs().join("count")).expect("counted");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        fs::read_to_string(world.rootfs().join("count")).expect("counted"),
        before
    );
}

async fn paused(engine: &Engine) -> bool {
    engine.container("plim-c").await.expect("known").paused
}

#[test]
fn paused_and_let_go_on() {
    World::run(async |world| {
        let mut events = world.engine.events();
        world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sh", "-c", COUNTER]))
            .await;
        counting(&world, "it counts").await;
        let refused = world
            .engine
            .unpause_container("plim-c")
            .await
            .expect_err("it is not paused");
        assert!(matches!(refused, Error::State { .. }), "{refused}");

        world.engine.pause_container("plim-c").await.expect("pause");
        assert!(paused(&world.engine).await);
        stands_still(&world).await;
        let refused = world
            .engine
            .pause_container("plim-c")
            .await
            .expect_err("it is paused");
        assert!(refused.to_string().contains("it is paused"), "{refused}");
        let spec = ExecSpec {
            argv: vec!["true".into()],
            ..ExecSpec::default()
        };
        let refused = world
            .engine
            .exec("plim-c", spec)
            .await
            .err()
            .expect("it is paused");
        assert!(refused.to_string().contains("it is paused"), "{refused}");
        assert!(world.engine.stats("plim-c").await.expect("stats").pids >= 1);

        // a daemon that comes again knows
        let again = Engine::open(world.config.clone())
            .await
            .expect("open again");
        assert!(paused(&again).await);
        drop(again);
        stands_still(&world).await;

        world
            .engine
            .unpause_container("plim-c")
            .await
            .expect("unpause");
        assert!(!paused(&world.engine).await);
        counting(&world, "it goes on").await;
        let mut told = Vec::new();
        while told.len() < 2 {
            match events.recv().await.expect("event") {
                Event::ContainerPaused { .. } => told.push("paused"),
                Event::ContainerUnpaused { .. } => told.push("unpaused"),
                _ => {}
            }
        }
        assert_eq!(told, ["paused", "unpaused"]);
    });
}

#[test]
fn a_paused_container_can_be_asked_to_end_and_be_killed() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sh", "-c", COUNTER]))
            .await;
        counting(&world, "it counts").await;
        world.engine.pause_container("plim-c").await.expect("pause");
        let exit = world
            .engine
            .stop_container("plim-c", None, Duration::from_secs(60))
            .await
            .expect("stop");
        assert_eq!(
            exit.code,
            3,
            "it was let go on to hear the signal: {}",
            world.output("plim-c")
        );
        assert!(!paused(&world.engine).await);

        world
            .engine
            .start_container("plim-c")
            .await
            .expect("start again");
        counting(&world, "it counts again").await;
        world.engine.pause_container("plim-c").await.expect("pause");
        let exit = world
            .engine
            .stop_container("plim-c", None, Duration::ZERO)
            .await
            .expect("kill");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        // and with it what is around it
        world
            .engine
            .start_container("plim-c")
            .await
            .expect("start again");
        world.engine.pause_container("plim-c").await.expect("pause");
        world
            .engine
            .stop_sandbox("plim-s")
            .await
            .expect("stop the sandbox");
    });
}
