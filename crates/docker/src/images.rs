//! Images: list, inspect, pull, import, load, save, tag, push, remove.

use base64::Engine as _;
use futures::StreamExt;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use image::{Auth, Image, Platform, PullEvent};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::filters::{Filters, path_matches};
use crate::query::Query;
use crate::reply::{Answer, Refusal, empty, json_of, line, narrated, stream};
use crate::{Docker, body};

/// From this version on there is only one size.
const WITHOUT_VIRTUAL_SIZE: u32 = 44;

pub fn list(docker: &Docker, query: &Query, version: u32) -> Answer {
    let known = ["before", "dangling", "label", "reference", "since", "until"];
    let filters = Filters::of(query, &known)?;
    let dangling = filters.flag("dangling")?;
    let until = filters.until(Timestamp::now())?;
    let created = |filter: &str| {
        let image = filters.values(filter).first();
        image
            .map(|image| docker.inner.images.get(image).map(|image| image.created))
            .transpose()
    };
    let (before, since) = (created("before")?, created("since")?);
    let is_named = |tag: &str| {
        filters.any("reference", |pattern| {
            path_matches(pattern, tag) || path_matches(pattern, without_tag(tag))
        })
    };
    let by_name = !filters.values("reference").is_empty();
    let wants = |image: &Image| {
        (!by_name || image.tags.iter().any(|tag| is_named(tag)))
            && dangling.is_none_or(|dangling| image.tags.is_empty() == dangling)
            && until.is_none_or(|until| image.created < until)
            && before.is_none_or(|before| image.created < before)
            && since.is_none_or(|since| image.created > since)
            && filters.labels(&image.config.labels)
    };
    let mut images: Vec<Image> = docker
        .inner
        .images
        .list()
        .into_iter()
        .filter(wants)
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let rows: Vec<Value> = images
        .iter()
        .map(|image| {
            // of its names those that were asked for
            let tags: Vec<&String> = image.tags.iter().filter(|tag| is_named(tag)).collect();
            let mut row = json!({
                "Id": image.id, "ParentId": "", "RepoTags": tags, "RepoDigests": image.digests, "Created": image.created.as_second(),
                "Size": image.size_bytes, "SharedSize": -1, "Containers": -1, "Labels": image.config.labels,
            });
            if version < WITHOUT_VIRTUAL_SIZE {
                row["VirtualSize"] = json!(image.size_bytes);
            }
            row
        })
        .collect();
    json_of(&rows)
}

pub fn inspect(docker: &Docker, name: &str, version: u32) -> Answer {
    let image = docker.inner.images.get(name)?;
    let mut shown = json!({
        "Id": image.id, "RepoTags": image.tags, "RepoDigests": image.digests, "Parent": "", "Comment": "",
        "Created": image.file.created.clone().unwrap_or_else(|| image.created.to_string()), "Container": "", "DockerVersion": "",
        "Author": image.file.author, "Config": image.config, "Architecture": image.architecture, "Variant": image.file.variant, "Os": image.os, "Size": image.size_bytes,
        "GraphDriver": { "Name": "overlay2", "Data": null },
        "RootFS": { "Type": "layers", "Layers": image.layers() }, "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    if version < WITHOUT_VIRTUAL_SIZE {
        shown["VirtualSize"] = json!(image.size_bytes);
    }
    json_of(&shown)
}

pub fn history(docker: &Docker, name: &str) -> Answer {
    let image = docker.inner.images.get(name)?;
    let newest = image.file.history.len().saturating_sub(1);
    let sizes = history_sizes(
        &image.file.history,
        &docker.inner.images.layer_sizes(&image),
    );
    let rows: Vec<Value> = image
        .file
        .history
        .iter()
        .enumerate()
        .rev()
        .map(|(index, entry)| {
            let created = entry.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).unwrap_or(image.created);
            json!({
                "Id": if index == newest { image.id.as_str() } else { "<missing>" }, "Created": created.as_second(), "CreatedBy": entry.created_by,
                "Tags": if index == newest { json!(image.tags) } else { Value::Null }, "Size": sizes[index], "Comment": entry.comment,
            })
        })
        .collect();
    json_of(&rows)
}

/// Bytes of each step: the n-th that made a layer made the n-th layer.
fn history_sizes(history: &[image::History], layers: &[u64]) -> Vec<u64> {
    let mut layers = layers.iter();
    let made = history.iter().map(|entry| {
        let layer = (!entry.empty_layer).then(|| layers.next()).flatten();
        layer.copied().unwrap_or(0)
    });
    made.collect()
}

