//! End-to-end tests: the program as its users have it, with real kubectl, docker and curl, and real containers.
//!
//! Tests that can share an instance do; those about its life have their own. Everything is removed at the end, also after a
//! failure, and what is left is a failure too.
#![forbid(unsafe_code)]

mod access;
mod apart;
mod apparmor;
mod autoscaling;
mod bad_input;
mod builds;
mod corpus;
mod custom;
mod demo;
mod deployments;
mod docker;
mod dualstack;
mod explained;
mod failures;
mod habits;
mod hostile;
mod jobs;
mod kinds;
mod kube_rs;
mod kubelet;
mod life;
mod metrics;
mod names;
mod objects;
mod placement;
mod pods;
mod policies;
mod postgres;
mod probes;
mod prometheus;
mod remote;
mod rights;
mod scaled;
mod scheduling;
mod server;
mod services;
mod sessions;
mod stand_in;
mod starving;
mod stateful;
mod supervision;
mod support;
mod verbs;
mod ways;

use libtest_mimic::{Arguments, Trial};

/// Names of tests, separated by blanks: the others do not run. Without it all do.
const ONLY_VARIABLE: &str = "PLIMSOLL_E2E_ONLY";
/// Most of the time of a test is waiting.
const THREADS: usize = 4;

macro_rules! trials {
    ($($module:ident: $($name:ident)*;)*) => {
        vec![$($(Trial::test(concat!(stringify!($module), "::", stringify!($name)), || {
            $module::$name();
            Ok(())
        }),)*)*]
    };
}

