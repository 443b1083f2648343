//! Containers from their start to their end, and what may come in between.

use std::time::Duration;

use serde_json::json;

use super::instance::{IMAGE, Instance, ORPHAN, eventually, sleeper};

pub fn a_paused_container_is_not_asked(instance: &Instance) {
    let mut wanted = sleeper();
    let time = 100_000_000;
    wanted["Healthcheck"] =
        json!({ "Test": ["CMD", "true"], "Interval": time, "Timeout": 10 * time, "Retries": 1 });
    let id = instance.started(wanted);
    let health = || instance.inspect(&id)["State"]["Health"].clone();
    eventually("its health", || health()["Status"] == "healthy");
    instance.done("POST", &format!("/containers/{id}/pause"));
    // long enough for a check to be given up
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(health()["Status"], "healthy", "{}", health());
    instance.done("POST", &format!("/containers/{id}/unpause"));
    let last =
        |health: serde_json::Value| health["Log"].as_array().and_then(|log| log.last().cloned());
    let before = last(health());
    eventually("another check", || last(health()) != before);
    assert_eq!(health()["Status"], "healthy", "{}", health());
    instance.remove(&id);
}

/// As a start leaves it whose client has gone.
pub fn half_a_sandbox_is_made_whole(instance: &Instance) {
    let id = instance.create(sleeper());
    let half = instance.block_on(instance.engine.start_sandbox(&id));
    half.expect("a sandbox without an address");
    instance.done("POST", &format!("/containers/{id}/start"));
    let shown = instance.inspect(&id);
    assert_ne!(shown["NetworkSettings"]["IPAddress"], "", "{shown}");
    instance.remove(&id);
}

pub fn a_sandbox_without_a_container_goes(instance: &Instance) {
    let gone = || instance.block_on(instance.engine.sandbox(ORPHAN)).is_none();
    // what is left is removed before the first request is answered
    instance.get("/version");
    assert!(gone());
}

pub fn a_kill_keeps_the_new_name(instance: &Instance) {
    let id = instance
        .started(json!({ "Image": IMAGE, "Cmd": ["sh", "-c", "trap '' TERM; sleep 1000"] }));
    for number in 0..30 {
        let rename = instance.send(
            "POST",
            &format!("/containers/{id}/rename?name=n{number}-x"),
            b"",
        );
        let kill = instance.send("POST", &format!("/containers/{id}/kill?signal=TERM"), b"");
        for request in [rename, kill] {
            let reply = super::instance::answer(request);
            assert_eq!(reply.status, 204, "{}", reply.text());
        }
        assert_eq!(
            instance.inspect(&id)["Name"],
            json!(format!("/n{number}-x"))
        );
    }
    instance.remove(&id);
}

pub fn a_privileged_container_has_the_devices(instance: &Instance) {
    let script = "for name in kmsg null; do test -c /dev/$name && echo $name; done";
    let plain = instance.said(script, json!({}));
    assert_eq!(plain.split_whitespace().collect::<Vec<_>>(), ["null"]);
    let privileged = instance.said(script, json!({ "HostConfig": { "Privileged": true } }));
    assert_eq!(
        privileged.split_whitespace().collect::<Vec<_>>(),
        ["kmsg", "null"]
    );
}
