//! The Pod Security Standards: what a pod may not ask for at the levels `baseline` and `restricted`, as of each minor
//! version of Kubernetes, and what the labels of a namespace ask for.
//!
//! Data in, data out: `handlers::pod_security` puts it to requests. It follows upstream's `k8s.io/pod-security-admission`
//! of 1.37, in its words.

mod host;
mod labels;
mod pod;
mod privilege;
mod profiles;
#[cfg(test)]
mod tests;
mod volumes;

use serde_json::Value;

pub(crate) use labels::{Level, Policy, Standard};
use pod::Pod;

/// The newest minor version that changed something; later ones and `latest` mean the same.
const NEWEST_MINOR: u64 = 37;

/// What one check finds: why the pod is wrong, and (which may be empty) where.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    reason: &'static str,
    detail: String,
}

impl Violation {
    fn new(reason: &'static str, detail: String) -> Option<Self> {
        Some(Self { reason, detail })
    }
}

/// What is wrong with a pod, in the order of the checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    /// Whether the pod meets the standard.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why alone, which many pods can have in common.
    pub fn reasons(&self) -> String {
        let reasons: Vec<_> = self.0.iter().map(|found| found.reason).collect();
        reasons.join(", ")
    }

    /// Why, each with its place in parentheses.
    pub fn details(&self) -> String {
        let details: Vec<_> = self
            .0
            .iter()
            .map(|Violation { reason, detail }| match detail.as_str() {
                "" => (*reason).to_owned(),
                detail => format!("{reason} ({detail})"),
            })
            .collect();
        details.join(", ")
    }
}

/// Puts the checks of a standard to a pod, or to the template of one.
pub(crate) fn evaluate(standard: Standard, metadata: &Value, spec: &Value) -> Violations {
    let minor = standard.version.minor().min(NEWEST_MINOR);
    let pod = Pod::new(metadata, spec, minor);
    let checks = in_effect(standard.level, minor);
    Violations(checks.filter_map(|check| (check.run)(&pod)).collect())
}

/// One check.
struct Check {
    /// Upstream's name of it.
    id: &'static str,
    level: Level,
    /// The first minor version that has it.
    since: u64,
    /// A weaker check that is not made beside this one.
    replaces: &'static str,
    run: fn(&Pod) -> Option<Violation>,
}

const fn baseline(id: &'static str, since: u64, run: fn(&Pod) -> Option<Violation>) -> Check {
    Check {
        id,
        level: Level::Baseline,
        since,
        replaces: "",
        run,
    }
}

const fn restricted(
    id: &'static str,
    since: u64,
    replaces: &'static str,
    run: fn(&Pod) -> Option<Violation>,
) -> Check {
    Check {
        id,
        level: Level::Restricted,
        since,
        replaces,
        run,
    }
}

/// All checks, in the order in which upstream tells what they find: by level, then by name.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", 0, profiles::app_armor),
    baseline("capabilities_baseline", 0, privilege::added_capabilities),
    baseline("hostNamespaces", 0, host::namespaces),
    baseline("hostPathVolumes", 0, volumes::host_paths),
    baseline("hostPorts", 0, host::ports),
    baseline("hostProbesAndHostLifecycle", 34, host::probes),
    baseline("privileged", 0, privilege::privileged),
    baseline("procMount", 0, host::proc_mount),
    baseline("seLinuxOptions", 0, profiles::se_linux),
    baseline("seccompProfile_baseline", 0, profiles::seccomp),
    baseline("sysctls", 0, host::sysctls),
    baseline("windowsHostProcess", 0, host::windows_process),
    restricted("allowPrivilegeEscalation", 8, "", privilege::escalation),
    restricted(
        "capabilities_restricted",
        22,
        "capabilities_baseline",
        privilege::capabilities,
    ),
    restricted(
        "procMount_restricted",
        35,
        "procMount",
        host::any_proc_mount,
    ),
    restricted(
        "restrictedVolumes",
        0,
        "hostPathVolumes",
        volumes::restricted,
    ),
    restricted("runAsNonRoot", 0, "", privilege::non_root),
    restricted("runAsUser", 23, "", privilege::user),
    restricted(
        "seccompProfile_restricted",
        19,
        "seccompProfile_baseline",
        profiles::required_seccomp,
    ),
];

/// The checks of a level at a minor version, without those that others replace.
fn in_effect(level: Level, minor: u64) -> impl Iterator<Item = &'static Check> {
    let made = move |check: &&Check| check.level <= level && check.since <= minor;
    CHECKS.iter().filter(made).filter(move |check| {
        let mut others = CHECKS.iter().filter(made);
        !others.any(|other| other.replaces == check.id)
    })
}
