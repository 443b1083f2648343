//! AppArmor by docker and kubectl: where the kernel has it (`make test-v2`), and what is said where it has not.

use std::process::Command;

use crate::support::{Instance, Space, holds, lacks, pod, shared};

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const LABEL: &str = "cat /proc/self/attr/current";

fn present() -> bool {
    let present = std::path::Path::new(PROFILES).exists();
    let promised = std::env::var_os("PLIMSOLL_TEST_APPARMOR").is_some();
    assert!(present || !promised, "{PROFILES} is missing");
    present
}

/// A pod whose container has this profile.
fn profiled(name: &str, profile: &str) -> String {
    let context = format!("    securityContext: {{appArmorProfile: {{{profile}}}}}\n");
    pod(name, "exec sleep 1000") + &context
}

pub fn containers_have_the_profile_that_they_ask_for() {
    let instance = shared();
    let space = Space::new("apparmor");
    let options = instance.docker("info -f '{{.SecurityOptions}}'").ok();
    space.apply(&profiled("default", "type: RuntimeDefault"));
    space.apply(&profiled(
        "none",
        "type: Localhost, localhostProfile: plim-nowhere",
    ));
    if !present() {
        lacks(&options, "apparmor");
        space.ready("pod/default");
        space.until("pod/none", ".status.phase", "Failed");
        let status = &space.get("pod/none")["status"];
        assert_eq!(status["reason"], "AppArmor", "{status}");
        assert_eq!(
            status["message"],
            "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
        );
        let refused = instance
            .docker("run --rm --security-opt apparmor=plim-nowhere busybox:static true")
            .fails(125);
        holds(
            &refused,
            "AppArmor is not supported on this host, but the profile 'plim-nowhere' was specified",
        );
        instance
            .docker("run --rm --security-opt apparmor=docker-default busybox:static true")
            .ok();
        return;
    }
    holds(&options, "name=apparmor");
    let default = format!("{}-default", instance.name);
    by_docker(&instance, &default);
    by_kubectl(&space, &default);
    holds(&instance.plimsoll("doctor").ran().stdout, "apparmor");
}

fn by_docker(instance: &Instance, default: &str) {
    let enforced = format!("{default} (enforce)");
    for (options, label) in [
        ("", enforced.as_str()),
        ("--security-opt apparmor=docker-default", &enforced),
        ("--security-opt apparmor=unconfined", "unconfined"),
        ("--privileged", "unconfined"),
    ] {
        let said = instance
            .docker(&format!("run --rm {options} busybox:static {LABEL}"))
            .ok();
        assert_eq!(said.trim_end_matches(['\0', '\n']), label, "{options}");
    }
    // all rights, and the profile is still in the way
    instance
        .docker(&format!(
            "run -d --name confined --privileged --security-opt apparmor={default} busybox:static sleep 1000"
        ))
        .ok();
    let shown = instance
        .docker("inspect -f {{.AppArmorProfile}} confined")
        .ok();
    assert_eq!(shown.trim(), default);
    let said = instance.docker(&format!("exec confined {LABEL}")).ok();
    holds(&said, &enforced);
    let refused = instance
        .docker("exec confined sh -c 'echo h > /proc/sysrq-trigger'")
        .fails(1);
    holds(&refused, "Permission denied");
    instance.docker("rm -f confined").ok();
    let refused = instance
        .docker("run --rm --security-opt apparmor=plim-nowhere busybox:static true")
        .fails(127);
    holds(
        &refused,
        "unable to apply apparmor profile: apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec: no such file or directory",
    );
}

fn by_kubectl(space: &Space, default: &str) {
    space.until_says(
        "get events",
        "failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found plim-nowhere",
    );
    space.until(
        "pod/none",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerError",
    );
    load("plim-own");
    space.apply(&profiled("free", "type: Unconfined"));
    space.apply(&profiled(
        "own",
        "type: Localhost, localhostProfile: plim-own",
    ));
    let annotated = pod("annotated", "exec sleep 1000").replace(
        "metadata: {",
        "metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/main: localhost/plim-own}, ",
    );
    space.apply(&annotated);
    for (name, label) in [
        ("default", format!("{default} (enforce)")),
        ("free", "unconfined".to_owned()),
        ("own", "plim-own (enforce)".to_owned()),
        ("annotated", "plim-own (enforce)".to_owned()),
    ] {
        space.ready(&format!("pod/{name}"));
        for process in ["1", "self"] {
            let label_of = format!("exec {name} -- cat /proc/{process}/attr/current");
            let said = space.kubectl(&label_of).ok();
            assert_eq!(
                said.trim_end_matches(['\0', '\n']),
                label,
                "{name} {process}"
            );
        }
    }
    space
        .kubectl("delete pod --all --grace-period=0 --force")
        .ok();
    std::fs::write("/sys/kernel/security/apparmor/.remove", "plim-own").expect("unload");
}

/// Loads a profile that allows everything that is needed here.
fn load(name: &str) {
    let file = crate::support::Root::scratch().join("profile");
    let text = format!("profile {name} {{ file, capability, network, signal, ptrace, }}\n");
    std::fs::write(&file, text).expect("write");
    let loaded = Command::new("apparmor_parser")
        .arg("-Kr")
        .arg(&file)
        .status();
    assert!(loaded.expect("apparmor_parser").success());
}
