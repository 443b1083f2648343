//! Scenarios on one instance, each in a namespace of its own, all at once.

use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::support::{self, Instance, Root, Space};

/// Runs the scenarios (those whose names hold `PLIMSOLL_SCENARIO`, where that is set), then `afterwards`, and takes the
/// instance down; nothing of it may be left.
///
/// # Panics
///
/// With the names of the scenarios that failed; when `afterwards` does; when something is left.
pub fn run(scenarios: &[(&'static str, fn(&Space))], afterwards: fn(&Arc<Instance>)) {
    let root = Root::make();
    let wanted = std::env::var("PLIMSOLL_SCENARIO").unwrap_or_default();
    let outcome = catch_unwind(|| {
        let instance = Arc::new(support::with_images());
        let failed: Vec<&str> = std::thread::scope(|scope| {
            let run = |name: &'static str, scenario: fn(&Space), instance: Arc<Instance>| {
                let space = move || scenario(&Space::within(instance, name));
                (name, scope.spawn(space))
            };
            let running: Vec<_> = scenarios
                .iter()
                .filter(|(name, _)| name.contains(&wanted))
                .map(|(name, scenario)| run(name, *scenario, instance.clone()))
                .collect();
            let ended = running.into_iter();
            ended
                .filter_map(|(name, thread)| thread.join().err().map(|_| name))
                .collect()
        });
        assert!(
            failed.is_empty(),
            "these scenarios failed, see above: {failed:?}"
        );
        afterwards(&instance);
        Arc::into_inner(instance)
            .expect("every scenario has ended")
            .purge();
    });
    let left = root.clean();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    assert!(left.is_empty(), "{left:?}");
}