/// A pull (`fromImage`) or an import (`fromSrc=-`).
pub async fn create(docker: Docker, query: &Query, request: Request<Incoming>) -> Answer {
    match (query.get("fromImage"), query.get("fromSrc")) {
        (Some(name), _) => pull(docker, name, query, &request),
        (None, Some("-")) => {
            let reference = query
                .get("repo")
                .map(|repo| reference(repo, query.get("tag")));
            let changes: Vec<&str> = query.all("changes").collect();
            let config = image::apply_changes(image::ImageConfig::default(), &changes)
                .map_err(|error| Refusal::bad(error.to_string()))?;
            let file = body::file(&docker, request.into_body()).await?;
            let file = tokio::fs::File::from_std(file);
            let image = docker
                .inner
                .images
                .import(file, reference.as_deref(), config)
                .await?;
            stream(
                "application/json",
                futures::stream::iter([line(&json!({ "status": image.id }))]),
            )
        }
        (None, Some(_)) => Err(Refusal::bad(
            "importing from a URL is not supported; send the tar itself: `docker import - NAME`",
        )),
        (None, None) => Err(Refusal::bad(
            "say fromImage to pull, or fromSrc=- to import",
        )),
    }
}

fn reference(name: &str, tag: Option<&str>) -> String {
    match tag {
        None => name.to_owned(),
        Some(digest) if digest.starts_with("sha256:") => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
    }
}

fn pull(docker: Docker, name: &str, query: &Query, request: &Request<Incoming>) -> Answer {
    let last = name.rsplit('/').next().unwrap_or(name);
    let named = if last.contains([':', '@']) {
        name.to_owned()
    } else {
        reference(name, query.get("tag").or(Some("latest")))
    };
    let auth = credentials(request)?;
    let platform: Option<Platform> = match query.get("platform") {
        None => None,
        Some(text) => Some(image::Platform::parse(text).ok_or_else(|| {
            Refusal::bad(format!("invalid platform {text:?}: say OS/ARCHITECTURE"))
        })?),
    };
    let (events_in, events) = mpsc::channel(256);
    let work = async move {
        docker
            .inner
            .images
            .pull(&named, auth, platform, events_in)
            .await
            .map(|_| ())
    };
    stream("application/json", progress(events, work))
}

/// Lines of a pull or push: progress as it comes, at the end the error if there is one.
fn progress(
    events: mpsc::Receiver<PullEvent>,
    work: impl Future<Output = Result<(), image::Error>> + Send + 'static,
) -> impl futures::Stream<Item = bytes::Bytes> + Send {
    let work = async move {
        let text = work.await.err()?.to_string();
        Some(line(
            &json!({ "errorDetail": { "message": text }, "error": text }),
        ))
    };
    narrated(events, work, |event| {
        let lines: Vec<_> = [Some(pull_line(&event)), aux_line(&event)]
            .iter()
            .flatten()
            .map(line)
            .collect();
        Some(lines.concat().into())
    })
}

/// What programs read of a push.
fn aux_line(event: &PullEvent) -> Option<Value> {
    match event {
        PullEvent::Pushed { tag, digest, size } => Some(json!({
            "progressDetail": {}, "aux": { "Tag": tag, "Digest": digest, "Size": size }
        })),
        _ => None,
    }
}

/// As `docker pull` shows it.
pub fn pull_line(event: &PullEvent) -> Value {
    let counted = |id: &str, status: &str, current: u64, total: u64| json!({ "status": status, "id": id, "progressDetail": { "current": current, "total": total }, "progress": format!("{:.1}MB/{:.1}MB", current as f64 / 1e6, total as f64 / 1e6) });
    let plain =
        |id: &str, status: &str| json!({ "status": status, "id": id, "progressDetail": {} });
    match event {
        PullEvent::Pulling { tag, repository } => {
            json!({ "status": format!("Pulling from {repository}"), "id": tag })
        }
        PullEvent::Waiting { id } => plain(id, "Pulling fs layer"),
        PullEvent::Exists { id } => plain(id, "Already exists"),
        PullEvent::Downloading { id, current, total } => {
            counted(id, "Downloading", *current, *total)
        }
        PullEvent::Downloaded { id } => plain(id, "Download complete"),
        PullEvent::Extracting { id, current, total } => counted(id, "Extracting", *current, *total),
        PullEvent::Complete { id } => plain(id, "Pull complete"),
        PullEvent::Push { id, status } => plain(id, status),
        PullEvent::Digest(digest) => json!({ "status": format!("Digest: {digest}") }),
        PullEvent::Pushed { tag, digest, size } => {
            json!({ "status": format!("{tag}: digest: {digest} size: {size}") })
        }
        PullEvent::Status(text) => json!({ "status": text }),
    }
}

