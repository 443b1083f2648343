//! `POST /commit`: an image of what a container's file system is now.

use http::StatusCode;
use hyper::body::Incoming;
use serde_json::json;

use crate::query::Query;
use crate::record::Config;
use crate::reply::{Answer, Refusal, json_with};
use crate::{Docker, body, containers};

pub async fn commit(docker: &Docker, query: &Query, incoming: Incoming) -> Answer {
    let name = query
        .get("container")
        .ok_or_else(|| Refusal::bad("container is missing"))?;
    if query.all("changes").next().is_some() {
        return Err(Refusal::bad(
            "--change is not supported yet; build FROM the committed image instead",
        ));
    }
    let given: Config = body::json(incoming).await?;
    let container = containers::find(docker, name).await?;
    let base = docker.inner.images.get(&container.record.image_id)?;
    let reference = query.get("repo").map(|repository| match query.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let (own, author) = (
        container.record.config.clone(),
        query.get("author").unwrap_or_default().to_owned(),
    );
    let edit = move |file: &mut image::ConfigFile| {
        file.author = author;
        let config = &mut file.config;
        config.env = if given.env.is_empty() {
            own.env
        } else {
            given.env
        };
        config.cmd = given.cmd.or(own.cmd);
        config.entrypoint = given
            .entrypoint
            .or(own.entrypoint)
            .filter(|words| !words.is_empty());
        config.working_dir = own.working_dir;
        config.user = own.user;
        config.labels = own.labels;
        config.exposed_ports.extend(own.exposed_ports.into_keys());
    };
    let made = docker
        .inner
        .images
        .commit(container.id(), &base, reference.as_deref(), edit)
        .await?;
    json_with(StatusCode::CREATED, &json!({ "Id": made.id }))
}
