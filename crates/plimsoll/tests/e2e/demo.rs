//! `plimsoll demo`: the main job from start to end, as a newcomer sees it.

use std::path::Path;

use crate::support::{Instance, Root, Run, Traces, alone, eventually, holds, skipped_beside};

/// The demo takes about 40 s on a quiet machine; this is for one that is not.
const LIMIT_SECONDS: u32 = 400;

fn demo(arguments: &str) -> Run {
    Run::new(Root::plimsoll(), &format!("demo {arguments}")).limit_seconds(LIMIT_SECONDS)
}

pub fn it_builds_deploys_loads_scales_and_removes_everything() {
    if skipped_beside("the demo makes its own instance, of one process") {
        return;
    }
    let _alone = alone();
    let data_dir = Root::data_dir();
    let said = demo(&format!("--dir {}", data_dir.display())).ok();
    for part in [
        "1. Start the daemon",
        "2. Build my-web-app:latest from its Dockerfile",
        "3. Deploy it",
        "three replicas ready after",
        "4. Load it, and see it scale",
        "What each decision was based on:",
        "  3 → ",
        " → 3: cpu resource utilization (percentage of request)",
        "(removed in ",
    ] {
        holds(&said, part);
    }
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("From 3 replicas to "));
    let peak = line.and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
    assert!(peak.is_some_and(|peak| peak > 3), "{peak:?} in:\n{said}");
    nothing_is_left(&data_dir);
}

pub fn kept_it_can_be_used_and_is_ended_as_it_says() {
    if skipped_beside("the demo makes its own instance, of one process") {
        return;
    }
    let _alone = alone();
    let data_dir = Root::data_dir();
    let said = demo(&format!("--keep --dir {}", data_dir.display())).ok();
    holds(&said, "Everything still runs");
    holds(
        &said,
        &format!("plimsoll down --purge --data-dir {}", data_dir.display()),
    );
    let instance = Instance::of(&data_dir);
    eventually("three replicas are ready", || {
        let ran = instance
            .kubectl("get deployment web-app-deployment -o 'jsonpath={.status.readyReplicas}'")
            .ran();
        if ran.stdout == "3" { Ok(()) } else { Err(ran) }
    });
    holds(
        &instance
            .docker("images my-web-app:latest --format '{{.Repository}}'")
            .ok(),
        "my-web-app",
    );
    let manifests = said
        .lines()
        .find_map(|line| line.strip_prefix("The manifests are in "))
        .expect("it says where the manifests are")
        .trim_end_matches('.');
    holds(
        &instance
            .kubectl(&format!("apply -f {manifests}/deployment.yaml"))
            .ok(),
        "deployment.apps/web-app-deployment",
    );
    instance.purge();
    // the demo's own temporary directory, which `--keep` leaves with the manifests in it
    let kept = Path::new(manifests).parent().expect("a directory");
    std::fs::remove_dir_all(kept).expect("removed");
}

pub fn a_stage_that_does_not_happen_fails_it_and_nothing_is_left() {
    if skipped_beside("the demo makes its own instance, of one process") {
        return;
    }
    let data_dir = Root::data_dir();
    let said = demo(&format!(
        "--busybox /nowhere/busybox --dir {}",
        data_dir.display()
    ))
    .fails(1);
    holds(&said, "The demo failed:");
    holds(&said, "/nowhere/busybox");
    nothing_is_left(&data_dir);

    std::fs::create_dir(&data_dir).expect("made");
    let said = demo(&format!("--dir {}", data_dir.display())).fails(1);
    holds(&said, "is there already");
    std::fs::remove_dir(&data_dir).expect("still empty");
}

fn nothing_is_left(data_dir: &Path) {
    let left = Traces::of(&Instance::name_of(data_dir), data_dir);
    assert!(left.is_empty(), "{left}");
}