/// The header in which clients send credentials.
fn credentials(request: &Request<Incoming>) -> Result<Option<Auth>, Refusal> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Header {
        username: String,
        password: String,
        identitytoken: String,
        registrytoken: String,
    }
    let Some(header) = request
        .headers()
        .get("x-registry-auth")
        .and_then(|value| value.to_str().ok())
    else {
        return Ok(None);
    };
    let wrong = || Refusal::bad("the X-Registry-Auth header is not base64 of JSON");
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let bytes = engine.decode(header).map_err(|_| wrong())?;
    let parsed: Header = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if !parsed.registrytoken.is_empty() {
        return Ok(Some(Auth::Bearer(parsed.registrytoken)));
    }
    if !parsed.identitytoken.is_empty() {
        return Ok(Some(Auth::Refresh(parsed.identitytoken)));
    }
    Ok((!parsed.username.is_empty()).then_some(Auth::Basic {
        username: parsed.username,
        password: parsed.password,
    }))
}

pub async fn load(docker: Docker, incoming: Incoming) -> Answer {
    let file = body::file(&docker, incoming).await?;
    let loaded = docker
        .inner
        .images
        .load(tokio::fs::File::from_std(file))
        .await?;
    let lines: Vec<_> = loaded
        .iter()
        .map(|image| {
            let text = match image.tags.first() {
                Some(tag) => format!("Loaded image: {tag}\n"),
                None => format!("Loaded image ID: {}\n", image.id),
            };
            line(&json!({ "stream": text }))
        })
        .collect();
    stream("application/json", futures::stream::iter(lines))
}

pub fn save(docker: Docker, names: Vec<String>) -> Answer {
    for name in &names {
        docker.inner.images.get(name)?;
    }
    let (reader, writer) = tokio::io::duplex(256 * 1024);
    tokio::spawn(async move {
        if let Err(error) = docker.inner.images.save(&names, writer).await {
            tracing::warn!(%error, "an image could not be saved");
        }
    });
    let chunks = tokio_util::io::ReaderStream::new(reader)
        .filter_map(|chunk| futures::future::ready(chunk.ok()));
    stream("application/x-tar", chunks)
}

pub fn tag(docker: &Docker, name: &str, query: &Query) -> Answer {
    let repository = query
        .get("repo")
        .ok_or_else(|| Refusal::bad("repo is missing"))?;
    docker
        .inner
        .images
        .tag(name, &reference(repository, query.get("tag")))?;
    empty(StatusCode::CREATED)
}

pub fn push(docker: Docker, name: &str, query: &Query, request: &Request<Incoming>) -> Answer {
    let named = match query.get("tag").filter(|tag| !tag.is_empty()) {
        Some(tag) => vec![reference(name, Some(tag))],
        None => tags_of(docker.inner.images.list().iter(), name)?,
    };
    for one in &named {
        docker.inner.images.get(one)?;
    }
    let auth = credentials(request)?;
    let (events_in, events) = mpsc::channel(256);
    let work = async move {
        for one in &named {
            let images = &docker.inner.images;
            images.push(one, auth.clone(), events_in.clone()).await?;
        }
        Ok(())
    };
    stream("application/json", progress(events, work))
}

/// All tags of a repository: what a push without a tag means.
fn tags_of<'a>(
    images: impl Iterator<Item = &'a Image>,
    repository: &str,
) -> Result<Vec<String>, Refusal> {
    let name = image::Reference::parse(repository)?.familiar_name();
    let mut tags: Vec<String> = images
        .flat_map(|image| &image.tags)
        .filter(|tag| without_tag(tag) == name)
        .cloned()
        .collect();
    tags.sort();
    if tags.is_empty() {
        return Err(Refusal::not_found(format!(
            "An image does not exist locally with the tag: {name}"
        )));
    }
    Ok(tags)
}

pub async fn remove(docker: &Docker, name: &str, query: &Query) -> Answer {
    let image = docker.inner.images.get(name)?;
    let force = query.flag("force");
    let users = crate::containers::all(docker).await;
    if let Some(user) = users
        .iter()
        .find(|c| c.record.image_id == image.id && (c.running() || !force))
    {
        let last_name = image.tags.len() <= 1 || is_id(name, &image);
        if last_name {
            return Err(Refusal::conflict(format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                short(user.id()),
                short(&image.id)
            )));
        }
    }
    let (images, reference) = (docker.inner.images.clone(), name.to_owned());
    let removed = tokio::task::spawn_blocking(move || images.remove(&reference, force)).await??;
    json_of(&removed_rows(&removed))
}

