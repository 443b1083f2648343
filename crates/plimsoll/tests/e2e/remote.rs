//! Connections into pods over each transport that clients speak: SPDY inside a WebSocket, and SPDY itself.

use crate::support::{Run, Space, eventually, holds, pod};

/// A server that only the pod itself reaches: on its own loopback address.
fn hidden(name: &str) -> String {
    let script = "mkdir /tmp/www; hostname > /tmp/www/index.html; \
                  head -c 3000000 /dev/urandom > /tmp/www/large; \
                  exec httpd -f -p 127.0.0.1:8080 -h /tmp/www";
    let probe = "    readinessProbe: {exec: {command: [wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/']}, periodSeconds: 1}\n";
    format!("{}{probe}", pod(name, script))
}

pub fn a_port_of_a_pods_own_is_forwarded_by_each_transport() {
    let space = Space::new("forward");
    space.apply(&hidden("web"));
    space.ready("pod/web");
    space
        .kubectl("create service clusterip web --tcp=80:8080")
        .ok();
    let sum = space.kubectl("exec web -- md5sum /tmp/www/large").ok();
    let sum = sum.split_whitespace().next().expect("a sum");
    for (websockets, what) in [("true", "pod/web :8080"), ("false", "service/web :80")] {
        let forward = space
            .kubectl(&format!("port-forward {what}"))
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .background();
        let line = forward.line_with("Forwarding from 127.0.0.1:");
        let port = line
            .split(&[':', ' '][..])
            .nth(3)
            .expect("a port")
            .to_owned();
        let url = format!("http://127.0.0.1:{port}");
        assert_eq!(space.instance.fetch(&format!("{url}/")), "web\n", "{what}");
        // Several at a time, each larger than what is on its way at once.
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let load = format!("-c 'curl -sS -f -m 60 {url}/large | md5sum'");
                std::thread::spawn(move || Run::new("sh", &load).ok())
            })
            .collect();
        for load in loads {
            holds(&load.join().expect("a sum"), sum);
        }
    }
}

pub fn a_port_that_nobody_listens_on_is_told() {
    let space = Space::new("unheard");
    space.apply(&pod("quiet", "sleep 1000"));
    space.ready("pod/quiet");
    for websockets in ["true", "false"] {
        let forward = space
            .kubectl("port-forward pod/quiet :9")
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .errors_to_output()
            .background();
        let line = forward.line_with("Forwarding from 127.0.0.1:");
        let port = line
            .split(&[':', ' '][..])
            .nth(3)
            .expect("a port")
            .to_owned();
        eventually("the connection ends without an answer", || {
            let ran = Run::new("curl", &format!("-sS -m 5 http://127.0.0.1:{port}/")).ran();
            if ran.code == 52 || ran.code == 56 {
                Ok(())
            } else {
                Err(ran)
            }
        });
        holds(
            &forward.line_with("error forwarding port 9 to pod quiet_unheard"),
            "Connection refused",
        );
    }
}

pub fn commands_run_over_spdy_as_over_websockets() {
    let space = Space::new("spdy");
    space.apply(&pod("shell", "sleep 1000"));
    space.ready("pod/shell");
    let exec = |arguments: &str| {
        space
            .kubectl(&format!("exec {arguments}"))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
    };
    let ran = exec("shell -- sh -c 'echo out; echo err >&2; exit 7'").ran();
    assert_eq!((ran.stdout.as_str(), ran.code), ("out\n", 7), "{ran}");
    holds(&ran.stderr, "err\n");
    holds(&ran.stderr, "command terminated with exit code 7");
    let input: String = (0..100_000).map(|i| format!("{i}\n")).collect();
    let back = exec("-i shell -- cat").stdin(input.clone()).ok();
    assert!(
        back == input,
        "what goes in comes out: {} of {} bytes",
        back.len(),
        input.len()
    );
    holds(
        &exec("shell -- no-such-program").ran().stderr,
        "no-such-program",
    );
    holds(
        &exec("nobody -- true").fails(1),
        "pods \"nobody\" not found",
    );
}
