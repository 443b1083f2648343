//! Containers as Docker shows them: one sandbox of the engine with one container in it, both under one ID.

pub mod archive;
pub mod attach;
pub mod create;
pub mod devices;
pub mod exec;
mod ignored;
pub mod inspect;
pub mod lifecycle;
pub mod list;
pub mod logs;
pub mod security;
mod sharing;
pub mod stats;
pub mod update;
pub mod wait;

use std::collections::BTreeMap;

use engine::{ContainerStatus, PublishedPort, State};
use jiff::Timestamp;

use crate::Docker;
use crate::record::{ANNOTATION, OWNER, Record};
use crate::reply::Refusal;

/// The engine's view and Docker's together.
#[derive(Clone)]
pub struct Container {
    pub status: ContainerStatus,
    pub record: Record,
}

impl Container {
    fn of(status: ContainerStatus) -> Option<Self> {
        let ours = status
            .spec
            .labels
            .get(OWNER.0)
            .is_some_and(|owner| owner == OWNER.1);
        let record = status.spec.annotations.get(ANNOTATION).filter(|_| ours)?;
        Some(Self {
            record: serde_json::from_str(record).ok()?,
            status,
        })
    }

    pub fn id(&self) -> &str {
        &self.status.id
    }

    pub fn running(&self) -> bool {
        self.status.state == State::Running
    }

    pub fn paused(&self) -> bool {
        self.status.paused
    }

    /// Of its last run; of a start that failed what a shell would say; 0 of one that never ran.
    pub fn exit_code(&self) -> i32 {
        let of_run = self.status.exit.as_ref().map(|exit| exit.code);
        self.record.failed_code.or(of_run).unwrap_or(0)
    }

    /// `created`, `running`, `paused` or `exited`.
    pub fn state(&self) -> &'static str {
        match self.status.state {
            State::Created => "created",
            State::Running if self.paused() => "paused",
            State::Running => "running",
            State::Exited => "exited",
        }
    }

    /// `Up 3 minutes`, `Up 3 minutes (Paused)`, `Exited (0) 2 hours ago`, `Created`.
    pub fn sentence(&self, now: Timestamp) -> String {
        let since = |at: Timestamp| ago(now.as_second().saturating_sub(at.as_second()));
        match (&self.status.state, &self.status.exit) {
            (State::Created, _) => "Created".into(),
            (State::Running, _) => format!(
                "Up {}{}",
                since(self.status.started_at.unwrap_or(self.status.created_at)),
                if self.paused() { " (Paused)" } else { "" }
            ),
            (State::Exited, Some(exit)) => {
                format!("Exited ({}) {} ago", exit.code, since(exit.finished_at))
            }
            (State::Exited, None) => "Exited (137)".into(),
        }
    }
}

/// A span as docker words it.
fn ago(seconds: i64) -> String {
    let plural = |n: i64, unit: &str| format!("{n} {unit}");
    match seconds {
        i64::MIN..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => plural(seconds, "seconds"),
        60..120 => "About a minute".into(),
        120..3600 => plural(seconds / 60, "minutes"),
        3600..7200 => "About an hour".into(),
        7200..172_800 => plural(seconds / 3600, "hours"),
        172_800..1_209_600 => plural(seconds / 86_400, "days"),
        1_209_600..5_184_000 => plural(seconds / 604_800, "weeks"),
        5_184_000..63_072_000 => plural(seconds / 2_592_000, "months"),
        _ => plural(seconds / 31_536_000, "years"),
    }
}

/// Every container of this API, newest first.
pub async fn all(docker: &Docker) -> Vec<Container> {
    let mut found: Vec<Container> = docker
        .inner
        .engine
        .containers()
        .await
        .into_iter()
        .filter_map(Container::of)
        .collect();
    found.sort_by_key(|container| std::cmp::Reverse(container.status.created_at));
    found
}

/// By ID, name, or the beginning of an ID.
pub async fn find(docker: &Docker, name: &str) -> Result<Container, Refusal> {
    let wanted = name.trim_start_matches('/');
    let all = all(docker).await;
    if let Some(exact) = all
        .iter()
        .find(|c| c.id() == wanted || c.record.name == wanted)
    {
        return Ok(exact.clone());
    }
    let mut beginning = all
        .iter()
        .filter(|c| !wanted.is_empty() && c.id().starts_with(wanted));
    match (beginning.next(), beginning.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(Refusal::bad(format!(
            "multiple IDs found with provided prefix: {wanted}"
        ))),
        (None, _) => Err(Refusal::not_found(format!("No such container: {name}"))),
    }
}

/// Writes Docker's side of a container back.
pub async fn save(docker: &Docker, id: &str, record: &Record) -> Result<(), Refusal> {
    let text =
        serde_json::to_string(record).map_err(|error| Refusal::internal(error.to_string()))?;
    docker
        .inner
        .engine
        .set_annotations(id, BTreeMap::from([(ANNOTATION.to_owned(), text)]))
        .await?;
    Ok(())
}

/// The ports that the container's sandbox publishes, running or not.
pub async fn published(docker: &Docker, id: &str) -> Vec<PublishedPort> {
    match docker.inner.engine.sandbox(id).await {
        Some(sandbox)
            if sandbox.state == engine::SandboxState::Running && !sandbox.published.is_empty() =>
        {
            sandbox.published
        }
        Some(sandbox) => sandbox.spec.published.clone(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn spans() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (4000, "About an hour"),
            (90_000, "25 hours"),
        ] {
            assert_eq!(ago(seconds), want);
        }
    }
}
