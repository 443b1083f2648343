//! `GET /containers/ID/json` and `/changes`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Container, published};
use crate::reply::{Answer, json_of};
use crate::{Docker, mounts, ports, volumes};

pub async fn inspect(docker: &Docker, container: &Container) -> Answer {
    let (status, record) = (&container.status, &container.record);
    let time =
        |at: Option<Timestamp>| at.map_or("0001-01-01T00:00:00Z".into(), |at| format!("{at:.9}"));
    let exit = status.exit.as_ref();
    let attachment = docker.inner.network.attachment(container.id());
    let address = attachment
        .as_ref()
        .map(|a| a.address.to_string())
        .unwrap_or_default();
    let gateway = attachment
        .as_ref()
        .map(|a| a.gateway.to_string())
        .unwrap_or_default();
    let mac = attachment
        .as_ref()
        .map(|a| a.mac.clone())
        .unwrap_or_default();
    let prefix = attachment.as_ref().map_or(0, |a| a.prefix_len);
    let ipv6 = attachment.as_ref().and_then(|a| a.ipv6);
    let (address6, gateway6) = ipv6.map_or_else(Default::default, |ipv6| {
        (ipv6.address.to_string(), ipv6.gateway.to_string())
    });
    let prefix6 = ipv6.map_or(0, |ipv6| ipv6.prefix_len);
    let ports = if container.running() {
        published(docker, container.id()).await
    } else {
        Vec::new()
    };
    let points: Vec<Value> = status
        .spec
        .mounts
        .iter()
        .map(|mount| {
            if let Some(name) = volumes::name_of(docker, &mount.source) {
                return json!({
                    "Type": "volume", "Name": name, "Driver": "local", "Source": mount.source, "Destination": mount.target,
                    "RW": !mount.read_only, "Mode": "z", "Propagation": "",
                });
            }
            let propagation = if mount.kind == engine::MountKind::Tmpfs { "" } else { mounts::propagation(mount) };
            let kind = if mount.kind == engine::MountKind::Tmpfs { "tmpfs" } else { "bind" };
            json!({ "Type": kind, "Source": mount.source, "Destination": mount.target, "RW": !mount.read_only, "Mode": "", "Propagation": propagation })
        })
        .collect();
    let mut config = serde_json::to_value(&record.config).unwrap_or_default();
    config["Image"] = json!(record.image);
    let network = json!({
        "IPAddress": address, "Gateway": gateway, "MacAddress": mac, "IPPrefixLen": prefix,
        "GlobalIPv6Address": address6, "IPv6Gateway": gateway6, "GlobalIPv6PrefixLen": prefix6,
        "NetworkID": docker.inner.network.config().instance, "EndpointID": container.id(), "Aliases": null,
    });
    let mode = match record.host.network_mode.as_str() {
        "" | "default" => "bridge",
        other => other,
    };
    let mut shown = json!({
        "Id": container.id(), "Name": format!("/{}", record.name), "Created": format!("{:.9}", status.created_at),
        "Path": status.spec.argv.first(), "Args": status.spec.argv.get(1..).unwrap_or_default(),
        "State": {
            "Status": container.state(), "Running": container.running(), "Paused": container.paused(), "Restarting": false, "Dead": false,
            "OOMKilled": exit.is_some_and(|e| e.oom_killed), "Pid": status.pid.unwrap_or(0), "ExitCode": container.exit_code(),
            "Error": record.error, "StartedAt": time(status.started_at), "FinishedAt": time(exit.map(|e| e.finished_at)),
        },
        "Image": record.image_id, "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "", "LogPath": status.spec.log.path,
        "RestartCount": record.restarts, "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
        "AppArmorProfile": app_armor_profile(docker, &status.spec.security), "ExecIDs": null, "HostConfig": record.host, "GraphDriver": { "Name": "overlay2", "Data": null },
        "Mounts": points, "Config": config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": container.id(), "Ports": ports::inspected(&record.config, &ports),
            "IPAddress": address, "Gateway": gateway, "MacAddress": mac, "IPPrefixLen": prefix,
            "GlobalIPv6Address": address6, "IPv6Gateway": gateway6, "GlobalIPv6PrefixLen": prefix6,
            "Networks": { mode: network },
        },
    });
    if let Some(health) = docker.inner.healths.of(container.id()) {
        shown["State"]["Health"] = json!(health);
    }
    json_of(&shown)
}

/// As dockerd has it: nothing where there is no AppArmor.
fn app_armor_profile<'a>(docker: &'a Docker, security: &'a engine::Security) -> &'a str {
    match (
        docker.inner.engine.default_profile(),
        security.app_armor_profile.as_str(),
    ) {
        (None, _) => "",
        (Some(_), "") if security.privileged => "unconfined",
        (Some(default), "") => default,
        (Some(_), named) => named,
    }
}

pub async fn changes(docker: &Docker, container: &Container) -> Answer {
    let (images, id) = (docker.inner.images.clone(), container.id().to_owned());
    let changes = tokio::task::spawn_blocking(move || images.changes(&id)).await??;
    let rows: Vec<Value> = changes
        .into_iter()
        .map(|(kind, path)| json!({ "Path": path, "Kind": match kind { 'C' => 0, 'A' => 1, _ => 2 } }))
        .collect();
    json_of(&rows)
}
