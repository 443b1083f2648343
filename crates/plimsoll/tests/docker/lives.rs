//! Containers from their start to their end, many at once, with clients and a daemon that go away.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::files::{FILE, tar};
use super::instance::{Instance, answer, eventually, sleeper};

pub fn a_failed_start_is_told_to_everybody(instance: &Instance) {
    for auto_remove in [false, true] {
        let id = instance.create(json!({ "Image": "busybox:static", "Cmd": ["nosuch"], "HostConfig": { "AutoRemove": auto_remove } }));
        let mut attached = instance.attach(&id);
        let waits = ["next-exit", "removed"].map(|condition| {
            instance.send(
                "POST",
                &format!("/containers/{id}/wait?condition={condition}"),
                b"",
            )
        });
        // headers come at once: now it is known that both listen
        for wait in &waits {
            wait.set_nonblocking(false).expect("blocking");
            let mut first = [0; 1];
            (&*wait).read_exact(&mut first).expect("headers");
        }
        let start = instance.ask("POST", &format!("/containers/{id}/start"), b"");
        assert!(
            start.status == 400 && start.text().contains("executable file not found"),
            "{} {}",
            start.status,
            start.text()
        );
        let mut output = Vec::new();
        attached
            .read_to_end(&mut output)
            .expect("the connection's end");
        assert!(output.is_empty(), "{output:?}");
        if !auto_remove {
            let inspected = instance
                .ask("GET", &format!("/containers/{id}/json"), b"")
                .json();
            assert_eq!(
                (
                    &inspected["State"]["ExitCode"],
                    &inspected["State"]["Status"]
                ),
                (&json!(127), &json!("created"))
            );
            instance.done("DELETE", &format!("/containers/{id}"));
        }
        for mut wait in waits {
            let mut text = String::new();
            wait.read_to_string(&mut text).expect("an answer");
            assert!(
                text.contains("{\"StatusCode\":127}"),
                "auto_remove={auto_remove}: {text}"
            );
        }
        eventually("the container to be gone", || instance.gone(&id));
    }
}

pub fn attached_output_is_complete(instance: &Instance) {
    let id = instance.create(json!({ "Image": "busybox:static", "Cmd": ["seq", "1", "20000"], "HostConfig": { "AutoRemove": true } }));
    let mut attached = instance.attach(&id);
    instance.done("POST", &format!("/containers/{id}/start"));
    let mut frames = Vec::new();
    attached
        .read_to_end(&mut frames)
        .expect("the end of the output");
    let (mut rest, mut text) = (frames.as_slice(), Vec::new());
    while let Some((header, content)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        text.extend_from_slice(&content[..length]);
        rest = &content[length..];
    }
    let want: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(
        text == want.as_bytes(),
        "{} bytes of {}",
        text.len(),
        want.len()
    );
    eventually("the removal", || instance.gone(&id));
}

pub fn ten_at_once(instance: &Arc<Instance>) {
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                let id = instance.create(sleeper());
                instance.done("POST", &format!("/containers/{id}/start"));
                id
            })
        })
        .collect();
    let ids: Vec<String> = threads
        .into_iter()
        .map(|thread| thread.join().expect("started"))
        .collect();
    assert_eq!(
        instance
            .ask("GET", "/containers/json", b"")
            .json()
            .as_array()
            .map(Vec::len),
        Some(10)
    );
    let mut addresses: Vec<Value> = ids
        .iter()
        .map(|id| {
            instance
                .ask("GET", &format!("/containers/{id}/json"), b"")
                .json()["NetworkSettings"]["IPAddress"]
                .clone()
        })
        .collect();
    addresses.sort_by_key(Value::to_string);
    addresses.dedup();
    assert_eq!(addresses.len(), 10);
    // the same name ten times: one gets it
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                instance
                    .ask(
                        "POST",
                        "/containers/create?name=only-one",
                        sleeper().to_string().as_bytes(),
                    )
                    .status
            })
        })
        .collect();
    let codes: Vec<u16> = threads
        .into_iter()
        .map(|thread| thread.join().expect("answered"))
        .collect();
    assert_eq!(
        (
            codes.iter().filter(|code| **code == 201).count(),
            codes.iter().filter(|code| **code == 409).count()
        ),
        (1, 9),
        "{codes:?}"
    );
    for id in ids.iter().map(String::as_str).chain(["only-one"]) {
        instance.done("DELETE", &format!("/containers/{id}?force=1"));
    }
}

