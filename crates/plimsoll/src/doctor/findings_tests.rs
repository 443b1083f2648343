use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::facts::Known;
use super::*;
use crate::ports::Holder;

/// A server as most people have it.
fn healthy() -> Facts {
    Facts {
        root: true,
        kernel: "6.8.0-45-generic".into(),
        engine: Some(Ok(())),
        mounts: "25 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n".into(),
        nft: Some(Ok("nftables v1.0.9".into())),
        sysctls: BTreeMap::from([
            ("net/ipv4/ip_forward", "0".into()),
            ("fs/inotify/max_user_instances", "1024".into()),
            ("kernel/pid_max", "4194304".into()),
        ]),
        descriptors_max: 1 << 20,
        memory_total_mib: 4096,
        memory_available_mib: 3000,
        disk: Some(Disk {
            path: "/var/lib".into(),
            kind: "ext4".into(),
            free_bytes: 50 << 30,
            size_bytes: 100 << 30,
            enough_bytes: 15 << 30,
            free_inodes: 1 << 20,
        }),
        ports: vec![("the Kubernetes API", 6443, None)],
        resolvers: vec!["127.0.0.53".into()],
        security_modules: "lockdown,capability,landlock,yama,apparmor".into(),
        app_armor: Some(engine::AppArmor::Ready),
        ..Facts::default()
    }
}

#[test]
fn a_healthy_server_has_nothing_to_mend() {
    let findings = judge(&healthy());
    let bad: Vec<&Finding> = findings.iter().filter(|f| f.state != State::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn ipv6_is_told_and_never_missed() {
    for (value, expected) in [
        (Some("0"), "both families"),
        (Some("1"), "turned off"),
        (None, "the kernel has none"),
    ] {
        let mut facts = healthy();
        if let Some(value) = value {
            let name = "net/ipv6/conf/all/disable_ipv6";
            facts.sysctls.insert(name, value.into());
        }
        let findings = judge(&facts);
        let told = findings.iter().find(|finding| finding.check == "IPv6");
        let told = told.expect("a finding");
        assert!(
            told.state == State::Ok && told.found.contains(expected),
            "{told:?}"
        );
    }
}

#[test]
fn each_shortcoming_is_found_alone_and_has_a_remedy() {
    type Break = fn(&mut Facts);
    let cases: [(&str, State, &str, Break); 19] = [
        (
            "security modules",
            State::Warning,
            "apt-get install apparmor",
            |f| f.app_armor = Some(engine::AppArmor::WithoutParser),
        ),
        ("rights", State::Failure, "sudo", |f| f.root = false),
        ("kernel", State::Failure, "5.12", |f| {
            f.kernel = "5.4.0-150-generic".into()
        }),
        ("kernel", State::Failure, "5.12", |f| {
            f.kernel = String::new()
        }),
        ("containers", State::Failure, "no container", |f| {
            f.engine = Some(Err("the overlay file system is missing".into()))
        }),
        ("cgroups", State::Failure, "mount", |f| {
            f.mounts = String::new()
        }),
        ("cgroups", State::Warning, "systemd.unified", |f| {
            f.mounts
                .push_str("33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
        }),
        ("nft", State::Failure, "apt-get install nftables", |f| {
            f.nft = Some(Err("not found".into()))
        }),
        ("memory", State::Warning, "room", |f| {
            f.memory_available_mib = 50
        }),
        ("disk", State::Failure, "--data-dir", |f| {
            f.disk.as_mut().expect("disk").kind = "overlay".into()
        }),
        ("disk", State::Warning, "reboot", |f| {
            f.disk.as_mut().expect("disk").kind = "tmpfs".into()
        }),
        ("disk", State::Warning, "prune", |f| {
            f.disk.as_mut().expect("disk").free_bytes = 5
        }),
        ("disk", State::Warning, "evictionHard", |f| {
            f.disk.as_mut().expect("disk").free_bytes = 14 << 30
        }),
        ("disk", State::Warning, "inodes", |f| {
            f.disk.as_mut().expect("disk").free_inodes = 5
        }),
        ("open files", State::Warning, "LimitNOFILE", |f| {
            f.descriptors_max = 4096
        }),
        (
            "inotify",
            State::Warning,
            "sysctl -w fs.inotify.max_user_instances=256",
            |f| {
                f.sysctls
                    .insert("fs/inotify/max_user_instances", "128".into());
            },
        ),
        ("port", State::Failure, "apiPort", |f| {
            f.ports[0].2 = Some(Holder {
                pid: 7,
                program: "k3s-server".into(),
            });
        }),
        ("name servers", State::Warning, "pulling", |f| {
            f.resolvers.clear()
        }),
        ("neighbours", State::Warning, "KUBECONFIG", |f| {
            f.others = vec![Holder {
                pid: 7,
                program: "k3s-server".into(),
            }];
        }),
    ];
    for (check, state, remedy, change) in cases {
        let mut facts = healthy();
        change(&mut facts);
        let findings = judge(&facts);
        let bad: Vec<&Finding> = findings.iter().filter(|f| f.state != State::Ok).collect();
        let [finding] = bad.as_slice() else {
            panic!("{check}: {bad:?}");
        };
        assert_eq!((finding.check, finding.state), (check, state));
        let told = finding.remedy.as_deref().unwrap_or_default();
        assert!(told.contains(remedy), "{check}: {told}");
    }
}

#[test]
fn the_holder_of_a_port_is_named() {
    let mut facts = healthy();
    facts.ports[0].2 = Some(Holder {
        pid: 7,
        program: "k3s-server".into(),
    });
    let findings = judge(&facts);
    let port = findings.iter().find(|f| f.check == "port").expect("judged");
    assert_eq!(
        port.found,
        "6443 for the Kubernetes API is taken by k3s-server (pid 7)"
    );
}

#[test]
fn docker_beside_is_fine_and_told() {
    let mut facts = healthy();
    facts.others = vec![Holder {
        pid: 9,
        program: "dockerd".into(),
    }];
    facts.ufw = true;
    let findings = judge(&facts);
    assert!(
        findings.iter().all(|f| f.state == State::Ok),
        "{findings:?}"
    );
    let told = |part: &str| findings.iter().any(|f| f.found.contains(part));
    assert!(told("dockerd (pid 9)") && told("ufw is on"));
}

#[test]
fn an_instance_that_does_not_run_or_is_damaged_is_told() {
    let mut facts = healthy();
    let known = |daemon| Known {
        name: "plim-1".into(),
        log: PathBuf::from("/d/daemon.log"),
        daemon,
    };
    facts.instance = Some(Ok(known(None)));
    assert!(judge(&facts).iter().any(|f| {
        f.state == State::Warning
            && f.remedy
                .as_deref()
                .unwrap_or_default()
                .contains("/d/daemon.log")
    }));
    facts.instance = Some(Ok(known(Some(4))));
    assert!(judge(&facts).iter().all(|f| f.state == State::Ok));
    facts.instance = Some(Err("instance.json is damaged".into()));
    assert!(judge(&facts).iter().any(|f| f.state == State::Failure));
}
