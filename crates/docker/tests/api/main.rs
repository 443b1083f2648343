//! The Docker Engine API with real containers, served in this process. What the docker command makes of it is tested in
//! `plimsoll`.
#![forbid(unsafe_code)]
#![recursion_limit = "256"]

mod files;
mod instance;
mod lives;
mod networks;
mod requests;
mod streams;

use std::ffi::OsString;
use std::sync::Arc;

use instance::Instance;
use libtest_mimic::{Arguments, Trial};

/// All against one server: making one takes longer than most of them.
const TESTS: [(&str, fn(&Instance)); 18] = [
    (
        "files::a_volume_of_a_read_only_container_takes_files",
        files::a_volume_of_a_read_only_container_takes_files,
    ),
    (
        "files::an_import_takes_changes",
        files::an_import_takes_changes,
    ),
    (
        "lives::a_paused_container_is_not_asked",
        lives::a_paused_container_is_not_asked,
    ),
    (
        "lives::half_a_sandbox_is_made_whole",
        lives::half_a_sandbox_is_made_whole,
    ),
    (
        "lives::a_sandbox_without_a_container_goes",
        lives::a_sandbox_without_a_container_goes,
    ),
    (
        "lives::a_kill_keeps_the_new_name",
        lives::a_kill_keeps_the_new_name,
    ),
    (
        "lives::a_privileged_container_has_the_devices",
        lives::a_privileged_container_has_the_devices,
    ),
    (
        "networks::low_ports_are_for_everybody",
        networks::low_ports_are_for_everybody,
    ),
    (
        "networks::host_ports_are_chosen_at_each_start",
        networks::host_ports_are_chosen_at_each_start,
    ),
    (
        "networks::a_network_tells_its_containers",
        networks::a_network_tells_its_containers,
    ),
    (
        "networks::one_that_there_is_not_is_no_missing_image",
        networks::one_that_there_is_not_is_no_missing_image,
    ),
    ("requests::null_is_nothing", requests::null_is_nothing),
    (
        "requests::an_empty_entrypoint_leaves_the_images_command",
        requests::an_empty_entrypoint_leaves_the_images_command,
    ),
    (
        "requests::what_has_no_effect_is_told",
        requests::what_has_no_effect_is_told,
    ),
    (
        "requests::the_list_has_mounts_and_sizes",
        requests::the_list_has_mounts_and_sizes,
    ),
    (
        "requests::one_that_is_stopped_has_no_statistics",
        requests::one_that_is_stopped_has_no_statistics,
    ),
    (
        "streams::output_comes_without_an_upgrade",
        streams::output_comes_without_an_upgrade,
    ),
    (
        "streams::events_have_labels_to_the_end",
        streams::events_have_labels_to_the_end,
    ),
];

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "supervise" => engine::supervise_main(arguments),
        Some(word) if word == "runtime" => engine::runtime_main(arguments),
        _ => test(Arguments::from_iter(
            std::env::args_os().collect::<Vec<OsString>>(),
        )),
    }
}

fn test(arguments: Arguments) {
    let instance = (!arguments.list).then(|| Arc::new(Instance::up()));
    let trials = TESTS.map(|(name, test)| {
        let instance = instance.clone();
        Trial::test(name, move || {
            if let Some(instance) = instance {
                test(&instance);
            }
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    // its end takes down what it made, which `exit` would not
    drop(instance);
    conclusion.exit();
}
