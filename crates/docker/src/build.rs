//! `POST /build`: the classic builder's request, answered by the image builder with RUN steps in the engine.

use std::collections::BTreeMap;

use http::Request;
use hyper::body::Incoming;
use image::{BuildError, BuildEvent, BuildRequest};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::query::Query;
use crate::reply::{Answer, Refusal, line, narrated, stream};
use crate::runner::BuildRunner;
use crate::tree::{Existing, Tree};
use crate::{Docker, body, images};

pub async fn build(docker: Docker, query: &Query, request: Request<Incoming>) -> Answer {
    if query.get("remote").is_some() {
        return Err(Refusal::bad(
            "building from a URL is not supported; send a directory",
        ));
    }
    if query.get("version") == Some("2") {
        return Err(Refusal::bad(
            "BuildKit's protocol is not supported yet; set DOCKER_BUILDKIT=0",
        ));
    }
    let map = |name: &str| -> Result<BTreeMap<String, Option<String>>, Refusal> {
        let text = query.get(name).unwrap_or("{}");
        serde_json::from_str(text).map_err(|error| Refusal::bad(format!("invalid {name}: {error}")))
    };
    let (build_args, labels) = (map("buildargs")?, map("labels")?);
    let platform = match query.get("platform") {
        None => None,
        Some(text) => Some(image::Platform::parse(text).ok_or_else(|| {
            Refusal::bad(format!("invalid platform {text:?}: say OS/ARCHITECTURE"))
        })?),
    };
    let mut wanted = BuildRequest {
        dockerfile: query.get("dockerfile").unwrap_or("Dockerfile").to_owned(),
        tags: query.all("t").map(str::to_owned).collect(),
        build_args,
        target: query.get("target").map(str::to_owned),
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        labels: labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        platform,
        ..BuildRequest::default()
    };
    let file = body::file(&docker, request.into_body()).await?;
    let directory = tempfile::Builder::new()
        .prefix("context-")
        .tempdir_in(body::uploads(&docker)?)?;
    let into = directory.path().to_owned();
    tokio::task::spawn_blocking(move || unpack(file, &into))
        .await?
        .map_err(|error| {
            Refusal::bad(format!("the build context could not be unpacked: {error}"))
        })?;
    wanted.context = directory.path().to_owned();

    let quiet = query.flag("q");
    let (events_in, events) = mpsc::channel(256);
    let work = async move {
        let runner = BuildRunner::new(docker.clone());
        let outcome = docker.inner.images.build(wanted, &runner, events_in).await;
        drop(directory);
        match outcome {
            Ok(image) if quiet => Some(line(&json!({ "stream": format!("{}\n", image.id) }))),
            Ok(_) => None,
            Err(error) => Some(line(&failure(&error))),
        }
    };
    let all = narrated(events, work, move |event| {
        let shown = event_lines(&event).into_iter();
        let shown = shown.filter(|value| !quiet || value.get("aux").is_some());
        let lines: Vec<_> = shown.map(|value| line(&value)).collect();
        (!lines.is_empty()).then(|| lines.concat().into())
    });
    stream("application/json", all)
}

fn unpack(file: std::fs::File, into: &std::path::Path) -> std::io::Result<()> {
    Tree::open(into)?.unpack("/", body::decompressed(file)?, Existing::Replace)
}

/// As the classic builder prints it; programs look for the id in its last words.
fn event_lines(event: &BuildEvent) -> Vec<Value> {
    let built = match event {
        BuildEvent::Built { id } => {
            let id = id.trim_start_matches("sha256:");
            let short = id.get(..12).unwrap_or(id);
            Some(json!({ "stream": format!("Successfully built {short}\n") }))
        }
        _ => None,
    };
    event_line(event).into_iter().chain(built).collect()
}

fn event_line(event: &BuildEvent) -> Option<Value> {
    let said = |text: String| Some(json!({ "stream": text }));
    match event {
        BuildEvent::Step {
            number,
            total,
            text,
        } => said(format!("Step {number}/{total} : {text}\n")),
        BuildEvent::Cached => said(" ---> Using cache\n".into()),
        BuildEvent::Output(bytes) => said(String::from_utf8_lossy(bytes).into_owned()),
        BuildEvent::Running { container } => said(format!(" ---> Running in {container}\n")),
        BuildEvent::RemovedContainer { container } => said(format!(
            " ---> Removed intermediate container {container}\n"
        )),
        BuildEvent::StepDone { id } => said(format!(" ---> {id}\n")),
        BuildEvent::Pull(event) => Some(images::pull_line(event)),
        BuildEvent::Warning(text) => said(format!("[Warning] {text}\n")),
        BuildEvent::Built { id } => Some(json!({ "aux": { "ID": id } })),
        BuildEvent::Tagged { tag } => said(format!("Successfully tagged {tag}\n")),
    }
}

fn failure(error: &BuildError) -> Value {
    let text = error.to_string();
    match error {
        BuildError::Command { code, .. } => {
            json!({ "errorDetail": { "code": code, "message": text }, "error": text })
        }
        _ => json!({ "errorDetail": { "message": text }, "error": text }),
    }
}