/// Whether a text that led to the image is its id, or the beginning of it, and none of its names.
fn is_id(text: &str, image: &Image) -> bool {
    let hex = |id: &str| id.trim_start_matches("sha256:").to_owned();
    let named = image::Reference::parse(text).is_ok_and(|name| {
        let tag = name.familiar_tag();
        name.digest.is_none() && image.tags.iter().any(|own| Some(own) == tag.as_ref())
    });
    !named && hex(&image.id).starts_with(&hex(text))
}

/// `localhost:5000/app:1` is `localhost:5000/app`.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

fn short(id: &str) -> &str {
    let id = id.trim_start_matches("sha256:");
    id.get(..12).unwrap_or(id)
}

fn removed_rows(removed: &[image::Removed]) -> Vec<Value> {
    removed
        .iter()
        .map(|entry| match entry {
            image::Removed::Untagged(name) => json!({ "Untagged": name }),
            image::Removed::Deleted(id) => json!({ "Deleted": id }),
        })
        .collect()
}

/// `docker builder prune`: the whole cache, or nothing if a filter means a part of it, which cannot be told from the rest.
pub async fn prune_build_cache(docker: &Docker, query: &Query) -> Answer {
    let known = [
        "description",
        "id",
        "inuse",
        "label",
        "label!",
        "parent",
        "private",
        "shared",
        "type",
        "until",
    ];
    let filters = Filters::of(query, &known)?;
    if known.iter().any(|name| !filters.values(name).is_empty()) {
        return json_of(&json!({ "CachesDeleted": [], "SpaceReclaimed": 0 }));
    }
    let images = docker.inner.images.clone();
    let freed = tokio::task::spawn_blocking(move || images.prune_build_cache()).await??;
    json_of(&json!({ "CachesDeleted": [], "SpaceReclaimed": freed }))
}

pub async fn prune(docker: &Docker, query: &Query) -> Answer {
    let known = ["dangling", "label", "label!", "until"];
    let filters = Filters::of(query, &known)?;
    let all = filters.flag("dangling")? == Some(false);
    let until = filters.until(Timestamp::now())?;
    let images = docker.inner.images.clone();
    let removed = tokio::task::spawn_blocking(move || {
        images.prune(all, |image| {
            until.is_none_or(|until| image.created < until) && filters.labels(&image.config.labels)
        })
    })
    .await??;
    json_of(&json!({ "ImagesDeleted": removed_rows(&removed), "SpaceReclaimed": 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str]) -> Image {
        Image {
            id: format!("sha256:{id}"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: Vec::new(),
            config: image::ImageConfig::default(),
            architecture: String::new(),
            os: String::new(),
            created: Timestamp::UNIX_EPOCH,
            size_bytes: 0,
            local: true,
            file: image::ConfigFile::default(),
        }
    }

    #[test]
    fn a_name_is_no_part_of_an_id() {
        for (text, tags, expected) in [
            ("db", &["db:latest", "x:1"][..], false),
            ("db:latest", &["db:latest", "x:1"], false),
            ("abc", &["abc:latest"], false),
            ("abc", &["x:1"], true),
            ("sha256:abc", &["x:1"], true),
            ("abcdb012", &["x:1"], true),
        ] {
            assert_eq!(is_id(text, &image("abcdb012", tags)), expected, "{text}");
        }
    }

    #[test]
    fn steps_have_the_size_of_the_layer_that_they_made() {
        let step = |empty_layer| image::History {
            empty_layer,
            ..image::History::default()
        };
        let history = [step(false), step(true), step(false), step(false)];
        assert_eq!(history_sizes(&history, &[5, 7]), [5, 0, 7, 0]);
    }

    #[test]
    fn a_push_without_a_tag_means_all_of_them() {
        let images = [
            image("1", &["r:5000/app:2", "app:1"]),
            image("2", &["r:5000/app:1", "r:5000/app/x:1"]),
        ];
        let tags = |name| tags_of(images.iter(), name);
        assert_eq!(
            tags("r:5000/app").unwrap(),
            ["r:5000/app:1", "r:5000/app:2"]
        );
        assert_eq!(tags("docker.io/library/app").unwrap(), ["app:1"]);
        assert!(tags("none").is_err());
    }

    #[test]
    fn a_push_tells_its_digest_to_people_and_to_programs() {
        let pushed = PullEvent::Pushed {
            tag: "1".into(),
            digest: "sha256:abc".into(),
            size: 12,
        };
        assert_eq!(
            pull_line(&pushed)["status"],
            "1: digest: sha256:abc size: 12"
        );
        let aux = aux_line(&pushed).unwrap();
        assert_eq!(
            aux["aux"],
            json!({ "Tag": "1", "Digest": "sha256:abc", "Size": 12 })
        );
        assert_eq!(aux_line(&PullEvent::Status("x".into())), None);
    }
}
