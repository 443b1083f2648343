//! `GET /containers/ID/json` and `/changes`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Container, published};
use crate::query::Query;
use crate::reply::{Answer, Refusal, json_of};
use crate::{Docker, mounts, networks, ports, volumes};

pub async fn inspect(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let (status, record) = (&container.status, &container.record);
    let time =
        |at: Option<Timestamp>| at.map_or("0001-01-01T00:00:00Z".into(), |at| format!("{at:.9}"));
    let exit = status.exit.as_ref();
    let ports = if container.running() {
        published(docker, container.id()).await
    } else {
        Vec::new()
    };
    let mut config = serde_json::to_value(&record.config).unwrap_or_default();
    config["Image"] = json!(record.image);
    let addresses = networks::addresses(docker, container);
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
        "Mounts": points(docker, container), "Config": config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": container.id(), "Ports": ports::inspected(&record.config, &ports),
            "Networks": networks::endpoints(docker, container),
        },
    });
    if let (Value::Object(settings), Value::Object(addresses)) =
        (&mut shown["NetworkSettings"], addresses)
    {
        settings.extend(addresses);
    }
    if query.flag("size") {
        let (written, all) = sizes(docker, container).await?;
        (shown["SizeRw"], shown["SizeRootFs"]) = (json!(written), json!(all));
    }
    if let Some(health) = docker.inner.healths.of(container.id()) {
        shown["State"]["Health"] = json!(health);
    }
    json_of(&shown)
}

/// `Mounts`, as the list shows them too: compose takes volumes along by it.
pub fn points(docker: &Docker, container: &Container) -> Vec<Value> {
    let mounts = container.status.spec.mounts.iter();
    let shown = mounts.map(|mount| {
        if let Some(name) = volumes::name_of(docker, &mount.source) {
            return json!({
                "Type": "volume", "Name": name, "Driver": "local", "Source": mount.source, "Destination": mount.target,
                "RW": !mount.read_only, "Mode": "z", "Propagation": "",
            });
        }
        let is_tmpfs = mount.kind == engine::MountKind::Tmpfs;
        let (kind, propagation) = match is_tmpfs {
            true => ("tmpfs", ""),
            false => ("bind", mounts::propagation(mount)),
        };
        json!({ "Type": kind, "Source": mount.source, "Destination": mount.target, "RW": !mount.read_only, "Mode": "", "Propagation": propagation })
    });
    shown.collect()
}

/// Bytes that the container has written, and those together with its image's.
pub async fn sizes(docker: &Docker, container: &Container) -> Result<(u64, u64), Refusal> {
    let image = docker.inner.images.get(&container.record.image_id);
    let (images, id) = (docker.inner.images.clone(), container.id().to_owned());
    let written = tokio::task::spawn_blocking(move || images.snapshot_size(&id)).await?;
    let written = written.unwrap_or(0);
    let of_image = image.map_or(0, |image| image.size_bytes);
    Ok((written, written.saturating_add(of_image)))
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