fn main() {
    // in a pod: not the tests, but somebody's server
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "stand-in") {
        return stand_in::run(&arguments[2..]);
    }
    let mut arguments = Arguments::from_args();
    // the long ones first
    let mut trials = trials! {
        demo: it_builds_deploys_loads_scales_and_removes_everything
            kept_it_can_be_used_and_is_ended_as_it_says
            a_stage_that_does_not_happen_fails_it_and_nothing_is_left;
        corpus: every_file_is_taken_read_back_whole_and_gone;
        autoscaling: replicas_follow_the_load_up_and_down;
        explained: decisions_are_kept_told_and_decided_again;
        metrics: a_pods_metric_scales_up_and_down
            a_metric_of_a_service_scales_up_and_down
            an_external_metric_scales_another_deployment_up_and_down
            memory_scales_up_and_down
            one_containers_load_scales_its_pods_and_no_others_does
            hostile_endpoints_harm_nobody_and_the_size_stays;
        scaled: a_custom_resource_follows_a_metric_of_pods_made_by_hand;
        postgres: no_acknowledged_row_is_lost;
        server: controllers_apart_sign
            pods_and_services_are_proxied_to
            the_servers_metrics_are_clean
            a_runtime_that_is_not_there_is_told;
        prometheus: pods_are_found_scraped_and_forgotten;
        life: containers_survive_a_killed_daemon
            down_stops_everything_and_up_brings_the_pods_back
            purge_leaves_no_trace
            two_instances_live_side_by_side
            a_second_up_changes_nothing
            a_taken_port_is_told_and_nothing_is_lost
            a_missing_kernel_feature_is_named;
        apart: roles_work_in_processes_of_their_own
            two_api_servers_share_an_etcd;
        supervision: nothing_is_lost_while_the_daemon_is_killed_upgraded_and_downgraded
            a_container_whose_supervising_process_is_killed_follows_its_policy;
        starving: a_node_takes_so_many_pods_and_no_more
            the_daemon_answers_and_acts_while_pods_burn_all_processors;
        scheduling: pods_that_do_not_fit_stay_pending_and_say_why;
        placement: pods_are_kept_away_driven_out_and_preempted;
        failures: a_crashing_container_is_restarted_with_backoff
            a_container_over_its_memory_limit_is_oom_killed
            an_image_that_does_not_exist_is_told
            an_image_that_comes_meanwhile_is_taken
            a_command_that_does_not_exist_is_told;
        probes: a_failing_liveness_probe_restarts_the_container
            readiness_decides_who_gets_traffic
            probes_by_grpc_and_tls_decide_in_real_pods;
        habits: filters_mean_what_they_say
            ends_and_beginnings
            a_build_says_what_it_made
            health_is_checked_and_told
            volumes_go_only_with_who_they_were_made_for
            binds_without_what_is_mounted_in_them;
        kubelet: private_images_are_pulled_with_the_secrets_of_a_pod
            what_others_say_of_a_pod_while_its_hook_runs_stands
            hooks_without_end_keep_nobody_from_starting
            a_job_whose_worker_hung_is_not_complete
            a_deletion_shortens_the_end_of_a_pod_whose_time_is_over
            init_containers_run_again_in_a_new_sandbox
            logs_of_the_previous_attempt_are_of_what_ended_last;
        deployments: the_walkthrough_with_kubectl
            a_new_version_rolls_out_and_back
            create_scale_and_autoscale_by_command
            logs_follow_to_the_end_and_keep_the_previous
            top_shows_what_pods_and_nodes_use;
        stateful: a_stateful_set_keeps_its_names_and_data
            a_daemon_set_has_a_pod_on_every_node;
        pods: watching_shows_changes_as_they_come
            a_pod_gets_its_settings_and_ends_gracefully
            exec_hands_through_input_output_and_exit_code;
        remote: a_port_of_a_pods_own_is_forwarded_by_each_transport
            a_port_that_nobody_listens_on_is_told
            commands_run_over_spdy_as_over_websockets
            a_terminal_is_handed_through_and_follows_its_window
            what_a_container_reads_comes_by_each_transport;
        services: a_service_answers_by_address_and_by_name;
        dualstack: a_service_of_both_families_is_reached_by_both
            containers_have_both_families_and_publish_on_both;
        ways: a_node_port_is_reached_by_every_address_and_belongs_to_one_service
            a_load_balancer_has_the_machines_address_and_tells_who_holds_a_port
            a_client_stays_with_one_pod
            endpoints_made_by_hand_and_what_is_not_forwarded;
        names: a_pods_own_settings_of_names
            names_of_headless_services_and_aliases;
        policies: what_is_denied_is_closed_and_what_is_permitted_open
            a_pod_is_protected_before_its_first_packet_and_asks_dns_only_when_permitted;
        rights: an_account_may_what_its_role_says
            a_pods_token_is_held_to_the_roles_of_its_account;
        custom: a_definition_and_its_objects_with_kubectl;
        kube_rs: objects_are_read_in_pages_changed_and_watched
            pods_are_entered_attached_to_forwarded_and_evicted
            a_controller_of_custom_objects_does_its_work;
        objects: deleting_a_namespace_removes_everything_in_it
            deleting_a_deployment_removes_or_orphans_its_pods
            unknown_patches_and_edits_survive;
        docker: an_app_is_run_asked_stopped_and_removed
            a_port_of_one_loopback_address_is_of_no_other
            run_hands_through_the_exit_code
            refusals_come_at_once_and_leave_nothing
            limits_bind
            devices_are_given_and_limits_and_policy_change
            paused_and_let_go_on;
        apparmor: containers_have_the_profile_that_they_ask_for;
        builds: an_image_is_built_once_and_then_from_cache
            a_failing_step_keeps_its_output_and_makes_no_image
            a_mistake_in_the_dockerfile_is_shown_by_line_and_column
            a_step_can_ask_a_service_of_the_cluster;
        verbs: the_walkthrough_with_our_own_verbs
            cluster_verbs_do_what_kubectl_does
            status_and_env_tell_where_everything_is;
        access: nobody_gets_in_without_a_credential
            other_users_are_told_to_become_root;
        jobs: a_job_runs_to_its_end_and_a_failing_one_says_why
            a_running_job_is_suspended_and_deleted_with_its_pods
            a_cron_job_is_kept_and_its_job_made_by_hand;
        kinds: a_quota_holds_a_deployment_back_and_is_replenished
            a_certificate_is_asked_for_approved_and_used
            an_ingress_is_made_and_described;
        bad_input: malformed_text_is_refused
            a_wrong_object_is_refused_with_upstreams_words
            a_stale_version_is_refused
            an_oversized_body_is_refused;
        hostile: bodies_meant_to_hurt_are_refused
            names_and_labels_meant_to_hurt_do_not
            a_storm_of_watches_ends_with_its_clients
            slow_clients_do_not_hinder_others
            tokens_of_another_time_key_or_audience_open_nothing;
    };
    trials.extend(sessions::trials());
    if let Ok(only) = std::env::var(ONLY_VARIABLE) {
        let named = |name: &str| only.split_whitespace().any(|wanted| wanted == name);
        trials.retain(|trial| named(trial.name()));
        assert_eq!(
            trials.len(),
            only.split_whitespace().count(),
            "a name in {ONLY_VARIABLE} is no test's: {only}"
        );
    }
    arguments.test_threads.get_or_insert(THREADS);
    if arguments.list {
        libtest_mimic::run(&arguments, trials).exit();
    }
    // the summary at the end has the message; this says where
    std::panic::set_hook(Box::new(|info| {
        if let Some(place) = info.location() {
            eprintln!("--- failed at {place}");
        }
    }));
    let root = support::Root::make();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let removed = std::panic::catch_unwind(support::remove_shared);
    let left = root.clean();
    assert!(
        left.is_empty(),
        "instances that were not removed by their tests: {left:?}"
    );
    if removed.is_err() {
        std::process::exit(1);
    }
    conclusion.exit();
}
