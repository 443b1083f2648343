//! Volumes as their users see them: files that follow their objects, tokens, parts of volumes, claims and their volumes, limits,
//! owners; through the death of pods and of the daemon, and that nothing of it stays behind.
#![forbid(unsafe_code)]

#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod claims;
mod files;
mod inside;
#[path = "../node/scenarios.rs"]
mod scenarios;

use support::{Run, Space};

const QUICK: &str = ", terminationGracePeriodSeconds: 0";
const SLEEP: &str = "sleep 100000";

/// A pod of one container `main`; `mounts` are its volumeMounts, `volumes` the pod's, `more` further fields of its spec.
fn pod(name: &str, script: &str, mounts: &str, volumes: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: main, image: 'busybox:static', command: [sh, -c, '{script}'], volumeMounts: [{mounts}]}}], volumes: [{volumes}]{QUICK}{more}}}\n---\n"
    )
}

fn claim(name: &str, size: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}{more}}}\n---\n"
    )
}

fn using(claim: &str) -> String {
    format!("{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}")
}

const DATA: &str = "{name: data, mountPath: /data}";

trait Shell {
    /// A script in the pod's container; it holds no single quotes.
    fn sh(&self, pod: &str, script: &str) -> Run;
}

impl Shell for Space {
    fn sh(&self, pod: &str, script: &str) -> Run {
        self.kubectl(&format!("exec {pod} -- sh -c '{script}'"))
    }
}

#[test]
fn volumes_do_what_upstreams_do() {
    let scenarios: &[(&str, fn(&Space))] = &[
        ("live", files::files_follow_their_objects),
        ("tokens", files::pods_have_an_identity_and_no_rights),
        ("parts", inside::parts_of_volumes_stay_inside),
        ("hosts", inside::the_hosts_files_are_what_they_should_be),
        ("owners", inside::groups_and_users),
        ("memory", inside::emptydirs_are_bounded),
        ("claims", claims::a_claim_lives_longer_than_its_pods),
        ("statics", claims::volumes_made_by_hand),
        ("words", claims::pods_wait_in_upstreams_words),
    ];
    scenarios::run(scenarios, claims::data_outlives_the_daemon);
}
