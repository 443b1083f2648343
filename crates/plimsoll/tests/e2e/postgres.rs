//! PostgreSQL in a StatefulSet: no row that was acknowledged is lost, whatever happens to its pod, its node and the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::support::{
    Instance, Process, Root, Space, client_image, eventually, holds, lacks, repository,
};

const SET: &str = include_str!("../clients/postgres/set.yaml");
/// After each blow so many more rows must be acknowledged.
const ROWS: usize = 20;

/// The numbers in a text, one a line; a line that is not yet complete does not count.
fn numbers(text: &str) -> BTreeSet<u64> {
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n')?.parse().ok())
        .collect()
}

fn acknowledged(file: &Path) -> BTreeSet<u64> {
    numbers(&fs::read_to_string(file).unwrap_or_default())
}

#[track_caller]
fn rolled_out(space: &Space) {
    let said = space
        .kubectl("rollout status statefulset/db --timeout=90s")
        .ok();
    holds(&said, "1 new pods have been updated");
}

pub fn no_acknowledged_row_is_lost() {
    let instance = Arc::new(Instance::up());
    instance
        .plimsoll("import /bin/busybox busybox:static --busybox")
        .ok();
    client_image(&instance, "postgres");
    let space = Space::within(instance.clone(), "postgres");
    space.apply(SET);
    rolled_out(&space);
    let ask = |query: &str| {
        space
            .kubectl("exec db-0 -- psql -X -U postgres -A -t -q -c")
            .argument(query)
            .ok()
    };
    ask("create table rows (number bigint primary key)");

    let file = Root::scratch().join("acknowledged");
    let address = space.field("service/db-rw", ".spec.clusterIP");
    let writer = Process::start(
        repository("crates/plimsoll/tests/clients/postgres/writer"),
        [address, file.display().to_string()],
    );
    let goes_on = |when: &str| {
        let before = acknowledged(&file).len();
        eventually(&format!("{ROWS} more rows {when}"), || {
            let now = acknowledged(&file).len();
            if now >= before + ROWS {
                Ok(())
            } else {
                Err(format!("{} more; {}", now - before, writer.log()))
            }
        });
    };
    goes_on("at first");

    space.kubectl("delete pod db-0").ok();
    goes_on("with another pod");

    instance.kill_daemon();
    goes_on("without a daemon");
    instance.plimsoll("up").ok();
    goes_on("with another daemon");

    let node = space.field("nodes", ".items[0].metadata.name");
    let said = instance
        .kubectl(&format!(
            "drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=60s"
        ))
        .ok();
    holds(&said, "pod/db-0 evicted");
    space.until("pod/db-0", ".status.phase", "Pending");
    let drained = acknowledged(&file).len();
    instance.kubectl(&format!("uncordon {node}")).ok();
    goes_on("after a drain");
    assert!(acknowledged(&file).len() > drained);

    space.kubectl("rollout restart statefulset/db").ok();
    rolled_out(&space);
    goes_on("after a rolling update");

    let said = writer.log();
    lacks(&said, "does not exist");
    lacks(&said, "duplicate key");
    drop(writer);
    let noted = acknowledged(&file);
    let kept = numbers(&ask("select number from rows"));
    let lost: Vec<u64> = noted.difference(&kept).copied().collect();
    assert!(
        lost.is_empty(),
        "{} of {} rows are lost: {lost:?}",
        lost.len(),
        noted.len()
    );
    // the data outlives the set
    space.kubectl("delete statefulset db").ok();
    assert_eq!(space.field("pvc", ".items[*].status.phase"), "Bound");
    drop(space);
    Arc::into_inner(instance)
        .expect("nobody else has it")
        .purge();
}
