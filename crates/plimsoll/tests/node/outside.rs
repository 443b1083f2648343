//! How a pod is reached from outside: ports, streams, the kubelet's API.

use std::net::TcpListener;

use crate::support::{self, Root, Run, Space, eventually, holds, lacks};
use crate::{QUICK, pod};

pub fn host_ports_and_the_hosts_network(space: &Space) {
    let port = support::free_port();
    let own = support::free_port();
    let serve =
        |port: u16| format!("echo hello > /tmp/index.html; exec httpd -f -p {port} -h /tmp");
    space.apply(
        &(pod(
            "published",
            &serve(8080),
            &format!(", ports: [{{containerPort: 8080, hostPort: {port}}}]"),
            QUICK,
        ) + &pod(
            "shared",
            &serve(own),
            "",
            &format!("{QUICK}, hostNetwork: true"),
        )),
    );
    space.ready("pod/published");
    space.ready("pod/shared");
    for port in [port, own] {
        assert_eq!(
            space
                .instance
                .fetch(&format!("http://127.0.0.1:{port}/index.html")),
            "hello\n"
        );
    }
    assert_eq!(
        space.field("pod/shared", ".status.podIP"),
        space.field("pod/shared", ".status.hostIP")
    );
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    assert_eq!(space.kubectl("exec shared -- hostname").ok(), name);
    space.kubectl("delete pod published --timeout=30s").ok();
    eventually("the port is free", || {
        TcpListener::bind(("0.0.0.0", port)).map(drop)
    });
}

pub fn logs_attach_copy_and_terminals(space: &Space) {
    space.apply(
        &(pod(
            "talker",
            "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; sleep 1000",
            "",
            QUICK,
        ) + &pod(
            "echo",
            "while read line; do echo got $line; done",
            ", stdin: true, stdinOnce: true",
            ", restartPolicy: Never",
        )),
    );
    space.ready("pod/talker");
    space.until_says("logs talker", "line 5");
    assert_eq!(
        space.kubectl("logs talker --tail=2").ok().lines().count(),
        2
    );
    assert_eq!(space.kubectl("logs talker --tail=0").ok(), "");
    assert_eq!(
        space.kubectl("logs talker --limit-bytes=8").ok(),
        "line 1\nl"
    );
    let stamped = space.kubectl("logs talker --timestamps --since=1h").ok();
    let stamp = stamped.split(' ').next().unwrap_or_default();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    assert_eq!(
        space
            .kubectl("logs talker --since-time=2999-01-01T00:00:00Z")
            .ok(),
        ""
    );
    holds(
        &space.kubectl("logs talker -p").fails(1),
        "previous terminated container \"main\" in pod \"talker\" not found",
    );
    holds(&space.kubectl("logs talker -c none").fails(1), "none");
    // what a container reads, by attach
    space.ready("pod/echo");
    holds(
        &space.kubectl("attach -i echo").stdin("one\ntwo\n").ok(),
        "got two",
    );
    space.until("pod/echo", ".status.phase", "Succeeded");
    // files in both directions; the base image has tar
    let scratch = Root::scratch();
    std::fs::write(scratch.join("there"), "back and forth").expect("written");
    space
        .kubectl(&format!(
            "cp {} talker:/tmp/there",
            scratch.join("there").display()
        ))
        .ok();
    space
        .kubectl(&format!(
            "cp talker:/tmp/there {}",
            scratch.join("again").display()
        ))
        .ok();
    assert_eq!(
        std::fs::read_to_string(scratch.join("again")).expect("copied"),
        "back and forth"
    );
    // a program that is not there is named
    let missing = space.kubectl("exec talker -- no-such-program").fails(127);
    holds(&missing, "no-such-program");
    holds(&missing, "not found");
    holds(
        &space.kubectl("exec echo -- true").fails(1),
        "completed pod",
    );
}

pub fn the_kubelets_api_refuses_strangers_and_nonsense(space: &Space) {
    space.apply(&pod("quiet", "sleep 1000", "", QUICK));
    space.ready("pod/quiet");
    let node = space.field("pod/quiet", ".spec.nodeName");
    let field = |path: &str| space.field(&format!("node/{node}"), path);
    let address = format!(
        "{}:{}",
        field(".status.addresses[0].address"),
        field(".status.daemonEndpoints.kubeletEndpoint.Port")
    );
    for path in ["pods", "exec/refusals/quiet/main?command=id", "healthz"] {
        for token in ["", "-H 'Authorization: Bearer nobodys'"] {
            let asked = format!("-sS -k -m 5 -w %{{http_code}} {token} https://{address}/{path}");
            assert_eq!(
                Run::new("curl", &asked).ok(),
                "Unauthorized: neither a certificate nor a token that names somebody\n401",
                "{path} {token}"
            );
        }
    }
    let raw = |path: &str| space.kubectl(&format!("get --raw '/api/v1/nodes/{node}/proxy/{path}'"));
    holds(&raw("pods").ok(), "\"quiet\"");
    holds(&raw("metrics/resource").ok(), "pod=\"quiet\"");
    for path in [
        "containerLogs/refusals/none/main",
        "containerLogs/refusals/quiet/none",
        "containerLogs/refusals/quiet/main?tailLines=abc",
        "containerLogs/refusals/quiet/main?sinceSeconds=99999999999999999999",
        "containerLogs/refusals/quiet/main?sinceTime=yesterday",
        "containerLogs/refusals/quiet/main?limitBytes=-",
        "containerLogs/..%2F..%2Fetc/passwd/x",
        "exec/refusals/quiet/main?command=id",
        "attach/refusals/none/main",
        "nothing",
    ] {
        let said = raw(path).fails(1);
        lacks(&said, "root:");
    }
    lacks(
        &raw("containerLogs/refusals/quiet/main?sinceSeconds=-5&tailLines=-1")
            .ran()
            .both(),
        "panic",
    );
    space.kubectl("logs quiet").ok();
}
