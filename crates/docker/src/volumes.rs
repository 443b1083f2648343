//! Named volumes: `volumes/NAME/_data`, with labels beside it. Drivers other than `local` do not exist.

mod attach;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use http::StatusCode;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::filters::Filters;
use crate::query::Query;
use crate::record::null_default;
use crate::reply::{Answer, Refusal, empty, json_of, json_with};
use crate::{Docker, body, containers, names};

pub use attach::{attach, drop_anonymous, made_for};

const DATA: &str = "_data";
const LABELS: &str = "labels.json";
/// Label of a volume that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Create {
    #[serde(deserialize_with = "null_default")]
    name: String,
    #[serde(deserialize_with = "null_default")]
    driver: String,
    #[serde(deserialize_with = "null_default")]
    driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default")]
    labels: BTreeMap<String, String>,
}

pub async fn create(docker: &Docker, incoming: Incoming) -> Answer {
    let request: Create = body::json(incoming).await?;
    if !request.driver.is_empty() && request.driver != "local" {
        return Err(Refusal::not_found(format!(
            "error looking up volume plugin {}: plugin not found",
            request.driver
        )));
    }
    if let Some(option) = request.driver_opts.keys().next() {
        return Err(Refusal::bad(format!(
            "volume options ({option}) are not supported; a volume is a directory of this machine"
        )));
    }
    let mut labels = request.labels;
    let name = if request.name.is_empty() {
        labels.insert(ANONYMOUS.to_owned(), String::new());
        names::id()
    } else {
        request.name
    };
    // whoever prunes shall see it with the container that it was made for
    let _names = docker.inner.turns.names().await;
    ensure(docker, &name, &labels)?;
    json_with(StatusCode::CREATED, &describe(docker, &name)?)
}

/// The volume's directory; a volume that is not there yet is made.
pub fn ensure(
    docker: &Docker,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<PathBuf, Refusal> {
    if !names::valid(name) {
        return Err(Refusal::bad(format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
        )));
    }
    let directory = docker.inner.volumes.join(name);
    let data = directory.join(DATA);
    let wrong = |error: std::io::Error| {
        Refusal::internal(format!(
            "cannot make the volume {name} in {}: {error}",
            directory.display()
        ))
    };
    if data.is_dir() {
        return Ok(data);
    }
    std::fs::create_dir_all(&directory).map_err(wrong)?;
    let text = serde_json::to_vec(labels).map_err(|error| Refusal::internal(error.to_string()))?;
    std::fs::write(directory.join(LABELS), text).map_err(wrong)?;
    match std::fs::create_dir(&data) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(wrong(error)),
        _ => Ok(data),
    }
}

/// Which volume a mount's source is, if it is one.
pub fn name_of(docker: &Docker, source: &Path) -> Option<String> {
    let inside = source.strip_prefix(&docker.inner.volumes).ok()?;
    let name = inside.parent().filter(|_| inside.ends_with(DATA))?;
    Some(name.to_str()?.to_owned())
}

fn describe(docker: &Docker, name: &str) -> Result<Value, Refusal> {
    let directory = docker.inner.volumes.join(name);
    let unknown = || Refusal::not_found(format!("get {name}: no such volume"));
    let made = std::fs::metadata(directory.join(DATA))
        .ok()
        .filter(|_| names::valid(name))
        .ok_or_else(unknown)?;
    let labels: BTreeMap<String, String> = std::fs::read(directory.join(LABELS))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let created = made
        .created()
        .ok()
        .and_then(|at| Timestamp::try_from(at).ok())
        .unwrap_or_default();
    Ok(json!({
        "Name": name, "Driver": "local", "Mountpoint": directory.join(DATA), "CreatedAt": format!("{created:.0}"), "Labels": labels,
        "Scope": "local", "Options": null,
    }))
}

fn is_anonymous(docker: &Docker, name: &str) -> bool {
    describe(docker, name).is_ok_and(|volume| volume["Labels"].get(ANONYMOUS).is_some())
}

fn all(docker: &Docker) -> Vec<Value> {
    let entries = std::fs::read_dir(&docker.inner.volumes)
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
        .iter()
        .filter_map(|name| describe(docker, name).ok())
        .collect()
}

fn labels(volume: &Value) -> BTreeMap<String, String> {
    let labels = volume["Labels"].as_object().into_iter().flatten();
    labels
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

pub async fn list(docker: &Docker, query: &Query) -> Answer {
    let filters = Filters::of(query, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let used = users(docker).await;
    let wants = |volume: &Value| {
        let name = volume["Name"].as_str().unwrap_or_default();
        filters.matches("name", name)
            && filters.any("driver", |driver| driver == "local")
            && dangling.is_none_or(|dangling| used.contains_key(name) != dangling)
            && filters.labels(&labels(volume))
    };
    let volumes: Vec<Value> = all(docker).into_iter().filter(wants).collect();
    json_of(&json!({ "Volumes": volumes, "Warnings": null }))
}

pub fn inspect(docker: &Docker, name: &str) -> Answer {
    json_of(&describe(docker, name)?)
}

/// Containers by the volumes that they use, running or not.
async fn users(docker: &Docker) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in containers::all(docker).await {
        for mount in &container.status.spec.mounts {
            if let Some(name) = name_of(docker, &mount.source) {
                users
                    .entry(name)
                    .or_default()
                    .push(container.id().to_owned());
            }
        }
    }
    users
}

pub async fn remove(docker: &Docker, name: &str, query: &Query) -> Answer {
    // containers that are being created take names in the same turn
    let _names = docker.inner.turns.names().await;
    if describe(docker, name).is_err() && query.flag("force") {
        return empty(StatusCode::NO_CONTENT);
    }
    describe(docker, name)?;
    if let Some(users) = users(docker).await.get(name) {
        return Err(Refusal::conflict(format!(
            "remove {name}: volume is in use - [{}]",
            users.join(", ")
        )));
    }
    delete(docker, name).await?;
    empty(StatusCode::NO_CONTENT)
}

async fn delete(docker: &Docker, name: &str) -> Result<(), Refusal> {
    let directory = docker.inner.volumes.join(name);
    let shown = directory.display().to_string();
    tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory))
        .await?
        .map_err(|error| {
            Refusal::internal(format!(
                "cannot remove the volume {name} in {shown}: {error}"
            ))
        })
}

/// Removes what no container uses and nobody named; with the filter `all` named volumes too.
pub async fn prune(docker: &Docker, query: &Query) -> Answer {
    let filters = Filters::of(query, &["all", "label", "label!"])?;
    let named_too = filters.flag("all")? == Some(true);
    let chosen = |volume: &Value| {
        (named_too || volume["Labels"].get(ANONYMOUS).is_some()) && filters.labels(&labels(volume))
    };
    let _names = docker.inner.turns.names().await;
    let used = users(docker).await;
    let mut deleted = Vec::new();
    for volume in all(docker) {
        let name = volume["Name"].as_str().unwrap_or_default();
        if !used.contains_key(name) && chosen(&volume) {
            delete(docker, name).await?;
            deleted.push(name.to_owned());
        }
    }
    json_of(&json!({ "VolumesDeleted": deleted, "SpaceReclaimed": 0 }))
}
