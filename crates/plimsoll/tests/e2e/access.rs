//! Who gets in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Root, Run, holds, shared};

pub fn nobody_gets_in_without_a_credential() {
    let instance = shared();
    let port = instance.api_port;
    for address in ["127.0.0.1", &instance.gateway] {
        for path in [
            "/api/v1/namespaces",
            "/apis",
            "/api/v1/namespaces/kube-system/secrets",
        ] {
            let said = Run::new(
                "curl",
                &format!("-sk -m 10 -w ' %{{http_code}}' https://{address}:{port}{path}"),
            )
            .ok();
            holds(&said, "\"Unauthorized\"");
            assert!(said.ends_with(" 401"), "{said}");
        }
    }
    let wrong = Run::new(
        "curl",
        &format!(
            "-sk -m 10 -w '%{{http_code}}' -o /dev/null -H 'Authorization: Bearer guessed' https://127.0.0.1:{port}/api"
        ),
    );
    assert_eq!(wrong.ok(), "401");
    // the certificate is one of the instance's own authority
    let distrusted = Run::new("curl", &format!("-s -m 10 https://127.0.0.1:{port}/api")).fails(60);
    assert_eq!(distrusted, "");
    // neither does the kubelet's port let anybody in
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(instance.data_dir.join("instance.json")).expect("read"))
            .expect("JSON");
    let kubelet = format!(
        "-sk -m 10 -w %{{http_code}} https://{}:{}/pods",
        instance.gateway, file["kubelet_port"]
    );
    assert_eq!(
        Run::new("curl", &kubelet).ok(),
        "Unauthorized: neither a certificate nor a token that names somebody\n401"
    );

    let sockets = Run::new("ss", "-Hltnp").ok();
    let own = format!("pid={},", instance.daemon_pid());
    let listening: Vec<&str> = sockets
        .lines()
        .filter(|line| line.contains(&own))
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    assert!(
        listening.contains(&format!("127.0.0.1:{port}").as_str()),
        "{listening:?}"
    );
    for socket in listening {
        let address = socket.rsplit_once(':').expect("a port").0;
        assert!(
            address == "127.0.0.1" || address == instance.gateway,
            "it listens on {socket}"
        );
    }
}

pub fn other_users_are_told_to_become_root() {
    let instance = shared();
    let nobody = "--reuid 65534 --regid 65534 --clear-groups";
    let program = Root::plimsoll();
    for verb in ["up", "down", "down --purge", "demo"] {
        let said = Run::new(
            "setpriv",
            &format!(
                "{nobody} {} {verb} --data-dir /tmp/plimsoll-nobody",
                program.display()
            ),
        )
        .fails(1);
        holds(&said, "needs root");
        holds(&said, "sudo");
    }
    assert!(!std::path::Path::new("/tmp/plimsoll-nobody").exists());
    // nor can they use what root has started
    for secret in ["kubeconfig", "pki", "store/state.redb"] {
        let path = instance.data_dir.join(secret);
        Run::new("setpriv", &format!("{nobody} cat {}/.", path.display())).fails(1);
        Run::new("setpriv", &format!("{nobody} head -c 1 {}", path.display())).fails(1);
    }
    let mode = |path: &str| {
        fs::metadata(instance.data_dir.join(path))
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("kubeconfig"), 0o600);
    let socket = instance.run_dir().join("docker.sock");
    Run::new(
        "setpriv",
        &format!(
            "{nobody} curl -s --unix-socket {} http://docker/_ping",
            socket.display()
        ),
    )
    .fails(7);
}
