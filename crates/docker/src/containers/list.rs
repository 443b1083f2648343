//! `GET /containers/json`.

use jiff::Timestamp;
use serde_json::json;

use super::{Container, all, find, inspect, published};
use crate::filters::Filters;
use crate::query::Query;
use crate::reply::{Answer, Refusal, json_of};
use crate::{Docker, networks, ports, volumes};

const KNOWN: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network",
    "publish", "since", "status", "volume",
];

/// When the container that a filter names was made.
async fn created(docker: &Docker, names: &[String]) -> Result<Option<Timestamp>, Refusal> {
    match names.first() {
        Some(name) => Ok(Some(find(docker, name).await?.status.created_at)),
        None => Ok(None),
    }
}

/// `Up 3 minutes (healthy)`.
fn sentence(docker: &Docker, container: &Container, now: Timestamp) -> String {
    let plain = container.sentence(now);
    let health = docker.inner.healths.of(container.id());
    match health.filter(|_| container.running() && !container.paused()) {
        Some(health) if health.status == "starting" => format!("{plain} (health: starting)"),
        Some(health) => format!("{plain} ({})", health.status),
        None => plain,
    }
}

/// The container is of this image, by whatever name.
fn is_made_of(docker: &Docker, container: &Container, image: &str) -> bool {
    let record = &container.record;
    let known = docker.inner.images.get(image);
    record.image == image || known.is_ok_and(|known| known.id == record.image_id)
}

/// `80/tcp` is among `80`, `80/tcp` and `80-90/tcp`.
fn is_among(port: &str, wanted: &str) -> bool {
    let split = |text: &str| -> (String, String) {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        (numbers.to_owned(), protocol.to_owned())
    };
    let ((port, protocol), (range, of)) = (split(port), split(wanted));
    let (first, last) = range.split_once('-').unwrap_or((&range, &range));
    let number = |text: &str| text.parse::<u16>().ok();
    protocol == of
        && matches!((number(first), number(&port), number(last)), (Some(first), Some(port), Some(last)) if first <= port && port <= last)
}

pub async fn list(docker: &Docker, query: &Query) -> Answer {
    let filters = Filters::of(query, &KNOWN)?;
    let limit = query
        .number("limit")?
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let everything = query.flag("all")
        || limit.is_some()
        || !filters.values("status").is_empty()
        || !filters.values("exited").is_empty();
    let before = created(docker, filters.values("before")).await?;
    let since = created(docker, filters.values("since")).await?;
    let wants = |container: &Container| {
        let record = &container.record;
        let age = container.status.created_at;
        before.is_none_or(|before| age < before)
            && since.is_none_or(|since| age > since)
            && filters.any("id", |value| container.id().starts_with(value))
            && (filters.matches("name", &record.name)
                || filters.matches("name", &format!("/{}", record.name)))
            && filters.any("exited", |value| {
                container.status.exit.is_some() && container.exit_code().to_string() == value
            })
            && filters.any("network", |value| {
                let name = networks::of(container);
                value == name || value == networks::id(docker, name)
            })
            && filters.any("volume", |value| {
                container.status.spec.mounts.iter().any(|mount| {
                    mount.target == value
                        || volumes::name_of(docker, &mount.source).is_some_and(|name| name == value)
                })
            })
            && filters.any("status", |value| container.state() == value)
            && filters.any("ancestor", |value| is_made_of(docker, container, value))
            && filters.any("publish", |value| {
                record
                    .host
                    .port_bindings
                    .keys()
                    .any(|port| is_among(port, value))
            })
            && filters.any("expose", |value| {
                record
                    .config
                    .exposed_ports
                    .keys()
                    .any(|port| is_among(port, value))
            })
            && filters.any("health", |value| {
                let health = docker.inner.healths.of(container.id());
                health.map_or("none", |health| health.status) == value
            })
            && filters.labels(&record.config.labels)
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
        let mut row = json!({
            "Id": container.id(), "Names": [format!("/{}", record.name)], "Image": record.image, "ImageID": record.image_id,
            "Command": command.join(" "), "Created": container.status.created_at.as_second(), "Ports": ports,
            "Labels": record.config.labels, "State": container.state(), "Status": sentence(docker, &container, now),
            "HostConfig": { "NetworkMode": networks::of(&container) },
            "NetworkSettings": { "Networks": networks::endpoints(docker, &container) },
            "Mounts": inspect::points(docker, &container),
        });
        if query.flag("size") {
            let (written, all) = inspect::sizes(docker, &container).await?;
            (row["SizeRw"], row["SizeRootFs"]) = (json!(written), json!(all));
        }
        rows.push(row);
    }
    json_of(&rows)
}

#[cfg(test)]
mod tests {
    use super::is_among;

    #[test]
    fn ports_by_range_and_protocol() {
        for (port, wanted, expected) in [
            ("80/tcp", "80", true),
            ("80/tcp", "80/udp", false),
            ("85/tcp", "80-90/tcp", true),
            ("91/tcp", "80-90", false),
            ("80/tcp", "http", false),
        ] {
            assert_eq!(is_among(port, wanted), expected, "{port} {wanted}");
        }
    }
}
