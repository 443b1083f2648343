//! Connections into pods over each transport that clients speak: SPDY inside a WebSocket, and SPDY itself.

use crate::support::{Run, Space, Terminal, eventually, holds, pod};

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

/// Each way that kubectl has to a command's streams: WebSockets, and SPDY, which clients before 1.31 have alone.
const WAYS: [(&str, &str); 2] = [("websockets", "true"), ("spdy", "false")];

/// Types a line until the terminal shows what it should: a change of the window arrives when it does.
fn until_shown(terminal: &mut Terminal, line: &str, part: &str) {
    eventually(&format!("{part:?} after {line:?}"), || {
        let said = terminal.said();
        if said.contains(part) {
            return Ok(());
        }
        terminal.types(line);
        Err(format!("{said:?}"))
    });
}

pub fn a_terminal_is_handed_through_and_follows_its_window() {
    let space = Space::new("terminal");
    space.apply(&pod("shell", "sleep 1000"));
    let listen = "while read line; do echo \"$line at $(stty size)\"; done";
    let listens = format!("{}    stdin: true\n    tty: true\n", pod("ears", listen));
    space.apply(&listens);
    space.ready("pod/shell");
    space.ready("pod/ears");
    for (number, (way, websockets)) in WAYS.into_iter().enumerate() {
        let at_terminal = |arguments: &str| {
            space
                .kubectl(arguments)
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
                .at_terminal(31, 77)
        };
        let mut shell = at_terminal("exec -it shell -- sh");
        until_shown(&mut shell, "echo size $(stty size)\n", "size 31 77");
        shell.resize(44, 99);
        until_shown(&mut shell, "echo size $(stty size)\n", "size 44 99");
        // a key of the terminal's, not of the client's
        shell.types("sh -c 'echo as''leep; sleep 1000'\n");
        shell.shows("\nasleep");
        shell.types("\u{3}");
        shell.types("echo still $((40 + 2))\nexit 5\n");
        shell.shows("still 42");
        assert_eq!(shell.ends(), 5, "{way}");

        let mut ears = at_terminal("attach -it ears");
        let (first, second) = (
            format!("{way} at 31 77"),
            format!("{way} at {} 88", 50 + number),
        );
        until_shown(&mut ears, &format!("{way}\n"), &first);
        ears.resize(50 + u16::try_from(number).expect("few"), 88);
        until_shown(&mut ears, &format!("{way}\n"), &second);
    }
    // clients come and go, the container stays
    assert_eq!(
        space.field("pod/ears", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}

pub fn what_a_container_reads_comes_by_each_transport() {
    let space = Space::new("attached");
    for (way, websockets) in WAYS {
        // a container that reads until its one client has gone
        let read = "while read line; do echo \"heard $line\"; done; echo over >&2; exit 4";
        let once = format!(
            "{}    stdin: true\n    stdinOnce: true\n  restartPolicy: Never\n",
            pod(way, read)
        );
        space.apply(&once);
        space.ready(&format!("pod/{way}"));
        let ran = space
            .kubectl(&format!("attach -i -q {way}"))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .stdin("one\ntwo\n")
            .ran();
        assert_eq!(ran.stdout, "heard one\nheard two\n", "{way}: {ran}");
        holds(&ran.stderr, "over");
        space.until(&format!("pod/{way}"), ".status.phase", "Failed");
        let code = ".status.containerStatuses[0].state.terminated.exitCode";
        assert_eq!(space.field(&format!("pod/{way}"), code), "4");
    }
}
