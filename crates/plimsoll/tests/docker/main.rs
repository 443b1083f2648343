//! The Docker Engine API of a daemon of its own, asked byte by byte: what the docker command never sends, and what it relies on.
//! (What a user sees of the docker command itself is tested in `e2e`.)
#![forbid(unsafe_code)]

#[path = "../e2e/support/disk.rs"]
mod disk;
mod files;
mod hostile;
mod instance;
mod lives;

use std::sync::Arc;

use instance::Instance;

/// All against one daemon: starting one takes longer than any of them.
#[test]
fn the_api() {
    let instance = Arc::new(Instance::up());
    hostile::requests(&instance);
    hostile::contexts(&instance);
    lives::a_failed_start_is_told_to_everybody(&instance);
    lives::attached_output_is_complete(&instance);
    files::files_go_in_and_out(&instance);
    files::volumes_outlive_containers(&instance);
    lives::ten_at_once(&instance);
    lives::a_client_that_goes_away_leaves_nothing(&instance);
    lives::a_killed_daemon_finds_its_containers(&instance);
}
