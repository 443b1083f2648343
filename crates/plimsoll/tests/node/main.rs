//! The node as its users see it, in what the end-to-end tests leave out: volumes, last words, hooks, sidecars, deadlines, deletions
//! at awkward moments, lost sandboxes, host ports, streams, and that nothing of a pod stays behind.
#![forbid(unsafe_code)]

#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod crashes;
mod inside;
mod lives;
mod outside;
mod scenarios;

use support::Space;

/// `name: NAME` and one container `main` of the base image that runs a shell script; more fields of its spec in `more`.
fn pod(name: &str, script: &str, container: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: main, image: 'busybox:static', command: [sh, -c, '{script}']{container}}}]{more}}}\n---\n"
    )
}

const QUICK: &str = ", terminationGracePeriodSeconds: 0";

#[test]
fn a_node_does_what_a_kubelet_does() {
    let scenarios: &[(&str, fn(&Space))] = &[
        ("volumes", inside::volumes_and_rights),
        ("words", lives::last_words_and_reasons),
        ("turns", lives::init_containers_sidecars_and_deadlines),
        ("hooks", lives::hooks_and_signals_come_in_order),
        ("ends", lives::deletion_works_at_awkward_moments),
        ("host", outside::host_ports_and_the_hosts_network),
        ("lost", crashes::a_lost_sandbox_is_made_again),
        ("streams", outside::logs_attach_copy_and_terminals),
        ("confined", inside::profiles_and_namespaces),
        (
            "refusals",
            outside::the_kubelets_api_refuses_strangers_and_nonsense,
        ),
    ];
    scenarios::run(scenarios, |instance| {
        crashes::a_killed_daemon_finishes_what_it_began(instance);
        crashes::nothing_of_a_pod_stays_behind(instance);
    });
}
