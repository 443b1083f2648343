//! `POST /commit`: an image of what a container's file system is now.

use http::StatusCode;
use hyper::body::Incoming;
use image::ImageConfig;
use serde_json::json;

use crate::query::Query;
use crate::record::Config;
use crate::reply::{Answer, Refusal, json_with};
use crate::{Docker, body, containers};

pub async fn commit(docker: &Docker, query: &Query, incoming: Incoming) -> Answer {
    let name = query
        .get("container")
        .ok_or_else(|| Refusal::bad("container is missing"))?;
    let given: Config = body::json(incoming).await?;
    let container = containers::find(docker, name).await?;
    let base = docker.inner.images.get(&container.record.image_id)?;
    let reference = query.get("repo").map(|repository| match query.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let own = container.record.config.clone();
    let config = configuration(base.config.clone(), own, given);
    let changes: Vec<&str> = query.all("changes").collect();
    let config =
        image::apply_changes(config, &changes).map_err(|error| Refusal::bad(error.to_string()))?;
    let words = |name| query.get(name).unwrap_or_default().to_owned();
    let (author, comment) = (words("author"), words("comment"));
    let edit = move |file: &mut image::ConfigFile| {
        file.author = author;
        file.config = config;
        if let Some(last) = file.history.last_mut() {
            last.comment = comment;
        }
    };
    // What it writes meanwhile would be half in the image.
    let pause = query.get("pause").is_none() || query.flag("pause");
    let paused = if pause && container.running() && !container.paused() {
        Some(Paused::new(docker, container.id()).await?)
    } else {
        None
    };
    let made = docker
        .inner
        .images
        .commit(container.id(), &base, reference.as_deref(), edit)
        .await;
    if let Some(paused) = paused {
        paused.end().await;
    }
    let made = made?;
    json_with(StatusCode::CREATED, &json!({ "Id": made.id }))
}

/// The image's configuration: what the request gives, then what the container has, then what its image has.
fn configuration(base: ImageConfig, own: Config, given: Config) -> ImageConfig {
    let mut env = given.env;
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    for pair in own.env {
        if !env.iter().any(|known| name(known) == name(&pair)) {
            env.push(pair);
        }
    }
    let first = |given: String, own: String| if given.is_empty() { own } else { given };
    let (exposed, volumes) = (
        [given.exposed_ports, own.exposed_ports],
        [given.volumes, own.volumes],
    );
    let mut labels = own.labels;
    labels.extend(given.labels);
    // A command belongs to the entrypoint that it is given with.
    let has_entrypoint = given.entrypoint.as_ref().is_some_and(|e| !e.is_empty());
    let cmd = given.cmd.or(own.cmd.filter(|_| !has_entrypoint));
    ImageConfig {
        user: first(given.user, own.user),
        exposed_ports: exposed
            .into_iter()
            .flatten()
            .map(|(port, _)| port)
            .collect(),
        env,
        entrypoint: given
            .entrypoint
            .or(own.entrypoint)
            .filter(|words| !words.is_empty()),
        cmd,
        healthcheck: given.healthcheck.or(own.healthcheck).or(base.healthcheck),
        volumes: volumes
            .into_iter()
            .flatten()
            .map(|(path, _)| path)
            .collect(),
        working_dir: first(given.working_dir, own.working_dir),
        labels,
        stop_signal: given.stop_signal.or(own.stop_signal).or(base.stop_signal),
        ..base
    }
}

/// A container that goes on when this is dropped.
struct Paused {
    engine: engine::Engine,
    id: String,
}

impl Paused {
    async fn new(docker: &Docker, id: &str) -> Result<Paused, Refusal> {
        docker.inner.engine.pause_container(id).await?;
        Ok(Paused {
            engine: docker.inner.engine.clone(),
            id: id.to_owned(),
        })
    }

    async fn end(mut self) {
        let id = std::mem::take(&mut self.id);
        unpause(&self.engine, &id).await;
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Only who is given up half-way comes here with it.
        if !self.id.is_empty() {
            let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
            tokio::spawn(async move { unpause(&engine, &id).await });
        }
    }
}

async fn unpause(engine: &engine::Engine, id: &str) {
    if let Err(error) = engine.unpause_container(id).await {
        tracing::warn!(%error, id, "a container that was committed stays paused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_before_what_the_container_has() {
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect());
        let base = ImageConfig {
            stop_signal: Some("SIGQUIT".into()),
            shell: words("sh -c"),
            ..ImageConfig::default()
        };
        let own = Config {
            env: vec!["A=1".into(), "B=2".into()],
            cmd: words("own"),
            entrypoint: words("e"),
            user: "own".into(),
            working_dir: "/own".into(),
            labels: [("a".into(), "own".into()), ("b".into(), "own".into())].into(),
            volumes: [("/v".into(), json!({}))].into(),
            exposed_ports: [("80/tcp".into(), json!({}))].into(),
            ..Config::default()
        };
        let given = Config {
            env: vec!["B=3".into()],
            user: "given".into(),
            labels: [("b".into(), "given".into())].into(),
            ..Config::default()
        };
        let made = configuration(base.clone(), own.clone(), given);
        assert_eq!(made.env, ["B=3", "A=1"]);
        assert_eq!((&made.cmd, &made.entrypoint), (&words("own"), &words("e")));
        assert_eq!(
            (made.user.as_str(), made.working_dir.as_str()),
            ("given", "/own")
        );
        assert_eq!(
            (made.labels["a"].as_str(), made.labels["b"].as_str()),
            ("own", "given")
        );
        assert!(made.volumes.contains("/v") && made.exposed_ports.contains("80/tcp"));
        assert_eq!(made.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(made.shell, words("sh -c"));
        let entrypoint = Config {
            entrypoint: words("other"),
            ..Config::default()
        };
        let made = configuration(base, own, entrypoint);
        assert_eq!((made.entrypoint, made.cmd), (words("other"), None));
    }
}
