//! Bodies as clients send them, and answers as they read them.

use serde_json::{Value, json};

use super::instance::{IMAGE, Instance, sleeper};

/// docker-java writes every field.
pub fn null_is_nothing(instance: &Instance) {
    let id = instance.create(json!({
        "Image": IMAGE, "Cmd": ["true"], "Hostname": null, "Domainname": null, "User": null, "AttachStdin": null, "Tty": null,
        "OpenStdin": null, "StdinOnce": null, "Env": null, "Entrypoint": null, "Volumes": null, "StopSignal": null, "StopTimeout": null,
        "ExposedPorts": {}, "Labels": null, "NetworkDisabled": null, "MacAddress": null, "NetworkingConfig": null,
        "Healthcheck": { "Test": ["NONE"], "Interval": null, "Timeout": null, "Retries": null, "StartPeriod": null, "StartInterval": null },
        "HostConfig": {
            "Memory": null, "MemorySwap": null, "NanoCpus": null, "CpuShares": null, "CpuPeriod": null, "CpuQuota": null, "PidsLimit": null,
            "Privileged": null, "PublishAllPorts": null, "ReadonlyRootfs": null, "AutoRemove": null, "OomKillDisable": null, "Init": null,
            "OomScoreAdj": null, "ShmSize": null, "NetworkMode": null, "IpcMode": null, "PidMode": null, "Runtime": null, "LogConfig": null,
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": null }, "PortBindings": { "80/tcp": null },
        },
    }));
    instance.remove(&id);
    let exec = json!({ "Cmd": ["true"], "Tty": null, "AttachStdin": null, "Privileged": null });
    let id = instance.started(sleeper());
    let reply = instance.ask(
        "POST",
        &format!("/containers/{id}/exec"),
        exec.to_string().as_bytes(),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    instance.remove(&id);
}

pub fn an_empty_entrypoint_leaves_the_images_command(instance: &Instance) {
    let id = instance.create(json!({ "Image": IMAGE, "Entrypoint": [] }));
    let shown = instance.inspect(&id);
    let of_image = instance.get(&format!("/images/{IMAGE}/json"));
    assert_eq!(shown["Config"]["Cmd"], of_image["Config"]["Cmd"]);
    assert!(shown["Config"]["Cmd"].is_array(), "{shown}");
    instance.remove(&id);
    let body = json!({ "Image": IMAGE, "Entrypoint": [""] }).to_string();
    let reply = instance.ask("POST", "/containers/create", body.as_bytes());
    assert_eq!(
        reply.status,
        400,
        "one that was taken away: {}",
        reply.text()
    );
}

pub fn what_has_no_effect_is_told(instance: &Instance) {
    let create = |host: Value| {
        let body = json!({ "Image": IMAGE, "StopTimeout": -1, "HostConfig": host }).to_string();
        instance.ask("POST", "/containers/create", body.as_bytes())
    };
    let made = create(json!({ "MemoryReservation": 1024, "OomKillDisable": false })).json();
    let said = "--memory-reservation is not supported and has no effect";
    assert_eq!(made["Warnings"], json!([said]));
    instance.remove(made["Id"].as_str().expect("an ID"));
    let refused = create(json!({ "Runtime": "nvidia" }));
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .contains("unknown or invalid runtime name: nvidia")
    );
}

/// Compose takes anonymous volumes along by the list's mounts.
pub fn the_list_has_mounts_and_sizes(instance: &Instance) {
    let id = instance.started(json!({
        "Image": IMAGE, "Cmd": ["sh", "-c", "head -c 100000 /dev/zero > /written; sleep 1000"], "Volumes": { "/data": {} },
    }));
    let none = instance.create(json!({ "Image": IMAGE, "HostConfig": { "NetworkMode": "none" } }));
    let listed = |id: &str, more: &str| {
        let rows = instance.get(&format!("/containers/json?all=1{more}"));
        let rows = rows.as_array().expect("rows").iter();
        let mut found = rows.filter(|row| row["Id"] == id);
        found.next().cloned().expect("listed")
    };
    let (row, shown) = (listed(&id, ""), instance.inspect(&id));
    assert_eq!(row["Mounts"][0]["Destination"], "/data");
    assert_eq!(row["Mounts"], shown["Mounts"]);
    assert_eq!(row["SizeRw"], Value::Null);
    let bridge = instance.get("/networks/bridge");
    let endpoint = &row["NetworkSettings"]["Networks"]["bridge"];
    assert_eq!(endpoint["NetworkID"], bridge["Id"]);
    assert_eq!(*endpoint, shown["NetworkSettings"]["Networks"]["bridge"]);
    assert_eq!(endpoint["IPAddress"], shown["NetworkSettings"]["IPAddress"]);
    let networks = &listed(&none, "")["NetworkSettings"]["Networks"];
    assert!(
        networks["none"].is_object() && networks["bridge"].is_null(),
        "{networks}"
    );
    super::instance::eventually("what it writes", || {
        let row = listed(&id, "&size=1");
        let (written, all) = (row["SizeRw"].as_u64(), row["SizeRootFs"].as_u64());
        written >= Some(100_000) && all > written
    });
    instance.remove(&id);
    instance.remove(&none);
    // what only older versions have
    for (version, expected) in [("1.43", true), ("1.44", false)] {
        let image = instance.get(&format!("/v{version}/images/{IMAGE}/json"));
        assert_eq!(image["VirtualSize"].is_u64(), expected, "{version}");
        let images = instance.get(&format!("/v{version}/images/json"));
        assert_eq!(images[0]["VirtualSize"].is_u64(), expected, "{version}");
    }
}

pub fn one_that_is_stopped_has_no_statistics(instance: &Instance) {
    let id = instance.create(sleeper());
    let stats = instance.get(&format!("/containers/{id}/stats?stream=0"));
    assert_eq!(stats["id"], json!(id));
    assert_eq!(stats["cpu_stats"], Value::Null);
    instance.remove(&id);
}
