//! `GET /containers/json`.

use jiff::Timestamp;
use serde_json::json;

use super::{Container, all, published};
use crate::query::Query;
use crate::reply::{Answer, json_of};
use crate::{Docker, ports, volumes};

pub async fn list(docker: &Docker, query: &Query) -> Answer {
    let filters = query.filters()?;
    let limit = query
        .number("limit")?
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let everything = query.flag("all")
        || limit.is_some()
        || filters.contains_key("status")
        || filters.contains_key("exited");
    let wants = |container: &Container| {
        filters.iter().all(|(name, values)| {
            values.iter().any(|value| match name.as_str() {
                "id" => container.id().starts_with(value.as_str()),
                "name" => container
                    .record
                    .name
                    .contains(value.trim_start_matches('/')),
                "exited" => {
                    container.status.exit.is_some() && container.exit_code().to_string() == *value
                }
                "network" => match container.record.host.network_mode.as_str() {
                    "" | "default" => value == "bridge",
                    other => value == other,
                },
                "volume" => container.status.spec.mounts.iter().any(|mount| {
                    mount.target == *value
                        || volumes::name_of(docker, &mount.source)
                            .is_some_and(|name| name == *value)
                }),
                "status" => container.state() == value,
                "ancestor" => {
                    container.record.image == *value
                        || container.record.image_id.contains(value.as_str())
                }
                "label" => match value.split_once('=') {
                    Some((key, value)) => container
                        .record
                        .config
                        .labels
                        .get(key)
                        .is_some_and(|v| v == value),
                    None => container.record.config.labels.contains_key(value),
                },
                // a filter that is not known filters nothing
                _ => true,
            })
        })
    };
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let chosen = all(docker)
        .await
        .into_iter()
        .filter(|c| (everything || c.running()) && wants(c))
        .take(limit.unwrap_or(usize::MAX));
    for container in chosen {
        let record = &container.record;
        let command: Vec<&str> = container
            .status
            .spec
            .argv
            .iter()
            .map(String::as_str)
            .collect();
        let ports = if container.running() {
            ports::listed(&record.config, &published(docker, container.id()).await)
        } else {
            Vec::new()
        };
        let attachment = docker.inner.network.attachment(container.id());
        let address = attachment.as_ref().map(|a| a.address.to_string());
        let ipv6 = attachment.and_then(|a| a.ipv6);
        let network = json!({
            "IPAddress": address.unwrap_or_default(),
            "GlobalIPv6Address": ipv6.map(|ipv6| ipv6.address.to_string()).unwrap_or_default(),
        });
        rows.push(json!({
            "Id": container.id(), "Names": [format!("/{}", record.name)], "Image": record.image, "ImageID": record.image_id,
            "Command": command.join(" "), "Created": container.status.created_at.as_second(), "Ports": ports,
            "Labels": record.config.labels, "State": container.state(), "Status": container.sentence(now),
            "HostConfig": { "NetworkMode": record.host.network_mode },
            "NetworkSettings": { "Networks": { "bridge": network } },
            "Mounts": [],
        }));
    }
    json_of(&rows)
}