pub fn a_client_that_goes_away_leaves_nothing(instance: &Instance) {
    // in the middle of a build's step
    let context = tar(&[(
        "Dockerfile",
        FILE,
        "FROM busybox:static\nRUN echo begun; sleep 1000\n",
    )]);
    let mut build = instance.send("POST", "/build?t=abandoned", &context);
    let mut seen = String::new();
    while !seen.contains("begun\\n") {
        let mut piece = [0; 1024];
        let length = build.read(&mut piece).expect("output");
        assert!(length > 0, "the build ended: {seen}");
        seen += &String::from_utf8_lossy(&piece[..length]);
    }
    drop(build);
    eventually("the step to end", || {
        let uploads = std::fs::read_dir(instance.data().join("uploads"))
            .into_iter()
            .flatten()
            .count();
        let sandboxes = std::fs::read_dir(instance.data().join("engine/sandboxes"))
            .into_iter()
            .flatten()
            .count();
        uploads == 0 && sandboxes == 0
    });
    // between attaching and starting: only the record of the container stays
    let id = instance.create(sleeper());
    drop(instance.attach(&id));
    instance.done("DELETE", &format!("/containers/{id}"));
    // in the middle of an upload
    let mut upload = instance.connect();
    upload
        .write_all(b"POST /build HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nbegun")
        .expect("sent");
    drop(upload);
    // announced to be larger than any disk
    let mut upload = instance.connect();
    upload.write_all(b"POST /build HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 999999999999999\r\n\r\n").expect("sent");
    let reply = answer(upload);
    assert!(
        reply.status == 507 && reply.text().contains("make room"),
        "{} {}",
        reply.status,
        reply.text()
    );
}

pub fn a_killed_daemon_finds_its_containers(instance: &Instance) {
    let state = |id: &str| {
        instance
            .ask("GET", &format!("/containers/{id}/json"), b"")
            .json()["State"]
            .clone()
    };
    let start = |configuration: Value| {
        let id = instance.create(configuration);
        instance.done("POST", &format!("/containers/{id}/start"));
        id
    };
    let lasting = start(sleeper());
    let pid = state(&lasting)["Pid"].clone();
    let until_told = json!([
        "sh",
        "-c",
        "trap 'exit 7' USR1; while :; do sleep 0.1; done"
    ]);
    let transient = start(
        json!({ "Image": "busybox:static", "Cmd": until_told, "HostConfig": { "AutoRemove": true } }),
    );
    let restarting = start(
        json!({ "Image": "busybox:static", "Cmd": until_told, "HostConfig": { "RestartPolicy": { "Name": "always" } } }),
    );
    let pids = [&transient, &restarting]
        .map(|id| i32::try_from(state(id)["Pid"].as_i64().expect("a pid")).expect("a pid"));
    instance.kill_daemon();
    for pid in pids {
        let signalled = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(signalled, rustix::process::Signal::USR1).expect("signalled");
        eventually("the container to end without a daemon", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
    }
    instance.start();
    assert_eq!(
        (&state(&lasting)["Pid"], &state(&lasting)["Running"]),
        (&pid, &json!(true)),
        "the same process"
    );
    eventually("the automatic removal of one that ended meanwhile", || {
        instance.gone(&transient)
    });
    eventually("the restart of one that ended meanwhile", || {
        state(&restarting)["Running"] == true
    });
    for id in [lasting, restarting] {
        instance.done("DELETE", &format!("/containers/{id}?force=1"));
    }
}
